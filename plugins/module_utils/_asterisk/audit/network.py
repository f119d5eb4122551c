# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports, versions told to strangers, access lists, and which drivers are in use."""

from __future__ import annotations

from ..tree import Place, fold
from . import objects
from .context import Context, Section, port_of
from .finding import HIGH, INFO, LOW, MEDIUM, Findings, kind

__all__ = ["check"]

CLASH = kind(
    "driver-port-clash",
    HIGH,
    "chan_sip and PJSIP want the same port",
    "Whichever starts second gets none, and its phones are dead after the next restart.",
    "Give one of them another port, or do not load it.",
)
TRANSPORTS = kind(
    "transport-port-clash",
    MEDIUM,
    "Two PJSIP transports want the same address and port",
    "The second one does not start, and what names it cannot call.",
    "Give one of them another port or address, or remove it.",
)
CHAN_SIP = kind(
    "chan-sip-in-use",
    MEDIUM,
    "chan_sip is in use",
    "It is deprecated since Asterisk 17, and gone with 21: nobody repairs its faults any more.",
    "Move to PJSIP (contrib/scripts/sip_to_pjsip of Asterisk helps), then noload chan_sip.so.",
)
IN_RTP = kind(
    "sip-port-in-rtp-range",
    MEDIUM,
    "A SIP port lies in the range of RTP or UDPTL",
    "What opens the range for media opens the SIP port for everybody. Without rtp.conf the range is 5000 to 31000.",
    "Set rtpstart and rtpend in rtp.conf (10000 and 20000), and keep SIP outside of them.",
)
RTP_WIDE = kind(
    "rtp-range-wide",
    LOW,
    "The RTP range is wider than calls need",
    "A call takes two to four ports, and each of them is open in the firewall.",
    "Set rtpstart and rtpend to what the greatest number of calls at a time needs, such as 10000 to 20000.",
)
RTP_ODD = kind(
    "rtp-range-inverted",
    HIGH,
    "rtpend is not above rtpstart",
    "Asterisk falls back on 5000 to 31000, which the firewall does not know.",
    "Set rtpend above rtpstart.",
)
STRICT = kind(
    "strictrtp-off",
    MEDIUM,
    "Media of strangers is taken into calls",
    "With strictrtp=no a packet from any address that hits an RTP port is heard, and answered, as the other side's.",
    "Set strictrtp=yes in rtp.conf.",
)
DISCLOSED = kind(
    "version-disclosed",
    LOW,
    "The version is told to strangers",
    "User-Agent and Server name Asterisk's version in every answer, and so which faults it has.",
    "Set user_agent in [global] of pjsip.conf, useragent and sdpsession in [general] of sip.conf.",
)
NO_ACL = kind(
    "endpoint-without-acl",
    INFO,
    "Endpoints that may register from anywhere",
    "A stolen secret works from any address in the world.",
    "Where phones have fixed networks, set deny=0.0.0.0/0.0.0.0 and permit=; else let the firewall choose.",
)
REDIRECT = kind(
    "promiscuous-redirect",
    MEDIUM,
    "A redirected call may go anywhere",
    "promiscredir sends a call to whatever address the answer names, without the dialplan.",
    "Remove promiscredir.",
)

_WIDEST = 20000
_RTP_DEFAULT = (5000, 31000)
_UDPTL_DEFAULT = (4000, 4999)


def check(context: Context, findings: Findings) -> None:
    ports: list[tuple[str, int, Place]] = []
    if context.chan_sip:
        ports += _chan_sip(context, findings)
    if context.pjsip:
        own = _pjsip(context, findings)
        for subject, port, place in own:
            if any(port == other and "udp" in subject for dummy, other, dummy2 in ports):
                findings.add(CLASH, subject, place)
        ports += own
    _rtp(context, ports, findings)


def _chan_sip(context: Context, findings: Findings) -> list[tuple[str, int, Place]]:
    general = context.first("sip.conf")
    findings.add(CHAN_SIP, "chan_sip", general.place)
    for option in ("useragent", "sdpsession"):
        if not general.value(option) or "asterisk" in general.value(option).lower():
            findings.add(DISCLOSED, option, general.where(option))
    guarded = bool(general.all("contactdeny", "contactpermit", "contactacl"))
    for peer in objects.sip_peers(context):
        own = objects.restricted(peer) or peer.last("contactdeny", "contactacl")
        if fold(peer.value("host")) == "dynamic" and not guarded and not own:
            findings.add(NO_ACL, peer.name, peer.place)
        if peer.true("promiscredir"):
            findings.add(REDIRECT, peer.name, peer.where("promiscredir"))
    if general.true("promiscredir"):
        findings.add(REDIRECT, "chan_sip", general.where("promiscredir"))
    default = port_of(general.value("bindport"), 5060)
    return [
        (
            "chan_sip, udp",
            port_of(general.value("udpbindaddr", "bindaddr"), default),
            general.where("udpbindaddr", "bindport"),
        )
    ]


def _pjsip(context: Context, findings: Findings) -> list[tuple[str, int, Place]]:
    made = objects.pjsip(context)
    told, place = made.option("global", "user_agent", "")
    if not told or "asterisk" in told.lower():
        findings.add(DISCLOSED, "user_agent", place)
    guarded = bool(made.of("acl"))
    for endpoint in made.phones():
        if guarded or objects.restricted(endpoint) or not made.inbound_auths.get(endpoint.name):
            continue
        if not endpoint.last("contact_deny", "contact_acl"):
            findings.add(NO_ACL, endpoint.name, endpoint.place)
    ports = []
    taken: dict[tuple[str, str, int], Section] = {}
    for each in made.of("transport"):
        protocol = fold(each.value("protocol", default="udp"))
        if protocol in ("udp", "tcp", "tls") and each.value("bind"):
            port = port_of(each.value("bind"), 5061 if protocol == "tls" else 5060)
            key = "udp" if protocol == "udp" else "tcp", _address(each.value("bind")), port
            other = taken.setdefault(key, each)
            if other is not each and other.name != each.name:
                findings.add(TRANSPORTS, f"{each.name}, {protocol}", each.where("bind"))
            ports.append(
                (
                    f"{each.name}, {protocol}",
                    port,
                    each.where("bind"),
                )
            )
    return ports


def _address(bind: str) -> str:
    """The address of a bind, without its port."""
    bind = fold(bind)
    if bind.startswith("["):
        return bind[1:].partition("]")[0]
    return bind.partition(":")[0] if bind.count(":") == 1 else bind


def _number(section: Section, option: str, default: int) -> int:
    value = section.value(option).strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else default


def _rtp(context: Context, ports: list[tuple[str, int, Place]], findings: Findings) -> None:
    if not ports:
        return
    rtp = context.first("rtp.conf")
    first, last = (_number(rtp, name, default) for name, default in zip(("rtpstart", "rtpend"), _RTP_DEFAULT))
    if first >= last:
        findings.add(RTP_ODD, "rtp.conf", rtp.where("rtpend", "rtpstart"))
        first, last = _RTP_DEFAULT
    elif last - first > _WIDEST:
        findings.add(RTP_WIDE, "rtp.conf", rtp.where("rtpend", "rtpstart"))
    if rtp.last("strictrtp") and fold(rtp.value("strictrtp")) in ("no", "false", "n", "f", "0", "off"):
        findings.add(STRICT, "rtp.conf", rtp.where("strictrtp"))
    udptl = context.first("udptl.conf")
    low, high = (_number(udptl, name, default) for name, default in zip(("udptlstart", "udptlend"), _UDPTL_DEFAULT))
    for subject, port, place in ports:
        if first <= port <= last or low <= port <= high:
            # FreePBX accepts the ranges before all else, its own blacklist included (firewall, drivers/Iptables.class.php: fpbx-rtp)
            findings.add(IN_RTP, subject, place, severity=HIGH if context.freepbx and subject.endswith("udp") else "")
