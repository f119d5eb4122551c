# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sipband writes down, and what root makes of it, whoever has written it."""

from __future__ import annotations

import ipaddress
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import ledger as records
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.ledger import (
    ALL,
    BAN,
    UNBAN,
    WAS,
    Ledger,
    Line,
    last_lines,
    read_lines,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.sets import member_text
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import Network
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

ONE = ipaddress.ip_network("203.0.113.7")
SIX = ipaddress.ip_network("2001:db8:bad::/64")
LINES = [
    Line(BAN, 1000, ONE, 4600, 1, "sipban: 5 InvalidPassword in 3 s (PJSIP over TLS)"),
    Line(BAN, 1001, SIX, 0, 0, "sipban: blocked by hand: grüße, 世界 it's \\ #"),
    Line(UNBAN, 1002, ONE),
    Line(WAS, 1003, ONE, 0, 3),
    Line(UNBAN, 1004, None),
    Line(BAN, 1005, ONE, 9000, 4, ""),
]
times = st.integers(0, (1 << 40) - 1)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "bans")


@pytest.fixture
def ledger(path: str) -> Iterator[Ledger]:
    made = Ledger(path)
    made.open()
    yield made
    made.close()


def read(path: str) -> list[Line]:
    return list(read_lines(path))


def networks() -> st.SearchStrategy[Network]:
    four = st.builds(lambda a, p: ipaddress.ip_network((a, p), strict=False), st.ip_addresses(v=4), st.integers(0, 32))
    six = st.builds(lambda a, p: ipaddress.ip_network((a, p), strict=False), st.ip_addresses(v=6), st.integers(0, 128))
    return st.one_of(four, six)


# -- lines


def test_lines_are_read_as_they_were_written(ledger: Ledger, path: str) -> None:
    for line in LINES:
        ledger.add(line)
    assert read(path) == LINES
    assert (ledger.lines, ledger.problem) == (len(LINES), "")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert Path(path).read_text("utf-8").startswith("# sipband's ledger. Changes made here are overwritten.\n")


@given(networks(), times, times, times, st.text())
def test_a_line_is_one_line_whatever_the_reason_says(
    tmp_path_factory: pytest.TempPathFactory, network: Network, when: int, until: int, number: int, reason: str
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "bans"
    ledger = Ledger(str(path))
    ledger.open()
    for line in (Line(BAN, when, network, until, number, reason), LINES[0]):
        ledger.add(line)
    ledger.close()
    found = read(str(path))
    assert [each[:5] for each in found] == [(BAN, when, network, until, number), LINES[0][:5]]
    assert found[0].reason.isprintable()
    assert '"' not in found[0].reason
    if reason.isprintable() and '"' not in reason and len(reason.encode("utf-8", "replace")) < 100:
        assert found[0].reason == reason


@pytest.mark.parametrize("reason", ["a\tb", "a\nunban\t9999\t*", "x\r\nban\t1\t0.0.0.0/1\t0\t0\tall", "\0", "\x1b[2J"])
def test_a_hostile_reason_stays_in_its_field(ledger: Ledger, path: str, reason: str) -> None:
    # Comments in the kernel may be anybody's, and end up here when the ledger is written anew.
    ledger.rewrite([Line(BAN, 1, ONE, 0, 0, reason)])
    (line,) = read(path)
    assert line[:5] == (BAN, 1, ONE, 0, 0)
    assert line.reason.isprintable()


@pytest.mark.parametrize("reason", ["ü" * 200, "世" * 200, "x" * 1000, "\N{GRINNING FACE}" * 90])
def test_a_reason_is_never_longer_than_the_kernel_can_keep(path: str, reason: str) -> None:
    Path(path).write_text(f"ban\t1\t{member_text(ONE)}\t0\t0\t{reason}\n"[:1000].rstrip("\n") + "\n", "utf-8")
    for line in read(path):
        assert len(line.reason.encode()) <= 255


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ban",
        "\t" * 5,
        "ban\t1\t203.0.113.7\t0\t0",
        "ban\t1\t203.0.113.7\t0\t0\ta\tb",
        "ban\t1\t203.0.113.7\t0\t-1\tx",
        "ban\t-1\t203.0.113.7\t0\t0\tx",
        "ban\t1\t203.0.113.7\tx\t0\tx",
        "ban\t1.\t203.0.113.7\t0\t0\tx",
        "ban\t1.5.5\t203.0.113.7\t0\t0\tx",
        "ban\t.5\t203.0.113.7\t0\t0\tx",
        "ban\t1.1234567\t203.0.113.7\t0\t0\tx",
        "ban\t1.-5\t203.0.113.7\t0\t0\tx",
        "ban\t1e3\t203.0.113.7\t0\t0\tx",
        f"ban\t{1 << 41}\t203.0.113.7\t0\t0\tx",
        f"ban\t{1 << 40}\t203.0.113.7\t0\t0\tx",
        f"ban\t1\t203.0.113.7\t{'9' * 900}\t0\tx",
        f"ban\t1\t203.0.113.7\t0\t{1 << 64}\tx",
        "ban\t1_0\t203.0.113.7\t0\t0\tx",
        "ban\t+1\t203.0.113.7\t0\t0\tx",
        "ban\t1\t203.0.113.7\t0\t0 \tx",
        "ban\t٣\t203.0.113.7\t0\t0\tx",
        "ban\t1\t203.0.113.7/24\t0\t0\tx",
        "ban\t1\t203.0.113.\t0\t0\tx",
        "ban\t1\t203.0.113.7 \t0\t0\tx",
        "ban\t1\t203.0.113.7 timeout 5\t0\t0\tx",
        "ban\t1\t2001:db8::1%eth0\t0\t0\tx",
        'ban\t1\t2001:db8::1%x timeout 0 comment "y\t0\t0\tx',
        "ban\t1\t*\t0\t0\tx",
        "ban\t1\t3405803783\t0\t0\tx",
        "BAN\t1\t203.0.113.7\t0\t0\tx",
        " ban\t1\t203.0.113.7\t0\t0\tx",
        "unban\t1",
        "unban\t1\t**",
        "unban\t1\t203.0.113.7\t",
        "was\t1\t203.0.113.7\t",
        "was\t1\t*\t1",
        "was\t1\t203.0.113.7\t1\tx",
        "\0ban\t1\t203.0.113.7\t0\t0\tx",
        "\0" * 5000,
        "x" * 100_000,
        "ban\t1\t203.0.113.7\t0\t0\t" + "x" * 2000,
        "\udcff\udcfe",
    ],
)
def test_what_is_no_line_of_ours_is_left_out(path: str, line: str) -> None:
    text = LINES[0].render() + line + "\n" + LINES[1].render()
    Path(path).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read(path) == LINES[:2]


@given(st.lists(st.one_of(st.binary(max_size=80), st.just(LINES[0].render().encode())), max_size=20))
def test_no_file_is_a_surprise(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("ledger") / "bans"
    path.write_bytes(b"".join(parts))
    for line in read(str(path)):
        assert line.what in (BAN, UNBAN, WAS)
        assert line.reason.isprintable()
        assert line.render().count("\n") == 1


def test_a_reason_keeps_no_quotes(path: str) -> None:
    Path(path).write_text('ban\t1\t203.0.113.7\t0\t0\ta "b" \x7f\u202e\u2028c\n')
    assert [line.reason for line in read(path)] == ["a ?b? ???c"]


# -- files


def test_no_file_has_no_lines(path: str) -> None:
    assert read(path) == []
    assert last_lines(path) == {}


@pytest.mark.parametrize("kept", range(1, len(LINES[1].render().encode())))
def test_a_torn_last_line_is_left_out_and_takes_no_other_with_it(path: str, kept: int) -> None:
    Path(path).write_bytes(LINES[0].render().encode() + LINES[1].render().encode()[:kept])
    assert read(path) == LINES[:1]
    again = Ledger(path)
    again.open()
    again.add(LINES[2])
    again.close()
    # of an unlucky cut nothing but a shorter reason is left
    found = read(path)
    assert found[0] == LINES[0]
    assert found[-1] == LINES[2]
    assert [each[:5] for each in found[1:-1]] in ([], [LINES[1][:5]])


def test_zeros_of_a_power_cut_take_no_line_with_them(path: str) -> None:
    Path(path).write_bytes(LINES[0].render().encode() + b"\0" * 4321)
    again = Ledger(path)
    again.open()
    again.add(LINES[1])
    again.close()
    assert read(path) == LINES[:2]


def test_a_disk_that_is_full_in_the_middle_of_a_line_tears_only_that_one(ledger: Ledger, path: str) -> None:
    ledger.add(LINES[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 20, before[1]))
    try:
        ledger.add(LINES[1])
        first = ledger.problem
        ledger.add(LINES[2])
        second = ledger.problem
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for problem in (first, second):
        assert problem.startswith(f"cannot write {path}: ")
        assert problem.endswith("; bans are in force, but may be forgotten at the next boot")
    ledger.add(LINES[3])
    assert ledger.problem == ""
    ledger.add(LINES[5])
    assert read(path) == [LINES[0], LINES[3], LINES[5]]


def test_what_cannot_be_written_is_told_and_no_error(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "nowhere" / "bans"))
    with pytest.raises(SipguardError, match=r"^cannot write .*/nowhere/bans: No such file or directory$"):
        ledger.open()
    ledger.add(LINES[0])
    assert "may be forgotten at the next boot" in ledger.problem
    ledger.sync()
    ledger.close()


def _fifo(path: str) -> None:
    os.mkfifo(path)


def _directory(path: str) -> None:
    os.mkdir(path)


def _socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.bind(path)


def _link(path: str) -> None:
    Path(f"{path}.other").write_text(LINES[0].render())
    os.symlink(f"{path}.other", path)


def _dangling(path: str) -> None:
    os.symlink("/nonexistent", path)


def _device(path: str) -> None:
    os.symlink("/dev/zero", path)


def _large(path: str) -> None:
    Path(path).write_text(LINES[0].render())
    os.truncate(path, (64 << 20) + 1)


@pytest.mark.parametrize("make", [_fifo, _directory, _socket, _link, _dangling, _device, _large])
@pytest.mark.parametrize("reader", [read, last_lines])
def test_what_is_no_plain_file_is_refused_at_once(path: str, make: object, reader: object) -> None:
    make(path)  # type: ignore[operator]
    begin = time.thread_time()
    with pytest.raises(SipguardError, match=rf"^(cannot read {path}: |{path} is no ledger of sipband; remove it)"):
        reader(path)  # type: ignore[operator]
    # Looked at, and not read.
    assert time.thread_time() - begin < 2


def test_the_largest_ledger_there_may_be_is_read(path: str) -> None:
    Path(path).write_bytes(b"\0" * 1000 + b"\n")
    os.truncate(path, (64 << 20) - 2000)
    with open(path, "ab") as file:
        file.write(b"\n" + LINES[0].render().encode())
    assert read(path) == LINES[:1]


@pytest.mark.parametrize("make", [_directory, _link, _dangling, _device])
def test_nothing_is_written_through_a_link(path: str, make: object) -> None:
    make(path)  # type: ignore[operator]
    with pytest.raises(SipguardError, match=rf"^cannot write {path}: "):
        Ledger(path).open()


# -- written anew


def test_rewrite_keeps_what_is_given_and_goes_on(ledger: Ledger, path: str) -> None:
    for line in LINES:
        ledger.add(line)
    ledger.rewrite(iter(LINES[:2]))
    assert (read(path), ledger.lines, ledger.kept) == (LINES[:2], 2, 2)
    ledger.add(LINES[2])
    ledger.sync()
    assert (read(path), ledger.lines, ledger.kept) == (LINES[:3], 3, 2)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(os.path.dirname(path)) == ["bans"]


def test_a_rewrite_that_fails_leaves_the_old_one_in_use(ledger: Ledger, path: str) -> None:
    ledger.add(LINES[0])

    def breaks() -> Iterator[Line]:
        yield LINES[1]
        raise SipguardError("the kernel does not answer")

    with pytest.raises(SipguardError, match=r"^the kernel does not answer$"):
        ledger.rewrite(breaks())
    ledger.add(LINES[2])
    assert (read(path), ledger.lines) == ([LINES[0], LINES[2]], 2)
    os.mkdir(f"{path}.old")
    before = len(os.listdir("/proc/self/fd"))
    for dummy in range(5):
        with pytest.raises(SipguardError):
            ledger.rewrite(breaks())
    assert len(os.listdir("/proc/self/fd")) == before
    ledger.rewrite(LINES[3:4])  # what a broken one has left is in nobody's way
    assert read(path) == [LINES[3]]


def test_rewrite_without_space_is_an_error_and_changes_nothing(ledger: Ledger, path: str) -> None:
    ledger.add(LINES[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(SipguardError, match=rf"^cannot write {path}: "):
            ledger.rewrite(LINES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read(path) == LINES[:1]
    ledger.add(LINES[1])
    assert read(path) == LINES[:2]


def test_rewrite_is_seen_whole_or_not_at_all(ledger: Ledger, path: str) -> None:
    ledger.rewrite(LINES[:1] * 50)
    seen = []

    def looking() -> Iterator[Line]:
        for dummy in range(50):
            seen.append(len(read(path)))
            yield LINES[1]

    ledger.rewrite(looking())
    assert set(seen) == {50}
    assert read(path) == LINES[1:2] * 50


# -- the last word on each


def test_the_last_line_of_each_member_counts(ledger: Ledger, path: str) -> None:
    for line in LINES[:4]:
        ledger.add(line)
    assert last_lines(path) == {"203.0.113.7": LINES[2], "2001:db8:bad::/64": LINES[1]}
    ledger.add(LINES[4])
    assert last_lines(path) == {ALL: LINES[4]}
    ledger.add(LINES[5])
    assert last_lines(path) == {ALL: LINES[4], "203.0.113.7": LINES[5]}


def test_more_members_than_the_kernel_can_hold_are_refused(
    ledger: Ledger, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_MEMBERS", 100)
    for number in range(100):
        for what in (BAN, UNBAN, WAS):
            ledger.add(Line(what, 1, ipaddress.ip_network(0xCB007100 + number)))
    assert len(last_lines(path)) == 100
    ledger.add(Line(BAN, 1, ipaddress.ip_network("198.51.100.1")))
    with pytest.raises(SipguardError, match=rf"^{path} is no ledger of sipband; remove it$"):
        last_lines(path)


def test_members_are_named_as_ipset_prints_them(path: str) -> None:
    Path(path).write_text(
        "ban\t1\t2001:0db8::0001/128\t0\t0\ta\nban\t2\t2001:db8::1\t5\t0\tb\nban\t3\t203.0.113.7/32\t0\t0\tc\n"
    )
    assert {member: line.reason for member, line in last_lines(path).items()} == {
        "2001:db8::1": "b",
        "203.0.113.7": "c",
    }
