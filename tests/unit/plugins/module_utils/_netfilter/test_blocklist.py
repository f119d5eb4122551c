# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import ipaddress
import json
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.protected import Protected
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import netlink, sets
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.blocklist import (
    Loaded,
    fill,
    find,
    missing,
    remembered,
    remove_sets,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.lists import Entry, NamedList
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4
from ansible_collections.sipguard.pbx.plugins.module_utils._sip import ranges
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost


def _elements(payload: bytes) -> Iterator[bytes]:
    """Attributes that stand one after the other, all of one type."""
    while payload:
        (length,) = struct.unpack_from("=H", payload)
        yield payload[4:length]
        payload = payload[(length + 3) & ~3 :]


class Kernel:
    """Ipset's side of netlink: digests of a host's sets, and members added to them (kernel include/uapi/linux/netfilter/ipset/ip_set.h)."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.silent = False
        self.full = False

    def digest(self, name: str) -> str | None:
        if name not in self.host.sets or self.silent:
            return None
        return hashlib.sha256(repr(list(self.host.sets[name][1])).encode()).hexdigest()

    def change(self, subsystem: int, message: int, family: int, payload: bytes, flags: int = 0) -> None:
        assert (subsystem, message, flags) == (6, 9, 0)
        assert not self.host.read_only
        if self.full:
            raise OSError(12, "Cannot allocate memory")
        found = netlink.attributes(payload)
        name = found[2].rstrip(b"\0").decode()
        for element in _elements(found[8]):
            parts = netlink.attributes(element)
            address = b"".join(netlink.attributes(parts[1]).values())
            word = str(ipaddress.ip_address(address))
            prefix = parts[3][0]
            assert self.host.sets[name][0].split()[2] == ("inet" if len(address) == 4 else "inet6")
            self.host.sets[name][1][word if prefix == len(address) * 8 else f"{word}/{prefix}"] = ""

    def held(self, base: str) -> set[int]:
        """Every address of a base's sets, as numbers."""
        names = [name for name in (f"{base}4", f"{base}6") if name in self.host.sets]
        words = [word for name in names for word in self.host.sets[name][1]]
        return {int(address) for word in words for address in ipaddress.ip_network(word)}


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(netlink, "set_digest", made.digest)
    monkeypatch.setattr(netlink, "change", made.change)
    return made


def made_of(*words: str, name: str = "one", **options: Any) -> NamedList:
    return NamedList(name, **options).with_entries([Entry(word) for word in words])


def load(
    kernel: Kernel, directory: Path, *lists: NamedList, protected: Sequence[Protected] = (), check: bool = False
) -> Loaded:
    named = {each.name: each for each in lists}
    return fill(kernel.host, named, protected, FAMILIES, directory=directory, check=check)


def numbers(*words: str) -> set[int]:
    found: set[int] = set()
    for word in words:
        dummy, first, last = ranges.parse_range(word)
        found |= set(range(first, last + 1))
    return found


# -- what the sets hold

_BASES = [int(ipaddress.ip_address(word)) for word in ("8.8.8.0", "10.0.0.0", "2a00::", "fd00::")]


@st.composite
def spans(draw: st.DrawFn) -> str:
    base = draw(st.sampled_from(_BASES))
    first = draw(st.integers(0, 20))
    last = first + draw(st.integers(0, 20))
    make = ipaddress.IPv6Address if base >> 32 else ipaddress.IPv4Address
    return f"{make(base + first)}-{make(base + last)}"


named_lists = st.builds(
    lambda words, mode, private, never: made_of(*words, mode=mode, allow_private=private, never=tuple(never)),
    st.lists(spans(), max_size=4),
    st.sampled_from(["enforce", "observe"]),
    st.booleans(),
    st.lists(spans(), max_size=1),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(named_lists, max_size=3), st.lists(st.sampled_from(["8.8.8.8", "8.8.8.16/30", "2a00::8", "fd00::/124"]))
)
def test_sets_hold_the_lists_without_whom_they_must_not_stop(
    kernel: Kernel, lists: list[NamedList], shields: list[str]
) -> None:
    kernel.host.sets.clear()
    kernel.host.read_only = False
    mine = [replace(each, name=f"l{place}") for place, each in enumerate(lists)]
    protected = [Protected(word, "because") for word in dict.fromkeys(shields)]
    spared = numbers(*(item.network for item in protected), *(word for each in mine for word in each.never))
    private = numbers("10.0.0.0/24", "fd00::/120")
    wanted: dict[str, set[int]] = {"sipguard-blocked": set(), "sipguard-watched": set()}
    for each in mine:
        base = "sipguard-blocked" if each.mode == "enforce" else "sipguard-watched"
        found = numbers(*(entry.word for entry in each.entries()))
        wanted[base] |= (found if each.allow_private else found - private) - spared
    with tempfile.TemporaryDirectory() as folder:
        kernel.host.read_only = True
        told = load(kernel, Path(folder), *mine, protected=protected, check=True)
        kernel.host.read_only = False
        loaded = load(kernel, Path(folder), *mine, protected=protected)
        assert {base: kernel.held(base) for base in wanted} == wanted
        assert loaded.members == {name: len(members) for name, (dummy, members) in kernel.host.sets.items()}
        assert (told.changed, told.members, told.before, told.after) == (
            loaded.changed,
            loaded.members,
            loaded.before,
            loaded.after,
        )
        for item in loaded.left_out:
            for name in item["lists"]:
                words = [entry.word for entry in mine[int(name[1:])].entries()]
                assert numbers(*words) & numbers(item["network"])
        kernel.host.read_only = True
        again = load(kernel, Path(folder), *mine, protected=protected)
        assert (again.changed, again.members, again.left_out) == (False, loaded.members, loaded.left_out)


def test_unchanged_costs_no_command(kernel: Kernel, tmp_path: Path) -> None:
    load(kernel, tmp_path, made_of("8.8.8.0/24", "2a00::/64"))
    kernel.host.calls.clear()
    assert not load(kernel, tmp_path, made_of("8.8.8.0/24", "2a00::/64")).changed
    assert kernel.host.calls == []


def test_other_lists_with_the_same_members_write_nothing(kernel: Kernel, tmp_path: Path) -> None:
    load(kernel, tmp_path, made_of("8.8.8.0/24"))
    kernel.host.read_only = True
    halves = made_of("8.8.8.0/25"), made_of("8.8.8.128-8.8.8.255", name="two")
    assert not load(kernel, tmp_path, *halves).changed
    assert not load(kernel, tmp_path, *halves, protected=[Protected("9.9.9.9", "because")]).changed


def test_only_the_set_that_differs_is_written(kernel: Kernel, tmp_path: Path) -> None:
    load(kernel, tmp_path, made_of("8.8.8.0/24", "2a00::/64"))
    kernel.host.calls.clear()
    changed = load(kernel, tmp_path, made_of("8.8.8.0/25", "2a00::/64"))
    assert changed.changed
    assert changed.before == changed.after == "sipguard-blocked4: 1 members\n"
    assert kernel.host.sets["sipguard-blocked4"][1].keys() == {"8.8.8.0/25"}


def test_protected_are_told_with_the_lists_that_name_them(kernel: Kernel, tmp_path: Path) -> None:
    lists = made_of("8.8.8.0/24"), made_of("8.8.8.8", name="two", mode="observe"), made_of("9.9.9.9", name="three")
    shields = [
        Protected("8.8.8.8", "a gateway"),
        Protected("8.8.8.0/30", "trusted"),
        Protected("1.1.1.1", "a resolver"),
    ]
    assert load(kernel, tmp_path, *lists, protected=shields).left_out == [
        {"network": "8.8.8.8", "why": "a gateway", "lists": ["one", "two"]},
        {"network": "8.8.8.0/30", "why": "trusted", "lists": ["one"]},
    ]


def test_set_is_as_large_as_what_it_holds(kernel: Kernel, tmp_path: Path) -> None:
    many = made_of(*(f"8.{high}.{low}.1" for high in range(20) for low in range(256)))
    load(kernel, tmp_path, many)
    assert "maxelem 7680" in kernel.host.sets["sipguard-blocked4"][0]
    assert len(kernel.host.sets["sipguard-blocked4"][1]) == 5120


# -- what somebody else has done


@pytest.mark.parametrize("note", [True, False], ids=["note", "no_note"])
@pytest.mark.parametrize("change", [{}, {"9.9.9.9": ""}, {"8.8.8.0/24": "", "9.9.9.9": ""}, {"8.8.8.0/25": ""}])
def test_members_that_somebody_changed_are_put_back(
    kernel: Kernel, tmp_path: Path, change: Mapping[str, str], note: bool
) -> None:
    wanted = made_of("8.8.8.0/24")
    load(kernel, tmp_path, wanted)
    kernel.host.sets["sipguard-blocked4"][1].clear()
    kernel.host.sets["sipguard-blocked4"][1].update(change)
    if not note:
        (tmp_path / ".loaded").unlink()
    assert load(kernel, tmp_path, wanted, check=True).changed
    assert load(kernel, tmp_path, wanted).changed
    assert kernel.host.sets["sipguard-blocked4"][1].keys() == {"8.8.8.0/24"}


def test_kernel_that_tells_no_digest_is_asked_for_the_members(kernel: Kernel, tmp_path: Path) -> None:
    kernel.silent = True
    wanted = made_of("8.8.8.0/24")
    load(kernel, tmp_path, wanted)
    assert not load(kernel, tmp_path, wanted).changed
    kernel.host.sets["sipguard-blocked4"][1].clear()
    assert load(kernel, tmp_path, wanted).changed
    assert kernel.host.sets["sipguard-blocked4"][1].keys() == {"8.8.8.0/24"}


@pytest.mark.parametrize(
    "made",
    ["hash:ip family inet maxelem 9", "hash:net family inet6 maxelem 9", "hash:net family inet maxelem 9 timeout 9"],
)
@pytest.mark.parametrize("name", ["sipguard-blocked4", "sipguard-blocked6"])
def test_set_of_another_kind_is_refused_before_any_is_filled(
    kernel: Kernel, tmp_path: Path, made: str, name: str
) -> None:
    if name.endswith("6"):
        made = {"inet": made.replace("inet", "inet6"), "inet6": made.replace("inet6", "inet")}[made.split()[2]]
    kernel.host.sets[name] = (made, {})
    before = dict(kernel.host.sets)
    with pytest.raises(
        SipguardError, match=rf"^the set {name} exists, but as hash:\w+; remove it with 'ipset destroy {name}'"
    ):
        load(kernel, tmp_path, made_of("8.8.8.0/24", "2a00::/64"))
    assert kernel.host.sets == before
    assert list(tmp_path.iterdir()) == []


def test_set_that_cannot_be_filled_is_what_it_was(kernel: Kernel, tmp_path: Path) -> None:
    kernel.full = True
    with pytest.raises(SipguardError, match=r"^cannot fill the set"):
        load(kernel, tmp_path, made_of("9.9.9.9"))
    assert kernel.host.sets == {}
    kernel.full = False
    load(kernel, tmp_path, made_of("8.8.8.0/24"))
    before = json.dumps(kernel.host.sets)
    kernel.full = True
    with pytest.raises(SipguardError, match=r"^cannot fill the set sipguard-blocked4-new: .*Cannot allocate memory"):
        load(kernel, tmp_path, made_of("9.9.9.9"))
    assert json.dumps(kernel.host.sets) == before
    kernel.full = False
    assert not load(kernel, tmp_path, made_of("8.8.8.0/24")).changed


def test_list_that_holds_no_ranges_is_refused(kernel: Kernel, tmp_path: Path) -> None:
    with pytest.raises(SipguardError, match=r"^the list one is damaged: a name, or a word"):
        load(kernel, tmp_path, made_of("8.8.8.8", "example.com"))
    assert kernel.host.sets == {}


def test_leftover_of_a_killed_run_goes(kernel: Kernel, tmp_path: Path) -> None:
    wanted = made_of("8.8.8.0/24")
    load(kernel, tmp_path, wanted)
    kernel.host.sets["sipguard-blocked4-new"] = ("hash:ip family inet maxelem 9", {"9.9.9.9": ""})
    (tmp_path / ".loaded").unlink()  # that run did not come to write it
    assert not load(kernel, tmp_path, wanted).changed
    assert sorted(kernel.host.sets) == ["sipguard-blocked4", "sipguard-blocked6"]


# -- the note

NOTES: dict[str, str] = {
    "empty": "",
    "no_json": "{",
    "list": "[]",
    "number": "7",
    "nothing": "{}",
    "deep": "[" * 100_000,
    "bytes": "\x00\x01\x02",
}


@pytest.mark.parametrize("name", [*NOTES, "missing", "folder"])
def test_note_that_cannot_be_read_is_none(kernel: Kernel, tmp_path: Path, name: str) -> None:
    wanted = made_of("8.8.8.0/24")
    load(kernel, tmp_path, wanted, protected=[Protected("9.9.9.9", "because")])
    assert remembered(tmp_path) == [("9.9.9.9", "because")]
    (tmp_path / ".loaded").unlink()
    if name == "folder":
        (tmp_path / ".loaded").mkdir()
    elif name != "missing":
        (tmp_path / ".loaded").write_text(NOTES[name])
    assert remembered(tmp_path) == []
    assert missing({}, tmp_path) == []
    assert not load(kernel, tmp_path, wanted).changed


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"protected": 7},
        {"protected": [["example.com", "x"]]},
        {"protected": [["9.9.9.9"]]},
        {"protected": [[9, "x"]]},
        {"members": []},
        {"members": {"sipguard-blocked4": "many"}},
        {"kernel": None},
        {"wanted": 7},
        {"left_out": [7]},
        {"left_out": 7},
        {"colour": "red"},
    ],
)
def test_note_of_another_shape_is_none(kernel: Kernel, tmp_path: Path, change: Mapping[str, Any]) -> None:
    wanted = made_of("8.8.8.0/24")
    load(kernel, tmp_path, wanted)
    note = json.loads((tmp_path / ".loaded").read_text())
    (tmp_path / ".loaded").write_text(json.dumps({**note, **change}))
    assert remembered(tmp_path) == []
    assert missing({}, tmp_path) == []
    assert not load(kernel, tmp_path, wanted).changed


def test_missing_are_sets_that_somebody_has_emptied(kernel: Kernel, tmp_path: Path) -> None:
    assert missing({}, tmp_path) == []
    load(kernel, tmp_path, made_of("8.8.8.0/24"))

    def found() -> list[str]:
        return missing(sets.read_headers(kernel.host), tmp_path)

    assert found() == []
    kernel.host.sets["sipguard-blocked4"][1].clear()
    assert found() == ["sipguard-blocked4"]
    kernel.host.sets.clear()
    assert found() == ["sipguard-blocked4"]  # the other one was empty from the start


def test_note_that_cannot_be_written_is_no_error(kernel: Kernel, tmp_path: Path) -> None:
    assert load(kernel, tmp_path / "nowhere", made_of("8.8.8.0/24")).changed
    assert not load(kernel, tmp_path / "nowhere", made_of("8.8.8.0/24")).changed


# -- the rest


def test_remove_sets_takes_what_a_killed_run_left_too(kernel: Kernel) -> None:
    made: tuple[str, dict[str, str]] = ("hash:net family inet maxelem 9", {})
    kernel.host.sets.update({"sipguard-watched4": made, "sipguard-watched4-new": made, "sipguard-trusted4": made})
    assert not remove_sets(kernel.host, [], check=False)
    assert remove_sets(kernel.host, ["sipguard-watched4"], check=True)
    assert len(kernel.host.sets) == 3
    assert remove_sets(kernel.host, ["sipguard-watched4"], check=False)
    assert list(kernel.host.sets) == ["sipguard-trusted4"]


def test_find_names_every_list_with_the_first_entry_that_has_the_address() -> None:
    lists = {
        "b": NamedList("b", "feed", "https://example.com/", "observe", 7).with_entries(
            [Entry("9.9.9.9"), Entry("8.8.8.0-8.8.8.9", 99, "why"), Entry("8.8.8.8")]
        ),
        "a": made_of("8.8.8.8", name="a", source="the inventory"),
        "c": made_of("8.8.8.9", "2a00::/64", name="c"),
    }
    found = find(lists, 4, int(ipaddress.ip_address("8.8.8.8")))
    assert [(each.name, each.entry, each.expires, each.note, each.mode) for each in found] == [
        ("a", "8.8.8.8", 0, "", "enforce"),
        ("b", "8.8.8.0-8.8.8.9", 99, "why", "observe"),
    ]
    assert [each.name for each in find(lists, 6, int(ipaddress.ip_address("2a00::7")))] == ["c"]
    assert find(lists, 6, int(ipaddress.ip_address("8.8.8.8"))) == []


def test_a_family_that_the_kernel_lacks_has_no_sets(kernel: Kernel, tmp_path: Path) -> None:
    loaded = fill(kernel.host, {"one": made_of("8.8.8.8", "2a00::1")}, [], [IPV4], directory=tmp_path, check=False)
    assert loaded.members == {"sipguard-blocked4": 1}
    assert list(kernel.host.sets) == ["sipguard-blocked4"]
