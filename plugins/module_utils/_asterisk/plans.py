# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run wants of every configuration, and how its files differ from that.

Everything is planned from the files as they would be without us, so the inventory alone decides what ours says: a setting, an exception
or a whole profile that is not wanted any more goes, and what stood there before us comes back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from . import catalogue, companions, options, planner
from .document import Document
from .edit import Marked, marked, reverted
from .freepbx import FreePBX
from .placing import Change
from .proof import require_editable
from .tree import ConfigDirectory, Tree, load, shown

__all__ = ["DRIVERS", "FILES", "PARTS", "Wanted", "absent", "present"]

FILES = {"chan_sip": "sip.conf", "pjsip": "pjsip.conf"}
DRIVERS = tuple(FILES)
# What can be asked for by itself: the settings of the drivers, and the files that come with them.
PARTS = ("settings", "logger", "manager")
_WIZARD = "pjsip_wizard.conf"
_LAST_CHAN_SIP = (20, 99)
_TAKEN_BACK = "it is not wanted any more"


@dataclass(frozen=True)
class Wanted:
    """The host and what is wanted of it, as M(asterisk_sip_hardening) is told."""

    directory: ConfigDirectory
    drivers: Sequence[str]
    version: tuple[int, int]
    host: FreePBX | None
    profile: str
    settings: object
    exceptions: object
    logger: object
    manager: object
    # Whatever is not among these stays as it is.
    only: Sequence[str] = PARTS


@dataclass(frozen=True)
class _Base:
    """A configuration as it is (``tree``), and as it would be without us: ``clean``, to be read in ``directory``."""

    tree: Tree
    clean: Tree
    directory: ConfigDirectory
    reverted: Mapping[str, bytes] = field(default_factory=dict)


def _base(wanted: Wanted, name: str) -> _Base:
    """Both ways to read a configuration.

    A line of ours may be what is wrong with it: Asterisk refuses an addition to a section that has gone since, as that of a telephone
    that was removed on FreePBX's pages, and what stands behind that line is seen only without it.
    """
    tree = clean = load(wanted.directory, name)
    seen: set[str] = set()
    held: dict[str, bytes] = {}
    while True:
        found: dict[str, bytes] = {}
        for file, document in clean.files.items():
            if file in seen or os.path.isabs(file) or (wanted.host is not None and not wanted.host.may_edit(file)):
                continue
            seen.add(file)
            tree.files.setdefault(file, document)
            content = reverted(document)
            if content != document.render():
                found[file] = content
        if not found:
            return _Base(tree, clean, ConfigDirectory(wanted.directory.path, held), held)
        held |= found
        clean = load(ConfigDirectory(wanted.directory.path, held), name)


def present(wanted: Wanted) -> list[planner.Plan]:
    """A plan for each configuration. Raises SipguardError, or OptionError."""
    catalogue.check_settings(wanted.settings)
    documented = options.documented() or None
    found: list[planner.Plan] = []
    for driver in DRIVERS if "settings" in wanted.only else ():
        usual = catalogue.wanted(wanted.profile, driver, wanted.version, documented)
        if driver not in wanted.drivers:
            # a mistake in what is said for other hosts is a mistake all the same
            version = min(wanted.version, _LAST_CHAN_SIP) if driver == "chan_sip" else wanted.version
            catalogue.override(wanted.settings, [], driver, version, documented)
            continue
        settings = catalogue.override(wanted.settings, usual, driver, wanted.version, documented)
        exceptions = catalogue.parse_exceptions(wanted.exceptions, driver, wanted.version, documented)
        base = _base(wanted, FILES[driver])
        tree = base.clean
        require_editable(tree)
        plan = planner.make(base.directory, tree, driver, settings, exceptions, wanted.host)
        if driver == "pjsip" and any(each.last("type") for each in load(wanted.directory, _WIZARD).objects()):
            plan.left.append(f"{_WIZARD} has objects of its own, which are not edited: set the options there by hand")
        if driver == "chan_sip":
            plan.left += _open_to_all(tree, plan)
        found.append(_difference(base, plan))
    found += _companions(wanted)
    return found


def _open_to_all(tree: Tree, plan: planner.Plan) -> list[str]:
    """What is too dangerous to be left without a word, and may be what a trunk lives by."""
    general = tree.first("general")
    said = general.last("insecure") if general else None
    # words behind a blank, and "very" of old, say nothing to chan_sip
    if (
        said is None
        or "invite" not in said.value.lower().split(",")
        or any(each.option == "insecure" for each in plan.changes)
    ):
        return []
    return [
        f"{said.place}: insecure={shown(said.value)} holds for every peer, so whoever writes a peer's name into From calls without a"
        " password; say it for the trunk alone, or use the profile strict"
    ]


def _companions(wanted: Wanted) -> list[planner.Plan]:
    found: list[planner.Plan] = []
    if "logger" in wanted.only:
        found += _logger(wanted)
    if "manager" in wanted.only:
        found += _manager(wanted)
    return found


def _logger(wanted: Wanted) -> list[planner.Plan]:
    base = _base(wanted, "logger.conf")
    if wanted.logger is not None:
        require_editable(base.clean)
        logger = companions.parse_logger(wanted.logger)
        return [_difference(base, companions.plan_logger(base.directory, logger, wanted.host))]
    return [_difference(base, planner.Plan(base.tree))] if base.reverted else []


def _manager(wanted: Wanted) -> list[planner.Plan]:
    base = _base(wanted, "manager.conf")
    if wanted.manager is not None:
        require_editable(base.clean)
        manager = companions.parse_manager(wanted.manager)
        secret = companions.secret_of(base.tree, manager)
        return [_difference(base, companions.plan_manager(base.directory, manager, secret, wanted.host))]
    return [_difference(base, planner.Plan(base.tree))] if base.reverted else []


def absent(wanted: Wanted) -> list[planner.Plan]:
    """What takes our lines out of every file that has some. Raises SipguardError."""
    found: list[planner.Plan] = []
    files = {"settings": tuple(FILES.values()), "logger": ("logger.conf",), "manager": ("manager.conf",)}
    for name in (name for part in PARTS if part in wanted.only for name in files[part]):
        base = _base(wanted, name)
        if base.reverted:
            require_editable(base.clean)
            found.append(_difference(base, planner.Plan(base.tree)))
    return found


def _difference(base: _Base, plan: planner.Plan) -> planner.Plan:
    """The plan from the files as they are: what it writes, and which of its lines are new or gone."""
    plan.tree, made = base.tree, plan
    if not base.reverted:
        return made
    target = {**base.reverted, **plan.files}
    made.files = {}
    for file, content in target.items():
        document = base.tree.files.get(file)
        if document is None or document.render() != content:
            made.files[file] = content
    told = {(each.file, each.section, each.option): each for each in plan.changes}
    made.changes = []
    for file, content in made.files.items():
        old = base.tree.files.get(file)
        made.changes += _changes(file, marked(old) if old else [], marked(Document.parse(file, content)), told)
    return made


def _changes(
    file: str, old: Sequence[Marked], new: Sequence[Marked], told: Mapping[tuple[str, str, str], Change]
) -> list[Change]:
    def key(line: Marked) -> tuple[str, str, str, str | None]:
        return line.section, line.option, line.now, line.was

    there, here = {key(line) for line in old}, {key(line) for line in new}
    said = {(line.section, line.option): line.now for line in old}
    says = {(line.section, line.option) for line in new}
    found: list[Change] = []
    for line in new:
        if key(line) not in there:
            about = told.get((file, line.section, line.option))
            found.append(
                Change(
                    file,
                    line.number,
                    line.section,
                    line.option,
                    said.get((line.section, line.option), line.was),
                    line.now,
                    about.why if about else "",
                    about.source if about else "",
                    about.restart if about else False,
                )
            )
    for line in old:
        if key(line) not in here and (line.section, line.option) not in says:
            found.append(
                Change(file, line.number, line.section, line.option, line.now, line.was, _TAKEN_BACK, "", False)
            )
    return found
