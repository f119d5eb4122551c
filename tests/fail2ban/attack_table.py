# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every attack with what has to be found of it, and every honest mistake, of which nothing may be found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.asterisk.harness import PJSIP_TRANSPORTS, Pbx

from .attacks import DOMAIN, Caller, Iax, Request, escaped, say_to_ami

__all__ = [
    "ATTACKS",
    "GUESTS",
    "PASSWORD",
    "PORTS",
    "VICTIM",
    "Attack",
    "configuration",
    "iax_peer",
    "manager_user",
    "sip_conf",
]

VICTIM = "203.0.113.99"  # who never sent anything, and whom attackers want to see banned
GUESTS = "guests.example.org"  # in From it makes a stranger a guest of PJSIP
PASSWORD = "jK4-first-phone"
PORTS = {"chan_sip": 5060, "pjsip": 5070}

_PHONE = """\
[{name}]
type=endpoint
context=phones
disallow=all
allow=alaw
auth={name}
aors={name}
{more}
[{name}]
type=auth
auth_type=userpass
username={name}
password={password}
[{name}]
type=aor
max_contacts=1
"""
# No address of record; and its nonces grow old in a second.
_HOMELESS = f"""\
[1006]
type=endpoint
context=phones
disallow=all
allow=alaw
auth=1006
[1006]
type=auth
auth_type=userpass
username=1006
password={PASSWORD}
nonce_lifetime=1
"""
_GUEST = f"[anonymous@{GUESTS}]\ntype=endpoint\ncontext=guests\ndisallow=all\nallow=alaw\n"
_LOGGER = """\
[general]
dateformat=%F %T
[logfiles]
sipguard-notices => [json]notice,warning
sipguard-security => [json]security
plain-notices => notice,warning
plain-security => security
sipguard-errors => [json]error
"""
_MANAGER = f"""\
[general]
enabled=yes
bindaddr=127.0.0.1
authlimit=1000
[admin]
secret={PASSWORD}
read=all
"""
_IAX = f"""\
[general]
bindaddr=127.0.0.1
authdebug=yes
[3001]
type=friend
host=dynamic
secret={PASSWORD}
auth=md5
"""


def sip_conf(*, hardened: bool) -> str:
    """chan_sip as it was long ago, with guests and answers that tell the users' names, or as it should be."""
    general = f"""\
[general]
context=guests
allowguest={"no" if hardened else "yes"}
alwaysauthreject={"yes" if hardened else "no"}
domain={DOMAIN}
udpbindaddr=[::]:5060
tcpenable=yes
tcpbindaddr=[::]:5060
"""
    phone = f"[{{}}]\ntype=friend\nhost={{}}\nsecret={PASSWORD}\ncontext=phones\n{{}}\n"
    return general + "".join(
        phone.format(*each)
        for each in (
            ("1001", "dynamic", ""),
            ("1002", "dynamic", "nat=force_rport,comedia"),
            ("1003", "dynamic", "nat=no"),
            ("1004", "dynamic", "deny=0.0.0.0/0.0.0.0\npermit=192.0.2.1"),
            ("1005", "192.0.2.5", ""),
        )
    )


def configuration(pbx: Pbx) -> dict[str, str]:
    """The files of a PBX that logs all there is, in JSON and plainly."""
    phones = (("1001", ""), ("1004", "deny=0.0.0.0/0.0.0.0\npermit=192.0.2.1"))
    objects = "".join(_PHONE.format(name=name, more=more, password=PASSWORD) for name, more in phones)
    files = {
        "modules.conf": pbx.read("modules.conf").replace("noload => chan_iax2.so\n", ""),
        "pjsip.conf": PJSIP_TRANSPORTS.replace(":5060", f":{PORTS['pjsip']}") + objects + _HOMELESS + _GUEST,
        "extensions.conf": "[phones]\nexten => 600,1,Answer()\n[guests]\nexten => 600,1,Hangup()\n",
        "logger.conf": _LOGGER,
        "manager.conf": _MANAGER,
        "iax.conf": _IAX,
    }
    return files | ({"sip.conf": sip_conf(hardened=False)} if pbx.version == "16" else {})


@dataclass(frozen=True)
class Attack:
    """One sender. `notices` and `security` are the modes in which the filter of that file finds its true address."""

    name: str
    kind: str  # chan_sip, pjsip, iax2 or ami
    notices: str = ""
    security: str = ""
    forges: str = ""  # the plain file in which a whole line about the victim stands now
    request: Mapping[str, Any] = field(default_factory=dict)
    login: Mapping[str, str] | None = None  # the challenge is answered like this
    act: Callable[[Pbx, str], None] | None = None
    transport: str = "udp"
    family: int = 4
    silent: bool = False  # there is no answer to wait for
    hardened: bool = False  # chan_sip as it should be

    def versions(self) -> tuple[str, ...]:
        """The Asterisks that can be attacked so."""
        return ("16",) if self.kind == "chan_sip" else ("16", "22")

    def run(self, pbx: Pbx, source: str) -> None:
        """Attacks from that address."""
        if self.act:
            self.act(pbx, source)
            return
        with Caller(pbx, source, PORTS[self.kind], self.transport) as caller:
            made = Request(**self.request)
            if self.silent:
                caller.send(made)
                return
            answer = caller.ask(made) if self.login is None else caller.log_in(made, **self.login)
            assert answer.status, f"{self.name}: nobody answered"


def manager_user(name: bytes) -> Callable[[Pbx, str], None]:
    """A failing login to the manager interface."""

    def act(pbx: Pbx, source: str) -> None:
        say_to_ami(pbx, source, name).close()

    return act


def iax_peer(name: bytes) -> Callable[[Pbx, str], None]:
    """A failing registration by IAX2."""

    def act(pbx: Pbx, source: str) -> None:
        with Iax(pbx, source) as client:
            client.register(name)

    return act


def _bytes(data: str) -> Callable[[Pbx, str], None]:
    def act(pbx: Pbx, source: str) -> None:
        with Caller(pbx, source, PORTS["pjsip"]) as caller:
            caller.sock.sendall(data.encode())

    return act


_RIGHT = {"password": PASSWORD}
_FORGED = f"\n[2026-11-21 12:00:00] NOTICE[1] a: {VICTIM} failed to authenticate\n"
_FORGED_SIP = (
    f"\n[2026-11-21 12:00:00] NOTICE[1] chan_sip.c: Registration from 'x' failed for '{VICTIM}:5060' - Wrong password\n"
)
_FORGED_EVENT = f'",LocalAddress="IPV4/UDP/1.1.1.1/5060",RemoteAddress="IPV4/UDP/{VICTIM}/5060'
_FORGED_REQUEST = f"' failed for '{VICTIM}:5060' (callid: x) - Failed to authenticate"
_QUOTED_EVENT = _FORGED_EVENT.replace('"', '\\"')
_CALL = {"method": "INVITE", "uri": f"sip:900@{DOMAIN}"}
_GUEST_CALL = {**_CALL, "sender": f"<sip:bob@{GUESTS}>"}
_SYNTAX = "REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9\r\nFrom: <<<>\r\n\r\n" + _FORGED

_PJSIP = [
    Attack("unknown user", "pjsip", "scan", "udp"),
    Attack("unknown user and a password", "pjsip", "login scan", "udp", login={}),
    Attack("wrong password", "pjsip", "login", "udp", request={"user": "1001"}, login={}),
    Attack("wrong password, call", "pjsip", "login", "udp", request={**_CALL, "user": "1001"}, login={}),
    Attack("call without a password", "pjsip", "scan", "udp", request=_CALL),
    Attack("options of a stranger", "pjsip", "", "udp", request={"method": "OPTIONS"}),
    Attack("endpoint's ACL", "pjsip", "scan", "udp", request={"user": "1004"}),
    Attack("right password", "pjsip", request={"user": "1001"}, login=_RIGHT),
    Attack("one contact too many", "pjsip", request={"user": "1001"}, login=_RIGHT),
    Attack("named phone, wrong number", "pjsip", request={**_CALL, "user": "1001"}, login=_RIGHT),
    Attack("guest, unknown extension", "pjsip", "scan", request=_GUEST_CALL),
    Attack("guest registers", "pjsip", "scan", "udp", request={"sender": f"<sip:bob@{GUESTS}>"}),
    Attack("phone that has nowhere to register", "pjsip", request={"user": "1006"}, login=_RIGHT),
    Attack("unknown user, tcp", "pjsip", "scan", "stream", transport="tcp"),
    Attack("wrong password, tcp", "pjsip", "login", "stream", request={"user": "1001"}, login={}, transport="tcp"),
    Attack("unknown user, ipv6", "pjsip", "scan", "udp", family=6),
    Attack("wrong password, ipv6", "pjsip", "login", "udp", request={"user": "1001"}, login={}, family=6),
    Attack("wrong, v6 tcp", "pjsip", "login", "stream", request={"user": "1001"}, login={}, family=6, transport="tcp"),
    Attack(
        "extension with a line",
        "pjsip",
        "scan",
        forges="plain-notices",
        request={**_GUEST_CALL, "uri": f"sip:{escaped(_FORGED)}@{DOMAIN}"},
    ),
    Attack("From with a line", "pjsip", "scan", "udp", request={"sender": f"<sip:{escaped(_FORGED)}@{DOMAIN}>"}),
    Attack("To with a line", "pjsip", "scan", "udp", request={"to": f"<sip:{escaped(_FORGED)}@{DOMAIN}>"}),
    # What could be read in two ways is not taken from the notices. The event tells.
    Attack("name", "pjsip", "", "udp", request={"sender": f'"{_FORGED_REQUEST}" <sip:zz@{DOMAIN}>'}),
    Attack(
        "name with an escaped quote",
        "pjsip",
        "",
        "udp",
        request={"sender": f'"\\" <sip:x@y>{_FORGED_REQUEST}\\\\" <sip:zz@{DOMAIN}>'},
    ),
    Attack("Call-ID", "pjsip", "", "udp", request={"call_id": f"x') - Failed{_FORGED_REQUEST[:-28]}"}),
    Attack("Call-ID as an event", "pjsip", "scan", "udp", request={"call_id": _FORGED_EVENT}),
    Attack(
        "Call-ID, wrong password",
        "pjsip",
        "login",
        "udp",
        request={"user": "1001", "call_id": "y" + _FORGED_EVENT},
        login={},
    ),
    Attack("apostrophe in the method", "pjsip", "scan", "udp", request={"method": "X'Y"}),
    Attack("escape in the Call-ID", "pjsip", "scan", "udp", request={"call_id": "a\x1bb"}),
    Attack("maddr", "pjsip", "scan", "udp", request={"via": f";rport;maddr={VICTIM}"}, silent=True),
    Attack("syntax error", "pjsip", act=_bytes(_SYNTAX), silent=True),
    Attack("no SIP at all", "pjsip", act=_bytes(_FORGED), silent=True),
    # Asterisk cuts a line after 8191 bytes, and a control character takes six of them. The notice cuts the Call-ID itself.
    Attack("Call-ID too long for an event", "pjsip", "scan", request={"call_id": "\x01" * 1500}),
    # Asterisk does not escape quotes in these two, so the filter leaves such events out. The notice tells.
    *(
        Attack(
            f"digest's {name}", "pjsip", "login", request={"user": "1001"}, login={"user": "1001", name: _QUOTED_EVENT}
        )
        for name in ("response", "nonce")
    ),
    *(
        Attack(f"digest's {name}", "pjsip", "login", "udp", request={"user": "1001"}, login={name: _QUOTED_EVENT})
        for name in ("username", "cnonce", "opaque")
    ),
]

_CHAN_SIP = [
    Attack("unknown user", "chan_sip", "scan"),
    Attack("wrong password", "chan_sip", "login", request={"user": "1001"}, login={}),
    Attack("wrong password, tcp", "chan_sip", "login", request={"user": "1001"}, login={}, transport="tcp"),
    Attack("wrong password, ipv6", "chan_sip", "login", request={"user": "1001"}, login={}, family=6),
    Attack("wrong, v6 tcp", "chan_sip", "login", request={"user": "1001"}, login={}, family=6, transport="tcp"),
    Attack("another's name", "chan_sip", "login", request={"user": "1001"}, login={"username": "1002"}),
    Attack("foreign domain", "chan_sip", "scan", request={"to": "<sip:1001@other.example>"}),
    Attack("peer's ACL", "chan_sip", "scan", request={"user": "1004"}, login={}),
    Attack("peer that does not register", "chan_sip", "scan", request={"user": "1005"}, login={}),
    Attack("right password", "chan_sip", request={"user": "1001"}, login=_RIGHT),
    Attack("named phone, wrong number", "chan_sip", request={**_CALL, "user": "1001"}, login=_RIGHT),
    Attack("wrong password, call", "chan_sip", request={**_CALL, "user": "1001"}, login={}),
    Attack("guest, unknown extension", "chan_sip", "scan", request=_CALL),
    Attack("options of a stranger", "chan_sip", request={"method": "OPTIONS"}),
    Attack(
        "extension with a line",
        "chan_sip",
        "scan",
        forges="plain-notices",
        request={**_CALL, "uri": f"sip:{escaped(_FORGED_SIP)}@{DOMAIN}"},
    ),
    Attack(
        "To with a line",
        "chan_sip",
        "scan",
        forges="plain-security",
        request={"to": f"<sip:{escaped(_FORGED_SIP)}@{DOMAIN}>"},
    ),
    Attack(
        "name in To",
        "chan_sip",
        "login",
        request={"user": "1001", "to": f"\"x' failed for '{VICTIM}:5060' - Wrong password\" <sip:1001@{DOMAIN}>"},
        login={},
    ),
    Attack(
        "end of To",
        "chan_sip",
        "login",
        request={"user": "1001", "to": f"<sip:1001@{DOMAIN}>;x' failed for '{VICTIM}:5060' - Wrong password"},
        login={},
    ),
    Attack("maddr", "chan_sip", "login", request={"user": "1001", "via": f";rport;maddr={VICTIM}"}, login={}),
    Attack(
        "maddr, foreign domain",
        "chan_sip",
        "scan",
        request={"to": "<sip:1001@other.example>", "via": f";rport;maddr={VICTIM}"},
    ),
    *(
        Attack(f"digest's {name}", "chan_sip", "login", request={"user": "1001"}, login={name: _QUOTED_EVENT})
        for name in ("response", "username")
    ),
    Attack(
        "To too long",
        "chan_sip",
        request={"user": "1001", "to": '"' + "\x01" * 1400 + f'" <sip:1001@{DOMAIN}>'},
        silent=True,
    ),
    Attack("unknown user and a password, hardened", "chan_sip", "login", login={}, hardened=True),
    Attack("foreign domain, hardened", "chan_sip", "scan", request={"to": "<sip:1001@other.example>"}, hardened=True),
    Attack("call without a password, hardened", "chan_sip", request=_CALL, hardened=True),
    Attack(
        "To with a line, hardened",
        "chan_sip",
        "login",
        forges="plain-security",
        request={"to": f"<sip:{escaped(_FORGED_SIP)}@{DOMAIN}>"},
        login={},
        hardened=True,
    ),
]

_OTHERS = [
    Attack("unknown peer", "iax2", "scan", act=iax_peer(b"nobody")),
    Attack("wrong password", "iax2", "login", act=iax_peer(b"3001")),
    Attack("peer with a line", "iax2", "scan", forges="plain-notices", act=iax_peer(_FORGED.encode())),
    Attack("peer with an address", "iax2", "scan", act=iax_peer(f"x' (from {VICTIM})\n".encode())),
    Attack("unknown user", "ami", "login", "stream", act=manager_user(b"root"), silent=True),
    Attack("wrong password", "ami", "login", "stream", act=manager_user(b"admin"), silent=True),
    Attack(
        "user with an address",
        "ami",
        "login",
        "stream",
        act=manager_user(f"' {_FORGED[31:-1]} as '".encode()),
        silent=True,
    ),
    Attack(
        "user with CR and a line",
        "ami",
        "login",
        "stream",
        act=manager_user(b"r\r" + _FORGED[1:-1].encode()),
        silent=True,
    ),
    Attack("user with an event", "ami", "login", "stream", act=manager_user(_FORGED_EVENT.encode()), silent=True),
    Attack("user with an escape", "ami", "login", "stream", act=manager_user(b"a\x1bb"), silent=True),
]

ATTACKS = {f"{each.kind}, {each.name}": each for each in [*_PJSIP, *_CHAN_SIP, *_OTHERS]}
