# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each kind of feed is asked, and what its answers mean. What the lines say is judged elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import quote

from .feed import APIBAN, VOIPBL, Feed
from .http import Answer, Client, FeedError

__all__ = ["MAX_BATCHES", "FeedError", "Fetched", "Memory", "fetch"]

# What APIBAN's own clients take at most in one run (https://github.com/apiban/apiban-client-go).
MAX_BATCHES = 24
KEY_VARIABLE = "pbx_blocklists_apiban_key"

_FIRST = "100"  # the cursor before everything APIBAN has
_RATE_WINDOW = 120  # s, the period of APIBAN's documented limit
_BATCH_SIZE = 262144  # bytes: 250 addresses are 12,000
_MAX_LINES = 2_000_000  # sixteen MiB of the shortest lines would take half a gigabyte of memory
_HEADER_VALUE = re.compile(r"[ -~]{1,256}")
_CURSOR = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COUNT = re.compile(r"#\s*TOTAL NETBLOCK:\s*([0-9]{1,9})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Memory:
    """What the next request may refer to, once what came with it has been accepted. ``source`` says of which feed it is."""

    etag: str = ""
    modified: str = ""
    cursor: str = ""
    source: str = ""

    def render(self) -> dict[str, str]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def parse(cls, data: object) -> Memory:
        """The inverse of render. Whatever it has not written is nothing to remember: then everything is fetched."""
        if not isinstance(data, dict) or set(data) != set(asdict(cls())):
            return cls()
        memory = cls(**{name: value if isinstance(value, str) else "" for name, value in data.items()})
        return cls(
            etag=memory.etag if _HEADER_VALUE.fullmatch(memory.etag) else "",
            modified=memory.modified if _HEADER_VALUE.fullmatch(memory.modified) else "",
            cursor=memory.cursor if _CURSOR.fullmatch(memory.cursor) else "",
            source=memory.source,
        )


@dataclass(frozen=True)
class Fetched:
    """What a feed has answered.

    ``unchanged``: nothing new, and no ``lines``. ``additive``: ``lines`` come on top of what there is, instead of in its place.
    ``memory`` is for the next fetch, when it is unchanged too, but not when the lines have been refused.
    ``notes`` are sentences for people.
    """

    unchanged: bool
    lines: list[str]
    additive: bool
    memory: Memory
    notes: list[str]


def fetch(feed: Feed, key: str, memory: Memory) -> Fetched:
    """Ask the feed for what is new since ``memory``. ``key`` is for APIBAN, the other kinds have none.

    Raises FeedError; its message names the feed, and never holds the key.
    """
    source = hashlib.sha256("\n".join((feed.kind, feed.url, str(feed.api), feed.dataset)).encode()).hexdigest()[:16]
    if memory.source != source:
        memory = Memory()  # what another address has said means nothing here
    try:
        client = Client(feed)
        return (
            _fetch_batches(client, feed, key, memory, source)
            if feed.kind == APIBAN
            else _fetch_list(client, feed, memory, source)
        )
    except FeedError as error:
        message = f"the feed {feed.name} ({feed.shown_url}) could not be fetched: {error}"
        raise FeedError(message, temporary=error.temporary, retry_after=error.retry_after) from None


def _refusal(answer: Answer, default_wait: int = 0) -> FeedError:
    temporary = answer.status >= 500 or answer.status in (408, 425, 429)
    return FeedError(
        f"the server answered with status {answer.status}",
        temporary=temporary,
        retry_after=answer.retry_after(default_wait) if temporary else 0,
    )


def _fetch_list(client: Client, feed: Feed, memory: Memory, source: str) -> Fetched:
    headers = {"If-None-Match": memory.etag, "If-Modified-Since": memory.modified}
    headers = {name: value for name, value in headers.items() if value}
    answer = client.request(feed.url, headers)
    if answer.status == 304 and headers:
        return Fetched(True, [], False, memory, [])
    if answer.status != 200:
        raise _refusal(answer)
    body = answer.body.removeprefix(b"\xef\xbb\xbf").strip()
    if not body:
        raise FeedError("the answer is empty", temporary=True)
    # A portal one has to log in to, or a page that tells of maintenance.
    if body.startswith(b"<"):
        raise FeedError("the answer is a web page, not a list", temporary=True)
    if body.count(b"\n") > _MAX_LINES:
        raise FeedError(f"the answer has more than {_MAX_LINES} lines", temporary=False)
    # Not splitlines(), which sees ends of lines in characters that no list has them in.
    lines = body.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    notes = _check_count(lines) if feed.kind == VOIPBL else []
    etag, modified = answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
    kept = Memory(
        etag=etag if _HEADER_VALUE.fullmatch(etag) else "",
        modified=modified if _HEADER_VALUE.fullmatch(modified) else "",
        source=source,
    )
    return Fetched(False, lines, False, kept, notes)


def _check_count(lines: list[str]) -> list[str]:
    """Compare the number in VoIPBL's first line with the lines that came. Raises FeedError when more than 1 % are missing or too many."""
    found = _COUNT.fullmatch(lines[0].strip())
    if not found:
        return ["it does not begin with a count, so nothing tells whether all of it came"]
    said = int(found[1])
    came = sum(1 for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if abs(said - came) * 100 > said:
        raise FeedError(f"its first line says {said} entries, and {came} came: it is not whole", temporary=True)
    return []


def _fetch_batches(client: Client, feed: Feed, key: str, memory: Memory, source: str) -> Fetched:
    if not key:
        raise FeedError(f"it needs a key; set {KEY_VARIABLE}", temporary=False)
    if not re.fullmatch(r"[!-~]{1,256}", key):
        raise FeedError(f"its key has characters that no key has; look at {KEY_VARIABLE}", temporary=False)
    lines: list[str] = []
    notes: list[str] = []
    strange = 0
    cursor = memory.cursor or _FIRST
    seen = {cursor}
    for number in range(MAX_BATCHES):
        try:
            batch = _read_batch(_ask(client, feed, key, cursor))
            if batch is None:
                break
            addresses, following = batch
            if following in seen:
                raise FeedError("its pages go in circles", temporary=True)
        except FeedError as error:
            # What has come is good, and the cursor goes on behind it: a first run may well meet the limit of requests.
            if not lines or not error.temporary:
                raise
            notes.append(f"stopped after batch {number}, the next run goes on: {error}")
            break
        lines += [address for address in addresses if isinstance(address, str)]
        strange += sum(1 for address in addresses if not isinstance(address, str))
        if following == "none":
            break
        cursor = following
        seen.add(cursor)
    else:
        notes.append(f"stopped after batch {MAX_BATCHES}, the next run goes on")
    if strange:
        notes.append(f"left out what was no text: {strange}")
    return Fetched(not lines, lines, True, Memory(cursor=cursor, source=source), notes)


def _ask(client: Client, feed: Feed, key: str, cursor: str) -> Answer:
    base = feed.url.rstrip("/")
    if feed.api == 1:
        url = f"{base}/{quote(key, safe='')}/banned/{cursor}"
        return client.request(url, {}, secret=True, errors=True, limit=_BATCH_SIZE)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = json.dumps({"set": feed.dataset, "id": cursor}).encode()
    return client.request(f"{base}/get", headers, body=body, secret=True, errors=True, limit=_BATCH_SIZE)


def _read_batch(answer: Answer) -> tuple[list[object], str] | None:
    """The addresses of a batch and the cursor of the next ("none": there is none), or None when nothing is new.

    The last answer has status 400, and in errors the addresses are a text (https://github.com/palner/apiban). Raises FeedError.
    """
    try:
        data = json.loads(answer.body)
    except (ValueError, RecursionError):
        data = None
    content: Mapping[str, object] = data if isinstance(data, dict) else {}
    addresses, following = content.get("ipaddress"), content.get("ID")
    words = addresses[0] if isinstance(addresses, list) and len(addresses) == 1 else addresses
    if answer.status in (401, 403) or following == "unauthorized":
        raise FeedError(f"its key is not accepted; look at {KEY_VARIABLE}", temporary=False)
    if answer.status == 429 or words == "rate limit exceeded":
        wait = answer.retry_after(_RATE_WINDOW)
        raise FeedError(f"too many requests; the next one may be in {wait} s", temporary=True, retry_after=wait)
    if words == "no new bans" and answer.status in (200, 400, 404):
        return None
    if answer.status != 200:
        raise _refusal(answer)
    if isinstance(following, int) and not isinstance(following, bool):
        following = str(following)
    if not isinstance(addresses, list) or not isinstance(following, str) or not _CURSOR.fullmatch(following):
        raise FeedError("the answer is not one of APIBAN", temporary=True)
    return addresses, following
