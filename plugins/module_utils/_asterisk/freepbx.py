# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX beside us: which files of /etc/asterisk are ours to edit, and where in them a setting belongs.

Its own settings are in freepbx_settings.py.

Who owns what (FreePBX 15, 16 and 17): `*_additional.conf`, `pjsip.conf` and `pjsip.TYPE.conf` are written anew by every
`fwconsole reload` (framework, BMO/WriteConfig.class.php; core, functions.inc/drivers/PJSip.class.php, genConfig). `sip.conf`,
`extensions.conf`, `logger.conf` and others are links into /var/www/html/admin/modules/MODULE/etc: writing through one changes a signed
file of the module, and replacing one is undone by the next reload (framework, Console/Reload.class.php, do_symlink).
`*_custom*.conf` belong to the administrator: FreePBX makes the missing ones empty and never writes to them again.

`(+)` in pjsip.conf: an extension's endpoint and its AOR have the same name, a trunk's endpoint, AOR, auth, registration and identify too,
and a bare `[1001](+)` adds to the first category of that name, the endpoint, wherever it stands. An AOR's option then lands in the
endpoint, which Asterisk refuses: it keeps the old endpoint until it is started again, and has none afterwards. So the header carries a
filter, `[1001](+^type$=^aor$)`: name and value are extended regular expressions, unanchored and case-sensitive (Asterisk, main/config.c,
does_category_match). Tried with Asterisk 16.28 and 22.10: the filter hits the right one in both, the bare form the wrong one in both.
A header that finds nothing ends the reading of its file there and then: the lines below it are lost, with nothing but a warning in the
log, while Asterisk goes on with the next file. Hence `CustomPlace.header` wants to see the configuration.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .._sip.errors import OptionError
from .tree import Category, Tree, fold

__all__ = ["PLACES", "Attributes", "CustomPlace", "FreePBX", "Permission", "detect", "place_for"]

_CONF = "etc/freepbx.conf"
# /usr/sbin/fwconsole is a link to the other (framework, installlib/installcommand.class.php).
_FWCONSOLE = ("usr/sbin/fwconsole", "var/lib/asterisk/bin/fwconsole")
_MODULE_XML = "var/www/html/admin/modules/framework/module.xml"
_VERSION = re.compile(rb"<version>\s*([0-9][0-9A-Za-z.]{0,30})\s*</version>")

_CUSTOM = re.compile(r"[A-Za-z0-9_.-]*_custom[A-Za-z0-9_.-]*\.conf")
_GENERATED = re.compile(r".*_additional\.conf|sip_registrations\.conf|pjsip(\.[a-z]+)?\.conf")


@dataclass(frozen=True)
class CustomPlace:
    """Where lines of one kind belong on FreePBX.

    ``form`` is `bare` (`option = value` lines: the file is included inside the section), `append` (below ``header(...)`` of a
    section that exists) or `section` (below a header of its own, `[name]`). ``type`` is the PJSIP object type, or empty.
    """

    file: str
    form: str
    type: str
    source: str

    def header(self, tree: Tree, name: str) -> str | None:
        """The line above the options, None for bare ones. ``tree`` is the whole configuration that the file is part of.

        Raises OptionError for a name that cannot be written, or that an `append` would not find.
        """
        if self.form == "bare":
            return None
        if not name or name != name.strip() or any(character in name for character in "[]();#\r\n\t"):
            raise OptionError("name", name, "a section's name has no brackets, semicolons, tabs or line ends in it")
        if self.form == "section":
            return f"[{name}]"
        if not any(self._hits(category, name) for category in tree.categories):
            kind = self.type or "section"
            raise OptionError(
                "name",
                name,
                f"no {kind} has this name; adding to one that is missing would lose every line below it",
            )
        return f"[{name}](+^type$=^{self.type}$)" if self.type else f"[{name}](+)"

    def _hits(self, category: Category, name: str) -> bool:
        if category.template or fold(category.name) != fold(name):
            return False
        return not self.type or any((each.name, each.value) == ("type", self.type) for each in category.variables)


_SIP = "core: etc/sip.conf"
_PJSIP = "core: functions.inc/drivers/PJSip.class.php, genConfig()"
_LOGGER = "core, later logfiles: etc/logger.conf"
_MANAGER = "framework: amp_conf/astetc/manager.conf"

# (file, scope) -> place. The file a setting belongs to on any Asterisk, and what it is set for.
PLACES: dict[tuple[str, str], CustomPlace] = {
    # Included inside [general], after what is generated: last wins.
    ("sip.conf", "general"): CustomPlace("sip_general_custom.conf", "bare", "", _SIP),
    # The last include of sip.conf.
    ("sip.conf", "peer"): CustomPlace("sip_custom_post.conf", "append", "", _SIP),
    # The last line inside [global], which is the last section.
    ("pjsip.conf", "global"): CustomPlace("pjsip_custom_post.conf", "bare", "", _PJSIP),
    # Right after the generated file of their type.
    ("pjsip.conf", "endpoint"): CustomPlace("pjsip.endpoint_custom_post.conf", "append", "endpoint", _PJSIP),
    ("pjsip.conf", "aor"): CustomPlace("pjsip.aor_custom_post.conf", "append", "aor", _PJSIP),
    ("pjsip.conf", "auth"): CustomPlace("pjsip.auth_custom_post.conf", "append", "auth", _PJSIP),
    ("pjsip.conf", "transport"): CustomPlace("pjsip.transports_custom_post.conf", "append", "transport", _PJSIP),
    ("pjsip.conf", "identify"): CustomPlace("pjsip.identify_custom_post.conf", "append", "identify", _PJSIP),
    ("pjsip.conf", "registration"): CustomPlace(
        "pjsip.registration_custom_post.conf", "append", "registration", _PJSIP
    ),
    # FreePBX has none of these of its own. The first include of pjsip.conf.
    ("pjsip.conf", "acl"): CustomPlace("pjsip_custom.conf", "section", "acl", _PJSIP),
    ("pjsip.conf", "system"): CustomPlace("pjsip_custom.conf", "section", "system", _PJSIP),
    # The last include of manager.conf, so that [general] exists and a later value of it wins.
    ("manager.conf", "general"): CustomPlace("manager_custom.conf", "append", "", _MANAGER),
    ("manager.conf", "user"): CustomPlace("manager_custom.conf", "section", "", _MANAGER),
    # Here first wins: what FreePBX writes into logger_general_additional.conf cannot be changed (Asterisk, main/logger.c).
    ("logger.conf", "general"): CustomPlace("logger_general_custom.conf", "bare", "", _LOGGER),
    ("logger.conf", "logfiles"): CustomPlace("logger_logfiles_custom.conf", "bare", "", _LOGGER),
    ("extensions.conf", "context"): CustomPlace("extensions_custom.conf", "section", "", "core: etc/extensions.conf"),
}


def place_for(file: str, scope: str) -> CustomPlace:
    """Where a setting of ``scope`` that belongs to ``file`` is written on FreePBX. Raises OptionError where there is no such place."""
    try:
        return PLACES[file, scope]
    except KeyError:
        known = ", ".join(f"{each[0]} {each[1]}" for each in PLACES)
        raise OptionError("scope", f"{file} {scope}", f"FreePBX has a place for {known}") from None


@dataclass(frozen=True)
class Permission:
    """True when a file may be edited. ``why`` is the sentence for the administrator when not."""

    allowed: bool
    why: str = ""

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True)
class Attributes:
    """Owner, group and mode that a file is to have."""

    uid: int
    gid: int
    mode: int


@dataclass(frozen=True)
class FreePBX:
    """A FreePBX that was found. ``version`` is its framework's ("17.0.19.27"), or None when that cannot be told."""

    root: str
    fwconsole: str
    version: str | None

    @property
    def conf(self) -> str:
        """The file that FreePBX's programs start with. It holds the database's password."""
        return os.path.join(self.root, _CONF)

    @property
    def config_dir(self) -> str:
        return os.path.join(self.root, "etc/asterisk")

    def may_edit(self, path: str) -> Permission:
        """Whether a file, absolute or named as below /etc/asterisk, is the administrator's. A missing one may be if its name is."""
        path = os.path.join(self.config_dir, path)
        directory, name = os.path.split(os.path.normpath(path))
        shown = ascii(name)[1:-1][:80]
        if os.path.realpath(directory) != os.path.realpath(self.config_dir):
            return Permission(False, f"{shown} is not in {self.config_dir}: FreePBX has its custom files there")
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG
        if stat.S_ISLNK(mode):
            return Permission(
                False, f"{shown} is a link to a file of a FreePBX module, which an update or reload puts back"
            )
        if _GENERATED.fullmatch(name):
            return Permission(False, f"{shown} is written by FreePBX itself at every reload")
        if not _CUSTOM.fullmatch(name):
            return Permission(
                False, f"{shown} belongs to FreePBX: only its *_custom*.conf files are for administrators"
            )
        if not stat.S_ISREG(mode):
            return Permission(False, f"{shown} is not a regular file")
        return Permission(True)

    def keeps(self, path: str) -> bool:
        """Whether what is below its configuration's directory is FreePBX's own: no custom file, and none of sipguard's."""
        name = os.path.basename(path)
        return path.startswith(f"{self.config_dir}/") and not (_CUSTOM.fullmatch(name) or "sipguard" in name)

    def attributes(self) -> Attributes:
        """What a new custom file is to have: most of its neighbours' owner, group and mode, else asterisk's and 0640."""
        found = Counter(self._custom_files())
        if found:
            return found.most_common(1)[0][0]
        try:
            return Attributes(pwd.getpwnam("asterisk").pw_uid, grp.getgrnam("asterisk").gr_gid, 0o640)
        except KeyError:
            status = os.stat(self.config_dir)
            return Attributes(status.st_uid, status.st_gid, 0o640)

    def _custom_files(self) -> Iterator[Attributes]:
        with os.scandir(self.config_dir) as entries:
            for entry in entries:
                if _CUSTOM.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    yield Attributes(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def detect(root: str = "/") -> FreePBX | None:
    """The FreePBX of the system below ``root``: it has both its configuration and its command."""
    if not os.path.isfile(os.path.join(root, _CONF)):
        return None
    for name in _FWCONSOLE:
        path = os.path.join(root, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return FreePBX(root, path, _version(root))
    return None


def _version(root: str) -> str | None:
    try:
        with open(os.path.join(root, _MODULE_XML), "rb") as file:
            found = _VERSION.search(file.read(4096))
    except OSError:
        return None
    return found[1].decode("ascii") if found else None
