# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Asterisk itself says its settings are, under the names that the options have in its configuration files.

Values are text: ``yes`` and ``no`` whatever Asterisk calls it, bare numbers in the unit of the option, lists with commas. Lines that are
not known are passed over. As Asterisk 16.28 and 22.10 print it:

- Lists cut names: ``pjsip show endpoints`` after 50 characters (with the caller's number behind a slash), ``sip show peers`` after 25,
  ``logger show channels`` after 35. ``sip show objects`` has whole names.
- ``pjsip show endpoint`` shows ``set_var`` among the options, so a variable can look like an option. What is there twice is left out.
- ``sip show settings`` has neither ``auth_options_requests`` nor ``directmedia``; of ACLs a peer only shows whether there are some.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from .cli import Cli

__all__ = ["GENERAL", "MANAGER", "PEER", "Effective", "same"]

_TRUE = ("yes", "true", "on", "enabled", "y", "t", "1")
_FALSE = ("no", "false", "off", "disabled", "n", "f", "0")
_NOTHING = ("<none>", "<not set>", "(not set)", "(null)", "(none)", "n/a")


def _plain(value: str) -> str:
    """One value as Asterisk prints it, as it would be written."""
    value = value.strip()
    low = value.lower()
    if low in _NOTHING:
        return ""
    if low in _TRUE[:4]:
        return "yes"
    if low in _FALSE[:4]:
        return "no"
    if re.fullmatch(r"\((?:[^|()\s]+\|?)+\)", value):  # codecs
        return value[1:-1].replace("|", ",")
    if re.fullmatch(r"\d+\.\d+", value):
        return value.rstrip("0").rstrip(".")
    return value


def _number(value: str) -> str:
    found = re.search(r"\d+", value)
    return found[0] if found else ""


def _seconds(value: str) -> str:
    return str(int(_number(value) or 0) // 1000)


def _qualify(value: str) -> str:
    return _number(value) if int(_number(value) or 0) else "no"


def _transfer(value: str) -> str:
    return {"open": "yes", "closed": "no"}.get(value.strip().lower(), value.strip())


def _set(value: str) -> str:
    return "yes" if value.strip() == "<Set>" else "no"


# Option -> what ``sip show settings`` calls it, and how it is to be read.
GENERAL: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "udpbindaddr": ("UDP Bindaddress", _plain),
    "tcpbindaddr": ("TCP SIP Bindaddress", _plain),
    "tlsbindaddr": ("TLS SIP Bindaddress", _plain),
    "autocreatepeer": ("AutoCreate Peer", _plain),
    "match_auth_username": ("Match Auth Username", _plain),
    "allowguest": ("Allow unknown access", _plain),
    "allowsubscribe": ("Allow subscriptions", _plain),
    "allowoverlap": ("Allow overlap dialing", _plain),
    "promiscredir": ("Allow promisc. redir", _plain),
    "callcounter": ("Enable call counters", _plain),
    "realm": ("Our auth realm", str.strip),
    "domainsasrealm": ("Use domains as realms", _plain),
    "allowexternaldomains": ("Call to non-local dom.", _plain),
    "usereqphone": ("URI user is phone no", _plain),
    "alwaysauthreject": ("Always auth rejects", _plain),
    "useragent": ("User Agent", str.strip),
    "sdpsession": ("SDP Session Name", str.strip),
    "sdpowner": ("SDP Owner Name", str.strip),
    "trustrpid": ("Trust RPID", _plain),
    "sendrpid": ("Send RPID", _plain),
    "legacy_useroption_parsing": ("Legacy userfield parse", _plain),
    "recordhistory": ("Record SIP history", _plain),
    "authfailureevents": ("Auth. Failure Events", _plain),
    "qualifyfreq": ("Qualify Freq", _seconds),
    "minexpiry": ("Reg. min duration", _number),
    "maxexpiry": ("Reg. max duration", _number),
    "defaultexpiry": ("Reg. default duration", _number),
    "subminexpiry": ("Sub. min duration", _number),
    "submaxexpiry": ("Sub. max duration", _number),
    "rtpkeepalive": ("RTP Keepalive", _number),
    "rtptimeout": ("RTP Timeout", _number),
    "rtpholdtimeout": ("RTP Hold Timeout", _number),
    "srvlookup": ("DNS SRV lookup", _plain),
    "pedantic": ("Pedantic SIP support", _plain),
    "allowtransfer": ("SIP Transfer mode", _transfer),
    "context": ("Context", str.strip),
    "qualify": ("Qualify", _qualify),
    "allow": ("Codecs", _plain),
    "transport": ("Allowed transports", lambda value: value.strip().lower()),
}

# Option -> what ``sip show peer`` calls it, and how it is to be read.
PEER: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "secret": ("Secret", _set),
    "md5secret": ("MD5Secret", _set),
    "context": ("Context", str.strip),
    "subscribecontext": ("Subscr.Cont.", _plain),
    "allowtransfer": ("Transfer mode", _transfer),
    "call-limit": ("Call limit", _number),
    "dynamic": ("Dynamic", _plain),
    "insecure": ("Insecure", _plain),
    "acl": ("ACL", _plain),
    "contactacl": ("ContactACL", _plain),
    "directmedia": ("DirectMedia", _plain),
    "promiscredir": ("PromiscRedir", _plain),
    "trustrpid": ("Trust RPID", _plain),
    "sendrpid": ("Send RPID", _plain),
    "allowsubscribe": ("Subscriptions", _plain),
    "allowoverlap": ("Overlap dial", _plain),
    "dtmfmode": ("DTMFmode", str.strip),
    "transport": ("Allowed.Trsp", lambda value: value.strip().lower()),
    "qualifyfreq": ("Qualify Freq", _seconds),
    "encryption": ("Encryption", _plain),
    "allow": ("Codecs", _plain),
}

# Option -> what ``manager show settings`` calls it.
MANAGER = {
    "enabled": "Manager (AMI)",
    "webenabled": "Web Manager (AMI/HTTP)",
    "bindaddr": "TCP Bindaddress",
    "httptimeout": "HTTP Timeout (seconds)",
    "tlsenable": "TLS Enable",
    "tlsbindaddr": "TLS Bindaddress",
    "allowmultiplelogin": "Allow multiple login",
    "displayconnects": "Display connects",
    "timestampevents": "Timestamp events",
    "debug": "Debug",
}
_MANAGER_USER = {
    "read": "read perm",
    "write": "write perm",
    "acl": "ACL",
    "displayconnects": "displayconnects",
    "allowmultiplelogin": "allowmultiplelogin",
}

# Kind -> command that lists them, and the words before a name in the list.
_LISTS = {
    "endpoint": ("pjsip show endpoints", ("Endpoint",)),
    "aor": ("pjsip show aors", ("Aor",)),
    "auth": ("pjsip show auths", ("I/OAuth", "Auth")),
    "transport": ("pjsip show transports", ("Transport",)),
    "identify": ("pjsip show identifies", ("Identify",)),
}


def same(wanted: str, shown: str) -> bool:
    """Whether a value as it was written and one as this module gives it mean the same."""
    ours, theirs = ([part.strip().lower() for part in text.split(",") if part.strip()] for text in (wanted, shown))
    for words in (_TRUE, _FALSE):
        if len(ours) == len(theirs) == 1 and ours[0] in words and theirs[0] in words:
            return True
    try:
        return [float(part) for part in ours] == [float(part) for part in theirs]
    except ValueError:
        return ours == theirs


def _labels(text: str) -> dict[str, str]:
    """``Label : value``, a line each; a few have no colon but a wide gap. The first of a label counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        body = line.strip().lstrip("* ")
        label, colon, value = body.partition(":")
        if not colon or re.search(r"\S\s{2,}\S", label):
            label = re.split(r"\s{2,}", body, maxsplit=1)[0]
            value = body[len(label) :]
        found.setdefault(label.strip(), value.strip())
    return found


def _tables(text: str) -> list[dict[str, str]]:
    """The tables below each ``ParameterName : ParameterValue``, in order. A name that is there twice with two values is left out."""
    tables: list[dict[str, str]] = []
    twice: set[str] = set()
    for line in text.splitlines():
        row = re.match(r"^ (\S.*?) *: (.*)$", f"{line} ")
        if row is None:
            continue
        name, value = row[1], row[2].strip()
        if (name, value) == ("ParameterName", "ParameterValue"):
            tables.append({})
            twice = set()
        elif tables:
            if tables[-1].get(name, value) != value:
                twice.add(name)
            tables[-1][name] = value
            for ambiguous in twice:
                tables[-1].pop(ambiguous, None)
    return [{name: _plain(value) for name, value in table.items()} for table in tables]


def _nat(labels: Mapping[str, str]) -> str:
    """``nat`` from its two halves."""
    parts: list[str] = []
    for option, label in (("force_rport", "Force rport"), ("comedia", "Symmetric RTP")):
        value = labels.get(label, "")
        if value.startswith("Auto"):
            parts.append(f"auto_{option}")
        elif _plain(value) == "yes":
            parts.append(option)
    return ",".join(parts) or "no"


class Effective:
    """Reads an Asterisk back. Methods raise NotRunning, and NoSuchCommand when the channel driver in question is not loaded."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli

    # -- chan_sip

    def sip_general(self) -> dict[str, str]:
        """The options of sip.conf's [general] that Asterisk shows, see GENERAL; and ``nat``, ``tcpenable``, ``tlsenable``."""
        labels = _labels(self._cli.command("sip show settings"))
        found = {option: read(labels[label]) for option, (label, read) in GENERAL.items() if label in labels}
        for protocol in ("tcp", "tls"):
            address = found.get(f"{protocol}bindaddr")
            if address is not None:
                found[f"{protocol}enable"] = "no" if address == "no" else "yes"
        if "Force rport" in labels:
            found["nat"] = _nat(labels)
        return found

    def sip_peer(self, name: str) -> dict[str, str] | None:
        """The options of a peer, see PEER, and ``nat``; None when there is no such peer. Raises OptionError for an odd name."""
        text = self._cli.command(f"sip show peer {self._cli.argument(name)}")
        labels = _labels(text)
        if "Name" not in labels:
            return None
        found = {option: read(labels[label]) for option, (label, read) in PEER.items() if label in labels}
        found["nat"] = _nat(labels)
        return found

    def sip_domains(self) -> dict[str, str]:
        """Domain -> context, without those that Asterisk found out by itself (``autodomain``)."""
        rows = (line.split() for line in self._cli.command("sip show domains").splitlines())
        return {
            row[0].lower(): "" if row[1] == "(default)" else row[1]
            for row in rows
            if len(row) == 3 and row[2] == "[Configured]"
        }

    # -- PJSIP

    def pjsip_global(self) -> dict[str, str]:
        """The options of the object ``global``."""
        return (_tables(self._cli.command("pjsip show settings")) or [{}])[0]

    def pjsip_system(self) -> dict[str, str]:
        """The options of the object ``system``."""
        tables = _tables(self._cli.command("pjsip show settings"))
        return tables[1] if len(tables) > 1 else {}

    def pjsip(self, kind: str, name: str) -> dict[str, str] | None:
        """The options of one endpoint, aor, transport or identify; None when there is none of that name. OptionError for an odd name."""
        if kind not in _LISTS or kind == "auth":  # it would show the password
            raise ValueError(kind)
        tables = _tables(self._cli.command(f"pjsip show {kind} {self._cli.argument(name)}"))
        return tables[0] if tables else None

    # -- presence, for hundreds of objects in one question

    def _listed(self, kind: str) -> tuple[set[str], int]:
        """What stands in a list, cut to a width, and the width."""
        command, labels = _LISTS[kind]
        rows = re.compile(rf"^ *(?:{'|'.join(labels)}):  (.*)$")
        width, found = 0, set()
        for line in self._cli.command(command).splitlines():
            row = rows.match(line)
            if row and row[1].startswith("<"):
                width = width or row[1].index(">") + 1
            elif row:
                found.add(row[1][: width or None].rstrip())
        return found, width

    def objects(self, kind: str) -> set[str]:
        """The names of all endpoints, aors, auths, transports, identifies (of these, long ones are cut), peers or manager users.

        Asterisk writes something behind a slash after some names; a name that itself has a slash is there whole, and up to each slash.
        """
        if kind == "peer":
            text = self._cli.command("sip show objects")
            return set(re.findall(r"^name: (.*)\ntype: peer$", text, re.MULTILINE))
        if kind == "manager user":
            lines = self._cli.command("manager show users").split("\n")
            rules = [number for number, line in enumerate(lines) if line and not line.strip("-")]
            return {line.strip() for line in lines[rules[0] + 1 : rules[1]]} if len(rules) > 1 else set()
        found: set[str] = set()
        for entry in self._listed(kind)[0]:
            found.add(entry)
            found.update(entry[: match.start()] for match in re.finditer("/", entry))
        return found

    def missing(self, kind: str, names: Iterable[str]) -> list[str]:
        """Which of the names Asterisk does not have: one question for all, and one more for each name too long for the list."""
        present = self.objects(kind)
        absent = [name for name in names if name not in present]
        if kind not in _LISTS or not absent:
            return absent
        cut, width = self._listed(kind)
        return [name for name in absent if not self._cut(kind, name, cut, width)]

    def _cut(self, kind: str, name: str, cut: set[str], width: int) -> bool:
        """Whether a name is there, and only too long for the list."""
        if not width or len(name) < width or name[:width].rstrip() not in cut:
            return False
        return kind == "auth" or not self._cli.usable(name) or self.pjsip(kind, name) is not None

    # -- manager interface and logs

    def manager(self) -> dict[str, str]:
        """The options of manager.conf's [general] that Asterisk shows, see MANAGER; ``bindaddr`` with the port."""
        labels = _labels(self._cli.command("manager show settings"))
        return {option: _plain(labels[label]) for option, label in MANAGER.items() if label in labels}

    def manager_user(self, name: str) -> dict[str, str] | None:
        """``read``, ``write``, ``acl`` (whether there is one) and others of a manager user; None when there is none of that name."""
        labels = _labels(self._cli.command(f"manager show user {self._cli.argument(name)}"))
        if labels.get("username") != name:
            return None
        return {option: _plain(labels[label]) for option, label in _MANAGER_USER.items() if label in labels}

    def log_channels(self) -> dict[str, frozenset[str]]:
        """Path (cut after 35 characters) -> the levels in lower case, of every log file that is enabled."""
        found: dict[str, frozenset[str]] = {}
        for line in self._cli.command("logger show channels").splitlines():
            row = re.match(r"^(\S+) +File +\S+ +Enabled +- ?(.*)$", line)
            if row:
                found[row[1]] = frozenset(row[2].lower().split())
        return found
