# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook verify: what to ask a PBX, and whether what came back is as it should be.

What goes in comes from other machines, and what comes out becomes a variable: nothing in it may look like a template, which
older releases of Ansible would evaluate on the controller.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    BANNED,
    BLOCKED,
    CHAIN_GATE,
    CHAIN_HOST,
    CHAIN_UA,
    JAILS,
    KNOWN,
    OBSERVING,
    OFFENDERS,
    PROTECTED,
    TRUSTED,
    UNMANAGED,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip import probe
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.addresses import parse_port
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError

Answer = Mapping[str, Any]  # one of the answers of sip_probe
Info = Mapping[str, Any]  # the result of sipguard_info

_PHONE = "phone"
_TRUNK = "trunk"
_SCANNER = "scanner"
# A name that is nobody's (RFC 2606): what a scanner that does not know the domain would put into its ClientHello.
_NO_DOMAIN = "scanner.invalid"
_RIGHT = "right"
_WRONG = "WRONG"
_OPEN = "-"
_NOT_MANAGED: Mapping[str, Any] = {"state": UNMANAGED, "members": [], "stopping": [], "tls_ports": []}


def verify_questions(
    addresses: Any,
    sip_ports: Any,
    tls_ports: Any = (),
    domains: Any = (),
    transports: Any = (),
    user: str = "",
    timeout: float = 3,
) -> list[dict[str, Any]]:
    """What a phone and a trunk ask each of the addresses, as ``questions`` of sip_probe.

    Unless ``transports`` says otherwise they are UDP, TCP and, where there are ``tls_ports``, TLS. Raises OptionError.
    """
    domains = _listed(domains, "pbx_sip_domains", "a list of domains")
    transports = _listed(transports, "pbx_verify_transports", "a list of udp, tcp, tls")
    tls_ports = _listed(tls_ports, "pbx_tls_ports", "a list of ports")
    where = [addresses] if isinstance(addresses, str) else addresses
    if not isinstance(where, list) or not where or not all(isinstance(address, str) and address for address in where):
        raise OptionError("pbx_verify_address", addresses, "an address, a name, or a list of these would be right")
    for transport in transports:
        if transport not in probe.TRANSPORTS:
            raise OptionError("pbx_verify_transports", transport, f"{', '.join(probe.TRANSPORTS)} would be right")
    plain = _first(_listed(sip_ports, "pbx_sip_ports", "a list of ports"), "pbx_sip_ports")
    ports = {"udp": plain, "tcp": plain}
    if tls_ports or "tls" in transports:
        ports["tls"] = _first(tls_ports or ["5061"], "pbx_tls_ports")
    phone: dict[str, Any] = {"profile": _PHONE, "round": 1}
    phone.update({"domain": domains[0]} if domains else {}, **({"user": user} if user else {}))
    return [
        {**who, "host": address, "transport": transport, "port": port, "timeout": timeout}
        for who in (phone, {"profile": _TRUNK, "round": 2})
        for address in where
        for transport, port in ports.items()
        if not transports or transport in transports
    ]


def _listed(value: Any, option: str, right: str) -> list[Any]:
    """A list, or what Ansible takes for one: text with commas, and a number. Raises OptionError."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    if isinstance(value, int) and not isinstance(value, bool):
        return [str(value)]
    if not isinstance(value, (list, tuple)):
        raise OptionError(option, value, f"{right} would be right")
    return list(value)


def _first(ports: Sequence[Any], option: str) -> int:
    if not ports:
        raise OptionError(option, ports, "a list of ports would be right")
    return parse_port(ports[0], option)[0]


def verify_plan(answers: Sequence[Answer], info: Info, timeout: float = 3, check: bool = False) -> dict[str, Any]:
    """What is left to do after phone and trunk have had their answers and the PBX has said what it does to whom.

    ``scanners`` are questions of sip_probe. ``unban`` are addresses that the PBX may learn, or has learned, from what is asked.
    """
    views = [_View(answer, answers, info) for answer in answers if answer["profile"] == _PHONE]
    learned = [view.seen for view in views if view.answered and not view.trusted and view.family["members"]]
    return {
        "scanners": [
            {
                "profile": _SCANNER,
                "timeout": timeout,
                **({"server_name": _NO_DOMAIN} if view.transport == "tls" else {}),
                **{name: _plain(view.answer[name]) for name in ("host", "transport", "port")},
            }
            for view in views
            if not view.why_no_scan(check)
        ],
        "unban": [] if check else sorted({address for address in learned if _is_address(address)}),
    }


def verify_rows(
    answers: Sequence[Answer],
    info: Info,
    pbx: str,
    scanners: Sequence[Answer] = (),
    transports: Sequence[str] = (),
    strangers: bool = True,
    timeout: float = 3,
    check: bool = False,
) -> dict[str, Any]:
    """The verdict on each question: ``rows`` for programs, ``table`` for people, ``wrong`` with a sentence for each that is wrong.

    ``scanners`` are the answers to the questions of ``verify_plan``. ``strangers`` says whether phones may come from addresses that
    are not trusted.
    """

    def judged(view: _View) -> dict[str, Any]:
        return view.row(*view.judge(strangers, transports), pbx, timeout)

    views = [_View(answer, answers, info) for answer in answers]
    asked = {view.where: view for view in (_View(answer, answers, info) for answer in scanners)}
    phones = [view for view in views if view.profile == _PHONE]
    rows = [judged(view) for view in views]
    rows += [judged(asked[phone.where]) if phone.where in asked else phone.not_asked(check) for phone in phones]
    verdict: dict[str, Any] = {
        "rows": rows,
        "wrong": [*(row["sentence"] for row in rows if row["sentence"]), *_unwell(info, pbx)],
        "table": _table(rows, info),
    }
    return {name: _plain(value) for name, value in verdict.items()}


def _plain(value: Any) -> Any:
    """The same without anything that could begin a template."""
    if isinstance(value, str):
        return value.replace("{", "(").replace("}", ")")
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else value


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _unwell(info: Info, pbx: str) -> list[str]:
    """A sentence for each family whose rules are not those that somebody has set up."""
    states = {version: family["state"] for version, family in info["families"].items()}
    well = (PROTECTED, OBSERVING, UNMANAGED)
    return [f"{pbx}: {version} is {state} (sipguard status)" for version, state in states.items() if state not in well]


class _View:
    """One answer, and what is known about it: ``seen`` is the address by which the PBX knows us."""

    def __init__(self, answer: Answer, answers: Sequence[Answer], info: Info) -> None:
        self.answer = answer
        self.profile, self.transport, self.answered = answer["profile"], answer["transport"], answer["answered"]
        address = answer["address"]
        self.where = (
            self.transport,
            f"[{address}]:{answer['port']}" if ":" in address else f"{address}:{answer['port']}",
        )
        self.version = "ipv6" if ":" in address else "ipv4"
        self.family = info["families"].get(self.version, _NOT_MANAGED)
        same_pbx = [each for each in answers if each["address"] == address]
        self._phones = {each["transport"]: each["answered"] for each in same_pbx if each["profile"] == _PHONE}
        # Not even one that is down: then something would be installed, or listen, or have answered in another way.
        self._no_pbx = not info["asterisk"] and not info["listening"] and not any(self._phones.values())
        known = [each["received"] for each in (answer, *same_pbx) if each["received"]]
        self.seen: str = known[0] if known else answer["source"] or ""
        self.found = info["addresses"].get(self.seen, {}).get("found", {})
        self.trusted = TRUSTED in self.found
        self.known = KNOWN in self.found

    def _stops(self, *slots: str) -> bool:
        return any(slot in self.family["stopping"] for slot in slots)

    def _tls_is_judged(self) -> bool:
        ranges = [parse_port(part, "tls_ports") for ports in self.family["tls_ports"] for part in ports.split(",")]
        return self._stops(CHAIN_GATE) and any(first <= self.answer["port"] <= last for first, last in ranges)

    def why_no_scan(self, check: bool) -> str:
        """Why it is no use, or not allowed, to ask as a scanner where this phone has asked; "" when it is."""
        if not self.answered:
            return "the phone got no answer there either"
        if self.trusted:
            return f"{self.seen} is trusted there; set pbx_verify_from to a host that is not"
        if self.family["members"] and not self._stops(CHAIN_GATE, CHAIN_UA):
            return "this PBX only observes"
        if self.known and not self._stops(CHAIN_GATE):
            return f"{self.seen} has logged in there lately, and signatures spare it"
        if self.transport == "tls" and not self._tls_is_judged():
            return "nothing there looks into TLS"
        return "this is check mode, and the address would be learned" if check else ""

    def judge(self, strangers: bool, transports: Sequence[str]) -> tuple[str, str]:
        """The verdict, and a note for the table."""
        if not self.trusted:
            if not strangers or self.profile == _SCANNER:
                return self._stopped(strangers)
            if self.profile == _TRUNK and self.transport == "tls":
                return _OPEN, "TLS without a server name, from a stranger"
            if self.profile == _TRUNK:
                return self._stopped(strangers) if self._stops(CHAIN_GATE) else (_OPEN, "no gate stops strangers there")
        if self.answered:
            return _RIGHT, "trusted" if self.trusted else ""
        nobody = self.transport == "tcp" and self.answer["outcome"] == probe.REFUSED
        if nobody and "tcp" not in transports and self._phones.get("udp"):
            return _OPEN, "nothing listens there"
        if self._no_pbx:
            return _OPEN, "there is no Asterisk, and nothing listens"
        return _WRONG, "should be answered"

    def _stopped(self, strangers: bool) -> tuple[str, str]:
        if self.answer["outcome"] in (probe.ANSWERED, probe.TLS_FAILED, probe.UNRELATED):
            return _WRONG, "should be stopped"
        if strangers and not self._phones.get(self.transport):
            return _OPEN, "the phone got no answer there either"
        return _RIGHT, "stopped"

    def row(self, verdict: str, note: str, pbx: str, timeout: float) -> dict[str, Any]:
        answer = self.answer
        finding = probe.Finding(
            answer["outcome"], answer["address"], status=answer["status"] or 0, error=answer["error"] or ""
        )
        sentence = ""
        if verdict == _WRONG:
            who = f"{pbx}: a {self.profile} over {self.transport.upper()} to {answer['address']} port {answer['port']}"
            sentence = f"{who} {note}, but {probe.words(finding, timeout)}{self._hint()}"
        what = f"answers {finding.status}" if self.answered else _SHORT[finding.outcome]
        return self._fields(self.profile, what, verdict, note, sentence)

    def not_asked(self, check: bool) -> dict[str, Any]:
        """The row of a scanner's question that was left out, where this phone has asked."""
        row = self._fields(_SCANNER, "", _OPEN, f"not asked: {self.why_no_scan(check)}", "")
        return {**row, "outcome": None, "status": None}

    def _fields(self, who: str, what: str, verdict: str, note: str, sentence: str) -> dict[str, Any]:
        return {
            "who": who,
            "transport": self.transport,
            "where": self.where[1],
            "from": self.seen,
            "trusted": self.trusted,
            "outcome": self.answer["outcome"],
            "status": self.answer["status"],
            "what": what,
            "verdict": verdict,
            "note": note,
            "sentence": sentence,
        }

    def _hint(self) -> str:
        """What a wrong answer may come from, as the end of a sentence."""
        if self.answered:
            return f"; {self.seen} is not trusted there, and {self.version} is {self.family['state']}"
        if self.answer["outcome"] == probe.REFUSED:
            tls = "; pbx_tls_ports says that the PBX speaks TLS there"
            return tls if self.transport == "tls" else "; see whether Asterisk runs"
        if self.answer["outcome"] not in (probe.SILENT, probe.TIMEOUT):
            return ""
        for name, words in _DROPPED.items():
            if name in self.found and not self.trusted and not (name == OFFENDERS and self.known):
                return f"; {self.seen} {words} there (sipguard why {self.seen})"
        if self._stops(CHAIN_HOST) and not self.trusted:
            return "; where the host policy admits known addresses only, set pbx_verify_strangers to false"
        return f"; no set of sipguard stops {self.seen}: look at Asterisk, at other firewalls and at the way there"


_DROPPED = {
    OFFENDERS: "is a learned offender",
    BANNED: "is banned",
    JAILS: "is banned by fail2ban",
    BLOCKED: "is on a blocklist",
}
_SHORT = {
    probe.SILENT: "silence",
    probe.TIMEOUT: "no connection",
    probe.REFUSED: "refused",
    probe.UNREACHABLE: "unreachable",
    probe.CLOSED: "closed",
    probe.TLS_FAILED: "TLS failed",
    probe.UNRELATED: "something else",
}


def _table(rows: Sequence[Mapping[str, Any]], info: Info) -> list[str]:
    lines = [
        [row["who"], row["transport"].upper(), *(row[name] for name in ("where", "what", "verdict", "note"))]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    state = "protected" if info["protected"] else "only observing" if info["observing"] else "NOT PROTECTED"
    asked = sorted({f"{row['from']} ({'trusted' if row['trusted'] else 'not trusted'})" for row in rows if row["from"]})
    return [
        f"{state}; asked from {', '.join(asked) or 'nowhere'}",
        *("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines),
    ]


def _filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its errors as Ansible shows them: one sentence."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except OptionError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapped


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {function.__name__: _filter(function) for function in (verify_questions, verify_plan, verify_rows)}
