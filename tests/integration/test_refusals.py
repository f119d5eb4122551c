# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be done is refused: the message names the option, the value and what would be right, and nothing changed."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import sip
from tests.integration.harness.lab import Lab
from tests.integration.harness.modules import finish, module_process

UA = "sip_ua_blocklist"
LONG = "x1y2z3" * 22

# module, options, what the message must contain
BAD: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "port_too_high": (UA, {"ports": ["70000"]}, ["ports", "70000", "65535"]),
    "port_range_backwards": (UA, {"ports": ["5061:5060"]}, ["ports", "5061:5060"]),
    "port_no_number": (UA, {"ports": ["sip"]}, ["ports", "sip"]),
    "payload_too_long": (UA, {"payloads": [LONG[:129]]}, ["payloads", LONG[:40], "128"]),
    "agent_too_long": (UA, {"user_agents": [LONG[:129]]}, ["user_agents", LONG[:40], "128"]),
    "agent_dash": (UA, {"user_agents": ["-"]}, ["user_agents", "-", "exact"]),
    "agent_of_a_maker": (UA, {"user_agents": ["Cisco"]}, ["user_agents", "Cisco"]),
    "agent_match": (UA, {"user_agents": [{"value": "evilbot/1", "match": "regex"}]}, ["user_agents", "regex", "exact"]),
    "reject_in_mangle": (UA, {"action": "reject", "table": "mangle"}, ["action", "reject", "filter"]),
    "preset": (UA, {"presets": ["nosuch"]}, ["presets", "nosuch", "scanners"]),
    "never_a_name": (UA, {"never": ["pbx.example.org"]}, ["never", "pbx.example.org", "address"]),
    "never_no_address": (UA, {"never": ["300.1.1.1"]}, ["never", "300.1.1.1"]),
    "learn_for": (UA, {"learn_for": -1}, ["learn_for", "-1"]),
    "mark_mask": (UA, {"mark_mask": "0xzz"}, ["mark_mask", "0xzz"]),
    "mark_mask_one_bit": (UA, {"mark_mask": "0x1"}, ["mark_mask", "0x1"]),
    "interface": (UA, {"interfaces": ["eth 0"]}, ["interfaces", "eth 0"]),
    "lock_timeout": (UA, {"lock_timeout": -1}, ["lock_timeout", "-1"]),
    "choice": (UA, {"mode": "watch"}, ["mode", "watch", "observe"]),
    "trust_no_address": ("sip_trust", {"sources": ["300.1.1.1"]}, ["sources", "300.1.1.1"]),
    "trust_prefix": ("sip_trust", {"sources": ["192.0.2.0/33"]}, ["sources", "192.0.2.0/33"]),
    "trust_range_backwards": ("sip_trust", {"sources": ["192.0.2.9-192.0.2.1"]}, ["sources", "192.0.2.9-192.0.2.1"]),
    "trust_everybody": ("sip_trust", {"sources": ["0.0.0.0/0"]}, ["sources", "0.0.0.0/0"]),
}


@pytest.fixture(scope="module")
def policy(backend: str) -> Iterator[Lab]:
    """A laboratory with a policy in force, which no refusal may touch."""
    lab = Lab(backend)
    lab.trust("203.0.113.0/24")
    lab.blocklist()
    yield lab
    lab.close()


@pytest.mark.parametrize("case", BAD)
def test_bad_input_refused(policy: Lab, case: str) -> None:
    name, options, said = BAD[case]
    message = policy.refused(name, **options)
    assert [text for text in said if text not in message] == [], message


def test_longest_payload_accepted(lab: Lab) -> None:
    payload = LONG[:128]
    lab.four_runs(UA, presets=[], payloads=[payload])
    assert not lab.reaches(lab.attacker, sip.request(body=payload.encode()))
    assert lab.reaches(lab.phone, sip.request(body=payload[:127].encode()))


@contextmanager
def _lock_held(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """Somebody else holds the xtables lock of the PBX until the process's standard input is closed."""
    argv = lab.pbx.argv("flock", "/run/xtables.lock", "sh", "-c", "echo held; read -r _")
    with subprocess.Popen(argv, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.stdin and not holder.stdin.closed and holder.stdin.close()


def _wait_for_a_waiter(lab: Lab) -> None:
    inode = lab.pbx.run("stat", "-c", "%i", "/run/xtables.lock").strip()
    while not any("->" in line and f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines()):
        os.sched_yield()


def test_busy_lock_is_waited_for(legacy_lab: Lab) -> None:
    lab = legacy_lab
    with (
        _lock_held(lab) as holder,
        module_process(lab.pbx, UA, lab.options(UA, lock_timeout=60)) as process,
    ):
        _wait_for_a_waiter(lab)
        assert process.poll() is None
        assert holder.stdin is not None
        holder.stdin.close()
        assert finish(process)["changed"]
    assert not lab.reaches(lab.attacker, sip.request(sip.SCANNER))


def test_busy_lock_refused_in_time(legacy_lab: Lab) -> None:
    with _lock_held(legacy_lab):
        message = legacy_lab.refused(UA, lock_timeout=1)
    assert "lock" in message
    assert "lock_timeout" in message
    assert legacy_lab.blocklist()["changed"]


def test_busy_lock_change_refused_in_time(legacy_lab: Lab) -> None:
    legacy_lab.blocklist()
    with _lock_held(legacy_lab):
        legacy_lab.refused(UA, lock_timeout=1, user_agents=["evilbot/1.0"])
        # nothing has to be changed, so nobody has to be waited for
        assert not legacy_lab.blocklist(lock_timeout=1)["changed"]


def test_busy_lock_is_no_concern_of_nft(nft_lab: Lab) -> None:
    with _lock_held(nft_lab):
        assert nft_lab.blocklist(lock_timeout=1)["changed"]


@pytest.mark.parametrize("extension", ["libxt_string.so", "libxt_connmark.so", "libxt_set.so"])
def test_missing_extension_refused(lab: Lab, tmp_path: Path, extension: str) -> None:
    """iptables says the same whether its own half of an extension is missing or the kernel's: it "couldn't load" it.

    This kernel has all of them built in, so it is iptables' half that is taken away here.
    """
    for family, table in itertools.product((4, 6), ("raw", "filter")):
        lab.iptables("-t", table, "-S", family=family)  # legacy shows a table, empty, once somebody has asked for it
    libraries = next(Path("/usr/lib").glob("*/xtables"))
    shutil.copytree(libraries, tmp_path / "xtables", symlinks=True)
    (tmp_path / "xtables" / extension).unlink()
    message = lab.refused(UA, env={"XTABLES_LIBDIR": str(tmp_path / "xtables")})
    assert extension[len("libxt_") : -len(".so")] in message
    assert lab.blocklist()["changed"]


@pytest.mark.parametrize("program", ["iptables", "ipset"])
def test_missing_program_refused(lab: Lab, program: str) -> None:
    real = {"iptables": f"xtables-{lab.backend}-multi", "ipset": "ipset"}[program]
    lab.pbx.run("mount", "--bind", "/dev/null", f"/usr/sbin/{real}")
    result = lab.module(UA)
    lab.pbx.run("umount", f"/usr/sbin/{real}")
    assert result.get("failed")
    assert program in result["msg"]
    assert "install" in result["msg"]


def test_without_the_capability_refused(lab: Lab) -> None:
    """root in a container that was not given NET_ADMIN."""
    prefix = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    with module_process(lab.pbx, UA, lab.options(UA), prefix=prefix) as process:
        result = finish(process)
    assert result.get("failed")
    assert "NET_ADMIN" in result["msg"]
    assert lab.blocklist()["changed"]
