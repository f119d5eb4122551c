# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import restore as module
from ansible_collections.sipguard.pbx.plugins.module_utils._host.emergency import Settings
from ansible_collections.sipguard.pbx.plugins.module_utils._host.restore import create_sets, damage, live_rules, restore
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import engine
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.engine import Engine
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.persist import Store
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.ruleset import Ruleset, parse_save
from tests.unit.plugins.module_utils._netfilter import samples
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

SETS = "add sipguard-trusted4 192.0.2.0/24\nadd sipguard-trusted6 2001:db8::7\n# end\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """What a host keeps for its next boot."""
    found = Store(str(tmp_path / "sipguard"))
    found.write("boot.json", Settings().render())
    found.write("sets", SETS)
    for family in FAMILIES:
        found.write(f"rules.v{family.version}", found.rules_text(samples.golden("enforce", family), "nft"))
    return found


def loaded(host: FakeHost, family: Family) -> dict:
    tables = parse_save(host.tables[family.binary].save()).tables
    return {name: table.chains for name, table in tables.items() if table.chains}


def wanted(family: Family) -> dict:
    tables = parse_save(samples.golden("enforce", family)).tables
    return {name: {chain: len(rules) for chain, rules in table.chains.items()} for name, table in tables.items()}


def is_whole(host: FakeHost, family: Family) -> bool:
    live = parse_save(host.tables[family.binary].save())
    sizes = {
        name: {chain: len(rules) for chain, rules in chains.items()} for name, chains in loaded(host, family).items()
    }
    return sizes == wanted(family) and all(live.table(name).hooked() for name in sizes)


def test_restore_loads_sets_and_then_rules(host: FakeHost, store: Store) -> None:
    done, errors = restore(host, store)
    assert errors == []
    counts = [samples.golden("enforce", family).count("\n-A ") for family in FAMILIES]
    assert done == [
        "trusted sources loaded",
        f"ipv4 rules loaded: {counts[0]}",
        f"ipv6 rules loaded: {counts[1]}",
    ]
    assert all(is_whole(host, family) for family in FAMILIES)
    assert host.sets["sipguard-trusted4"][1].keys() == {"192.0.2.0/24"}
    assert host.sets["sipguard-trusted6"][1].keys() == {"2001:db8::7"}
    first_set = next(place for place, call in enumerate(host.calls) if call == "ipset restore")
    first_rules = next(place for place, call in enumerate(host.calls) if "tables-nft-restore" in call)
    assert first_set < first_rules


def test_restore_of_what_is_there_touches_nothing(host: FakeHost, store: Store) -> None:
    restore(host, store)
    host.calls.clear()
    host.read_only = True
    done, errors = restore(host, store)
    assert errors == []
    assert [line.split(":")[0] for line in done] == [
        "trusted sources unchanged",
        "ipv4 rules unchanged",
        "ipv6 rules unchanged",
    ]
    assert [call for call in host.calls if "restore" in call] == []


def test_restore_repairs_what_another_firewall_flushed(host: FakeHost, store: Store) -> None:
    restore(host, store)
    host.tables["iptables"].tables.clear()
    host.tables["iptables"].restore("*filter\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n")
    done, errors = restore(host, store)
    assert errors == []
    assert [line.split(":")[0] for line in done][1:] == ["ipv4 rules loaded", "ipv6 rules unchanged"]
    assert is_whole(host, IPV4)
    assert host.tables["iptables"].tables["filter"]["INPUT"] == ["-j SIPGUARD", "-i lo -j ACCEPT"]


@pytest.mark.parametrize("text", ["", "garbage\n", "*filter\n:SIPGUARD - [0:0]\n"])
def test_damaged_file_costs_one_family_only(host: FakeHost, store: Store, text: str) -> None:
    store.write("rules.v4", text)
    done, errors = restore(host, store)
    (error,) = errors
    assert error.startswith("ipv4 is not protected: ")
    assert "rules.v4 is damaged" in error
    assert loaded(host, FAMILIES[0]) == {}
    assert is_whole(host, FAMILIES[1])
    assert len(done) == 2


def test_damaged_sets_do_not_cost_the_rules(host: FakeHost, store: Store) -> None:
    store.write("sets", "add sipguard-trusted4 nonsense\n# end\n")
    _done, errors = restore(host, store)
    (error,) = errors
    assert "'nonsense'" in error
    assert all(is_whole(host, family) for family in FAMILIES)
    assert host.sets["sipguard-trusted4"][1] == {}


@pytest.mark.parametrize("line", ["-A SIPGUARD-UA -j ACCEPT", "-A SIPGUARD-UA word", "-A SIPGUARD -i -x -j ACCEPT"])
def test_restore_replaces_what_somebody_put_into_our_chains(host: FakeHost, store: Store, line: str) -> None:
    restore(host, store)
    host.tables["ip6tables"].restore(f"*filter\n{line}\nCOMMIT\n")
    dummy, errors = restore(host, store)
    assert errors == []
    assert all(is_whole(host, family) for family in FAMILIES)


def test_restore_refuses_sets_that_were_cut(host: FakeHost, store: Store) -> None:
    store.write("sets", SETS.removesuffix("# end\n"))
    dummy, errors = restore(host, store)
    assert errors == ["the file sets for the next boot is damaged: its end is missing"]
    assert host.sets["sipguard-trusted4"][1] == {}
    assert all(is_whole(host, family) for family in FAMILIES)


def test_restore_without_sets_makes_those_that_rules_name(host: FakeHost, store: Store) -> None:
    store.write("sets", None)
    assert restore(host, store)[1] == []
    assert sorted(host.sets) == [f"sipguard-{name}{suffix}" for name in ("offenders", "trusted") for suffix in "46"]


def test_restore_leaves_a_family_without_a_file_alone(host: FakeHost, store: Store) -> None:
    restore(host, store)
    store.write("rules.v6", None)
    before = host.tables["ip6tables"].save()
    done, errors = restore(host, store)
    assert (len(done), errors) == (2, [])
    assert host.tables["ip6tables"].save() == before


def test_restore_uses_the_backend_the_rules_were_made_with(host: FakeHost, store: Store) -> None:
    host.backend = "legacy"
    _done, errors = restore(host, store)
    assert errors == []
    assert host.tables["iptables"].rules() == []
    assert "-j SIPGUARD" in host.other_backend["iptables"].rules()


def test_restore_says_when_the_kernel_lacks_a_family(
    host: FakeHost, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "has_family", IPV4.__eq__)
    done, errors = restore(host, store)
    assert errors == []
    assert done[-1] == "ipv6 rules not loaded: this kernel has no ipv6"


def test_restore_says_that_there_is_nothing(host: FakeHost, tmp_path: Path) -> None:
    host.read_only = True
    store = Store(str(tmp_path / "none"))
    store.write("boot.json", Settings().render())
    assert restore(host, store) == (["nothing to load: /etc/sipguard holds no rules"], [])
    assert host.calls == []


def test_restore_without_ipset_says_so(host: FakeHost, store: Store) -> None:
    host.commands.discard("ipset")
    done, errors = restore(host, store)
    assert (done, len(errors)) == ([], 3)
    assert all("install the package 'ipset'" in error for error in errors)


# -- files that are not as they were written


def closed_families(host: FakeHost) -> list[str]:
    """The families whose SIP ports are closed to strangers."""
    rules = "-p udp -m multiport --dports 5060:5061 -m comment"
    return [
        family.name for family in FAMILIES if any(rule.startswith(rules) for rule in host.tables[family.binary].rules())
    ]


@pytest.mark.parametrize("mode", ["fail", "close"])
@pytest.mark.parametrize(
    ("name", "text", "said", "lost"),
    [
        ("rules.v4", "garbage\n", "ipv4 is not protected: {}/rules.v4 is damaged", ["ipv4"]),
        ("rules.v6", None, "ipv6 is not protected: {}/rules.v6 is missing", ["ipv6"]),
        ("sets", None, "nobody is trusted: {}/sets is missing", []),
        ("manifest", None, "{}/manifest is missing", []),
    ],
    ids=["damaged", "missing", "sets", "manifest"],
)
def test_lost_file_is_said_and_closes_a_family_where_that_is_wanted(
    host: FakeHost, store: Store, tmp_path: Path, mode: str, name: str, text: str | None, said: str, lost: list[str]
) -> None:
    store.write("boot.json", Settings(mode).render())
    path = tmp_path / "sipguard" / name
    path.unlink() if text is None else path.write_text(text)
    _done, errors = restore(host, store)
    (error,) = errors
    assert error.startswith(said.format(store.directory))
    assert closed_families(host) == (lost if mode == "close" else [])
    assert [family.name for family in FAMILIES if not is_whole(host, family)] == lost


@pytest.mark.parametrize("text", [None, "", "{", "{}", Settings("close").render().replace("false", "true") + " "])
def test_damaged_settings_close_what_cannot_be_loaded(
    host: FakeHost, store: Store, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "sipguard/boot.json"
    path.unlink() if text is None else path.write_text(text)
    (tmp_path / "sipguard/rules.v6").unlink()
    _done, errors = restore(host, store)
    assert [("boot.json" in error, "ipv6" in error) for error in errors] == [(True, False), (False, True)]
    assert closed_families(host) == ["ipv6"]
    assert is_whole(host, IPV4)


def test_family_whose_rules_stand_is_not_closed(host: FakeHost, store: Store) -> None:
    restore(host, store)
    store.write("boot.json", Settings("close").render())
    store.write("rules.v4", "garbage\n")
    host.calls.clear()
    host.read_only = True
    (error,) = restore(host, store)[1]
    assert error.endswith("; the rules that stand are left alone")


def test_family_that_cannot_be_closed_either_is_said(host: FakeHost, store: Store) -> None:
    store.write("boot.json", Settings("close").render())
    store.write("rules.v4", None)
    host.commands -= {"iptables", "iptables-save", "iptables-nft-save", "iptables-legacy-save"}
    errors = restore(host, store)[1]
    assert errors
    assert all("; and it could not be closed: " in error for error in errors if "protected" in error)


@pytest.mark.parametrize("mode", ["fail", "close"])
def test_change_that_nobody_confirmed_is_not_loaded_where_the_host_is_to_be_closed(
    host: FakeHost, store: Store, mode: str
) -> None:
    store.write("boot.json", Settings(mode).render())
    _done, errors = restore(host, store, ["a change that nobody confirmed may be loaded"])
    assert errors[0] == "a change that nobody confirmed may be loaded"
    assert closed_families(host) == (["ipv4", "ipv6"] if mode == "close" else [])
    assert is_whole(host, IPV4) is (mode == "fail")


def test_nothing_is_required_where_nobody_installed_anything(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "boot_loader", lambda: None)
    assert restore(host, Store(str(tmp_path / "none"))) == (["nothing to load: /etc/sipguard holds no rules"], [])


# -- sets before everything else


def test_sets_that_saved_rules_name_are_made(
    host: FakeHost, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "rules.v4"
    saved.write_text(
        "-A SIPGUARD-PRE -m set --match-set sipguard-banned4 src -j SIPGUARD-PRE-ALL\n"
        "-A X -j SET --add-set sipguard-observed4 src --exist\n"
        "-A INPUT -m set --match-set f2b-sshd src -j DROP\n-A INPUT -m set --match-set sipguard-of-others src -j DROP\n"
    )
    monkeypatch.setattr(module, "_SAVED", (str(saved), str(tmp_path / "none")))
    assert create_sets(host, store)[1] == []
    names = {
        f"sipguard-{name}" for name in ("trusted4", "trusted6", "offenders4", "offenders6", "banned4", "observed4")
    }
    assert host.sets.keys() == names
    assert host.sets["sipguard-trusted4"][1].keys() == {"192.0.2.0/24"}
    host.calls.clear()
    assert create_sets(host, store) == (["trusted sources loaded"], [])
    assert host.sets.keys() == names


def test_damaged_trusted_sources_do_not_cost_the_sets(host: FakeHost, store: Store) -> None:
    store.write("sets", "add sipguard-trusted4 nonsense\n# end\n")
    assert len(create_sets(host, store)[1]) == 1
    assert {"sipguard-trusted4", "sipguard-offenders6"} <= host.sets.keys()


# -- what is missing

EDITS = {
    "nothing": ("", []),
    "hook": ("*filter\n-D INPUT -j SIPGUARD\nCOMMIT\n", ["the hook in INPUT of table filter"]),
    "place": ("*filter\n-I INPUT -j ACCEPT\nCOMMIT\n", []),
    "twice": ("*filter\n-A INPUT -j SIPGUARD\nCOMMIT\n", ["one hook only in INPUT of table filter"]),
    "emptied": ("*filter\n:SIPGUARD-UA - [0:0]\nCOMMIT\n", ["the rules of SIPGUARD-UA"]),
    "main emptied": ("*filter\n:SIPGUARD - [0:0]\nCOMMIT\n", ["chains of table filter", "the rules of SIPGUARD"]),
    "added": ("*filter\n-I SIPGUARD -j RETURN\nCOMMIT\n", ["chains of table filter"]),
    "chain of nobody": ("*raw\n:SIPGUARD-X - [0:0]\nCOMMIT\n", ["chains of table raw"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_damage_is_what_is_gone(host: FakeHost, store: Store, name: str) -> None:
    script, missing = EDITS[name]
    restore(host, store)
    host.tables["iptables"].restore(script)
    on_disk = store.read_rules(IPV4)
    assert on_disk is not None
    live = live_rules(Engine(host, "nft").snapshot(), IPV4)
    assert damage(IPV4, live, on_disk[0]) == missing


def test_everything_gone_is_damage_only_where_a_file_says_that_there_was_something(
    host: FakeHost, store: Store
) -> None:
    live = live_rules(Engine(host, "nft").snapshot(), IPV4)
    assert damage(IPV4, live) == []
    on_disk = store.read_rules(IPV4)
    assert on_disk is not None
    assert damage(IPV4, live, on_disk[0]) == ["SIPGUARD-UA"]


def test_table_that_iptables_cannot_show_is_no_damage(host: FakeHost, store: Store) -> None:
    on_disk = store.read_rules(IPV4)
    assert on_disk is not None
    assert damage(IPV4, Ruleset(unreadable=["filter"], hiding=["filter"]), on_disk[0]) == []
