# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a feed is: where a list of addresses is fetched from, how often, and what of it is believed. It never holds a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlsplit  # light, unlike urllib.request

from ..._sip.addresses import parse_networks
from ..._sip.errors import OptionError, SipguardError

__all__ = [
    "APIBAN",
    "DATASETS",
    "KINDS",
    "MODES",
    "NAME_LIMIT",
    "URL",
    "VOIPBL",
    "Feed",
    "parse",
    "read_feed",
    "render",
]

VOIPBL, APIBAN, BLOCKLIST_DE, URL = "voipbl", "apiban", "blocklist_de", "url"
KINDS = (VOIPBL, APIBAN, BLOCKLIST_DE, URL)
MODES = ("enforce", "observe")
DATASETS = ("sip", "http", "all")  # what version 2 of APIBAN's interface can be asked for
NAME_LIMIT = 40

_FORMAT = 1
_WEEK = 604800  # s
_MONTH = 2592000  # s
_MEBIBYTE = 1048576
_URLS = {
    VOIPBL: "https://voipbl.org/update/",
    APIBAN: "https://apiban.org/api/",
    BLOCKLIST_DE: "https://lists.blocklist.de/lists/sip.txt",
}
_EVERY = {VOIPBL: 21600, APIBAN: 600, BLOCKLIST_DE: 7200, URL: 86400}  # s
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
# Least and most of each number.
_RANGES = {
    "every": (60, _MONTH, "seconds"),
    "max_change": (0, 1000, "per cent"),
    "min_prefix": (1, 32, "bits"),
    "min_prefix_ipv6": (1, 128, "bits"),
    "timeout": (1, 3600, "seconds"),
    "max_size": (1024, 256 * _MEBIBYTE, "bytes"),
}


@dataclass(frozen=True)
class Feed:
    """One feed. ``name`` is also the name of its list and of its key.

    ``every``, ``keep_for`` and ``timeout`` are seconds; ``timeout`` is for all of one refresh, however many requests it takes.
    ``keep_for`` is how long an entry stays after the feed has last named it, 0: until the feed no longer does.
    ``max_change`` is in per cent of the entries, ``max_size`` in bytes of the list as it is when unpacked.
    ``ca_file`` "" stands for the authorities of the system. ``proxy`` "" stands for what the environment says, "none" for no proxy.
    ``api`` and ``dataset`` are those of APIBAN; 0 and "" for the other kinds.
    """

    name: str
    kind: str
    url: str
    every: int
    mode: str = "enforce"
    max_change: int = 50
    min_prefix: int = 9
    min_prefix_ipv6: int = 20
    allow_private: bool = False
    never: tuple[str, ...] = ()
    api: int = 0
    dataset: str = ""
    keep_for: int = 0
    ca_file: str = ""
    proxy: str = ""
    allow_http: bool = False
    timeout: int = 120
    max_size: int = 16 * _MEBIBYTE

    @property
    def shown_url(self) -> str:
        """The address as people may see it: without its query, in which some services want a secret."""
        return self.url.partition("?")[0]


_FIELDS = {field.name: field.default for field in fields(Feed)}


def read_feed(options: Mapping[str, Any], option: str = "feeds") -> Feed:
    """A feed from options, of which all but ``name`` and ``kind`` may be missing or None. ``option`` is for the message of a refusal.

    Raises OptionError.
    """
    name = options.get("name")
    # It becomes the name of a file.
    if not isinstance(name, str) or not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{NAME_LIMIT - 1}}}", name):
        raise OptionError(
            f"{option}.name", name, f"up to {NAME_LIMIT} letters, digits, '-' and '_', such as voipbl, would be right"
        )
    where = f"{option}[{name}]"
    for key in options:
        if key not in _FIELDS:
            raise OptionError(where, key, f"a feed has {', '.join(_FIELDS)}")
    kind = _choice(options, "kind", KINDS, where)
    defaults: dict[str, Any] = {**_FIELDS, "url": _URLS.get(kind, ""), "every": _EVERY[kind]}
    if kind == APIBAN:
        defaults.update(api=2, dataset="sip", keep_for=_WEEK)
    given = {**defaults, **{key: value for key, value in options.items() if value is not None}}
    for key in ("api", "dataset"):
        if kind != APIBAN and given[key] != defaults[key]:
            raise OptionError(f"{where}.{key}", given[key], f"only feeds of kind {APIBAN} have it")
    for key in ("allow_private", "allow_http"):
        if not isinstance(given[key], bool):
            raise OptionError(f"{where}.{key}", given[key], "true or false would be right")
    for key, (least, most, unit) in _RANGES.items():
        if not _is_number(given[key], least, most):
            raise OptionError(f"{where}.{key}", given[key], f"{least} to {most} {unit} would be right")
    return Feed(
        name=name,
        kind=kind,
        url=_url(given["url"], kind, given["allow_http"], where),
        every=given["every"],
        mode=_choice(given, "mode", MODES, where),
        max_change=given["max_change"],
        min_prefix=given["min_prefix"],
        min_prefix_ipv6=given["min_prefix_ipv6"],
        allow_private=given["allow_private"],
        never=_never(given["never"], where),
        api=_api(given["api"], where) if kind == APIBAN else 0,
        dataset=_choice(given, "dataset", DATASETS, where) if kind == APIBAN else "",
        keep_for=_keep_for(given["keep_for"], kind, where),
        ca_file=_ca_file(given["ca_file"], where),
        proxy=_proxy(given["proxy"], where),
        allow_http=given["allow_http"],
        timeout=given["timeout"],
        max_size=given["max_size"],
    )


def render(feeds: Iterable[Feed]) -> str:
    """The text of feeds.json; the same feeds always give the same text."""
    entries = []
    for feed in feeds:
        entry = {**asdict(feed), "never": list(feed.never)}
        if feed.kind != APIBAN:
            del entry["api"], entry["dataset"]
        entries.append(entry)
    return json.dumps({"format": _FORMAT, "feeds": entries}, indent=1) + "\n"


def parse(text: str) -> list[Feed]:
    """The feeds of feeds.json, in their order. Raises SipguardError when it is damaged, or was written by another version."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SipguardError("feeds.json is damaged; run the playbook again") from error
    if not isinstance(data, dict) or set(data) != {"format", "feeds"} or not isinstance(data["feeds"], list):
        raise SipguardError("feeds.json is damaged; run the playbook again")
    if data["format"] != _FORMAT:
        raise SipguardError("feeds.json was written by another version of sipguard.pbx; run the playbook again")
    feeds: list[Feed] = []
    for entry in data["feeds"]:
        if not isinstance(entry, dict):
            raise SipguardError("feeds.json is damaged; run the playbook again")
        feed = read_feed(entry, "feeds.json")
        if any(feed.name == other.name for other in feeds):
            raise SipguardError(f"feeds.json is damaged: it has the feed {feed.name} twice; run the playbook again")
        feeds.append(feed)
    return feeds


def _is_number(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _choice(options: Mapping[str, Any], key: str, choices: tuple[str, ...], where: str) -> str:
    value = options.get(key)
    if value not in choices:
        raise OptionError(f"{where}.{key}", value, f"one of {', '.join(choices)} would be right")
    return str(value)


def _api(value: object, where: str) -> int:
    if not _is_number(value, 1, 2):
        raise OptionError(f"{where}.api", value, "1 or 2 would be right")
    return int(str(value))


def _url(value: object, kind: str, allow_http: bool, where: str) -> str:
    option = f"{where}.url"
    url = _place(
        value, option, ("https", "http"), "an address such as https://lists.example.org/sip.txt would be right"
    )
    parts = urlsplit(url)
    shown = url.partition("?")[0]  # see Feed.shown_url
    if parts.scheme == "http" and not allow_http:
        raise OptionError(
            option, shown, "whoever is on the way could change the list: https would be right, or allow_http: true"
        )
    if kind == APIBAN and parts.query:
        raise OptionError(option, shown, "the address all of the interface begins with would be right, without a '?'")
    return url


def _place(value: object, option: str, schemes: tuple[str, ...], expected: str) -> str:
    """The value, if it is an address with a scheme of those and a host, and without a password: it would be shown and stored."""
    if not isinstance(value, str):
        raise OptionError(option, value, expected)
    if "@" in value.partition("//")[2].partition("/")[0]:
        raise OptionError(option, "https://...", "a name and a password do not belong into it")
    shown = value.partition("?")[0]
    if not re.fullmatch(r"[!-~]{1,2000}", value) or re.search(r'["<>\\^`{|}#]', value):
        raise OptionError(option, shown, expected)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise OptionError(option, shown, expected) from None
    if parts.scheme not in schemes or not _HOST.fullmatch(host) or port == 0:
        raise OptionError(option, shown, expected)
    return value


def _never(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise OptionError(f"{where}.never", value, "a list of addresses and networks would be right")
    for entry in value:
        parse_networks(entry, f"{where}.never")
    return tuple(str(entry).strip() for entry in value)


def _keep_for(value: object, kind: str, where: str) -> int:
    if _is_number(value, 3600, _MONTH) or (_is_number(value, 0, 0) and kind != APIBAN):
        return int(str(value))
    expected = f"3600 to {_MONTH} seconds would be right"
    # Its answers only ever add.
    expected += "; without an end the list would grow for ever" if kind == APIBAN else ", or 0"
    raise OptionError(f"{where}.keep_for", value, expected)


def _ca_file(value: object, where: str) -> str:
    if value == "" or (isinstance(value, str) and value.startswith("/") and "\0" not in value):
        return value
    raise OptionError(f"{where}.ca_file", value, "the full path of a file of certificates on the host would be right")


def _proxy(value: object, where: str) -> str:
    if value in ("", "none"):
        return str(value)
    expected = "an address such as http://proxy.example.org:3128, or none, would be right"
    proxy = _place(value, f"{where}.proxy", ("http",), expected)
    parts = urlsplit(proxy)
    if parts.path not in ("", "/") or parts.query:
        raise OptionError(f"{where}.proxy", proxy, expected)
    return proxy
