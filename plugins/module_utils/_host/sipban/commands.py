# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody at a console may ask sipband, and what it answers: the verbs and the replies of the published SIPban, and some more.

A mistake of whoever asks is an answer, never an exception. Nothing in an answer's text can harm a terminal.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..._netfilter.sets import member_text
from ..._sip.addresses import Network
from ..._sip.errors import OptionError, SipguardError
from ..bans import MAX_REASON, parse_reason, parse_targets, parse_time, span
from .values import Address, Entry, parse_address

__all__ = ["FOLLOW", "HELP", "Answer", "Guard", "Outcome", "answer", "event_text", "shown"]

FOLLOW = "follow"  # has no single answer; the servers stream it

_SHOWN = 80  # characters of what a stranger may have written
_FOR_EVER = "until unblocked"
_PIECE = 500  # bans that are made into text at once, which takes about a millisecond
_TOP, _MAX_TOP = 10, 1000

_USAGE = {
    "block": ("block [ADDRESS [TIME] [REASON]]", "list what is blocked; or block an address or a network"),
    "unblock": ("unblock ADDRESS", "let an address or a network in again"),
    "flush": ("flush", "write all bans to the dump file, then take them away"),
    "restore": ("restore", "bring back the bans of the dump file"),
    "ping": ("ping", "ask Asterisk's manager interface for an answer"),
    "uptime": ("uptime", "how long sipband has been running"),
    "wl": ("wl", "the white list"),
    "status": ("status", "how sipband is, and what it has counted"),
    "top": ("top [N]", "the addresses with the most evidence against them"),
    FOLLOW: (FOLLOW, "show bans as they happen"),
    "why": ("why ADDRESS", "everything sipband knows about an address"),
    "help": ("help", "this"),
    "exit": ("exit/quit", "leave the console"),
}
_LINES = "\n".join(f"{usage:<31} => {what}" for usage, what in _USAGE.values())
HELP = f"Commands:\n\n{_LINES}\n\nTIME: 90 (seconds), 30m, 1h, 7d; 0: until unblocked"
# Verbs of one of the published versions only.
_ELSEWHERE = {
    "whois": "sipband asks no whois server; 'why ADDRESS' says what this host knows",
    "save": "bans are kept by themselves; 'flush' writes the dump file",
}


class Outcome(Protocol):
    """What came of a wish to block: ``outcome`` is "blocked", "previously" or "refused", ``said`` why it is refused."""

    @property
    def outcome(self) -> str:
        """One of the three."""

    @property
    def said(self) -> str:
        """Else ""."""


class Guard(Protocol):
    """What a console may do with sipband's heart. Everything may raise SipguardError, whose text is for people."""

    def block(self, network: Network, seconds: int | None, reason: str) -> Outcome:
        """``seconds``: None for the configured ban time, 0 for until somebody unblocks it."""

    def unblock(self, network: Network) -> bool:
        """False: it was not blocked."""

    def bans(self) -> Sequence[Entry]:
        """By expiry, those for ever last."""

    def flush(self) -> int:
        """Write the dump, take every ban away; how many there were."""

    def restore(self) -> int:
        """Bring back the bans of the dump; how many."""

    async def ping(self) -> float:
        """Seconds that AMI took to answer."""

    def uptime(self) -> float:
        """Seconds."""

    def whitelist(self) -> list[str]:
        """Addresses and networks."""

    def status(self) -> dict[str, Any]:
        """For programs; ``ami`` says whether sipband hears Asterisk."""

    def top(self, count: int) -> list[dict[str, Any]]:
        """The addresses with the most evidence: address, events (number by kind), bans, banned, known."""

    def why(self, address: Address) -> dict[str, Any]:
        """address, banned (an Entry or None; or what stands for it in JSON), trusted, known, whitelisted, evidence, history."""

    def follow(self, listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Tell the listener of everything that happens, until what is returned is called."""


class Answer:
    """``ok``: False when the answer is no. ``text`` for people, lines without an end; ``data`` for programs, ready for JSON."""

    def __init__(self, ok: bool, text: str, data: Any) -> None:
        self.ok = ok
        self._text = text
        self._data = data

    @property
    def text(self) -> str:
        return self._text

    @property
    def data(self) -> Any:
        return self._data

    def text_pieces(self) -> Iterator[str]:
        """The text, in pieces that are small enough not to keep an event loop."""
        yield self._text

    def json_pieces(self) -> Iterator[str]:
        """``{"ok": ..., "text": ..., "data": ...}`` in one line of ASCII without its end, in such pieces too."""
        yield json.dumps({"ok": self.ok, "text": self._text, "data": self._data}, default=str)


class _Listing(Answer):
    """What is blocked. A hundred thousand bans, as text and as data at the same time, would double what sipband needs of memory."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__(True, "", None)
        self._entries = entries
        self._now = time.time()

    @property
    def text(self) -> str:
        return "".join(self.text_pieces())

    @property
    def data(self) -> list[dict[str, Any]]:
        return [self._row(entry) for entry in self._entries]

    def text_pieces(self) -> Iterator[str]:
        between = ""
        for start in range(0, len(self._entries), _PIECE):
            yield between + "\n".join([self._line(entry) for entry in self._entries[start : start + _PIECE]])
            between = "\n"

    def json_pieces(self) -> Iterator[str]:
        yield '{"ok": true, "text": "'
        for piece in self.text_pieces():
            yield json.dumps(piece)[1:-1]
        yield '", "data": ['
        between = ""
        for start in range(0, len(self._entries), _PIECE):
            yield between + json.dumps([self._row(entry) for entry in self._entries[start : start + _PIECE]])[1:-1]
            between = ", "
        yield "]}"

    def _until(self, entry: Entry) -> int:
        return int(self._now + entry.left) if entry.left else 0

    def _line(self, entry: Entry) -> str:
        until = self._until(entry)
        return f"{_stamp(until) if until else f'[{_FOR_EVER:<19}]'} {entry.member}"

    def _row(self, entry: Entry) -> dict[str, Any]:
        return {**_entry_data(entry), "until": self._until(entry)}


async def answer(guard: Guard, words: Sequence[str]) -> Answer:
    """The answer to one command. A bare ``follow``, ``exit`` and ``quit`` are for the servers to see to before they ask here."""
    verb = words[0].lower() if words else "help"
    ask = _VERBS.get(verb)
    if verb == FOLLOW:
        return _no(f"{FOLLOW} stands alone")
    if ask is None:
        return _no(_ELSEWHERE.get(verb, f"{shown(words[0])} is no command; use 'help' for more commands"))
    if len(words) > 1 and verb in _ALONE:
        # "flush ADDRESS" must not take away every ban.
        return _no(f"{verb} stands alone, and nothing was done; {_USAGE[verb][1]}")
    try:
        return await ask(guard, words[1:])
    except SipguardError as error:
        return _no(shown(str(error), 4 * MAX_REASON))


def event_text(event: Mapping[str, Any]) -> str:
    """A line of ``follow``, as the published log has them: ``[2019-06-12 12:01:50] BLOCK => 203.0.113.7 (reason)``."""
    rest = dict(event)
    at, what, address = rest.pop("at", 0), str(rest.pop("what", "")), str(rest.pop("address", ""))
    reason = str(rest.pop("reason", "") or "")
    line = f"{_stamp(at)} {shown(what).upper()}" + (f" => {shown(address)}" if address else "")
    line += f" ({shown(reason, MAX_REASON)})" if reason else ""
    return line + "".join(f" {shown(key)}={shown(_brief(value))}" for key, value in rest.items())


def shown(text: str, limit: int = _SHOWN) -> str:
    """Text that a stranger may have written, so that a terminal or a log can bear it: printable, and not too long."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."


# -- the verbs


async def _block(guard: Guard, words: Sequence[str]) -> Answer:
    if not words:
        # Reading and sorting a hundred thousand takes a second, in which events go on being judged.
        return _Listing(await asyncio.get_running_loop().run_in_executor(None, guard.bans))
    networks = _targets(words[0])
    if isinstance(networks, Answer):
        return networks
    seconds, rest = None, words[1:]
    if rest and _nearly(rest[0]):
        return _no("one address at a time, and nothing was done; block ADDRESS [TIME] [REASON] would be right")
    # What begins like a number is meant to be one: "block ADDRESS 1.5h" shall not be a ban with the reason "1.5h".
    if rest and rest[0][0] in "+-.0123456789":
        seconds, rest = parse_time(rest[0]), rest[1:]
    reason = parse_reason(" ".join(rest))
    lines: list[str] = []
    data: dict[str, Any] = {}
    ok = True
    for network in networks:
        name = member_text(network)
        done = guard.block(network, seconds, reason)
        ok &= done.outcome != "refused"
        said = {"blocked": f"{name} block", "previously": f"{name} previously blocked"}.get(done.outcome)
        lines.append(said or shown(done.said, MAX_REASON))
        data[name] = {"outcome": done.outcome, "said": lines[-1]}
    return Answer(ok, "\n".join(lines), data)


async def _unblock(guard: Guard, words: Sequence[str]) -> Answer:
    if len(words) > 1:
        return _no("one address at a time, and nothing was done; unblock ADDRESS would be right")
    networks = _targets(words[0]) if words else _no("ip address missing")
    if isinstance(networks, Answer):
        return networks
    data: dict[str, Any] = {}
    for network in networks:
        name = member_text(network)
        there = guard.unblock(network)
        data[name] = {"unblocked": there, "said": f"{name} unblocked" if there else f"{name} is not previously blocked"}
    return Answer(
        all(each["unblocked"] for each in data.values()), "\n".join(each["said"] for each in data.values()), data
    )


async def _flush(guard: Guard, dummy: Sequence[str]) -> Answer:
    count = guard.flush()
    return Answer(True, f"{_bans(count)} dumped and removed", {"removed": count})


async def _restore(guard: Guard, dummy: Sequence[str]) -> Answer:
    count = guard.restore()
    return Answer(True, f"{_bans(count)} restored", {"restored": count})


async def _ping(guard: Guard, dummy: Sequence[str]) -> Answer:
    seconds = await guard.ping()
    return Answer(True, f"Asterisk answered after {seconds * 1000:.1f} ms", {"seconds": round(seconds, 6)})


async def _uptime(guard: Guard, dummy: Sequence[str]) -> Answer:
    seconds = int(guard.uptime())
    return Answer(True, f"Uptime {_lasted(seconds)}", {"seconds": seconds})


async def _wl(guard: Guard, dummy: Sequence[str]) -> Answer:
    found = guard.whitelist()
    return Answer(True, "\n".join(shown(each) for each in found), found)


async def _status(guard: Guard, dummy: Sequence[str]) -> Answer:
    found = _ready(guard.status())
    rows: list[tuple[str, Any]] = []
    for key, value in found.items():
        if isinstance(value, Mapping):
            rows += [(f"{key} {name}", each) for name, each in value.items()]
        else:
            rows.append((key, _lasted(int(value)) if key == "uptime" else value))
    lines = [(shown(key.replace("_", " ")), shown(_brief(value), 4 * _SHOWN)) for key, value in rows]
    width = max((len(key) for key, dummy in lines), default=0)
    text = "\n".join(f"{key:<{width}}  {value}".rstrip() for key, value in lines)
    # Without these it bans nobody of its own accord.
    return Answer(found.get("ami") is not False and found.get("ami_hears") is not False, text, found)


async def _top(guard: Guard, words: Sequence[str]) -> Answer:
    word = words[0] if words else str(_TOP)
    count = int(word) if word.isascii() and word.isdigit() and len(word) <= 4 else 0
    if len(words) > 1 or not 1 <= count <= _MAX_TOP:
        return _no(f"top {shown(' '.join(words))}: a number from 1 to {_MAX_TOP} would be right")
    rows = [_ready(row) for row in guard.top(count)]
    width = max((len(str(row["address"])) for row in rows), default=0)
    lines = []
    for row in rows:
        line = f"{row['address']!s:<{width}}  {_brief(row.get('events', {}))}"
        line += f"; {_bans(row['bans'])}" if row.get("bans") else ""
        line += "; blocked" if row.get("banned") else ""
        lines.append(shown(line + ("; known" if row.get("known") else ""), 4 * _SHOWN))
    return Answer(True, "\n".join(lines), rows)


async def _why(guard: Guard, words: Sequence[str]) -> Answer:
    if len(words) != 1:
        return _no("one address at a time" if words else "ip address missing")
    address = parse_address(words[0])
    if address is None:
        return _invalid(words[0], "")
    report = guard.why(address)
    found = _ready(report)
    entry = found.get("banned")
    lines = [f"{address} is not blocked"]
    if entry:
        lines = [f"{address} is blocked {_duration(entry['seconds_left'])}"]
        lines[0] += "" if entry["entry"] == str(address) else f", in {shown(entry['entry'])}"
        lines[0] += f" ({shown(entry['reason'], MAX_REASON)})" if entry["reason"] else ""
    for key, said in _STANDING.items():
        lines += [said] if found.get(key) else []
    for kind, seen in (found.get("evidence") or {}).items():
        if isinstance(seen, Mapping) and {"count", "of", "seconds"} <= seen.keys():
            lines.append(f"{shown(kind)}: {seen['count']} of {seen['of']} within {span(int(seen['seconds']))}")
        else:
            lines.append(f"{shown(kind)}: {shown(_brief(seen))}")
    history = found.get("history") or {}
    if history.get("bans"):
        lines.append(
            f"{_bans(history['bans'])} until now"
            + (f", the last {_stamp(history['last'])}" if history.get("last") else "")
        )
    return Answer(True, "\n".join(lines), found)


async def _help(dummy: Guard, words: Sequence[str]) -> Answer:
    return Answer(True, HELP, [{"usage": usage, "help": what} for usage, what in _USAGE.values()])


_VERBS: dict[str, Callable[[Guard, Sequence[str]], Awaitable[Answer]]] = {
    "block": _block,
    "unblock": _unblock,
    "flush": _flush,
    "restore": _restore,
    "ping": _ping,
    "uptime": _uptime,
    "wl": _wl,
    "status": _status,
    "top": _top,
    "why": _why,
    "help": _help,
}
_ALONE = {"flush", "restore", "ping", "uptime", "wl", "status"}
_STANDING = {
    "trusted": "it is trusted, and never blocked",
    "whitelisted": "it is on the white list, and never blocked",
    "known": "it has authenticated a short time ago",
}


# -- words


def _no(text: str) -> Answer:
    return Answer(False, text, {"error": text})


def _invalid(word: str, hint: str) -> Answer:
    return _no(f"{shown(word)} don't seems like a valid address" + (f"\n{hint}" if hint else ""))


def _targets(word: str) -> list[Network] | Answer:
    try:
        return parse_targets([word], "address")
    except OptionError as error:
        return _invalid(word, shown(error.expected, 2 * _SHOWN) if _nearly(word) else "")


def _nearly(word: str) -> bool:
    """Whether it is an address, or is one but for a detail that is worth a word."""
    try:
        ipaddress.ip_network(word.split("%")[0], strict=False)
    except ValueError:
        return False
    return True


def _duration(left: int) -> str:
    return f"for {span(left)}" if left else _FOR_EVER


def _bans(count: int) -> str:
    return f"{count} ban{'' if count == 1 else 's'}"


def _stamp(at: float) -> str:
    return time.strftime("[%Y-%m-%d %H:%M:%S]", time.localtime(at))


def _lasted(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    before = f"{days} day{'' if days == 1 else 's'} " if days else ""
    return f"{before}{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_brief(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_brief(each) for each in value)
    return "" if value is None else str(value)


def _entry_data(entry: Entry) -> dict[str, Any]:
    return {"entry": entry.member, "seconds_left": entry.left, "reason": entry.comment}


def _ready(found: Mapping[str, Any]) -> dict[str, Any]:
    """Ready for JSON."""
    return {key: _entry_data(value) if isinstance(value, Entry) else value for key, value in found.items()}
