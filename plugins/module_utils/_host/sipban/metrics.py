# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sipband counts, for node_exporter's textfile collector, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..._sip.errors import SipguardError

__all__ = ["render", "write"]

_GAUGE, _COUNTER = "gauge", "counter"
Sample = tuple[Mapping[str, str], float]


def _label(value: str) -> str:
    """Escaped as the format wants it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _metric(name: str, kind: str, what: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP sipban_{name} {what}\n# TYPE sipban_{name} {kind}\n"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
        # Fewer digits would make a counter of millions stand still, and then jump.
        yield f"sipban_{name}{f'{{{inside}}}' if inside else ''} {value:.15g}\n"


def _events(found: Mapping[str, int]) -> list[Sample]:
    return [
        ({"service": service, "event": event}, count)
        for (service, dummy, event), count in ((name.partition(" "), count) for name, count in found.items())
    ]


def _by(label: str, found: Mapping[str, int | None]) -> list[Sample]:
    return [({label: name}, count) for name, count in found.items() if count is not None]


def render(status: Mapping[str, Any]) -> str:
    """The text for what Guard.status() tells."""
    parts = [
        _metric("up_seconds", _GAUGE, "How long sipband has been running.", [({}, status["uptime"])]),
        _metric("ami_connected", _GAUGE, "Whether it has logged in to AMI.", [({}, int(status["ami"]))]),
        _metric("ami_hears", _GAUGE, "Whether Asterisk tells it of security events.", [({}, int(status["ami_hears"]))]),
        _metric(
            "bans", _GAUGE, "Banned addresses and networks, whoever has banned them.", _by("family", status["bans"])
        ),
        _metric("known", _GAUGE, "Sources that have logged in lately.", _by("family", status["known"])),
        _metric("events_total", _COUNTER, "Security events of Asterisk.", _events(status["events"])),
        _metric(
            "unproven_total",
            _COUNTER,
            "Events against a source that may not have been theirs.",
            [({}, status["unproven"])],
        ),
        _metric(
            "diverted_total",
            _COUNTER,
            "Challenges that went to two addresses and so prove nothing.",
            [({}, status["diverted"])],
        ),
        _metric("blocked_total", _COUNTER, "Bans that sipband has made.", _by("why", status["blocked"])),
        _metric(
            "kept_total", _COUNTER, "Bans it would have made but for who the source is.", _by("why", status["kept"])
        ),
        _metric("failed_total", _COUNTER, "Bans that the kernel did not take.", [({}, status["failed"])]),
        _metric("ami_messages_total", _COUNTER, "What came over AMI.", _by("kind", status["ami_counters"])),
        _metric("remembered", _GAUGE, "Sources whose next ban would be longer.", [({}, status["remembered"])]),
    ]
    return "".join(line for part in parts for line in part)


def write(path: str, status: Mapping[str, Any]) -> None:
    """In one moment, and readable by everybody. Raises SipguardError."""
    fresh = f"{path}.new"
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(render(status))
            os.fchmod(handle, 0o644)
        os.replace(fresh, path)
    except OSError as error:
        raise SipguardError(f"cannot write {path}: {error.strerror}") from error
