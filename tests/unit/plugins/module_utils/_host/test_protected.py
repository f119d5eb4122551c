# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import surroundings
from ansible_collections.sipguard.pbx.plugins.module_utils._host.protected import Protected, find, find_at_boot
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import routing
from ansible_collections.sipguard.pbx.plugins.module_utils._sip import ranges
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

OWN, GATEWAY, RESOLVER = "an address of this host", "a gateway of this host", "a resolver of this host"
SSH, TRUSTED = "the peer of an SSH connection", "trusted"


class Facts:
    """What this host is, to be changed by a test."""

    def __init__(self, folder: Path) -> None:
        self.addresses = ["192.0.2.7", "2001:db8::7"]
        self.gateways = ["192.0.2.1", "fe80::1"]
        self.peers: list[str] = []
        self.files = (folder / "resolv.conf", folder / "other.conf")


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Facts:
    made = Facts(tmp_path)
    monkeypatch.setattr(routing, "addresses", lambda: made.addresses)
    monkeypatch.setattr(routing, "gateways", lambda: made.gateways)
    monkeypatch.setattr(surroundings, "ssh_peers", lambda: made.peers)
    monkeypatch.setattr(surroundings, "_RESOLVERS", tuple(map(str, made.files)))
    return made


def found(host: FakeHost) -> dict[str, str]:
    items = find(host)
    assert all(item.range() == ranges.parse_range(item.network) for item in items)
    assert len({item.network for item in items}) == len(items)
    return {item.network: item.why for item in items}


def test_everybody_without_whom_the_host_is_no_use(facts: Facts, host: FakeHost) -> None:
    facts.peers = ["198.51.100.22"]
    facts.files[0].write_text("nameserver 192.0.2.53\n")
    host.sets["sipguard-trusted4"] = ("hash:net family inet maxelem 1024", {"203.0.113.0/24": ""})
    host.sets["sipguard-trusted6"] = ("hash:net family inet6 maxelem 1024", {"2001:db8:3::/64": ""})
    assert (
        found(host).items()
        >= {
            "192.0.2.7": OWN,
            "2001:db8::7": OWN,
            "192.0.2.1": GATEWAY,
            "fe80::1": GATEWAY,
            "192.0.2.53": RESOLVER,
            "198.51.100.22": SSH,
            "203.0.113.0/24": TRUSTED,
            "2001:db8:3::/64": TRUSTED,
        }.items()
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "127.255.255.255", "::1", "::", "fe80::7", "febf::1"])
def test_what_no_host_can_do_without_is_always_protected(facts: Facts, host: FakeHost, address: str) -> None:
    version, first, dummy = ranges.parse_range(address)
    assert any(item.range()[0] == version and item.range()[1] <= first <= item.range()[2] for item in find(host))


@pytest.mark.parametrize("address", ["126.255.255.255", "128.0.0.0", "::2", "fec0::1", "192.0.2.8", "203.0.113.1"])
def test_others_are_not(facts: Facts, host: FakeHost, address: str) -> None:
    version, first, dummy = ranges.parse_range(address)
    assert not any(item.range()[0] == version and item.range()[1] <= first <= item.range()[2] for item in find(host))


def test_each_is_named_once_under_the_first_reason(facts: Facts, host: FakeHost) -> None:
    facts.gateways = facts.peers = ["192.0.2.7"]
    facts.files[0].write_text("nameserver 192.0.2.7\n")
    host.sets["sipguard-trusted4"] = ("hash:net family inet maxelem 1024", {"192.0.2.7": ""})
    assert found(host)["192.0.2.7"] == OWN


RESOLV_CONF = {
    "nameserver 192.0.2.53": ["192.0.2.53"],
    "nameserver\t192.0.2.53 # mine": ["192.0.2.53"],
    "  nameserver 192.0.2.53": ["192.0.2.53"],
    "nameserver fe80::53%eth0": ["fe80::53"],
    "nameserver 2001:DB8:0::53": ["2001:db8::53"],
    "nameserver ::ffff:192.0.2.53": ["192.0.2.53"],
    "nameserver 192.0.2.53\nnameserver 192.0.2.54\nnameserver 192.0.2.53": ["192.0.2.53", "192.0.2.54"],
    "#nameserver 192.0.2.53": [],
    "; nameserver 192.0.2.53": [],
    "nameserver": [],
    "nameserver dns.example.com": [],
    "nameserver 010.0.0.53": [],
    "nameserver 192.0.2.0/24": [],
    "nameserver 192.0.2.53-192.0.2.60": [],
    "nameserver \x00\x1b[2J": [],
    "search 192.0.2.53": [],
    "options ndots:1": [],
    "": [],
}


@pytest.mark.parametrize("text", RESOLV_CONF, ids=ascii)
def test_resolvers(facts: Facts, host: FakeHost, text: str) -> None:
    facts.files[1].write_bytes(text.encode() + b"\n\xff\xfe\n")
    assert [network for network, why in found(host).items() if why == RESOLVER] == RESOLV_CONF[text]


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("::ffff:198.51.100.22", "198.51.100.22"),
        ("2001:DB8::22", "2001:db8::22"),
        ("junk", None),
        ("", None),
        ("198.51.100.0/24", None),
    ],
)
def test_odd_words_about_a_peer_protect_who_is_meant_or_nobody(
    facts: Facts, host: FakeHost, peer: str, network: str | None
) -> None:
    facts.peers = [peer]
    assert [found_network for found_network, why in found(host).items() if why == SSH] == ([network] if network else [])


def test_host_without_ipset_trusts_nobody(facts: Facts, host: FakeHost) -> None:
    host.commands.discard("ipset")
    assert TRUSTED not in found(host).values()
    assert host.calls == []


def test_kernel_that_does_not_tell_is_an_error(facts: Facts, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Better no list than one that blocks the gateway."""

    def refused() -> list[str]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(routing, "gateways", refused)
    with pytest.raises(SipguardError, match=r"^cannot read this host's addresses and routes: .*not permitted"):
        find(host)


def test_at_boot_who_was_protected_the_last_time_is_so_again(facts: Facts, host: FakeHost) -> None:
    facts.addresses, facts.gateways = ["127.0.0.1"], []
    kept = [("192.0.2.7", OWN), ("192.0.2.1", GATEWAY), ("198.51.100.22", SSH), ("127.0.0.1", "of old")]
    items = {item.network: item.why for item in find_at_boot(host, kept)}
    assert items.items() >= {"192.0.2.7": OWN, "192.0.2.1": GATEWAY, "127.0.0.1": OWN}.items()
    assert "198.51.100.22" not in items
    assert set(find_at_boot(host, [])) == set(find(host))
    assert Protected("127.0.0.1", OWN) in find_at_boot(host, [])
