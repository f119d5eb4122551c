# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook harden_pbx: what is wrong with a host's variables, why a host failed, and what becomes of its batch.

What goes in comes from other machines, and what comes out becomes a variable: nothing in it may look like a template, which
older releases of Ansible would evaluate on the controller.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.plugin_utils.vocabulary import misspelt, unfit

# The task of harden_pbx that looks at a host's variables.
_VARIABLES_TASK = "Stop at variables that cannot be meant"
_MOST = 600  # characters of a reason: the rest is in the task that failed
_VERIFY_MODES = ("auto", "true", "false", "yes", "no", "on", "off", "1", "0")

# What a failure's words tell, and what helps; the first that fits.
_REMEDIES: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(words, re.IGNORECASE), remedy)
    for words, remedy in (
        (
            r"no new connection gets in",
            "wait until it has taken the rules back, see that pbx_admins has the address from which Ansible comes, then run again for it",
        ),
        (r"cannot ask from", "see that the machine that asks (pbx_verify_from) answers, then run again for this host"),
        (
            r"is full: |No space left|No usable temporary directory|Errno 28",
            "make room on the host, then run again for it",
        ),
        (r"from which this host is administered", "add the address from which Ansible comes to pbx_admins"),
        (
            r"it takes root|without root|Missing sudo password|Incorrect sudo|privilege escalation|waiting for become|become_user",
            "let Ansible become root there ('--ask-become-pass'), and say nothing else in the inventory (ansible_become)",
        ),
        (
            r"another run (of sipguard )?has been|xtables lock",
            "wait until the other run has ended, then run again for this host",
        ),
        (
            r"Read-only file system|Errno 30",
            "make the host's disk writable ('dmesg' says why it is not), then run again for it",
        ),
        (
            r"minimum of Python|interpreter .*not found|interpreter was not found|python\S*: (command )?not found",
            "install python3 on the host, or name another in ansible_python_interpreter",
        ),
        (r"pbx_other_variables|cannot be used|would be right", "correct the variable in the inventory, then run again"),
        (r"is undefined|undefined variable", "define the variable that is named, or correct its name, then run again"),
        (r"fail2ban does not run", "look at /var/log/fail2ban.log on the host, put that right, then run again for it"),
        (
            r"Asterisk refuses .* as a whole|cannot be told from the files",
            "correct the line that is named, then run again for this host",
        ),
        (
            r"does not run|not running|does not answer on its control socket|has not answered|journalctl -u asterisk",
            "look at 'journalctl -u asterisk' on the host and start Asterisk; pbx_asterisk_mode: observe hardens the rest without it",
        ),
        (
            r"no longer answers|should be answered|should be stopped|but nothing came back|is damaged|is unprotected",
            "ask again with the playbook verify; look at 'sipguard status' and 'sipguard why' on the host",
        ),
        (r"apt cache|apt-get|dpkg", "put the host's package manager right ('apt-get update'), then run again for it"),
        (
            r"unreachable|timed out|Failed to connect|Permission denied|Connection refused",
            "check the host's power, network and SSH key ('ansible HOST -m ping'), then run again for it",
        ),
        (r"become", "let Ansible become root there ('--ask-become-pass')"),
        (r"apt|package", "put the host's package manager right ('apt-get update'), then run again for it"),
    )
)
_OTHERWISE = "read the task that failed above, put it right, then run again for this host"


def _plain(text: object, limit: int = _MOST) -> str:
    """One line without control characters, or anything that could begin a template."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)).split())
    line = line.replace("{", "(").replace("}", ")")
    return line if len(line) <= limit else f"{line[:limit]} ..."


def variable_objections(values: Mapping[str, Any], others: Sequence[str] = ()) -> list[str]:
    """What is wrong with a host's variables, by name: misspelt ones, and values that cannot be used; a sentence each."""
    found = [*misspelt(values, [others] if isinstance(others, str) else others), *unfit(values)]
    verify = values.get("pbx_verify")
    if "pbx_verify" in values and str(verify).lower() not in _VERIFY_MODES:
        found.append(f"pbx_verify: {verify!r} cannot be used; auto, true or false would be right")
    percentage = values.get("pbx_max_fail_percentage")
    found += _unaskable(values) if not found else []
    if percentage is not None and not found and not 0 <= float(percentage) <= 100:
        found.append(f"pbx_max_fail_percentage: {percentage!r} cannot be used; 0 to 100 would be right")
    return [_plain(each) for each in found]


def _unaskable(values: Mapping[str, Any]) -> list[str]:
    """With which no phone's question could be asked, so that nobody would miss an answer."""
    addresses, user, timeout = (values.get(f"pbx_verify_{name}") for name in ("address", "user", "timeout"))
    if not addresses and not user and timeout is None:
        return []
    # Not at the top: it is much, and hardly anybody has such a variable.
    from ansible_collections.sipguard.pbx.plugins.module_utils._sip import probe

    try:
        if timeout is not None:
            probe.require_timeout(float(timeout), "pbx_verify_timeout")
        probe.require_user(str(user or ""), "pbx_verify_user")
        for address in addresses if isinstance(addresses, (list, tuple)) else [addresses] if addresses else []:
            probe.read_host(str(address), "pbx_verify_address", zone=True)
    except OptionError as error:
        return [str(error)]
    return []


def run_failure(result: Mapping[str, Any], task: str) -> dict[str, str]:
    """The ``reason`` and the ``remedy`` of a task's failed result."""
    results = [each for each in _listed(result.get("results")) if each.get("failed") or each.get("unreachable")]
    wrong = result.get("wrong")
    said = [str(each) for each in wrong] if wrong else [_said(each) for each in results or [result]]
    reason = _plain("; ".join(dict.fromkeys(said)))
    text = f"unreachable: {reason}" if result.get("unreachable") else reason
    remedy = next((remedy for words, remedy in _REMEDIES if words.search(text)), _OTHERWISE)
    return {"task": _plain(task), "reason": text, "remedy": remedy}


def _said(result: Mapping[str, Any]) -> str:
    """What a module said; of one that died before it could, the last line of what Python said."""
    message = str(result.get("msg") or "")
    lines = [line.strip() for line in str(result.get("module_stderr") or "").split("\n")]
    last = next((line for line in reversed(lines) if line and not line.startswith("Shared connection to ")), "")
    return ": ".join(filter(None, (message.rstrip(".") if last else message, last))) or "failed"


def _listed(value: object) -> list[Mapping[str, Any]]:
    """The dictionaries of a list: any task may have failed, with any result."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, (list, tuple)) else []


def silenced(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], addresses: Mapping[str, Any] | None = None
) -> list[str]:
    """Which answers of sip_probe are missing afterwards, a sentence each.

    Not those that the host policy keeps from whoever asked, when ``addresses`` are what sipguard_info says of `askers`.
    """
    return [
        f"a phone got an answer over {str(each['transport']).upper()} from {each['host']} port {each['port']} before the run, "
        "and it no longer answers"
        for each in _lost(before, after)
        if not _kept_out(each, addresses or {})
    ]


def kept_out(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], addresses: Mapping[str, Any]
) -> list[str]:
    """The other answers that are missing, a sentence each."""
    return [
        f"the host policy admits no {str(each['transport']).upper()} from {_asker(each)} to port {each['port']}"
        for each in _lost(before, after)
        if _kept_out(each, addresses)
    ]


def askers(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[str]:
    """The addresses by which the PBX knew those whose answers are missing."""
    return sorted({_asker(each) for each in _lost(before, after)} - {""})


def _lost(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    now = {_asked(each) for each in after if each.get("answered")}
    return [each for each in before if each.get("answered") and _asked(each) not in now]


def _asker(answer: Mapping[str, Any]) -> str:
    seen = str(answer.get("received") or answer.get("source") or "")
    try:
        return str(ipaddress.ip_address(seen))
    except ValueError:  # of a hostile answer
        return ""


def _kept_out(answer: Mapping[str, Any], addresses: Mapping[str, Any]) -> bool:
    """Whether the host policy drops what was asked, for whoever asked it."""
    about = addresses.get(_asker(answer), {})
    for finding in _listed(about.get("findings")):
        allowed = finding.get("allowed") or {}
        # A policy that lets nothing through says so; one that stops nothing has nothing to list.
        if finding.get("what") == "host" and (finding["stops"] or allowed):
            ranges = allowed.get("udp" if answer["transport"] == "udp" else "tcp", [])
            return not any(_within(int(answer["port"]), str(each)) for each in ranges)
    return False


def _within(port: int, ports: str) -> bool:
    first, dummy, last = ports.partition(":")
    return int(first) <= port <= int(last or first)


def _asked(answer: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(answer.get(name)) for name in ("host", "transport", "port"))


def readable(failures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The hosts of which any variable can be looked at: not those that stopped because one of them could not be."""
    return [host for host, failure in failures.items() if failure.get("task") != _VARIABLES_TASK]


def batch_outcome(
    failures: Mapping[str, Mapping[str, Any]],
    batch: Sequence[str],
    present: Sequence[str],
    limit: float = 10,
    rolls_back: bool = True,
) -> dict[str, Any]:
    """What becomes of a batch. ``failures``: host -> what `run_failure` said, {} for none. ``present`` are hosts that still answer.

    ``failed`` is true when more than ``limit`` percent of the hosts failed or were lost on the way: then none of it may stay.
    """
    lost = [host for host in batch if host not in present]
    bad = [host for host in batch if host in lost or failures.get(host)]
    failed = bool(bad) and 100 * len(bad) > float(limit) * len(batch)
    lines = [f"{len(batch) - len(bad)} of {len(batch)} hosts are as they should be"]
    for host in bad:
        why = failures.get(host) or {
            "reason": "lost on the way",
            "remedy": "its firewall goes back by itself unless it was confirmed; see that it answers, then run again for it",
        }
        lines.append(_plain(f"{host}: {why['reason']}; what to do: {why['remedy']}", 3 * _MOST))
    if failed:
        back = "every host of it goes back to what it was, and " if rolls_back else ""
        lines.append(f"more than {float(limit):g} % of the batch failed: {back}no other batch begins")
    return {"failed": failed, "lost": lost, "bad": bad, "said": lines}


def run_report(
    failure: Mapping[str, str],
    batch: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    returns: Sequence[Mapping[str, Any]],
) -> str:
    """Why a host is not as it should be, what it is like now, and what to do: one sentence for the end of its run.

    ``checkpoint`` and ``returns`` are results of sipguard_checkpoint, skipped ones included.
    """
    reason = failure.get("reason") or f"too many hosts of its batch failed ({', '.join(batch['bad'])})"
    remedy = failure.get("remedy") or "put those hosts right, or raise pbx_max_fail_percentage, then run again"
    stuck = next((each["msg"] for each in returns if each.get("msg") and not each.get("skipped")), "")
    if stuck:
        kept = f"what it was like is in /var/backups/sipguard on the host (checkpoint {checkpoint.get('cookie')})"
        state = f"{_plain(stuck)}; {kept}"
    elif any("done" in each for each in returns):
        state = "it is what it was before this run"
    elif checkpoint.get("cookie"):
        state = "what had been done by then stays (pbx_rollback is false)"
    else:
        state = "nothing was changed on it"
    return _plain(f"{_plain(reason)}; {state}; what to do: {remedy}", 3 * _MOST)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        functions = (variable_objections, run_failure, silenced, kept_out, askers, readable, batch_outcome, run_report)
        return {function.__name__: function for function in functions}
