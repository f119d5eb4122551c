# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether FreePBX loads custom rules goes back with the rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import freepbx
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import freepbx_rules, netlink
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import Completed
from tests.unit.plugins.module_utils._asterisk.php import FakePhp, install
from tests.unit.plugins.module_utils._host.test_switch import NEW, OLD, Place, place
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

__all__ = ["place"]

ON, OFF = "enabled", "disabled"


class Site:
    """A host with FreePBX. ``order`` is what happens, as far as one thing has to come before the other."""

    def __init__(self, place: Place, root: Path) -> None:
        self.php = FakePhp()
        self.order: list[str] = []
        self._place, self._etc = place, root
        place.host.commands |= {"php", "timeout"}
        place.host.interfere = self._answer

    def _answer(self, argv: Sequence[str], stdin: str) -> Completed | None:
        command = os.path.basename(argv[0])
        if command == "timeout":
            done = self.php.run(argv, stdin)
            self.order += [said for said in self.php.asked[-1:] if said != "read"]
            return done
        if command == "ipset" and stdin and self.order[-1:] != ["sets"]:
            self.order.append("sets")
        return None

    def native(self, flag: bool = True) -> None:
        """As freepbx_custom_rules does it: the block, then the setting."""
        memory = freepbx_rules.remember(freepbx_rules.others(FAMILIES)) if flag else frozenset()
        freepbx_rules.plan(IPV4, {}, memory=memory)[0].write()
        self.php.stored["firewall"]["customrules"] = ON

    def absent(self) -> None:
        freepbx_rules.plan(IPV4, None)[0].write()
        self.php.stored["firewall"]["customrules"] = OFF

    @property
    def rules(self) -> str:
        path = Path(freepbx_rules.rules_path(IPV4))
        return path.read_text() if path.exists() else ""

    def change(self, member: str) -> None:
        self._place.trust(member)
        self.order.clear()


@pytest.fixture
def site(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    root = tmp_path / "root"
    root.mkdir()
    install(root)

    def rules_path(family: Family, directory: str = "") -> str:
        return str(root / f"etc/firewall-{family.version}.rules")

    monkeypatch.setattr(freepbx_rules, "rules_path", rules_path)
    monkeypatch.setattr(freepbx, "detect", partial(freepbx.detect, str(root)))
    monkeypatch.setattr(netlink, "nft_rule_tables", lambda version: {"filter"})
    return Site(place, root)


def test_a_change_that_switched_it_on_is_taken_back(place: Place, site: Site) -> None:
    cookie = place.switch.arm(60, OLD)[0].cookie
    site.native()
    site.change("192.0.2.1")
    assert "FreePBX's setting customrules" in place.switch.rollback(check=True).said
    assert site.php.custom_rules == ON
    report = place.switch.rollback(cookie)
    assert "FreePBX's setting customrules" in report.said
    assert site.php.stored["firewall"] == {}
    assert site.rules == ""
    # FreePBX bears the rules for as long as they are there.
    assert site.order == ["sets", "write firewall.customrules=null"]


def test_a_change_that_switched_it_off_is_taken_back(place: Place, site: Site) -> None:
    place.trust("192.0.2.1")
    site.native()
    written = site.rules
    place.switch.arm(0.05, OLD)
    site.absent()
    site.change("192.0.2.2")
    place.watch(place.switch.journal.pending().cookie)  # type: ignore[union-attr]
    assert "FreePBX's setting customrules" in place.said[0]
    assert site.php.custom_rules == ON
    assert site.order == ['write firewall.customrules="enabled"', "sets"]
    # Whoever removes the rules later switches it off again.
    assert site.rules == written
    assert freepbx_rules.memory(FAMILIES)


def test_what_an_administrator_has_switched_on_is_not_marked_as_ours(place: Place, site: Site) -> None:
    site.native(flag=False)
    cookie = place.switch.arm(60, OLD)[0].cookie
    freepbx_rules.plan(IPV4, None)[0].write()
    site.change("192.0.2.2")
    place.switch.rollback(cookie)
    assert site.php.custom_rules == ON
    assert "# BEGIN sipguard.pbx" in site.rules
    assert not freepbx_rules.memory(FAMILIES)


@pytest.mark.parametrize("when", ["never", "arming", "going back"])
def test_the_rules_come_back_while_freepbx_does_not_answer(place: Place, site: Site, when: str) -> None:
    place.trust("192.0.2.1")
    site.native()
    site.php.down = when == "arming"
    cookie = place.switch.arm(60, OLD)[0].cookie
    site.absent()
    place.trust("192.0.2.2")
    site.php.down = when == "going back"
    report = place.switch.rollback(cookie)
    assert place.trusted() == {"192.0.2.1"}
    assert ("customrules is not what it was: PHP ended before" in report.said) is (when == "going back")
    assert site.php.custom_rules == (ON if when == "never" else OFF)
    assert place.switch.journal.pending() is None


def keep(place: Place, site: Site, member: str, native: bool) -> None:
    """A confirmed change."""
    cookie = place.switch.arm(60, OLD)[0].cookie
    (site.native if native else site.absent)()
    place.trust(member)
    place.switch.confirm(cookie, NEW)


@pytest.mark.parametrize("native", [True, False])
def test_confirmed_changes_are_taken_back(place: Place, site: Site, native: bool) -> None:
    keep(place, site, "192.0.2.1", native)
    keep(place, site, "192.0.2.2", not native)
    place.switch.rollback()
    assert place.trusted() == {"192.0.2.1"}
    assert site.php.custom_rules == (ON if native else OFF)
    assert bool(freepbx_rules.memory(FAMILIES)) is native


def test_it_is_left_alone_for_the_custom_rules_of_others(place: Place, site: Site) -> None:
    """A state of long ago knows nothing of them."""
    keep(place, site, "192.0.2.1", False)
    site.php.stored["firewall"]["customrules"] = ON
    keep_on = place.switch.arm(60, OLD)[0].cookie
    place.trust("192.0.2.2")
    place.switch.confirm(keep_on, NEW)
    place.switch.rollback()
    assert place.trusted() == {"192.0.2.1"}
    assert site.php.custom_rules == ON


def test_it_stays_on_while_lines_of_others_are_left(place: Place, site: Site) -> None:
    keep(place, site, "192.0.2.1", False)
    keep(place, site, "192.0.2.2", True)
    path = Path(freepbx_rules.rules_path(IPV4))
    path.write_text("-A INPUT -s 192.0.2.9 -j DROP\n" + path.read_text())
    report = place.switch.rollback()
    assert place.trusted() == {"192.0.2.1"}
    assert site.rules == "-A INPUT -s 192.0.2.9 -j DROP\n"
    assert site.php.custom_rules == ON
    assert "custom rules stay on for 1 line of" in report.said


DRAFT = "-A INPUT -s 192.0.2.9 -j DROP\n"


def write(text: str) -> None:
    Path(freepbx_rules.rules_path(IPV4)).write_text(text)


def test_going_back_loads_no_lines_that_were_not_loaded_then(place: Place, site: Site) -> None:
    """Any user of the host can write them, and nobody would look."""
    place.trust("192.0.2.1")
    site.native()
    cookie = place.switch.arm(60, OLD)[0].cookie
    site.absent()
    write("-P INPUT DROP\n")
    site.change("192.0.2.2")
    report = place.switch.rollback(cookie)
    assert place.trusted() == {"192.0.2.1"}
    assert "customrules is not what it was: it stays off, because 1 line of" in report.said
    assert site.php.custom_rules == OFF
    assert site.rules.startswith("-P INPUT DROP\n# BEGIN sipguard.pbx")


def test_lines_that_were_loaded_are_loaded_again(place: Place, site: Site) -> None:
    write(DRAFT)
    place.trust("192.0.2.1")
    site.native()
    written = site.rules
    assert "(enabled, others=" in written
    cookie = place.switch.arm(60, OLD)[0].cookie
    site.absent()
    site.change("192.0.2.2")
    place.switch.rollback(cookie)
    assert site.php.custom_rules == ON
    assert site.rules == written


@pytest.mark.parametrize("before", ["", DRAFT])
def test_the_block_says_again_who_switched_it_on(place: Place, site: Site, before: str) -> None:
    """Also where it has stayed on meanwhile, for lines of others."""
    write(before)
    site.native()
    write(site.rules + DRAFT * 2)
    said = freepbx_rules.memory(FAMILIES)
    assert ("enabled" in said, len(said)) == (True, 2 if before else 1)
    cookie = place.switch.arm(60, OLD)[0].cookie
    freepbx_rules.plan(IPV4, None)[0].write()
    site.change("192.0.2.2")
    place.switch.rollback(cookie)
    assert site.php.custom_rules == ON
    assert freepbx_rules.memory(FAMILIES) == said


def test_the_block_says_no_more_that_we_have_switched_it_on(place: Place, site: Site) -> None:
    site.native(flag=False)
    site.php.stored["firewall"]["customrules"] = OFF
    written = site.rules
    cookie = place.switch.arm(60, OLD)[0].cookie
    site.native()
    assert freepbx_rules.memory(FAMILIES)
    site.change("192.0.2.2")
    place.switch.rollback(cookie)
    assert site.php.custom_rules == OFF
    assert site.rules == written


def test_drafts_of_others_are_drafts_again(place: Place, site: Site) -> None:
    write(DRAFT)
    keep(place, site, "192.0.2.1", False)
    keep(place, site, "192.0.2.2", True)
    report = place.switch.rollback()
    assert site.rules == DRAFT
    assert site.php.custom_rules == OFF
    assert "does not load 1 line of" in report.said


def test_a_host_that_lost_it_is_not_as_confirmed(place: Place, site: Site) -> None:
    keep(place, site, "192.0.2.1", True)
    site.php.stored["firewall"]["customrules"] = OFF
    report = place.switch.rollback()
    assert "was not as confirmed" in report.said
    assert site.php.custom_rules == ON
    assert place.trusted() == {"192.0.2.1"}


def test_a_host_without_freepbx_is_asked_nothing(
    place: Place, host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freepbx, "detect", partial(freepbx.detect, str(tmp_path)))
    place.keep("192.0.2.1")
    place.switch.rollback()
    assert not any(call.startswith(("timeout", "php")) for call in host.calls)
