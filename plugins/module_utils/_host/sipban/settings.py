# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sipband goes by, and where it keeps things: /etc/sipban/settings.json, written by the module sipban_service and nobody else.

Secrets are not in it. They have files of their own, one line each, which root writes and only sipband's user can read besides.
"""

from __future__ import annotations

import ipaddress
import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from ..._netfilter.names import MAX_TIMEOUT
from ..._sip.addresses import Network
from ..._sip.errors import SipguardError
from .ledger import PATH

__all__ = [
    "AMI_SECRET",
    "CONTROL",
    "CROWDSEC_KEY",
    "CROWDSEC_PASSWORD",
    "DEFAULT_THRESHOLDS",
    "DIRECTORY",
    "DUMP",
    "IMPORTED",
    "KINDS",
    "LEDGER",
    "METRICS",
    "RUN",
    "SETTINGS",
    "STATE",
    "TOKEN",
    "USER",
    "Settings",
    "Threshold",
    "read_secret",
]

USER = "sipban"
# useradd(8), before the ids and the name.
NEW_USER = ("useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin")
COMMENT = "sipband of sipguard.pbx"
# 0750, for root and sipband's group; /etc/sipguard is for root alone.
DIRECTORY = "/etc/sipban"
SETTINGS = f"{DIRECTORY}/settings.json"
AMI_SECRET = f"{DIRECTORY}/ami-secret"
TOKEN = f"{DIRECTORY}/console-token"
CROWDSEC_PASSWORD = f"{DIRECTORY}/crowdsec-password"
CROWDSEC_KEY = f"{DIRECTORY}/crowdsec-key"
# Digests of published dumps that have been taken over: once is enough.
IMPORTED = f"{DIRECTORY}/imported"
STATE = "/var/lib/sipban"
LEDGER = PATH
DUMP = f"{STATE}/sipban.dump"
RUN = "/run/sipban"
CONTROL = f"{RUN}/control"
METRICS = f"{RUN}/sipban.prom"

# The security events that may end in a ban.
KINDS = ("InvalidAccountID", "InvalidPassword", "ChallengeResponseFailed", "FailedACL", "ChallengeSent")
_DAY = 86400


@dataclass(frozen=True)
class Threshold:
    """So many events of one kind from one source within so many seconds."""

    count: int
    seconds: int


DEFAULT_THRESHOLDS = {
    # PJSIP tells it twice of one REGISTER that brings credentials along.
    "InvalidAccountID": Threshold(10, 600),
    "InvalidPassword": Threshold(5, 600),
    "ChallengeResponseFailed": Threshold(5, 600),
    "FailedACL": Threshold(10, 600),
    # Each login begins with one, and a SuccessfulAuth takes them all off the count; but a site of many telephones may ask all at once.
    "ChallengeSent": Threshold(100, 60),
}


@dataclass(frozen=True)
class Settings:
    """Times are in seconds. ``thresholds`` by event kind; a count of 0 leaves that kind out.

    ``unproven``: whether evidence counts whose sender may have used somebody else's address; such a ban lasts
    ``ban_time_unproven`` and never grows.
    """

    ami_host: str = "127.0.0.1"
    ami_port: int = 5038
    ami_user: str = "sipguard"
    ami_ping: int = 60
    # Over HTTP a user name may hold line feeds, and so events of somebody else's address (manager.conf, webenabled).
    ami_web: bool = False
    thresholds: Mapping[str, Threshold] = field(default_factory=lambda: dict(DEFAULT_THRESHOLDS), hash=False)
    ban_time: int = 3600
    ban_time_max: int = 7 * _DAY
    ban_time_unproven: int = 600
    remember: int = 21 * _DAY
    unproven: bool = False
    known_for: int = 7200
    white_list: tuple[str, ...] = ()
    console_port: int = 0
    crowdsec_url: str = ""
    crowdsec_machine: str = ""
    crowdsec_interval: int = 10
    crowdsec_ca_file: str = ""
    crowdsec_max_time: int = _DAY
    crowdsec_allow_http: bool = False

    def render(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def parse(cls, text: str) -> Settings:
        """Raises SipguardError with what is wrong."""
        try:
            found = json.loads(text)
            known = {each.name for each in fields(cls)}
            unknown = sorted(found.keys() - known)
            if unknown:
                raise ValueError(f"{unknown[0]} is no setting")
            thresholds = {
                kind: Threshold(int(value["count"]), int(value["seconds"]))
                for kind, value in found.pop("thresholds", {}).items()
            }
            white_list = tuple(found.pop("white_list", ()))
            made = cls(**found, thresholds={**DEFAULT_THRESHOLDS, **thresholds}, white_list=white_list)
            made.check()
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise SipguardError(f"{SETTINGS} is damaged: {error}; run the role pbx_sipban again") from error
        return made

    @classmethod
    def read(cls, path: str = SETTINGS) -> Settings:
        """Raises SipguardError."""
        try:
            return cls.parse(pathlib.Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SipguardError(f"cannot read {path}: {error}") from error

    def check(self) -> None:
        """Raise ValueError for what cannot be."""
        for each in fields(self):
            value, default = getattr(self, each.name), getattr(Settings, each.name, None)
            if default is not None and not isinstance(default, (tuple, dict)) and type(value) is not type(default):
                raise ValueError(f"{each.name} is {value!r}")
        for kind, threshold in self.thresholds.items():
            if kind not in KINDS:
                raise ValueError(f"{kind} is no kind of event that bans: {', '.join(KINDS)} are")
            if threshold.count < 0 or not 1 <= threshold.seconds <= _DAY:
                raise ValueError(f"{kind}: {threshold.count} in {threshold.seconds} seconds")
        for name in ("ban_time", "ban_time_max", "ban_time_unproven"):
            if not 1 <= getattr(self, name) <= MAX_TIMEOUT:
                raise ValueError(f"{name} is {getattr(self, name)}; 1 to {MAX_TIMEOUT} seconds would be right")
        if self.ban_time_max < self.ban_time:
            raise ValueError(f"ban_time_max is {self.ban_time_max}, less than ban_time")
        if (
            min(self.ami_ping, self.crowdsec_interval, self.crowdsec_max_time) < 1
            or min(self.known_for, self.remember) < 0
        ):
            raise ValueError("a time is out of range")
        if self.known_for > MAX_TIMEOUT:
            raise ValueError("a time is out of range")
        for name in ("ami_port", "console_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise ValueError(f"{name} is {getattr(self, name)}")
        self.networks()

    def networks(self) -> list[Network]:
        """The white list. Raises ValueError."""
        # A number would be read as an address.
        return [ipaddress.ip_network(str(each)) for each in self.white_list]


def read_secret(path: str) -> str:
    """A secret's one line. Raises SipguardError, with the path only."""
    try:
        with open(path, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
            return file.readline(1024).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SipguardError(f"cannot read {path}: {reason}; run the role pbx_sipban again") from None
