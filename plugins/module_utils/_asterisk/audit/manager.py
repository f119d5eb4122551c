# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manager interface (AMI), ARI and the HTTP server: who reaches them, and what they may do."""

from __future__ import annotations

from ..tree import fold
from .context import Context, Section, loopback, tokens
from .finding import HIGH, INFO, LOW, MEDIUM, Findings, kind
from .objects import restricted

__all__ = ["check"]

EXPOSED = kind(
    "manager-exposed",
    HIGH,
    "The AMI listens to other hosts",
    "The AMI is control over the PBX; bindaddr is every address unless it is set.",
    "Set bindaddr=127.0.0.1 in manager.conf; let programs on other hosts come through a tunnel.",
)
CLEAR = kind(
    "manager-clear-text",
    MEDIUM,
    "The AMI in clear text beyond this host",
    "Secrets of calls, and of the AMI itself without MD5 login, pass the network as they are.",
    "Set tlsenable=yes with tlsbindaddr, and bindaddr=127.0.0.1.",
)
NO_ACL = kind(
    "manager-user-without-acl",
    MEDIUM,
    "An AMI user without permit and deny",
    "The user's secret is all that is between any address and the PBX.",
    "Set deny=0.0.0.0/0.0.0.0 and permit= to the addresses that need it.",
)
RIGHTS = kind(
    "manager-command-rights",
    MEDIUM,
    "An AMI user who may run programs",
    "write= with system, command, originate, config or all: each is a way to run anything on the host as Asterisk's user.",
    "Take away what the program does not need. Reading events needs no write= at all.",
)
WEB = kind(
    "manager-web",
    MEDIUM,
    "The AMI over HTTP for other hosts",
    "webenabled=yes opens the AMI on the HTTP server's address, whatever bindaddr of manager.conf says.",
    "Set webenabled=no, or bindaddr=127.0.0.1 in http.conf.",
)
LOGINS = kind(
    "manager-multiple-logins",
    INFO,
    "The same AMI user may log in several times",
    "A second login beside the program's own stays unnoticed.",
    "Set allowmultiplelogin=no.",
)
HTTP = kind(
    "http-exposed",
    MEDIUM,
    "Asterisk's HTTP server listens to other hosts",
    "ARI, the AMI over HTTP, provisioning files and WebSockets are behind it.",
    "Set bindaddr=127.0.0.1 in http.conf; put a proxy with TLS before it where WebRTC is needed.",
)
HTTP_CLEAR = kind(
    "http-clear-text",
    LOW,
    "Asterisk's HTTP server in clear text beyond this host",
    "Passwords of ARI and AMI users pass the network as they are.",
    "Set bindaddr=127.0.0.1, and tlsenable=yes with tlsbindaddr for the others.",
)
ARI = kind(
    "ari-user-writes",
    MEDIUM,
    "An ARI user with every right, for other hosts",
    "ARI makes calls and reads and writes the configuration that it is allowed to; the password is all that is asked.",
    "Set read_only=yes where that is enough, and bindaddr=127.0.0.1 in http.conf.",
)
ORIGINS = kind(
    "ari-any-origin",
    MEDIUM,
    "ARI takes requests from every web page",
    "allowed_origins=* lets any page that an administrator opens talk to ARI with his browser's credentials.",
    "Name the origins that need it.",
)

_DANGEROUS = {"system", "command", "originate", "config", "all"}


def check(context: Context, findings: Findings) -> None:
    exposed_http = _http(context, findings)
    manager = context.first("manager.conf")
    if manager.true("enabled"):
        exposed = not loopback(manager.value("bindaddr", default="0.0.0.0"))
        users = [each for each in context.sections("manager.conf") if fold(each.name) != "general"]
        if exposed:
            closed = all(_closed(each) for each in users)
            findings.add(EXPOSED, "manager", manager.where("bindaddr"), severity=MEDIUM if closed else HIGH)
            findings.add(CLEAR, "manager", manager.where("bindaddr"))
        if manager.true("webenabled") and exposed_http:
            findings.add(WEB, "manager", manager.where("webenabled"))
        if manager.true("allowmultiplelogin", True):
            findings.add(LOGINS, "manager", manager.where("allowmultiplelogin"))
        for user in users:
            _user(user, exposed, findings)
    ari = context.first("ari.conf")
    if exposed_http and ari.true("enabled", True):
        for user in context.sections("ari.conf"):
            if fold(user.value("type")) == "user" and not user.true("read_only"):
                findings.add(ARI, user.name, user.place)
        if "*" in tokens(ari.value("allowed_origins")):
            findings.add(ORIGINS, "ari", ari.where("allowed_origins"))


def _closed(user: Section) -> bool:
    return restricted(user)


def _user(user: Section, exposed: bool, findings: Findings) -> None:
    closed = _closed(user)
    if not closed:
        findings.add(NO_ACL, user.name, user.place, severity=MEDIUM if exposed else LOW)
    rights = {word for each in user.all("write") for word in tokens(each.value)}
    if rights & _DANGEROUS:
        # on loopback only programs of this host can use it: that may be just what it is for
        severity = LOW if not exposed else MEDIUM if closed else HIGH
        findings.add(RIGHTS, user.name, user.where("write"), severity=severity)


def _http(context: Context, findings: Findings) -> bool:
    """Whether other hosts reach the HTTP server: it has no address unless one is set (http.conf's own documentation)."""
    http = context.first("http.conf")
    if not http.true("enabled") and not http.true("tlsenable"):
        return False
    clear = http.true("enabled") and bool(http.value("bindaddr")) and not loopback(http.value("bindaddr"))
    secure = http.true("tlsenable") and not loopback(
        http.value("tlsbindaddr", default=http.value("bindaddr", default="::1"))
    )
    if clear or secure:
        findings.add(
            HTTP, "http", http.where("bindaddr" if clear else "tlsbindaddr"), severity=MEDIUM if clear else LOW
        )
    if clear:
        findings.add(HTTP_CLEAR, "http", http.where("bindaddr"))
    return clear or secure
