# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import netlink, persist, user_agents
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.engine import Engine, Outcome, with_member
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import (
    CHAIN_RATE,
    CHAIN_UA,
    FAMILIES,
    IPV4,
    IPV6,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.options import read_common
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import Policy, assemble
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import parse_save
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import CommandError, Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.signatures import ANYWHERE, Signature
from tests.unit.plugins.module_utils._netfilter import samples
from tests.unit.plugins.module_utils._netfilter.fakes import LOCKED, FakeHost
from tests.unit.plugins.module_utils._netfilter.memory import Marks
from tests.unit.plugins.module_utils._netfilter.strategies import member

OTHERS = samples.FIXTURES / "rulesets"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "sipguard"))


@pytest.fixture
def busy(host: FakeHost) -> FakeHost:
    """A host on which ufw, fail2ban and Docker have rules in both families, and every table has been in use."""
    for family in FAMILIES:
        host.tables[family.binary].restore("".join(f"*{table}\nCOMMIT\n" for table in ("raw", "mangle", "filter")))
        host.tables[family.binary].restore((OTHERS / f"others.v{family.version}").read_text())
    return host


def run(host: FakeHost, store: Store, *signatures: Signature, check: bool = False, **given: Any) -> Outcome:
    """What sip_ua_blocklist does between its options and its result."""
    host.read_only = check
    try:
        options = samples.options(**given)
        common = read_common(options)
        engine = Engine(host, options["backend"], options["lock_timeout"], store)
        snapshot = engine.snapshot()
        wanted = user_agents.read_options(options, signatures or samples.SIGNATURES)
        members = {family: user_agents.member(common, wanted, family) for family in common.families if common.present}
        targets = with_member(engine, snapshot, CHAIN_UA, members, common)
        return engine.converge(targets, snapshot, persist=options["persist"], check=check)
    finally:
        host.read_only = False


def state(host: FakeHost) -> tuple:
    return (copy.deepcopy(host.tables), copy.deepcopy(host.sets))


def foreign(host: FakeHost) -> list[str]:
    hooks = ("-A INPUT -j SIPGUARD", "-A PREROUTING -j SIPGUARD-PRE")
    ours = ("-A SIPGUARD ", "-A SIPGUARD-", ":SIPGUARD ", ":SIPGUARD-")
    lines = [line for tables in host.tables.values() for line in tables.save().splitlines()]
    return [line for line in lines if line not in hooks and not line.startswith(ours)]


def writes(host: FakeHost) -> list[str]:
    return [call for call in host.calls if "restore" in call and "--test" not in call]


@pytest.mark.parametrize("sample", sorted(samples.SAMPLES))
def test_converge_runs_four_times(busy: FakeHost, store: Store, sample: str) -> None:
    """Check, real, check again, real again; and other programs' rules are the same throughout."""
    given = samples.SAMPLES[sample]
    others = foreign(busy)
    first = run(busy, store, check=True, **given)
    assert foreign(busy) == others
    second = run(busy, store, **given)
    assert (first.changed, first.before, first.after) == (second.changed, second.before, second.after)
    assert (second.changed, second.persisted, second.warnings) == (True, True, [])
    for family in FAMILIES:
        live = parse_save(busy.tables[family.binary].save())
        found = {name: table.chains for name, table in live.tables.items() if table.chains}
        wanted = samples.policy(family, **given)
        assert found in [assemble(wanted, generation) for generation in (0x4000000, 0x100)]
        assert all(live.table(name).hooked() for name in found)
        assert second.rules[family.name] == sum(len(rules) for chains in found.values() for rules in chains.values())
    third = run(busy, store, check=True, **given)
    busy.calls.clear()
    fourth = run(busy, store, **given)
    assert [(one.changed, one.warnings) for one in (third, fourth)] == [(False, [])] * 2
    assert third.before == third.after == fourth.before == fourth.after
    assert busy.calls == [
        "iptables --version",
        "iptables-nft-save",
        "ip6tables-nft-save",
        "ipset list -terse",
        "iptables-legacy-save",
        "ip6tables-legacy-save",
    ]
    assert foreign(busy) == others


def test_absent_leaves_nothing_behind(busy: FakeHost, store: Store, tmp_path: Path) -> None:
    before = {name: tables.rules() for name, tables in busy.tables.items()}
    run(busy, store)
    assert {name: tables.rules() for name, tables in busy.tables.items()} != before
    for check in (True, False):
        outcome = run(busy, store, state="absent", check=check)
        assert (outcome.changed, outcome.after) == (
            True,
            "# next boot: rules.v4: as above\n# next boot: rules.v6: as above\n",
        )
    assert {name: tables.rules() for name, tables in busy.tables.items()} == before
    assert not any(
        chain.startswith("SIPGUARD")
        for tables in busy.tables.values()
        for chains in tables.tables.values()
        for chain in chains
    )
    assert busy.sets == {}
    assert not (tmp_path / "sipguard").exists()
    again = run(busy, store, state="absent")
    assert (again.changed, again.rules, again.before) == (False, {"ipv4": 0, "ipv6": 0}, "")


def test_family_left_out_has_no_rules(host: FakeHost, store: Store) -> None:
    run(host, store)
    outcome = run(host, store, families=["ipv6"])
    assert outcome.rules["ipv4"] == 0 < outcome.rules["ipv6"]
    assert host.tables["iptables"].rules() == []
    assert sorted(host.sets) == ["sipguard-offenders6", "sipguard-trusted6"]
    assert (store.read("rules.v4"), store.read("rules.v6") is None) == (None, False)


def test_kernel_without_ipv6_is_passed_over(host: FakeHost, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.engine.has_family", IPV4.__eq__
    )
    assert run(host, store).rules.keys() == {"ipv4"}
    assert [call for call in host.calls if call.startswith("ip6")] == []


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_converge_uses_one_backend_only(host: FakeHost, store: Store, backend: str) -> None:
    host.backend = "nft" if backend == "legacy" else "legacy"
    run(host, store, backend=backend)
    assert host.tables["iptables"].rules() == []
    assert host.other_backend["iptables"].rules() != []
    assert {call.split()[0] for call in writes(host)} - {"ipset"} == {
        f"{binary}-{backend}-restore" for binary in ("iptables", "ip6tables")
    }


def test_converge_warns_of_rules_in_the_other_backend(host: FakeHost, store: Store) -> None:
    host.other_backend["iptables"].restore("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n")
    for check in (True, False):
        (warning,) = run(host, store, check=check).warnings
        assert "ipv4 rules in the legacy backend (iptables-legacy-save shows them)" in warning
    assert host.other_backend["iptables"].rules() == ["-j ACCEPT"]


def test_converge_takes_away_what_is_left_in_the_other_backend(busy: FakeHost, store: Store) -> None:
    """The command iptables was switched to the other backend, and the old rules would still be met by each packet."""
    run(busy, store, backend="legacy")
    assert "-j SIPGUARD" in busy.other_backend["iptables"].rules()
    busy.other_backend["iptables"].restore("*filter\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n")
    check = run(busy, store, check=True)
    outcome = run(busy, store)
    assert (check.before, check.after) == (outcome.before, outcome.after)
    assert "# left over in iptables-legacy: table filter\n# left over in iptables-legacy: table raw\n" in "".join(
        sorted(line + "\n" for line in outcome.before.splitlines() if "iptables-legacy" in line and "ip6" not in line)
    )
    assert busy.other_backend["iptables"].rules() == ["-i lo -j ACCEPT"]
    assert busy.other_backend["ip6tables"].rules() == []
    assert "-j SIPGUARD" in busy.tables["iptables"].rules()
    assert run(busy, store).changed is False


def test_failing_eviction_leaves_everything_as_it_was(busy: FakeHost, store: Store) -> None:
    run(busy, store, backend="legacy")
    before = {name: tables.rules() for name, tables in (*busy.tables.items(), *busy.other_backend.items())}
    old = copy.deepcopy(busy.other_backend)
    busy.interfere = refusing(6)
    with pytest.raises(CommandError, match="line 7 failed"):
        run(busy, store)
    assert busy.other_backend == old
    assert {name: tables.rules() for name, tables in (*busy.tables.items(), *busy.other_backend.items())} == before


@pytest.mark.parametrize(
    ("given", "warned"), [({}, True), ({"persist": False}, False), ({"state": "absent"}, False)], ids=str
)
def test_converge_warns_where_nothing_loads_the_files(
    host: FakeHost, store: Store, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], warned: bool
) -> None:
    monkeypatch.setattr(persist, "BOOT_UNIT", "/nonexistent/sipguard-restore.service")
    warnings = run(host, store, **given).warnings
    assert [("nothing on this host loads /etc/sipguard" in warning) for warning in warnings] == [True] * warned


def test_every_script_is_tried_before_any_is_loaded(host: FakeHost, store: Store) -> None:
    run(host, store, lock_timeout=7)
    restores = [call for call in host.calls if "tables-nft-restore" in call]
    assert restores == [
        *(f"{binary}-nft-restore --noflush --wait 7 --test" for binary in ("iptables",) * 2 + ("ip6tables",) * 2),
        *(f"{binary}-nft-restore --noflush --wait 7" for binary in ("iptables",) * 2 + ("ip6tables",) * 2),
    ]


def refusing(number: int, test: bool = False, said: str = "iptables-restore: line 7 failed\n") -> Callable:
    """Makes the nth restore of that kind fail, as when another program changed the rules a moment before."""
    seen = 0

    def interfere(argv: Sequence[str], stdin: str) -> Completed | None:
        nonlocal seen
        if "tables" not in argv[0] or not argv[0].endswith("-restore") or ("--test" in argv) is not test:
            return None
        seen += 1
        return Completed(2, "", said) if seen == number else None

    return interfere


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("test", [True, False], ids=["test", "load"])
def test_failing_script_leaves_everything_as_it_was(busy: FakeHost, store: Store, number: int, test: bool) -> None:
    before = {name: tables.rules() for name, tables in busy.tables.items()}
    busy.interfere = refusing(number, test)
    with pytest.raises(CommandError, match="line 7 failed"):
        run(busy, store)
    assert {name: tables.rules() for name, tables in busy.tables.items()} == before
    assert busy.sets == {}
    assert store.read("rules.v4") is None
    busy.interfere = None
    assert run(busy, store).changed is True


@pytest.mark.parametrize("number", [1, 2])
def test_failing_change_brings_back_the_rules_that_were_there(busy: FakeHost, store: Store, number: int) -> None:
    run(busy, store)
    # Edited and hooked twice: not what anybody would write anew.
    busy.tables["iptables"].restore("*filter\n-A INPUT -j SIPGUARD\n-I SIPGUARD 2 -s 192.0.2.7/32 -j ACCEPT\nCOMMIT\n")
    before = state(busy)
    disk = store.read("rules.v4")
    busy.interfere = refusing(number)
    with pytest.raises(CommandError, match="line 7 failed"):
        run(busy, store, Signature("other-scanner", ANYWHERE), mode="observe")
    assert state(busy) == before
    assert store.read("rules.v4") == disk


def test_failure_keeps_sets_that_were_there(host: FakeHost, store: Store) -> None:
    host.sets["sipguard-trusted4"] = ("hash:net family inet maxelem 1024", {"192.0.2.7": ""})
    host.interfere = refusing(1)
    with pytest.raises(CommandError):
        run(host, store)
    assert host.sets == {"sipguard-trusted4": ("hash:net family inet maxelem 1024", {"192.0.2.7": ""})}


def test_failing_set_leaves_no_other_behind(host: FakeHost, store: Store) -> None:
    def interfere(argv: Sequence[str], stdin: str) -> Completed | None:
        if argv[0].endswith("ipset") and argv[1] == "restore" and stdin.startswith("create"):
            host._run("ipset", ["restore"], "".join(stdin.splitlines(keepends=True)[:2]))
            return Completed(1, "", "ipset v7.17: Error in line 3: Kernel error received: Cannot allocate memory\n")
        return None

    host.interfere = interfere
    with pytest.raises(CommandError, match=r"ipset failed: .*Cannot allocate memory"):
        run(host, store)
    assert host.sets == {}
    assert writes(host)[0] == "ipset restore"
    assert not any("tables" in call for call in writes(host))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            LOCKED,
            "another program has held the xtables lock for 30 s; nothing was changed: .*'fuser /run/xtables.lock'",
        ),
        (
            "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n",
            "netfilter cannot be changed without root .*'become: true'",
        ),
        ("ip6tables-restore: line 3 failed\n", "iptables-nft-restore failed: ip6tables-restore: line 3 failed"),
        ("", "iptables-nft-restore failed: exit status 2"),
    ],
)
def test_errors_say_what_to_do(host: FakeHost, store: Store, said: str, message: str) -> None:
    host.interfere = refusing(1, test=True, said=said)
    with pytest.raises(SipguardError, match=message):
        run(host, store)
    assert (host.sets, writes(host)[-1]) == ({}, "ipset restore")


@pytest.mark.parametrize("check", [True, False])
def test_rules_that_cannot_be_read_are_an_error(host: FakeHost, store: Store, check: bool) -> None:
    host.interfere = lambda argv, stdin: Completed(1, "", "you must be root\n") if argv[0].endswith("save") else None
    with pytest.raises(SipguardError, match="without root"):
        run(host, store, check=check)
    assert writes(host) == []


@pytest.mark.parametrize(("name", "is_target", "kind"), [("string", False, "match"), ("CONNMARK", True, "target")])
def test_missing_extension_is_named_before_anything_is_touched(
    host: FakeHost, store: Store, monkeypatch: pytest.MonkeyPatch, name: str, is_target: bool, kind: str
) -> None:
    asked = []

    def has_extension(asked_name: str, asked_target: bool, version: int) -> bool:
        asked.append((asked_name, asked_target))
        return (asked_name, asked_target, version) != (name, is_target, 6)

    monkeypatch.setattr(netlink, "has_extension", has_extension)
    with pytest.raises(
        SipguardError,
        match=rf"no xtables {kind} '{name}' for ipv6 \(module xt_{name}\); nothing was changed: .*linux-modules-extra",
    ):
        run(host, store)
    assert writes(host) == []
    assert {("set", False), ("u32", False), ("multiport", False), ("connmark", False)} <= {*asked} | {(name, is_target)}


def test_kernel_that_cannot_be_asked_for_extensions_is_tried(
    host: FakeHost, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netlink, "has_extension", lambda name, is_target, version: None)
    assert run(host, store).changed is True


def test_unchanged_run_asks_for_no_extension(host: FakeHost, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run(host, store)
    monkeypatch.setattr(netlink, "has_extension", lambda name, is_target, version: False)
    assert run(host, store).changed is False


def test_marks_are_cleared_with_the_rules(host: FakeHost, store: Store, marks: Marks) -> None:
    run(host, store)
    assert marks.cleared == [(4, 0xC000000, None), (6, 0xC000000, None)]
    marks.cleared.clear()
    run(host, store)
    assert marks.cleared == []
    run(host, store, Signature("other-scanner", ANYWHERE), check=True)
    assert marks.cleared == []
    run(host, store, Signature("other-scanner", ANYWHERE))
    assert marks.cleared == [(4, 0xC000000, 0x8000000), (6, 0xC000000, 0x8000000)]
    marks.cleared.clear()
    run(host, store, state="absent")
    assert marks.cleared == [(4, 0xC000000, None), (6, 0xC000000, None)]


def test_marks_that_cannot_be_cleared_stop_the_change(busy: FakeHost, store: Store, marks: Marks) -> None:
    marks.refuse = True
    before = {name: tables.rules() for name, tables in busy.tables.items()}
    with pytest.raises(SipguardError, match=r"cannot clear the marks of ipv4 conversations: .*Operation not permitted"):
        run(busy, store)
    assert {name: tables.rules() for name, tables in busy.tables.items()} == before
    assert busy.sets == {}


@pytest.mark.parametrize(
    "damage",
    [
        "*filter\n-D INPUT -j SIPGUARD\nCOMMIT\n",
        "*filter\n-A INPUT -j SIPGUARD\nCOMMIT\n",
        "*filter\n-I INPUT -j ACCEPT\nCOMMIT\n",
        "*filter\n-I SIPGUARD -j ACCEPT\nCOMMIT\n",
        "*filter\n:SIPGUARD-UA-HIT - [0:0]\nCOMMIT\n",
        "*filter\n:SIPGUARD-OF-MINE - [0:0]\nCOMMIT\n",
        "*raw\n-D PREROUTING -j SIPGUARD-PRE\nCOMMIT\n",
    ],
)
def test_next_run_repairs_what_somebody_damaged(busy: FakeHost, store: Store, damage: str) -> None:
    run(busy, store)
    busy.tables["iptables"].restore(damage, list(busy.sets))
    others = foreign(busy)
    assert run(busy, store, check=True).changed is True
    assert run(busy, store).changed is True
    assert run(busy, store).changed is False
    assert foreign(busy) == others
    live = parse_save(busy.tables["iptables"].save())
    assert all(live.table(name).hooked() for name in ("filter", "raw"))


def test_rule_that_cannot_be_read_is_shown_and_replaced(busy: FakeHost, store: Store) -> None:
    run(busy, store)
    busy.tables["ip6tables"].tables["filter"]["SIPGUARD-UA"].insert(1, "word -j ACCEPT")
    outcome = run(busy, store)
    assert outcome.changed is True
    assert "-A SIPGUARD-UA word -j ACCEPT\n" in outcome.before
    assert "word -j ACCEPT" not in busy.tables["ip6tables"].rules()
    assert run(busy, store).changed is False


def test_comments_of_others_may_hold_any_character(busy: FakeHost, store: Store) -> None:
    odd = '-m comment --comment "a\u2028b\x85c\x0cd\x1ce" -j ACCEPT'
    busy.tables["iptables"].tables["filter"]["FORWARD"].append(odd)
    assert run(busy, store).changed is True
    assert run(busy, store).changed is False
    assert run(busy, store, state="absent").changed is True
    assert odd in busy.tables["iptables"].tables["filter"]["FORWARD"]


@pytest.mark.parametrize("check", [True, False])
def test_table_that_iptables_cannot_show_is_refused_before_any_write(host: FakeHost, store: Store, check: bool) -> None:
    text = "# Table `filter' is incompatible, use 'nft' tool.\n"
    host.interfere = lambda argv, stdin: Completed(0, text, "") if argv[0].endswith("/ip6tables-nft-save") else None
    with pytest.raises(
        SipguardError, match=r"table filter of ipv6 .* 'nft list table ip6 filter' .* use table 'mangle'"
    ):
        run(host, store, check=check)
    assert (writes(host), host.sets, store.read("rules.v4")) == ([], {}, None)


@pytest.mark.parametrize(
    ("chains", "refused"), [({("filter", "SIPGUARD")}, True), ({("filter", "INPUT"), ("raw", "SIPGUARD")}, False)]
)
def test_absent_refuses_where_iptables_cannot_show_our_chains(
    host: FakeHost, store: Store, monkeypatch: pytest.MonkeyPatch, chains: set[tuple[str, str]], refused: bool
) -> None:
    """Somebody wrote into our table with nft: the chains are there, but not to be seen, and not to be forgotten."""
    monkeypatch.setattr(netlink, "nft_rule_chains", lambda version: chains if version == 4 else set())
    text = "# Table `filter' is incompatible, use 'nft' tool.\n"
    host.interfere = lambda argv, stdin: Completed(0, text, "") if argv[0].endswith("/iptables-nft-save") else None
    if refused:
        with pytest.raises(SipguardError, match=r"table filter of ipv4 .* 'nft list table ip filter'") as error:
            run(host, store, state="absent")
        assert "mangle" not in str(error.value)
        assert writes(host) == []
    else:
        assert run(host, store, state="absent").changed is False


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("given", [{"state": "absent"}, {"mode": "observe"}, {"learn_for": 0}], ids=str)
def test_set_that_somebody_else_looks_into_is_not_taken_away(
    busy: FakeHost, store: Store, given: dict[str, Any], check: bool
) -> None:
    run(busy, store)
    line = "-A FORWARD -m set --match-set sipguard-offenders4 src -j DROP"
    busy.tables["iptables"].restore(f"*filter\n{line}\nCOMMIT\n", list(busy.sets))
    before, disk = state(busy), store.read("rules.v4")
    busy.calls.clear()
    with pytest.raises(SipguardError, match="the set sipguard-offenders4 cannot be removed") as error:
        run(busy, store, check=check, **given)
    assert line in str(error.value)
    assert (state(busy), store.read("rules.v4"), writes(busy)) == (before, disk, [])
    assert run(busy, store).changed is False


def test_set_that_a_rule_of_the_other_backend_looks_into_is_not_taken_away(busy: FakeHost, store: Store) -> None:
    run(busy, store)
    line = "-A FORWARD -m set --match-set sipguard-offenders4 src -j DROP"
    busy.other_backend["iptables"].restore(f"*filter\n{line}\nCOMMIT\n", list(busy.sets))
    busy.calls.clear()
    with pytest.raises(SipguardError, match="the set sipguard-offenders4 cannot be removed") as error:
        run(busy, store, state="absent")
    assert f"{line} (iptables-legacy)" in str(error.value)
    assert writes(busy) == []


def test_snapshot_reads_the_same_with_and_without_what_is_expected(busy: FakeHost, store: Store) -> None:
    run(busy, store)
    engine = Engine(busy, "nft", store=store)
    members = [policy.members[CHAIN_UA] for policy in map(samples.policy, FAMILIES)]
    assert engine.snapshot(members) == engine.snapshot()


def test_hook_behind_fail2ban_stays_where_it_is(busy: FakeHost, store: Store) -> None:
    run(busy, store)
    busy.tables["iptables"].restore("*filter\n:f2b-sshd - [0:0]\n-I INPUT -p tcp -j f2b-sshd\nCOMMIT\n")
    assert run(busy, store).changed is False


def test_rules_gone_again_right_after_loading_are_an_error(host: FakeHost, store: Store) -> None:
    """Another firewall program flushes what it did not make."""

    def interfere(argv: Sequence[str], stdin: str) -> Completed | None:
        if argv[0].endswith("/iptables-nft-save") and any("restore" in call for call in host.calls):
            host.tables["iptables"].tables.pop("filter", None)
        return None

    host.interfere = interfere
    with pytest.raises(SipguardError, match=r"ipv4 rules of table filter were gone again .*another firewall program"):
        run(host, store)
    assert store.read("rules.v4") is None


def test_rule_that_iptables_shows_otherwise_is_a_warning(host: FakeHost, store: Store) -> None:
    def interfere(argv: Sequence[str], stdin: str) -> Completed | None:
        if argv[0].endswith("/iptables-nft-save"):
            return Completed(0, host.tables["iptables"].save().replace("--algo kmp", "--algo bm"), "")
        return None

    host.interfere = interfere
    (warning,) = run(host, store).warnings
    assert "another form than expected" in warning
    assert "--algo bm" in warning


def test_persisted_files_are_part_of_changed(host: FakeHost, store: Store) -> None:
    first = run(host, store, persist=False)
    assert (first.persisted, store.read("rules.v4")) == (False, None)
    check = run(host, store, check=True)
    assert (check.changed, check.persisted) == (True, False)
    assert check.before.endswith("# next boot: rules.v4: outdated\n# next boot: rules.v6: outdated\n")
    host.calls.clear()
    second = run(host, store)
    assert (second.changed, second.persisted, writes(host)) == (True, True, [])
    third = run(host, store, persist=False)
    assert (third.changed, third.persisted) == (False, True)
    for family in FAMILIES:
        found = store.read_rules(family)
        assert found is not None
        assert found[1] == "nft"
        live = parse_save(host.tables[family.binary].save())
        assert {name: table.chains for name, table in found[0].tables.items()} == {
            name: table.chains for name, table in live.tables.items() if table.chains
        }


def test_changed_backend_makes_the_files_outdated(host: FakeHost, store: Store) -> None:
    run(host, store)
    host.backend = "legacy"
    host.tables, host.other_backend = host.other_backend, host.tables
    for binary in host.tables:
        host.tables[binary], host.other_backend[binary] = host.other_backend[binary], host.tables[binary]
    assert run(host, store).changed is True
    found = store.read_rules(IPV4)
    assert found is not None
    assert found[1] == "legacy"


def test_result_has_the_common_parts(host: FakeHost, store: Store) -> None:
    outcome = run(host, store)
    assert outcome.result() == {
        "changed": True,
        "differs": True,
        "diff": {"before": outcome.before, "after": outcome.after},
        "rules": outcome.rules,
        "persisted": True,
    }
    assert outcome.after.startswith(
        "# ipv4\ncreate sipguard-offenders4 hash:ip family inet maxelem 65536 timeout 3600 forceadd\n"
    )
    assert "\n# ipv6\ncreate sipguard-offenders6" in outcome.after


def with_rate(host: FakeHost, store: Store, **chains: Any) -> None:
    """A host on which another module has its member as well."""
    engine = Engine(host, "nft", store=store)
    snapshot = engine.snapshot()
    targets = {
        family: snapshot.policy(family, "filter").with_member(
            CHAIN_RATE, member(CHAIN_RATE, family, (samples.common().selectors))
        )
        for family in FAMILIES
    }
    engine.converge(targets, snapshot, persist=False, check=False)


def test_member_of_another_module_stays(host: FakeHost, store: Store) -> None:
    with_rate(host, store)
    run(host, store, table="mangle", mark_mask="0x300")
    live = parse_save(host.tables["iptables"].save())
    assert live.own_chains("filter") == {}
    assert {CHAIN_RATE, CHAIN_UA} <= live.own_chains("mangle").keys()
    run(host, store, state="absent", table="filter")
    live = parse_save(host.tables["iptables"].save())
    # What stays keeps its place.
    assert sorted(live.own_chains("mangle")) == ["SIPGUARD", "SIPGUARD-RATE", "SIPGUARD-RATE-HIT"]
    assert live.own_chains("filter") == {}


def test_with_member_refuses_mangle_beside_one_that_rejects(host: FakeHost, store: Store) -> None:
    run(host, store, action="reject")
    engine = Engine(host, "nft", store=store)
    limits = {family: member(CHAIN_RATE, family, samples.common().selectors) for family in FAMILIES}
    with pytest.raises(OptionError, match="table: 'mangle' cannot be used; SIPGUARD-UA rejects"):
        with_member(engine, engine.snapshot(), CHAIN_RATE, limits, samples.common(table="mangle"))
    targets = with_member(engine, engine.snapshot(), CHAIN_RATE, limits, samples.common())
    assert all(list(policy.members) == [CHAIN_UA, CHAIN_RATE] for policy in targets.values())
    assert list(targets) == list(FAMILIES)


def test_snapshot_reads_the_policy_back(host: FakeHost, store: Store) -> None:
    run(host, store)
    snapshot = Engine(host, "nft", store=store).snapshot()
    for family in FAMILIES:
        assert snapshot.policy(family, "mangle") == samples.policy(family)
    empty = FakeHost()
    assert Engine(empty, "nft", store=store).snapshot().policy(IPV6, "mangle") == Policy(IPV6, "mangle")
