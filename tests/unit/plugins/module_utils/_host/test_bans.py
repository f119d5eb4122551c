# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host import bans
from ansible_collections.sipguard.pbx.plugins.module_utils._host.exceptions import Exceptions, Exempt
from ansible_collections.sipguard.pbx.plugins.module_utils._host.protected import Protected
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import ledger
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.ledger import BAN, UNBAN, WAS, Ledger, Line
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import sets
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.engine import Engine
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import IPV4, IPV6, MAX_TIMEOUT
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import Network
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

NETWORKS: list[Network] = [ipaddress.ip_network("203.0.113.7"), ipaddress.ip_network("2001:db8:bad::/64")]


@pytest.fixture
def engine(host: FakeHost, tmp_path: Path) -> Engine:
    return Engine(host, store=Store(str(tmp_path / "etc")))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def members(host: FakeHost) -> dict[str, str]:
    return {
        member: rest for name in sorted(host.sets) if "banned" in name for member, rest in host.sets[name][1].items()
    }


# -- what is asked for


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0d", 0),
        ("90", 90),
        (90, 90),
        ("90s", 90),
        (" 30m ", 1800),
        ("1h", 3600),
        ("7d", 604800),
        ("2w", 1209600),
        ("2147483", MAX_TIMEOUT),
    ],
)
def test_time_is_read(text: object, seconds: int) -> None:
    assert bans.parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5h", "1 h", "h", "1H", "1y", "2147484", "25d", "4w", "9" * 30, "٣", "1h30m", None, "0x10"]
)
def test_time_is_refused(text: object) -> None:
    with pytest.raises(OptionError, match=r"^time: .* cannot be used; a time such as 90, 30m, 1h or 7d"):
        bans.parse_time(text)


@given(st.text())
def test_reason_never_leaves_its_line_and_its_quotes(text: str) -> None:
    try:
        reason = bans.parse_reason(text)
    except OptionError:
        return
    assert reason.isprintable()
    assert '"' not in reason
    assert len(reason.encode()) <= bans.MAX_REASON
    assert bans.parse_reason(reason) == reason
    line = bans.Ban(NETWORKS[0], 5, reason).add("sipguard-banned4")
    assert line.splitlines(True) == [line]
    assert line.count('"') == (2 if reason else 0)


@pytest.mark.parametrize(
    "text", ["a\x00b", "a\x1b[2J", "a\u202eb", "a\x7fb", "\udcffx", "x" * 256, "ü" * 128, "\u200b"]
)
def test_reason_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"^reason: ") as error:
        bans.parse_reason(text)
    assert str(error.value).isascii()
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (3601, "1 h"),
        (86399, "23 h 59 min"),
        (604800, "7 d"),
    ],
)
def test_span_for_people(seconds: int, text: str) -> None:
    assert bans.span(seconds) == text


def test_protected_networks_are_refused_with_the_reason_of_each() -> None:
    guarded = [Protected("192.0.2.1", "an address of this host"), Protected("10.0.0.0/8", "trusted")]
    wanted: list[Network] = [
        ipaddress.ip_network(text) for text in ("192.0.2.0/24", "198.51.100.7", "10.1.0.0/16", "192.0.2.1", "fc00::/7")
    ]
    with pytest.raises(bans.Refusal) as error:
        bans.require_bannable(wanted, guarded)
    assert error.value.refused == {
        "192.0.2.0/24": "192.0.2.0/24 cannot be banned: 192.0.2.1 is an address of this host",
        "10.1.0.0/16": "10.1.0.0/16 cannot be banned: 10.0.0.0/8 is trusted",
        "192.0.2.1": "192.0.2.1 cannot be banned: it is an address of this host",
        "fc00::/7": "fc00::/7 cannot be banned: it is larger than a /32; what is, belongs into a list (sip_blocklist)",
    }
    bans.require_bannable([wanted[1]], guarded)


# -- what the kernel has


def test_live_bans_are_read_whatever_their_comment_says(host: FakeHost) -> None:
    host.sets["sipguard-banned4"] = (
        "hash:net family inet maxelem 9 timeout 1 comment",
        {
            "203.0.113.7": ' timeout 0 comment "timeout 7 \u2028 x"',
            "203.0.113.0/24": ' timeout 100 comment "add sipguard-banned4 192.0.2.1  \udcff"',
            "198.51.100.7": " timeout 5",
        },
    )
    assert bans.read_live(host, sets.read_headers(host)) == {
        IPV4: {
            "203.0.113.7": bans.Ban(ipaddress.ip_network("203.0.113.7"), 0, "timeout 7 x"),
            "203.0.113.0/24": bans.Ban(ipaddress.ip_network("203.0.113.0/24"), 100, "add sipguard-banned4 192.0.2.1 ?"),
            "198.51.100.7": bans.Ban(ipaddress.ip_network("198.51.100.7"), 5, ""),
        },
        IPV6: {},
    }


@pytest.mark.parametrize(
    ("left", "seconds", "same"),
    [(0, 5, True), (0, 0, True), (5, 0, False), (100, 100, True), (90, 100, True), (89, 100, False), (100, 5, True)],
)
def test_ban_lasts_when_nine_tenths_are_left(left: int, seconds: int, same: bool) -> None:
    assert bans.lasts(left, seconds) is same


# -- the picture


def test_picture_is_read_as_it_was_written(host: FakeHost, engine: Engine, data: str) -> None:
    bans.ban(engine, NETWORKS, 3600, "it's \\ ü # test", directory=data)
    found = bans.Picture(data).read()
    assert found is not None
    now = time.time()
    assert {member: (round((expiry - now) / 60), reason) for member, (expiry, reason) in found[0].items()} == {
        "203.0.113.7": (60, "it's \\ ü # test"),
        "2001:db8:bad::/64": (60, "it's \\ ü # test"),
    }
    assert (Path(data) / "bans").stat().st_mode & 0o777 == 0o600
    assert Path(data).stat().st_mode & 0o777 == 0o700
    before = members(host)
    host.sets.clear()
    assert bans.restore_bans(host, data) == ["2 bans brought back"]
    assert members(host).keys() == before.keys()
    assert bans.restore_bans(host, data) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace("\t", " ", 1),
        lambda text: text.replace("203.0.113.7", "203.0.113.x"),
        lambda text: text.replace("203.0.113.7", "203.0.113.7 timeout 0"),
        lambda text: text.replace("why", "wh\x1by"),
        lambda text: text.replace("# saved ", "# saved x"),
    ],
)
def test_damaged_picture_is_an_error_and_brings_nothing_back(
    host: FakeHost, engine: Engine, data: str, damage: object
) -> None:
    bans.ban(engine, NETWORKS, 3600, "why", directory=data)
    file = Path(data) / "bans"
    file.write_text(damage(file.read_text()))  # type: ignore[operator]
    host.sets.clear()
    with pytest.raises(SipguardError, match=r"/bans is damaged, so bans of before the last boot are not known: "):
        bans.restore_bans(host, data)
    assert host.sets == {}
    # The next change writes it anew.
    bans.ban(Engine(host, store=engine.store), NETWORKS[:1], 3600, "why", directory=data)
    assert list(bans.Picture(data).read()[0]) == ["203.0.113.7"]  # type: ignore[index]


def test_boot_leaves_out_what_is_over_and_forgives_a_clock_that_is_late(
    host: FakeHost, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(data).mkdir()
    (Path(data) / "bans").write_text(
        "# Written by sipguard.pbx for the next boot. Changes made here are overwritten.\n# saved 1000000\n"
        "203.0.113.1\t1000500\tleft\n203.0.113.2\t0\t\n203.0.113.3\t999999\tover\n# end\n"
    )
    for now, left in ((0, 500), (1000000, 500), (1000400, 100)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        host.sets.clear()
        assert bans.restore_bans(host, data) == ["2 bans brought back"]
        assert members(host) == {
            "203.0.113.1": f' timeout {left} comment "left" -exist',
            "203.0.113.2": " timeout 0 -exist",
        }
    monkeypatch.setattr(time, "time", lambda: 1000600)
    assert bans.restore_bans(FakeHost(), data) == ["1 ban brought back"]


def test_boot_does_not_touch_a_set_of_somebody_else(host: FakeHost, engine: Engine, data: str) -> None:
    bans.ban(engine, NETWORKS, 3600, "", directory=data)
    host.sets["sipguard-banned4"] = ("hash:ip family inet maxelem 9", {})
    with pytest.raises(SipguardError, match="the set sipguard-banned4 exists, but is none that sipguard has made"):
        bans.restore_bans(host, data)


def test_without_persist_no_file_is_written(host: FakeHost, engine: Engine, data: str, tmp_path: Path) -> None:
    done = bans.ban(engine, NETWORKS, 3600, "", persist=False, directory=data)
    assert (done.changed, done.persisted, Path(data).exists(), (tmp_path / "etc").exists()) == (
        True,
        False,
        False,
        False,
    )
    again = bans.ban(engine, NETWORKS, 3600, "", persist=False, directory=data)
    assert (again.changed, again.persisted) == (False, False)
    late = bans.ban(engine, NETWORKS, 3600, "", directory=data)
    assert (late.changed, late.persisted, bans.Picture(data).exists()) == (True, True, True)


# -- beside sipband's ledger

NOW = 1_800_000_000
LATER = NOW + 3600
X, Y, Z = (ipaddress.ip_network(f"203.0.113.{last}") for last in (7, 8, 9))
SIX = ipaddress.ip_network("2001:db8:bad::/64")


class Boot:
    """A host before its sets are filled again, with a picture and a ledger of before."""

    def __init__(self, host: FakeHost, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.data = host, data
        self.path = f"{data}-ledger"
        monkeypatch.setattr(time, "time", lambda: NOW + 100)

    def picture(self, saved: float, *lines: str) -> None:
        head = "# Written by sipguard.pbx for the next boot. Changes made here are overwritten.\n"
        Path(self.data).mkdir(exist_ok=True)
        text = "".join(f"{line}\n" for line in lines)
        (Path(self.data) / "bans").write_text(f"{head}# saved {saved}\n{text}# end\n", encoding="utf-8")

    def ledger(self, *lines: Line) -> None:
        made = Ledger(self.path)
        made.open()
        for line in lines:
            made.add(line)
        made.close()
        # when the host went down
        last = max(line.when for line in lines if line.when < NOW * 2)
        os.utime(self.path, (last, last))

    def restore(self) -> dict[str, str]:
        """Members with the reason of each, after a boot."""
        bans.restore_bans(self.host, self.data, self.path)
        return self.reasons()

    def reasons(self) -> dict[str, str]:
        return {member: rest.split('"')[1] if '"' in rest else "" for member, rest in members(self.host).items()}


@pytest.fixture
def boot(host: FakeHost, data: str, monkeypatch: pytest.MonkeyPatch) -> Boot:
    return Boot(host, data, monkeypatch)


def test_without_picture_and_ledger_there_is_nothing_to_bring_back(boot: Boot) -> None:
    boot.host.read_only = True
    assert bans.restore_bans(boot.host, boot.data, boot.path) == []


def test_a_ledger_alone_is_brought_back(boot: Boot) -> None:
    boot.ledger(
        Line(BAN, NOW, X, LATER, 1, "sipban: 5 InvalidPassword"),
        Line(BAN, NOW, Y, NOW + 99, 1, "over"),
        Line(BAN, NOW, SIX, 0, 0, "for ever"),
        Line(BAN, NOW, Z, LATER, 1, "taken back"),
        Line(WAS, NOW, Z, 0, 1),
        Line(UNBAN, NOW + 1, Z),
    )
    assert bans.restore_bans(boot.host, boot.data, boot.path) == ["2 bans brought back"]
    assert members(boot.host) == {
        "203.0.113.7": ' timeout 3500 comment "sipban: 5 InvalidPassword" -exist',
        "2001:db8:bad::/64": ' timeout 0 comment "for ever" -exist',
    }
    assert bans.restore_bans(boot.host, boot.data, boot.path) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (Line(BAN, NOW + 1, X, LATER, 1, "newer"), {"203.0.113.7": "newer"}),
        # Who was let in by hand right after a ban stays free; who was banned right after another was let in stays banned.
        (Line(BAN, NOW + 0.4, X, LATER, 1, "of the same second"), {"203.0.113.7": "picture"}),
        (Line(BAN, NOW + 0.4, Y, LATER, 1, "of the same second"), {"203.0.113.7": "picture"}),
        (Line(BAN, NOW + 0.6, X, LATER, 1, "of the same second"), {"203.0.113.7": "of the same second"}),
        (
            Line(BAN, NOW + 0.500001, Y, LATER, 1, "of the same second"),
            {"203.0.113.7": "picture", "203.0.113.8": "of the same second"},
        ),
        (Line(UNBAN, NOW + 0.4, X), {"203.0.113.7": "picture"}),
        (Line(UNBAN, NOW + 0.6, X), {}),
        (Line(BAN, NOW - 1, X, LATER, 1, "older"), {"203.0.113.7": "picture"}),
        (Line(BAN, NOW + 1, Y, LATER, 1, "added"), {"203.0.113.7": "picture", "203.0.113.8": "added"}),
        (Line(BAN, NOW - 1, Y, LATER, 1, "taken back by hand since"), {"203.0.113.7": "picture"}),
        (Line(UNBAN, NOW + 1, X), {}),
        (Line(UNBAN, NOW - 1, X), {"203.0.113.7": "picture"}),
        (Line(UNBAN, NOW + 1, Y), {"203.0.113.7": "picture"}),
        (Line(UNBAN, NOW + 1, None), {}),
        (Line(UNBAN, NOW - 1, None), {"203.0.113.7": "picture"}),
        (Line(WAS, NOW + 1, Y, 0, 3), {"203.0.113.7": "picture"}),
        (Line(BAN, NOW + 1, X, NOW + 50, 1, "over by now"), {}),
    ],
)
def test_of_picture_and_ledger_the_newer_counts(boot: Boot, line: Line, expected: dict[str, str]) -> None:
    boot.picture(NOW + 0.5, f"203.0.113.7\t{LATER}\tpicture")
    boot.ledger(line)
    assert boot.restore() == expected


def test_all_unbanned_means_those_of_before(boot: Boot) -> None:
    boot.picture(NOW, f"203.0.113.7\t{LATER}\tpicture")
    boot.ledger(
        Line(BAN, NOW + 1, Y, LATER, 1, "before"),
        Line(UNBAN, NOW + 2, None),
        Line(BAN, NOW + 2, Z, LATER, 1, "after"),
    )
    assert boot.restore() == {"203.0.113.9": "after"}


def test_a_picture_taken_after_all_were_unbanned_counts(boot: Boot) -> None:
    boot.ledger(Line(BAN, NOW - 9, Y, LATER, 1, "before"), Line(UNBAN, NOW - 8, None))
    boot.picture(NOW, f"203.0.113.7\t{LATER}\tpicture")
    assert boot.restore() == {"203.0.113.7": "picture"}


def test_a_damaged_picture_leaves_the_bans_of_the_ledger(boot: Boot) -> None:
    boot.picture(NOW, "damaged")
    boot.ledger(Line(BAN, NOW, Y, LATER, 1, "ledger"))
    with pytest.raises(SipguardError, match=r"/bans is damaged, so bans of before the last boot are not known: "):
        boot.restore()
    assert boot.reasons() == {"203.0.113.8": "ledger"}


@pytest.mark.parametrize("kind", ["directory", "link", "large"])
def test_a_ledger_that_is_none_leaves_the_bans_of_the_picture(boot: Boot, kind: str) -> None:
    boot.picture(NOW, f"203.0.113.7\t{LATER}\tpicture")
    path = Path(boot.path)
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate((64 << 20) + 1)
    with pytest.raises(SipguardError, match=rf"^(cannot read {path}: .*|{path} is no ledger of sipband; remove it)$"):
        boot.restore()
    assert boot.reasons() == {"203.0.113.7": "picture"}


def test_of_two_damaged_files_both_are_told(boot: Boot) -> None:
    boot.picture(NOW, "damaged")
    Path(boot.path).mkdir()
    with pytest.raises(SipguardError, match=r"/bans is damaged, .*; .* is no ledger of sipband; remove it$"):
        boot.restore()
    assert boot.host.sets == {}


@pytest.mark.parametrize(
    "member",
    [
        "127.0.0.1",
        "127.0.0.0/8",
        "0.0.0.0/1",
        "0.0.0.0",
        "10.0.0.0/8",
        "128.0.0.0/15",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "2000::/3",
        "2001:db8::/31",
        "2001:db8::1%x",
        "2001:db8::1%x timeout 0 comment y",
        "203.0.113.7 timeout 0",
    ],
)
def test_what_nobody_may_ban_is_not_brought_back(boot: Boot, member: str) -> None:
    good = Line(BAN, NOW, Y, LATER, 1, "good").render()
    Path(boot.path).write_text(f"ban\t{NOW}\t{member}\t{LATER}\t1\tevil\n{good}", encoding="utf-8")
    assert boot.restore() == {"203.0.113.8": "good"}


def test_a_hostile_reason_stays_within_its_quotes(boot: Boot) -> None:
    evil = 'x" -exist\radd sipguard-trusted4 0.0.0.0/1 comment "\u2028\x1b' + "ü" * 300
    with open(boot.path, "w", encoding="utf-8", newline="") as file:
        file.write(f"ban\t{NOW}\t203.0.113.8\t{LATER}\t1\t{evil}\n")
    (reason,) = boot.restore().values()
    assert reason.startswith("x? -exist?add sipguard-trusted4 0.0.0.0/1 comment ???ü")
    assert '"' not in reason
    assert reason.isprintable()
    assert len(reason.encode()) <= bans.MAX_REASON


def test_a_clock_that_is_late_does_not_make_bans_of_the_ledger_longer(
    boot: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot.ledger(Line(BAN, NOW, X, LATER, 1, "x"), Line(UNBAN, NOW + 600, Y))
    monkeypatch.setattr(time, "time", lambda: 0)
    boot.restore()
    assert members(boot.host) == {"203.0.113.7": ' timeout 3000 comment "x" -exist'}


def test_a_line_of_a_clock_that_was_wrong_once_hides_no_ban(boot: Boot) -> None:
    boot.picture(NOW - 60, f"203.0.113.9\t{LATER}\tby root")
    boot.ledger(Line(BAN, NOW * 3, Y, NOW * 3 + 60, 1, "of another time"), Line(BAN, NOW, X, LATER, 1, "x"))
    assert boot.restore() == {"203.0.113.7": "x", "203.0.113.9": "by root"}


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A ledger where sipband would have it."""
    path = tmp_path / "sipband's"
    path.write_text("", encoding="utf-8")
    monkeypatch.setattr(ledger, "PATH", str(path))
    return path


def test_beside_a_ledger_that_nobody_is_banned_is_written_down_as_well(
    host: FakeHost, engine: Engine, data: str, beside: Path
) -> None:
    bans.ban(engine, NETWORKS, 3600, "", directory=data)
    # of an earlier ban by sipband, which the administrator takes back
    beside.write_text(Line(BAN, int(time.time()) - 5, NETWORKS[0], int(time.time()) + 3600, 1, "sipban: x").render())
    bans.lift(host, NETWORKS, directory=data)
    found = bans.Picture(data).read()
    assert found is not None
    assert found[0] == {}
    host.sets.clear()
    assert bans.restore_bans(host, data, str(beside)) == []
    assert members(host) == {}


def test_an_empty_picture_is_worth_something_beside_a_ledger_alone(engine: Engine, data: str, beside: Path) -> None:
    bans.Picture(data).write({IPV4: {}, IPV6: {}})
    picture = bans.Picture(data)
    assert (Path(data) / "bans").exists()
    assert not picture.exists()
    beside.unlink()
    assert picture.exists()
    picture.write({IPV4: {}, IPV6: {}})
    assert not (Path(data) / "bans").exists()


def test_beside_a_ledger_each_change_takes_a_picture(host: FakeHost, engine: Engine, data: str, beside: Path) -> None:
    """Also one that shows the same: what sipband has written before must not come after it."""
    bans.ban(engine, NETWORKS[:1], 3600, "mine", directory=data)
    path = Path(data) / "bans"
    first = path.read_text()
    path.write_text(first.replace(first.split("\n")[1], "# saved 5"))
    bans.ban(engine, NETWORKS[:1], 7200, "longer", directory=data)
    assert "# saved 5" not in path.read_text()
    again = bans.ban(engine, NETWORKS[:1], 7200, "longer", directory=data)
    assert not again.changed


def test_clear_beside_a_ledger_is_done_once_and_lasts(host: FakeHost, engine: Engine, data: str, beside: Path) -> None:
    bans.ban(engine, NETWORKS, 3600, "", directory=data)
    beside.write_text(Line(BAN, int(time.time()) - 5, NETWORKS[0], 0, 1, "sipban: x").render())
    assert bans.clear(engine, directory=data).changed
    assert bans.restore_bans(host, data, str(beside)) == []
    host.sets.clear()
    assert not bans.clear(engine, directory=data).changed


# -- ban and clear


def test_rule_is_made_for_the_families_that_need_it(host: FakeHost, engine: Engine, data: str) -> None:
    bans.ban(engine, NETWORKS[:1], 3600, "", directory=data)
    assert "sipguard-banned4" in host.tables["iptables"].save()
    assert "SIPGUARD" not in host.tables["ip6tables"].save()
    bans.ban(engine, NETWORKS[1:], 0, "", directory=data)
    assert "sipguard-banned6" in host.tables["ip6tables"].save()
    assert members(host) == {"203.0.113.7": " timeout 3600 -exist", "2001:db8:bad::/64": " timeout 0 -exist"}


def test_ban_in_check_mode_touches_nothing(host: FakeHost, engine: Engine, data: str) -> None:
    host.read_only = True
    done = bans.ban(engine, NETWORKS, 3600, "why", check=True, directory=data)
    assert done.changed
    assert "banned 203.0.113.7 for 1 h: why\nbanned 2001:db8:bad::/64 for 1 h: why\n" in done.after
    assert not Path(data).exists()


def test_ban_ends_the_exception_of_exactly_the_address(host: FakeHost, engine: Engine, data: str) -> None:
    exempt = [Exempt(ipaddress.ip_address(f"203.0.113.{last}"), 5, 0, "x") for last in (7, 8)]
    Exceptions(data).write(exempt)
    done = bans.ban(engine, [ipaddress.ip_network("203.0.113.8/29")], 3600, "", directory=data)
    assert (done.exceptions, list(Exceptions(data).read())) == ({}, [each.address for each in exempt])
    done = bans.ban(engine, NETWORKS[:1], 3600, "", directory=data)
    assert (list(done.exceptions), list(Exceptions(data).read())) == (["203.0.113.7"], [exempt[1].address])


def test_clear_leaves_nothing_and_is_done_once(host: FakeHost, engine: Engine, data: str, tmp_path: Path) -> None:
    bans.ban(engine, NETWORKS, 3600, "", directory=data)
    Exceptions(data).write([Exempt(ipaddress.ip_address("203.0.113.8"), 5, 0, "x")])
    done = bans.clear(engine, directory=data)
    assert done.changed
    assert "exception 203.0.113.8\n" in done.before
    assert (host.sets, Path(data).exists(), (tmp_path / "etc").exists()) == ({}, False, False)
    assert "SIPGUARD" not in host.tables["iptables"].save() + host.tables["ip6tables"].save()
    host.read_only = True
    assert not bans.clear(engine, directory=data).changed


def test_clear_takes_damaged_files_along(host: FakeHost, engine: Engine, data: str) -> None:
    Path(data).mkdir()
    for name in ("bans", "exceptions"):
        (Path(data) / name).write_text("garbage")
    (Path(data) / "confirmed").write_text("somebody else's")
    assert bans.clear(engine, directory=data).changed
    assert [path.name for path in Path(data).iterdir()] == ["confirmed"]


def test_clear_refuses_while_somebody_elses_rule_looks_into_a_set(host: FakeHost, engine: Engine, data: str) -> None:
    bans.ban(engine, NETWORKS[:1], 3600, "", directory=data)
    script = "*filter\n-A FORWARD -m set --match-set sipguard-banned4 src -j DROP\nCOMMIT\n"
    host.tables["iptables"].restore(script, list(host.sets))
    before = members(host)
    with pytest.raises(SipguardError, match="the set sipguard-banned4 cannot be removed: this rule, which is not ours"):
        bans.clear(engine, directory=data)
    assert members(host) == before
