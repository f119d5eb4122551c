# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host: who may read the files, who Asterisk runs as, which version it is, and which modules it loads."""

from __future__ import annotations

import datetime
import os
import stat

from .context import Context
from .finding import CRITICAL, HIGH, INFO, LOW, MEDIUM, Findings, kind

__all__ = ["END_OF_LIFE", "check", "check_files"]

READABLE = kind(
    "world-readable",
    HIGH,
    "Files with secrets that every user of the host may read",
    "A fault in a web site on the same host is enough to have every secret.",
    "chmod 0640 the files, or 0750 the directory; owner and group of Asterisk.",
)
WRITABLE = kind(
    "world-writable",
    CRITICAL,
    "Configuration that every user of the host may write",
    "Whoever writes the dialplan runs programs as Asterisk's user.",
    "chmod 0640 the files, 0750 the directory.",
)
OWNER = kind(
    "foreign-owner",
    MEDIUM,
    "Configuration that belongs to somebody else",
    "Whoever owns a file can write it, whatever its mode.",
    "chown it to root or to Asterisk's user.",
)
ROOT = kind(
    "runs-as-root",
    HIGH,
    "Asterisk runs as root",
    "A fault in Asterisk, or System in the dialplan, is then control over the host.",
    "Set runuser and rungroup in asterisk.conf, or start it with -U.",
)
DANGEROUS = kind(
    "live-dangerously",
    HIGH,
    "live_dangerously is on",
    "SHELL, FILE and other functions can then be called from the AMI, ARI and by callers' data: any of those runs programs.",
    "Set live_dangerously=no in asterisk.conf.",
)
EXECINCLUDES = kind(
    "exec-includes",
    MEDIUM,
    "execincludes is on",
    "Who may write a configuration file, by the AMI too, has a program run with #exec.",
    "Set execincludes=no in asterisk.conf.",
)
OLD = kind(
    "end-of-life",
    MEDIUM,
    "A version of Asterisk that gets no repairs",
    "Faults that become known stay open.",
    "Move to a long-term version; docs.asterisk.org has the dates. A distribution may repair its own package for longer.",
)
MODULES = kind(
    "needless-module",
    INFO,
    "Channel drivers that are hardly ever used",
    "Each opens a port, and gets little care.",
    "noload them in modules.conf.",
)
# (long-term, end of full support, end of security fixes): https://docs.asterisk.org/About-the-Project/Asterisk-Versions/
END_OF_LIFE = {
    13: ("2020-10-24", "2021-10-24"),
    14: ("2017-09-26", "2018-09-26"),
    15: ("2018-10-03", "2019-10-03"),
    16: ("2022-10-09", "2023-10-09"),
    17: ("2020-10-28", "2021-10-28"),
    18: ("2024-10-20", "2025-10-20"),
    19: ("2022-11-02", "2023-11-02"),
    20: ("2026-10-19", "2027-10-19"),
    21: ("2024-10-18", "2025-10-18"),
    22: ("2028-10-16", "2029-10-16"),
    23: ("2026-10-15", "2027-10-15"),
}
_SECRETS = (
    "sip.conf",
    "pjsip.conf",
    "pjsip_wizard.conf",
    "iax.conf",
    "users.conf",
    "manager.conf",
    "ari.conf",
    "voicemail.conf",
    "extensions.conf",
)
_DRIVERS = {
    "chan_skinny": ("skinny.conf", 21),
    "chan_mgcp": ("mgcp.conf", 21),
    "chan_unistim": ("unistim.conf", 99),
    "chan_motif": ("motif.conf", 99),
    "chan_ooh323": ("ooh323.conf", 99),
    "chan_iax2": ("iax.conf", 99),
}


def check(context: Context, findings: Findings) -> None:
    options = context.first("asterisk.conf", "options")
    if options.true("live_dangerously"):
        findings.add(DANGEROUS, "asterisk.conf", options.where("live_dangerously"))
    if options.true("execincludes"):
        findings.add(EXECINCLUDES, "asterisk.conf", options.where("execincludes"))
    user = context.run_user or options.value("runuser")
    if user == "root" or user == "0":
        findings.add(ROOT, "asterisk.conf", options.where("runuser"))
    elif not user and context.tree("asterisk.conf").exists:
        findings.add(
            ROOT,
            "asterisk.conf",
            options.place,
            severity=LOW,
            detail="unless the service starts it with -U: runuser is not set",
        )
    _version(context, findings)
    if context.first("modules.conf", "modules").true("autoload"):
        for module, (name, gone) in _DRIVERS.items():
            if (context.version or (16, 0))[0] < gone and context.loads(module) and os.path.isfile(context.full(name)):
                findings.add(MODULES, module, context.first("modules.conf", "modules").where("autoload"))


def _version(context: Context, findings: Findings) -> None:
    if not context.version:
        return
    major = context.version[0]
    dates = END_OF_LIFE.get(major)
    if dates is None:
        if major < min(END_OF_LIFE):
            findings.add(OLD, f"Asterisk {major}", "asterisk -V", detail="no fixes any more")
        return
    full, security = (datetime.date.fromisoformat(each) for each in dates)
    if context.today >= security:
        findings.add(OLD, f"Asterisk {major}", "asterisk -V", detail=f"no fixes since {security}")
    elif context.today >= full:
        findings.add(
            OLD, f"Asterisk {major}", "asterisk -V", severity=INFO, detail=f"security fixes only, until {security}"
        )


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def check_files(context: Context, findings: Findings) -> None:
    """Modes and owners of every file that has been read."""
    directory = _status(context.directory.path)
    if directory is None:
        return
    if directory.st_mode & 0o002:
        findings.add(WRITABLE, "the directory", context.directory.path)
    # nobody gets at a file in a directory that he may not enter
    closed = not directory.st_mode & 0o001
    owners = {0, directory.st_uid}
    secret = {name for tree in context.trees if tree.name in _SECRETS for name in tree.files}
    for name in sorted({name for tree in context.trees for name in tree.files}):
        found = _status(context.full(name))
        if found is None or not stat.S_ISREG(found.st_mode):
            continue
        if found.st_mode & 0o002 and not (closed and not os.path.isabs(name)):
            findings.add(WRITABLE, name, name)
        elif name in secret and found.st_mode & 0o004 and not (closed and not os.path.isabs(name)):
            findings.add(READABLE, name, name)
        if found.st_uid not in owners and not _is_runner(context, found.st_uid):
            findings.add(OWNER, name, name)


def _is_runner(context: Context, owner: int) -> bool:
    """Whether an owner is Asterisk's user, as the files or the host say."""
    import pwd

    options = context.first("asterisk.conf", "options")
    for name in (context.run_user, options.value("runuser"), "asterisk"):
        try:
            if name and pwd.getpwnam(name).pw_uid == owner:
                return True
        except (KeyError, ValueError, UnicodeError):
            continue
    return False
