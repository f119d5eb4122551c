# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban import published
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.published import Published
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import Network
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

HEAD = "# [2019-06-12 12:01:50]\n"
MOMENT = 1560340910
CONF_2019 = """\
# SipBan Configuration File

# Parameters to connect to Asterisk AMI
[ami]
port = "5038"
user = "sipban"
pass = "getout"
host = "127.0.0.1"
ping = 600

[control]
port = "4451"

[timer]
ban = 43200   # half a day

[iptables]
path  = "/sbin/"
chain = "sipban-udp"
rule  = "REJECT --reject-with icmp-port-unreachable"
#rule  = "DROP"
white_list = "/etc/sipban.wl"
dump = "/etc/sipban.dump"

[log]
file = "/var/log/sipban.log"
"""
CONF_2024 = """\
[ami]\r
ping=60\r
[control]
address = "0.0.0.0"
[iptables]
scope      = ""
rule       = DROP
interface  = "eno1"
[ipset]
path     = "/sbin/"
set_name = "sipban"
dump     = "/root/my dump"
timeout  = 604800
[flood]
count=5
interval=10
colour = "red"
"""


@pytest.fixture
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def net(text: str) -> Network:
    return ipaddress.ip_network(text)


def complaint(read: Callable[[str], object], text: str) -> str:
    try:
        read(text)
    except SipguardError as error:
        return str(error)
    return ""


# -- the dump


def test_the_dump_of_2019_is_read() -> None:
    text = f"{HEAD}203.0.113.7,1560427310\r\n198.51.100.0/24,0\n\n# more\n2001:db8::7,1560427311\n"
    assert published.read_dump(text) == [
        (net("203.0.113.7"), 1560427310),
        (net("198.51.100.0/24"), 0),
        (net("2001:db8::7"), 1560427311),
    ]
    assert published.read_dump(HEAD) == []


def test_the_dump_of_2024_is_read() -> None:
    text = (
        "create sipban hash:ip family inet hashsize 4096 maxelem 65536 timeout 604800 bucketsize 12 initval 0x1d6d3ad8\n"
        "add sipban 203.0.113.7 timeout 600\n"
        "add sipban 203.0.113.8 timeout 0\n"
        'add sipban 203.0.113.9 timeout 5 packets 1 bytes 44 comment "a ""b" c"\n'
        "add sipban 203.0.113.10\n"
    )
    assert published.read_dump(text, saved=MOMENT + 0.9) == [
        (net("203.0.113.7"), MOMENT + 600),
        (net("203.0.113.8"), 0),
        (net("203.0.113.9"), MOMENT + 5),
        (net("203.0.113.10"), MOMENT + 604800),
    ]
    plain = published.read_dump(
        "create x hash:net family inet6\nadd x 2001:db8::/64\nadd x 2001:db8:1::/64 timeout 9\n"
    )
    assert plain[0] == (net("2001:db8::/64"), 0)
    assert abs(plain[1][1] - 9 - time.time()) < 5


def test_of_two_bans_of_the_same_the_longer_counts() -> None:
    text = f"{HEAD}203.0.113.7,5\n203.0.113.7,9\n203.0.113.7,7\n203.0.113.8,0\n203.0.113.8,7\n203.0.113.9,1\n203.0.113.9,0\n"
    assert dict(published.read_dump(text)) == {net("203.0.113.7"): 9, net("203.0.113.8"): 0, net("203.0.113.9"): 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "my.dump is empty; nothing of it was taken"),
        (" \n\n", "my.dump is empty; nothing of it was taken"),
        ("203.0.113.7,5\n", "my.dump, line 1: '203.0.113.7,5' is no beginning; # [2019-06-12 12:01:50] would be right"),
        (f"{HEAD}203.0.113.7,5\n203.0.113.8,15", "my.dump, line 3: the end of the file is missing"),
        (f"{HEAD}203.0.113.7\n", "my.dump, line 2: '203.0.113.7' is no ban; 203.0.113.7,1767225600 would be right"),
        (f"{HEAD}203.0.113.7,-5\n", "my.dump, line 2: '203.0.113.7,-5' is no ban"),
        (f"{HEAD}203.0.113.7,5,6\n", "my.dump, line 2: '203.0.113.7,5,6' is no ban"),
        (f"{HEAD}203.0.113.7,5\n\x00\x1b[2J\udcff\n", "my.dump, line 3: '\\x00\\x1b[2J\\udcff' is no ban"),
        (f"{HEAD}203.0.113.777,5\n", "my.dump, line 2: '203.0.113.777' is no address; "),
        (f"{HEAD}203.0.113.7/24,5\n", "my.dump, line 2: '203.0.113.7/24' is no address; "),
        (f"{HEAD}0.0.0.0/0,5\n", "my.dump, line 2: '0.0.0.0/0' is no address; "),
        ("create x hash:ip,port family inet\n", "my.dump, line 1: 'create x hash:ip,port family inet' makes no set"),
        ("create x\n", "my.dump, line 1: 'create x' makes no set"),
        ("create x hash:ip\nadd y 203.0.113.7\n", "my.dump, line 2: 'add y 203.0.113.7' is no address of the set 'x'"),
        ("create x hash:ip\nadd x 203.0.113.7 nomatch\n", "my.dump, line 2: 'add x 203.0.113.7 nomatch' is no address"),
        ("create x hash:ip\nadd x 203.0.113.7 timeout\n", "my.dump, line 2: "),
        ("create x hash:ip\ncreate y hash:ip\n", "my.dump, line 2: "),
        ("create x hash:ip\nadd x 203.0.113.999\n", "my.dump, line 2: '203.0.113.999' is no address; "),
    ],
)
def test_a_corrupt_dump_is_refused_whole(text: str, said: str) -> None:
    with pytest.raises(SipguardError) as caught:
        published.read_dump(text, "my.dump")
    assert str(caught.value).startswith(said)
    assert "nothing of" in str(caught.value)
    assert str(caught.value).isprintable()


NETWORKS = st.one_of(
    st.builds(lambda value, prefix: ipaddress.ip_network((value, prefix), strict=False),
              st.ip_addresses(v=4).map(int), st.integers(1, 32)),
    st.builds(lambda value, prefix: ipaddress.ip_network((f"2001:db8::{value:x}", prefix), strict=False),
              st.integers(0, 65535), st.integers(1, 128)),
)  # fmt: skip


@given(st.dictionaries(NETWORKS, st.integers(0, 10**11), max_size=20))
def test_a_dump_that_was_written_is_read(bans: dict[Network, int]) -> None:
    text = published.write_dump(bans.items(), MOMENT)
    assert dict(published.read_dump(text)) == bans


@given(st.binary(max_size=200))
def test_rubbish_is_no_dump(data: bytes) -> None:
    for text in (data.decode("latin-1"), HEAD + data.decode("utf-8", "surrogateescape") + "\n"):
        assert complaint(published.read_dump, text).isprintable()


@pytest.mark.usefixtures("utc")
def test_a_dump_is_in_order() -> None:
    bans = [(net("2001:db8::7"), 3), (net("203.0.113.7"), 0), (net("198.51.100.0/24"), 2)]
    assert published.write_dump(bans, MOMENT) == f"{HEAD}198.51.100.0/24,2\n203.0.113.7,0\n2001:db8::7,3\n"


def test_the_file_of_the_dump(tmp_path: Path) -> None:
    path = str(tmp_path / "sipban.dump")
    with pytest.raises(SipguardError, match="no dump file to restore rules"):
        published.load_dump(path)
    published.save_dump(path, [(net("203.0.113.7"), 5)], MOMENT)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert published.load_dump(path) == [(net("203.0.113.7"), 5)]
    Path(path).write_text("create x hash:ip timeout 9\nadd x 203.0.113.7 timeout 9\n", encoding="ascii")
    os.utime(path, (1, MOMENT))
    assert published.load_dump(path) == [(net("203.0.113.7"), MOMENT + 9)]
    Path(path).write_bytes(b"\xff\xfe\n")
    with pytest.raises(SipguardError, match="line 1"):
        published.load_dump(path)
    published.drop_dump(path)
    published.drop_dump(path)
    assert not Path(path).exists()


def test_a_dump_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    with pytest.raises(SipguardError, match=r"cannot write .*No such file or directory"):
        published.save_dump(str(tmp_path / "no" / "dump"), [], MOMENT)
    with pytest.raises(SipguardError, match=r"cannot read .*directory"):
        published.load_dump(str(tmp_path))
    with pytest.raises(SipguardError, match="cannot delete"):
        published.drop_dump(str(tmp_path))


# -- the white list


def test_the_white_list_is_read() -> None:
    text = "# ours\n192.0.2.1\r\n\n  198.51.100.0/24   # a trunk\n2001:db8::/32\n192.0.2.1\n"
    assert published.read_white_list(text) == [net("192.0.2.1"), net("198.51.100.0/24"), net("2001:db8::/32")]
    assert published.read_white_list("") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("192.0.2.1\n192.0.2.256\n", "my.wl, line 2: '192.0.2.256' cannot be used; an address"),
        ("pbx.example\n", "my.wl, line 1: 'pbx.example' cannot be used; it is a name; "),
        ("192.0.2.1/24\n", "my.wl, line 1: '192.0.2.1/24' cannot be used; the address has bits behind its prefix; 192.0.2.0/24"),
        ("0.0.0.0/0", "my.wl, line 1: '0.0.0.0/0' cannot be used; it means every address"),
        ("\x1b[2J", "my.wl, line 1: '\\x1b[2J' cannot be used"),
    ],
)  # fmt: skip
def test_a_corrupt_white_list_is_refused(text: str, said: str) -> None:
    with pytest.raises(SipguardError) as caught:
        published.read_white_list(text, "my.wl")
    assert str(caught.value).startswith(said)


# -- the configuration


def test_the_configuration_of_2019() -> None:
    found = published.read_conf(CONF_2019)
    assert (found.ami_host, found.ami_port, found.ami_user, found.secret) == ("127.0.0.1", 5038, "sipban", "getout")
    assert (found.ping, found.control_port, found.ban) == (600, 4451, 43200)
    assert (found.white_list, found.dump, found.chain) == ("/etc/sipban.wl", "/etc/sipban.dump", "sipban-udp")
    assert found.rule == "REJECT --reject-with icmp-port-unreachable"
    assert found.unknown == ()
    assert set(found.ignored) == {"ami.pass", "iptables.path", "iptables.chain", "iptables.rule", "log.file"}
    assert "drops" in found.ignored["iptables.rule"]


def test_the_configuration_of_2024() -> None:
    found = published.read_conf(CONF_2024)
    assert (found.ping, found.ban, found.dump) == (60, 604800, "/root/my dump")
    assert (found.flood_count, found.flood_interval) == (5, 10)
    assert found.unknown == ("flood.colour",)
    assert set(found.ignored) == {"control.address", "iptables.interface", "ipset.path", "ipset.set_name"}
    assert "ami.ping" in found.given
    assert "ami.port" not in found.given


def test_an_empty_configuration_is_the_published_default() -> None:
    assert published.read_conf("") == Published()


def test_nobody_sees_the_secret() -> None:
    found = published.read_conf('[ami]\npass = "s3cr3t-thing"\n')
    assert found.secret == "s3cr3t-thing"
    assert "s3cr3t" not in f"{found!r} {found} {found.ignored} {found.unknown}"
    for text in ('[ami]\npass = "s3cr3t\n', '[ami]\npass "s3cr3t"\n', 'pass = "s3cr3t"\n', '[ami]\npass = "s3cr3t" x\n',
                 '[ami]\npass = s3cr3t\npass = s3cr3t2\n'):  # fmt: skip
        with pytest.raises(SipguardError) as caught:
            published.read_conf(text)
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[ami]\nport = "x"\n', "my.conf, line 2: ami.port is a number from 1 to 65535"),
        ("[ami]\nport = 65536\n", "my.conf, line 2: ami.port is a number"),
        ("[timer]\nban = -1\n", "my.conf, line 2: timer.ban is a number from 0"),
        ("[timer]\nban =\n", "my.conf, line 2: timer.ban is a number from 0"),
        ("port = 1\n", "my.conf, line 1: a section"),
        ("[ami\n", "my.conf, line 1: a section"),
        ("[ami]\n\nnonsense\n", "my.conf, line 3: a section"),
        ('[ami]\nhost = "a\x1b"\n', "my.conf, line 2: ami.host has characters"),
        ("[ami]\nuser = a\nUser = b\n", "my.conf, line 3: ami.user is there already, in line 2"),
        ("[timer]\nban = 5\n[ipset]\ntimeout = 6\n", "my.conf, line 4: ipset.timeout contradicts"),
    ],
)
def test_a_corrupt_configuration_is_refused(text: str, said: str) -> None:
    with pytest.raises(SipguardError) as caught:
        published.read_conf(text, "my.conf")
    assert str(caught.value).startswith(said)


@given(st.text(max_size=100))
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    assert complaint(published.read_conf, "[ami]\n" + text).isprintable()
