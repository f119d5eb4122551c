# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Asterisk's manager interface sends, from bytes to security events, without input or output.

The interface has no quoting. Asterisk decodes %0d%0a of a SIP user part and writes it raw into AccountID, so that a stranger's
request can add headers to an event, or end it and write events of his own after it. What nobody can change:

- Asterisk writes each event in one piece, with the true address behind the stranger's text, and pieces one after the other.
- PJSIP cuts AccountID at 36 characters (res_pjsip/pjsip_distributor.c), and decodes nothing else. That is too short for the three
  headers from SessionID to RemoteAddress, even empty ones (46). So where the beginning of a piece of PJSIP is certain, its
  address and its end are too, whatever stands in AccountID.
- The others have no such limit: chan_sip, the manager interface by way of HTTP, and events that are no security events.
  Where their pieces end is not known: a quarantine begins.
- A quarantine ends with the answer to an action of our own. Nobody else can write that answer, because its ActionID is random, and
  Asterisk writes it between two pieces, never into one. Hence it does not matter whether the action was sent before
  or after the quarantine began: what was dubious stands before the answer, and what comes after it begins a new piece.
"""

from __future__ import annotations

import functools
import re

from ..._sip.errors import SipguardError
from .values import CHAN_SIP, Address, Response, SecurityEvent, parse_address

__all__ = ["BLOCK", "TEXT", "Stream"]

# Bytes of an event; Asterisk takes requests of 64 KiB, and a Call-ID may be nearly all of it. What is longer is skipped.
BLOCK = 128 * 1024
# Characters kept of a header's value.
TEXT = 512

_BANNER = b"Asterisk Call Manager/"
_BANNER_LINE = 64  # bytes
_END = b"\r\n\r\n"
_COUNTERS = (
    "events",
    "responses",
    "ignored",
    "malformed",
    "duplicate",
    "forged_address",
    "injected",
    "too_long",
    "mended",
)

# main/manager.c and main/security_events.c, the same in Asterisk 16 to 22. SequenceNumber and its followers come with debug=yes.
_HEAD = (
    r"Event: (?P<name>[A-Za-z0-9]+)\r\n"
    r"Privilege: security,all\r\n"
    r"(?:Timestamp: [0-9]+\.[0-9]{6}\r\n)?"
    r"(?:SequenceNumber: [0-9]+\r\nFile: [^\r\n]*\r\nLine: [0-9]+\r\nFunc: [^\r\n]*\r\n)?"
    r"(?:SystemName: [^\r\n]*\r\n)?"
    r"EventTV: [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}[+-][0-9]{4}\r\n"
    r"Severity: (?:Informational|Error)\r\n"
)
_TAIL = (
    r"SessionID: (?P<session>[^\n]*)\r\n"
    r"LocalAddress: IPV[46]/[^\r\n]*\r\n"
    r"RemoteAddress: (?P<remote>[^\n]*)"
    r"(?P<extras>(?:\r\n[A-Za-z0-9_-]+: [^\n]*)*)"
)
_FROM_PJSIP = _HEAD + r"Service: (?P<service>PJSIP)\r\nEventVersion: [0-9]+\r\nAccountID: "
# A lone CR in a quoted string of SIP comes through; it ends nothing.
_PJSIP = re.compile(_FROM_PJSIP + r"(?P<account>[^\r\n]*|(?s:.{0,36}?))\r\n" + _TAIL)
# As far as a block goes that ends within AccountID.
_PJSIP_CUT = re.compile(_FROM_PJSIP + r"(?s:.{0,36})")
_OTHER = re.compile(
    _HEAD + r"Service: (?P<service>[A-Za-z0-9_-]+)\r\nEventVersion: [0-9]+\r\n"
    r"(?:AccountID: (?P<account>[^\r\n]*)\r\n)?" + _TAIL.replace(r"[^\n]", r"[^\r\n]")
)
_HEADER = re.compile(r"([A-Za-z0-9_()-]+):(?: ([^\r\n]*))?")
_REMOTE = re.compile(r"IPV([46])/(UDP|TCP|TLS|WSS|WS)/([0-9A-Fa-f:.]{2,45})/([0-9]{1,5})")

# Its AccountID stands among the extras.
_ACCOUNT_LAST = "RequestBadFormat"
_COMMON = frozenset(re.findall(r"([A-Z][A-Za-z]+): ", _OTHER.pattern))


@functools.lru_cache(maxsize=4096)
def _remote(text: str) -> tuple[str, Address] | None:
    """Transport and address, None for what is none."""
    found = _REMOTE.fullmatch(text)
    if found is None or int(found[4]) > 65535 or (":" in found[3]) != (found[1] == "6"):
        return None
    address = parse_address(found[3])
    return None if address is None else (found[2], address)


class Stream:
    """What comes over one connection, from its first byte. Each connection needs a new one.

    ``counters``: ``events`` and ``responses`` were handed out, ``mended`` of these events had line feeds in AccountID.
    Discarded: ``ignored`` (no security events), ``malformed``, ``duplicate`` (a header twice), ``forged_address``,
    ``injected`` (whole security events in quarantine), ``too_long``.
    """

    def __init__(self) -> None:
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self.version = ""  # of the interface, once the banner was read
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer in which the next end does not begin
        self._skipping = False
        self._quarantine = False
        self._outstanding: set[str] = set()

    @property
    def suspect(self) -> bool:
        """Whether a quarantine is open and nothing is under way that will end it: time for a Ping, and ``barrier``."""
        return self._quarantine and not self._outstanding

    def barrier(self, action_id: str) -> None:
        """An action with this ActionID, which nobody can guess, has been sent; its response ends a quarantine."""
        self._outstanding.add(action_id)

    def feed(self, data: bytes) -> list[SecurityEvent | Response]:
        """What these bytes complete. The result does not depend on how the bytes are divided.

        Raises SipguardError if this is no manager interface; afterwards nothing that the other side sends does.
        """
        buffer = self._buffer
        buffer += data
        found: list[SecurityEvent | Response] = []
        if not self.version and not self._greeted():
            return found
        start, search = 0, self._searched
        while True:
            end = buffer.find(_END, search)
            if end < 0:
                break
            if self._skipping:
                self._skipping = False
            elif end - start > BLOCK:
                self._too_long()
            elif not self._block(buffer[start:end].decode("utf-8", "surrogateescape"), found):
                search = end + 2  # the piece goes on, and ends may overlap
                continue
            start = search = end + len(_END)
        if not self._skipping and len(buffer) - start >= BLOCK + len(_END):
            self._too_long()
            self._skipping = True
        if self._skipping:
            start = max(start, len(buffer) - len(_END) + 1)
        self._searched = max(search, len(buffer) - len(_END) + 1, start) - start
        del buffer[:start]
        return found

    def _greeted(self) -> bool:
        """Whether the banner is there; it is taken away."""
        end = self._buffer.find(b"\r\n")
        line = bytes(self._buffer[: end if end >= 0 else None])
        if (
            line[: len(_BANNER)] != _BANNER[: len(line)]
            or len(line) > _BANNER_LINE
            or (end >= 0 and len(line) <= len(_BANNER))
        ):
            raise SipguardError("what answers there is not Asterisk's manager interface")
        if end < 0:
            return False
        self.version = line[len(_BANNER) :].decode("ascii", "replace")
        del self._buffer[: end + 2]
        return True

    def _too_long(self) -> None:
        self.counters["too_long"] += 1
        self._quarantine = True

    def _block(self, text: str, found: list[SecurityEvent | Response]) -> bool:
        """Takes what stands before an empty line; False if this may be the first part of a piece whose AccountID goes on behind it."""
        # A piece may end in one line feed too many, before an answer that must not be missed.
        if text.lstrip("\r\n").startswith("Response: "):
            self._response(text.lstrip("\r\n"), found)
        elif self._quarantine:
            self._quarantined(text, found)
        else:
            match = _PJSIP.fullmatch(text)
            if match is not None:
                self._event(match, found)
            elif _PJSIP_CUT.fullmatch(text) is not None:
                return False
            else:
                self._quarantine = True
                match = _OTHER.fullmatch(text)
                if match is not None:
                    self._event(match, found)
                else:
                    self._unknown(text)
        return True

    def _quarantined(self, text: str, found: list[SecurityEvent | Response]) -> None:
        """Only the events of chan_sip are handed on: whoever uses these knows what they are worth."""
        match = _OTHER.fullmatch(text)
        if match is None:
            self._unknown(text)
        elif match["service"] == CHAN_SIP:
            self._event(match, found)
        else:
            self.counters["injected"] += 1

    def _response(self, text: str, found: list[SecurityEvent | Response]) -> None:
        """An answer to an action of ours, or what somebody would like to be one."""
        headers = _headers(text)
        action_id = headers.get("ActionID", "") if headers is not None else ""
        if headers is None or action_id not in self._outstanding:
            self._quarantine = True
            self.counters["malformed"] += 1
            return
        self._outstanding.remove(action_id)
        self._quarantine = False
        self.counters["responses"] += 1
        lowered = {name.lower(): value[:TEXT] for name, value in headers.items()}
        found.append(Response(lowered["response"], action_id, lowered))

    def _event(self, match: re.Match[str], found: list[SecurityEvent | Response]) -> None:
        """Hands out a security event if there is nothing wrong with its extras and its address."""
        name, account = match["name"], match["account"]
        extras: dict[str, str] = {}
        for line in match["extras"].split("\r\n")[1:]:
            key, dummy, value = line.partition(": ")
            if key in extras or (key in _COMMON and (key, name) != ("AccountID", _ACCOUNT_LAST)):
                self._quarantine = True
                self.counters["duplicate"] += 1
                return
            extras[key] = value[:TEXT]
        if name == _ACCOUNT_LAST and account is None:
            account = extras.get("AccountID", "")
        if account is None or (name == _ACCOUNT_LAST and match["account"] is not None):
            self._quarantine = True
            self.counters["malformed"] += 1
            return
        remote = _remote(match["remote"])
        if remote is None:
            self.counters["forged_address"] += 1
            return
        self.counters["events"] += 1
        if "\n" in account:
            self.counters["mended"] += 1
        session = match["session"][:TEXT]
        found.append(SecurityEvent(name, match["service"], account[:TEXT], session, remote[0], remote[1], extras))

    def _unknown(self, text: str) -> None:
        """Counts what is none of ours, or nothing at all."""
        headers = _headers(text)
        if headers is not None and text.startswith("Event: ") and "RemoteAddress" not in headers:
            self.counters["ignored"] += 1
            return
        names = [line.partition(":")[0] for line in text.split("\r\n")]
        self.counters["malformed" if len(set(names)) == len(names) else "duplicate"] += 1


def _headers(text: str) -> dict[str, str] | None:
    """The headers of a block, None if it does not consist of headers, or has one twice (ChanVariable and its like may come often)."""
    headers: dict[str, str] = {}
    for line in text.split("\r\n"):
        match = _HEADER.fullmatch(line)
        if match is None or (match[1] in headers and "Variable" not in match[1]):
            return None
        headers[match[1]] = match[2] or ""
    return headers
