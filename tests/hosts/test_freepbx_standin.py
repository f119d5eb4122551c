# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for FreePBX 17 itself: does it do what docs/freepbx-standin.md says of FreePBX? Nothing of ours stays on this host."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from .harness import eventually
from .machine import Machine

LOG = "/var/log/asterisk/firewall.log"
RUNNING, CYCLE, GONE = "Firewall is running", "Cycle done", "Rules are gone"
BOTH = ("iptables", "ip6tables")
FOREIGN = "-p udp -m udp --dport 7777 -j ACCEPT"
PATH = [
    *("fpbx-rtp", "fpbxblacklist", "fpbxsignalling", "fpbxsmarthosts", "fpbxregistrations", "fpbxnets", "fpbxhosts"),
    *("fpbxinterfaces", "fpbxreject", "fpbxrfw", "ACCEPT", "lefilter", "fpbxlogdrop"),
]


def log(host: Machine) -> str:
    return host.run("cat", LOG)


def awaits(host: Machine, said: str, *argv: str) -> None:
    """Run a command, and wait for what the daemon then says."""
    host.run("truncate", "-s", "0", LOG)
    host.run(*argv)
    assert eventually(lambda: said in log(host), 60), log(host)


def cycle(host: Machine, said: str = CYCLE) -> None:
    """What happens every 30 s, at once."""
    awaits(host, said, "sh", "-c", "kill -HUP $(cat /run/voipfirewalld.pid)")


def rules(host: Machine, chain: str, command: str = "iptables", table: str = "filter") -> list[str]:
    """The rules of a chain without its name; none where there is no such chain."""
    lines = host.call(command, "-w", "5", "-t", table, "-S", chain).stdout.splitlines()
    return [line.removeprefix(f"-A {chain} ") for line in lines if line.startswith("-A ")]


def advanced(host: Machine, key: str, value: str) -> None:
    """An advanced setting of the firewall, as its page writes it."""
    script = f'include "/etc/freepbx.conf"; FreePBX::Firewall()->setAdvancedSetting("{key}", "{value}");'
    host.run("php", "-r", script)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    made = Machine("freepbx", "sid-asterisk22-freepbx17")
    yield made
    made.close()


@pytest.fixture
def host(machine: Machine) -> Iterator[Machine]:
    """With the firewall in force, and nobody else's rules."""
    advanced(machine, "safemode", "disabled")
    awaits(machine, RUNNING, "fwconsole", "firewall", "restart")
    yield machine
    for command in BOTH:
        for table in ("raw", "mangle"):
            machine.run(command, "-w", "5", "-t", table, "-F")
    for file in ("/etc/firewall-4.rules", "/etc/firewall-6.rules"):
        machine.run("sh", "-c", f": >{file}; chown root {file}; chmod 666 {file}")
    advanced(machine, "customrules", "disabled")


# -- the path of a packet


@pytest.mark.parametrize("command", BOTH)
def test_chains_stand_in_the_order_of_the_real_one(host: Machine, command: str) -> None:
    assert rules(host, "INPUT", command)[-1] == "-j fpbxfirewall"
    found = rules(host, "fpbxfirewall", command)
    assert found[0] == "-i lo -j ACCEPT"
    assert found[1] == "-p tcp -m connmark ! --mark 0x20 -m state --state RELATED,ESTABLISHED -j ACCEPT"
    begin = found.index("-j fpbx-rtp")
    assert [line.rpartition("-j ")[2] for line in found[begin:]] == PATH
    assert "-P INPUT ACCEPT" in host.run(command, "-S", "INPUT")


def test_responsive_firewall_has_its_steps(host: Machine) -> None:
    steps = [line.split() for line in rules(host, "fpbxrfw")]
    named = [(step[step.index("--name") + 1], step[-1]) for step in steps[:-1]]
    assert named == [
        *(
            ("DISCOVERED", "--rsource"),
            ("WHITELIST", "ACCEPT"),
            ("TEMPWHITELIST", "ACCEPT"),
            ("TEMPWHITELIST", "ACCEPT"),
        ),
        *(("TEMPWHITELIST", "--rsource"), ("REPEAT", "--rsource"), ("REPEAT", "fpbxattacker")),
        *(("ATTACKER", "fpbxattacker"), ("SIGNALLING", "fpbxshortblock"), ("SIGNALLING", "--rsource")),
        ("REPEAT", "fpbxattacker"),
    ]
    assert "--seconds 10 --hitcount 50" in rules(host, "fpbxrfw")[6]


def test_whoever_is_in_etc_hosts_is_trusted(host: Machine) -> None:
    address = host.run("getent", "ahostsv4", "attacker").split()[0]
    assert f"-s {address}/32 -j zone-trusted" in rules(host, "fpbxhosts")
    advanced(host, "import_hosts", "disabled")
    cycle(host)
    assert rules(host, "fpbxhosts") == []
    advanced(host, "import_hosts", "enabled")


def test_interface_without_a_zone_is_trusted(host: Machine) -> None:
    assert rules(host, "fpbxinterfaces") == ["-i eth0 -j zone-external"]
    host.run("mv", "/etc/network/interfaces.d/ifcfg-eth0", "/root/")
    awaits(host, RUNNING, "fwconsole", "firewall", "restart")
    assert rules(host, "fpbxinterfaces") == ["-i eth0 -j zone-trusted"]
    host.run("mv", "/root/ifcfg-eth0", "/etc/network/interfaces.d/")


def test_blacklist_is_a_rule_for_each(host: Machine) -> None:
    host.run("fwconsole", "firewall", "add", "blacklist", "203.0.113.9", "2001:db8::9")
    cycle(host)
    assert rules(host, "fpbxblacklist") == ["-s 203.0.113.9/32 -j REJECT --reject-with icmp-port-unreachable"]
    assert "2001:db8::9/128" in rules(host, "fpbxblacklist", "ip6tables")[0]
    host.run("fwconsole", "firewall", "del", "blacklist", "203.0.113.9", "2001:db8::9")


# -- the five flushes, and what they leave


def put_foreign(host: Machine) -> None:
    for command in BOTH:
        for table, chain in (("filter", "INPUT"), ("nat", "PREROUTING"), ("raw", "PREROUTING"), ("mangle", "INPUT")):
            host.run(command, "-w", "5", "-t", table, "-A", chain, *FOREIGN.split())
    host.run("ipset", "create", "-exist", "foreign", "hash:ip")


def left(host: Machine, command: str) -> list[str]:
    """Tables in which the foreign rule is."""
    places = (("filter", "INPUT"), ("nat", "PREROUTING"), ("raw", "PREROUTING"), ("mangle", "INPUT"))
    return [table for table, chain in places if FOREIGN in rules(host, chain, command, table)]


def flush(host: Machine, how: str) -> None:
    if how == "restart":
        awaits(host, RUNNING, "fwconsole", "firewall", "restart")
    elif how == "stop":
        host.run("fwconsole", "firewall", "stop")
        assert eventually(lambda: host.call("ipset", "list", "-t", "lefilter").returncode != 0)
    elif how == "reset":
        host.run("iptables", "-w", "5", "-I", "INPUT", "-p", "udp", "--dport", "7778", "-j", "ACCEPT")
        cycle(host)
        assert "There is an invading rule above us" in log(host)
    else:
        # Disabled, so the daemon ends with its next cycle; whoever starts it again has everything flushed once more.
        host.run("fwconsole", "firewall", "disable")
        cycle(host, GONE)
        put_foreign(host)
        awaits(host, GONE, *(("fwconsole", "start") if how == "disabled-start" else ("fwconsole", "job")))


@pytest.mark.parametrize(
    ("how", "built"),
    [("restart", True), ("stop", False), ("disabled-start", False), ("disabled-job", False), ("reset", True)],
)
def test_flush_takes_filter_and_leaves_raw_and_mangle(host: Machine, how: str, built: bool) -> None:
    put_foreign(host)
    flush(host, how)
    for command in BOTH:
        # a reset of the daemon's own leaves nat, so masquerading is there twice afterwards
        assert left(host, command) == (["nat", "raw", "mangle"] if how == "reset" else ["raw", "mangle"])
        assert ("-j fpbxfirewall" in rules(host, "INPUT", command)) is built
        assert rules(host, "POSTROUTING", command, "nat").count("-j masq-output") == built + (how == "reset")
        assert "-P INPUT ACCEPT" in host.run(command, "-S", "INPUT")
    assert host.call("ipset", "list", "-t", "foreign").returncode == 0
    assert (host.call("ipset", "list", "-t", "lefilter").returncode == 0) is built


def test_disable_leaves_the_flag_that_the_job_looks_at(host: Machine) -> None:
    host.run("fwconsole", "firewall", "disable")
    assert host.call("test", "-e", "/etc/asterisk/firewall.enabled").returncode == 0


def test_restart_is_back_before_the_rules_are(host: Machine) -> None:
    """Two commands are all that is seen of it: the host is open in between."""
    host.run("truncate", "-s", "0", LOG)
    host.run("fwconsole", "firewall", "restart")
    assert RUNNING not in log(host)
    assert eventually(lambda: RUNNING in log(host), 60)


def test_damaged_rules_are_built_anew(host: Machine) -> None:
    host.run("iptables", "-w", "5", "-I", "fpbxrfw", *FOREIGN.split())
    cycle(host, RUNNING)
    assert "Firewall Rules corrupted! Restarting in 5 seconds" in log(host)
    assert FOREIGN not in rules(host, "fpbxrfw")
    assert rules(host, "fpbxinterfaces", "ip6tables") != []


def test_safe_mode_waits_without_any_rule(host: Machine) -> None:
    advanced(host, "safemode", "enabled")
    host.restart()
    assert eventually(lambda: host.call("test", "-e", "/var/run/firewalld.safemode").returncode == 0, 60)
    assert rules(host, "INPUT") == []
    host.run("rm", "/var/run/firewalld.safemode")
    assert eventually(lambda: RUNNING in log(host), 60)


# -- invaders, and rules in its chains


@pytest.mark.parametrize(
    ("command", "rule", "customrules", "reset"),
    [
        ("iptables", f"-I INPUT {FOREIGN}", "disabled", True),
        ("iptables", f"-I INPUT {FOREIGN}", "enabled", False),
        ("iptables", f"-A INPUT {FOREIGN}", "disabled", False),
        ("iptables", f"-I INPUT -m comment --comment f2b-not {FOREIGN}", "disabled", False),
        ("ip6tables", f"-I INPUT {FOREIGN}", "disabled", False),
        ("iptables", "-D INPUT -j fpbxfirewall", "enabled", True),
    ],
    ids=["above", "above-with-custom-rules", "below", "named-like-fail2ban", "above-in-ipv6", "jump-missing"],
)
def test_what_counts_as_an_invader(host: Machine, command: str, rule: str, customrules: str, reset: bool) -> None:
    advanced(host, "customrules", customrules)
    host.run(command, "-w", "5", *rule.split())
    before = rules(host, "INPUT", command)
    cycle(host)
    assert (rules(host, "INPUT", command) != before) is reset


def test_rules_in_its_chains_are_kept_or_taken(host: Machine) -> None:
    kept = ["fpbxfirewall", "fpbxreject", "fpbxnets", "zone-external", "fpbxinterfaces", "fpbxlogdrop", "fpbxratelimit"]
    taken = [
        "fpbxsignalling",
        "fpbxsmarthosts",
        "fpbxregistrations",
        "fpbxblacklist",
        "fpbxhosts",
        "fpbx-rtp",
        "fpbxsvc-ssh",
    ]
    for chain in kept + taken:
        host.run("iptables", "-w", "5", "-A", chain, *FOREIGN.split())
    cycle(host)
    assert [chain for chain in kept + taken if FOREIGN in rules(host, chain)] == kept


# -- custom rules

CUSTOM = {
    "-A fpbxreject -p udp -m udp --dport 1 -j DROP": "-p udp -m udp --dport 1 -j DROP",
    # quoted and with pipes: taken, and never true again
    '-A fpbxreject -p udp -m string --hex-string "|66 72|" --algo bm -j DROP': '--string "|66 72|"',
    "-A fpbxreject -p udp -m string --hex-string |66726965| --algo bm -j DROP": '--string "frie"',
    '-A fpbxreject -p udp -m string --string "friendly-scanner 1.0" --algo bm -j DROP': '--string "friendly-scanner 1.0"',
    '-A fpbxreject -p udp -m string --string "VaxSIPUserAgent (3.1)" --algo bm -j DROP': '--string "VaxSIPUserAgent \\\\(3.1\\\\)"',
    "-A fpbxreject ! -s 192.0.2.1 -p udp -m udp --dport 2 -j DROP": "! -s 192.0.2.1/32 -p udp -m udp --dport 2 -j DROP",
}


def custom(host: Machine, text: str, file: str = "/etc/firewall-4.rules") -> None:
    host.run("sh", "-c", f"cat >{file}", stdin=text.encode())
    advanced(host, "customrules", "enabled")
    awaits(host, RUNNING, "fwconsole", "firewall", "restart")


def test_lines_reach_iptables_as_escapeshellcmd_leaves_them(host: Machine) -> None:
    custom(host, "\n".join(CUSTOM) + "\n")
    found = rules(host, "fpbxreject")
    assert len(found) == len(CUSTOM), log(host)
    for line, (wanted, rule) in zip(found, zip(CUSTOM.values(), CUSTOM, strict=True), strict=True):
        assert wanted in line, rule


def test_bad_line_is_passed_over_without_a_sign(host: Machine) -> None:
    lines = [
        "# a remark",
        "; another",
        "  # an indented one is run",
        "",
        "-A fpbxreject -m set --match-set is-not-there src -j DROP",
        "-A fpbxreject -p udp --dport 1 -j DROP; touch /tmp/injected",
        "-A fpbxreject -p udp --dport 2 -j DROP $(touch /tmp/injected)",
        "*filter",
        "-A fpbxreject -p udp -m udp --dport 3 -j DROP",
    ]
    custom(host, "\n".join(lines) + "\n")
    assert rules(host, "fpbxreject") == ["-p udp -m udp --dport 3 -j DROP"]
    assert log(host).count("Custom rule: ") == 6
    assert host.call("test", "-e", "/tmp/injected").returncode != 0
    assert "is-not-there" in log(host)


@pytest.mark.parametrize(
    ("owner", "mode", "taken"), [("root", "666", True), ("root", "644", True), ("asterisk", "600", False)]
)
def test_owner_is_all_that_an_import_looks_at(host: Machine, owner: str, mode: str, taken: bool) -> None:
    host.run("sh", "-c", f"chown {owner} /etc/firewall-4.rules; chmod {mode} /etc/firewall-4.rules")
    custom(host, "-A fpbxreject -p udp -m udp --dport 1 -j DROP\n")
    assert (rules(host, "fpbxreject") == ["-p udp -m udp --dport 1 -j DROP"]) is taken
    assert ("not owned by root, skipping" in log(host)) is not taken


def test_import_is_at_a_rebuild_only_and_above_all(host: Machine) -> None:
    custom(host, "-I INPUT 1 -p udp -m udp --dport 1 -j DROP\n")
    custom(host, "-I INPUT 1 -p udp -m udp --dport 2 -j DROP\n", "/etc/firewall-6.rules")
    assert rules(host, "INPUT")[0] == "-p udp -m udp --dport 1 -j DROP"
    assert rules(host, "INPUT", "ip6tables")[0] == "-p udp -m udp --dport 2 -j DROP"
    host.run("sh", "-c", "echo '-I INPUT 1 -p udp -m udp --dport 3 -j DROP' >>/etc/firewall-4.rules")
    cycle(host)
    assert rules(host, "INPUT")[0] == "-p udp -m udp --dport 1 -j DROP"


def test_files_are_made_writable_for_everybody(host: Machine) -> None:
    host.run("chmod", "644", "/etc/firewall-4.rules")
    host.run("fwconsole", "chown")
    assert host.run("stat", "-c", "%U %a", "/etc/firewall-4.rules") == "root 666\n"


# -- fail2ban


def test_rescue_of_bans_is_for_ipv4_and_loses_quotes(host: Machine) -> None:
    host.run("iptables", "-w", "5", "-N", "f2b-mine")
    host.run(
        "iptables",
        "-w",
        "5",
        "-A",
        "f2b-mine",
        "-p",
        "udp",
        "-m",
        "string",
        "--string",
        "evil",
        "--algo",
        "bm",
        "-j",
        "DROP",
    )
    host.run("ip6tables", "-w", "5", "-N", "f2b-mine")
    host.run("fwconsole", "firewall", "stop")
    assert eventually(lambda: host.call("ipset", "list", "-t", "lefilter").returncode != 0)
    assert '\\"evil\\"' in rules(host, "f2b-mine")[0]
    assert host.call("ip6tables", "-w", "5", "-S", "f2b-mine").returncode != 0


def test_reset_empties_fail2bans_chains_under_it(host: Machine) -> None:
    assert eventually(lambda: "asterisk-iptables" in host.call("fail2ban-client", "status").stdout)
    host.run("fail2ban-client", "set", "asterisk-iptables", "banip", "203.0.113.5")
    assert eventually(lambda: any("203.0.113.5" in rule for rule in rules(host, "fail2ban-SIP")))
    flush(host, "reset")
    assert "203.0.113.5" in host.run("fail2ban-client", "status", "asterisk-iptables")
    assert rules(host, "fail2ban-SIP") == []
    assert any("-j fail2ban-SIP" in rule for rule in rules(host, "INPUT", "ip6tables"))
    host.run("fail2ban-client", "unban", "--all")


def lost_bans(host: Machine) -> list[str]:
    """Jails whose bans the audit misses, and where."""
    found = host.apply("asterisk_sip_hardening", audit_only=True)["findings"]
    lost = [each for each in found if each["id"] == "freepbx-bans-lost"]
    return [name for each in lost for name in (*each["subjects"], *each["places"])]


def test_audit_sees_bans_that_a_reset_has_lost(host: Machine) -> None:
    assert eventually(lambda: "asterisk-iptables" in host.call("fail2ban-client", "status").stdout)
    for address in ("203.0.113.5", "2001:db8::5"):
        host.run("fail2ban-client", "set", "asterisk-iptables", "banip", address)
    assert eventually(lambda: "2001:db8::5" in "".join(rules(host, "fail2ban-SIP", "ip6tables")))
    assert "203.0.113.5" in "".join(rules(host, "fail2ban-SIP"))
    assert lost_bans(host) == []
    flush(host, "reset")
    assert lost_bans(host) == ["asterisk-iptables", "iptables", "ip6tables"]
    # as the finding says
    host.run("fail2ban-client", "reload", "--restart", "asterisk-iptables")
    assert eventually(lambda: lost_bans(host) == [])
    host.run("fail2ban-client", "unban", "--all")


def test_audit_sees_bans_of_ipv6_that_a_stop_has_lost(host: Machine) -> None:
    """The rules of IPv4 are put back as text."""
    assert eventually(lambda: "sshd" in host.call("fail2ban-client", "status").stdout)
    for address in ("203.0.113.6", "2001:db8::6"):
        host.run("fail2ban-client", "set", "sshd", "banip", address)
    assert eventually(lambda: "2001:db8::6" in "".join(rules(host, "fail2ban-SSH", "ip6tables")))
    flush(host, "stop")
    assert lost_bans(host) == ["sshd", "ip6tables"]
    host.run("fail2ban-client", "unban", "--all")


def test_sync_takes_whom_it_does_not_know_out_of_every_jail(host: Machine) -> None:
    assert eventually(lambda: "sshd" in host.call("fail2ban-client", "status").stdout)
    host.run("fwconsole", "firewall", "trust", "198.51.100.0/24")
    for jail in ("sshd", "asterisk-iptables"):
        host.run("fail2ban-client", "set", jail, "addignoreip", "192.0.2.44")
    host.run("fwconsole", "firewall", "sync")
    for jail in ("sshd", "asterisk-iptables"):
        said = host.run("fail2ban-client", "get", jail, "ignoreip")
        assert "192.0.2.44" not in said
        assert "198.51.100.0/24" in said
    host.run("fwconsole", "firewall", "untrust", "198.51.100.0/24")


# -- settings and files


def test_settings_are_json_in_the_modules_own_table(host: Machine) -> None:
    query = (
        "import json, sqlite3; base = sqlite3.connect('/var/lib/asterisk/freepbx.sqlite'); print(json.dumps(base.execute("
        "\"SELECT val, type FROM kvstore_FreePBX_modules_Firewall WHERE key = 'advancedsettings' AND id = 'noid'\").fetchone()))"
    )
    value, kind = json.loads(host.run("python3", "-c", query))
    assert kind == "json-arr"
    assert json.loads(value) == {
        **dict.fromkeys(("masq", "lefilter", "id_service", "id_sync_fw", "import_hosts"), "enabled"),
        **dict.fromkeys(("safemode", "customrules", "rejectpackets"), "disabled"),
    }


def test_command_line_ends_well_whatever_was_asked(host: Machine) -> None:
    done = host.call("fwconsole", "firewall", "customrules")
    assert (done.returncode, done.stdout) == (0, "Unknown entry!\n")


def test_reload_writes_its_own_files_and_never_custom_ones(host: Machine) -> None:
    host.run(
        "sh", "-c", "echo '; mine' >>/etc/asterisk/pjsip_custom_post.conf; echo '; mine' >>/etc/asterisk/pjsip.conf"
    )
    host.run("sh", "-c", "rm /etc/asterisk/rtp.conf; echo '; mine' >/etc/asterisk/rtp.conf")
    host.run("fwconsole", "reload")
    assert "; mine" in host.run("cat", "/etc/asterisk/pjsip_custom_post.conf")
    assert "; mine" not in host.run("cat", "/etc/asterisk/pjsip.conf")
    assert host.run("readlink", "/etc/asterisk/rtp.conf") == "/var/www/html/admin/modules/core/etc/rtp.conf\n"
    assert "rtp.conf.bk." in host.run("ls", "/etc/asterisk/backup")


def test_asterisk_is_started_by_fwconsole_alone(host: Machine) -> None:
    assert host.call("systemctl", "is-active", "asterisk.service").returncode != 0
    assert host.run("systemctl", "is-active", "freepbx.service") == "active\n"
    assert "1001" in host.run("asterisk", "-rx", "pjsip show endpoints")


def test_its_own_user_of_the_manager_is_no_finding(host: Machine) -> None:
    """Nobody may give it another secret: its firewall logs in with this one."""
    assert "username: firewall" in host.run("asterisk", "-rx", "manager show user firewall")
    found = host.apply("asterisk_sip_hardening", audit_only=True)["findings"]
    assert [each for each in found if "firewall" in str(each["subjects"]) and "manager" in each["id"]] == []


def test_transport_keeps_its_port_until_a_restart(host: Machine) -> None:
    """What a run has written down, the next ones know, and the restart."""

    def heard() -> str:
        # Four digits: a socket for a question to a name server may have any port above.
        where = [line.split()[3] for line in host.run("ss", "-Hlnu").splitlines()]
        return " ".join(each for each in where if re.search(r":50[0-9][0-9]$", each))

    before = heard()
    assert "0.0.0.0:5060" in before
    moved = {"sipsettings": {"udpport-0.0.0.0": 5070}}
    done = host.apply("freepbx_setting", settings=moved, reload=True)
    waits = ["pjsip.transports.conf [0.0.0.0-udp] bind"]
    assert (done["changed"], done["reloaded"], done["restart_needed"]) == (True, True, waits)
    assert heard() == before
    again = host.apply("freepbx_setting", settings=moved, reload=True)
    assert (again["changed"], again["restart_needed"]) == (False, waits)
    only = {"settings": {}, "only": ["settings"], "profile": "baseline"}
    assert host.apply("asterisk_sip_hardening", check=True, **only)["restart_needed"] == waits
    assert host.apply("asterisk_restart")["restarted"]
    assert "0.0.0.0:5070" in heard()
    assert host.apply("freepbx_setting", settings=moved, reload=True)["restart_needed"] == []
    # Whom FreePBX lets reload its transports it need not be said.
    back = {"sipsettings": {**done["before"]["sipsettings"], "pjsip_allow_reload": "yes"}}
    assert host.apply("freepbx_setting", settings=back, reload=True)["restart_needed"] == []
    assert heard() == before
    host.apply("freepbx_setting", settings={"sipsettings": {"pjsip_allow_reload": None}}, reload=True)
    host.run("rm", "-rf", "/var/lib/sipguard")
