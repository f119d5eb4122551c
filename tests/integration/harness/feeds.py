# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds on the PBX of a laboratory: the module, the command, and a past for what it remembers."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

from . import sip
from .command import sipguard
from .feed_server import FeedServer
from .lab import Lab
from .modules import environment

__all__ = [
    "FILES",
    "HTML",
    "KEY",
    "LISTED",
    "TWIN",
    "UNITS",
    "age",
    "exists",
    "feed",
    "feeds",
    "hanging",
    "passes",
    "read",
    "refresh",
    "status",
    "text",
]

KEY = "k3y-of-nobody-0123456789"
# The attacker's own; a test that needs more of them counts on.
LISTED = ["198.18.200.1", "198.18.200.3", "198.18.200.5", "198.18.200.7", "2001:db8:bad::c8"]
TWIN = "198.18.201.1"
FILES = ("/etc/sipguard/feeds.json", "/etc/sipguard/feed-keys.json", "/var/lib/sipguard/feeds.json")
UNITS = ("/etc/systemd/system/sipguard-feeds.service", "/etc/systemd/system/sipguard-feeds.timer")

# Moves everything a host remembers about its feeds into the past.
AGE = """
import dataclasses, json, pathlib, sys
sys.path.append("/usr/local/lib")
from sipguard._netfilter.lists import Lists
seconds = int(sys.argv[1])
path = pathlib.Path("/var/lib/sipguard/feeds.json")
states = json.loads(path.read_text())
for state in states.values():
    for name in ("first", "began", "ended", "succeeded", "failing", "not_before"):
        state[name] = max(state[name] - seconds, 0)
path.write_text(json.dumps(states))
lists = Lists()
for named in [each for each in map(lists.read, lists.names()) if "\\t" in each.body]:
    earlier = [dataclasses.replace(each, expires=each.expires and each.expires - seconds) for each in named.entries()]
    lists.write(named.with_entries(earlier))
"""
HTML = "<html><body>log in</body></html>"


def text(*words: str) -> str:
    return "".join(f"{word}\n" for word in words)


def feed(name: str, server: FeedServer, path: str = "", **options: Any) -> dict[str, Any]:
    """The option for a feed of a server that has no certificate."""
    return {"name": name, "kind": "url", "url": server.url(path or f"/{name}"), "allow_http": True, **options}


def feeds(lab: Lab, *wanted: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The result of the module, which must succeed."""
    return lab.apply("sipguard_feeds", feeds=list(wanted), **options)


def passes(lab: Lab, address: str) -> bool:
    """Whether a request of the attacker from this address is received."""
    return lab.reaches(lab.attacker, sip.request(), family=6 if ":" in address else 4, source=address)


def refresh(lab: Lab, *arguments: str, status: int = 0) -> str:
    done = sipguard(lab, "feeds", "refresh", *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def status(lab: Lab) -> tuple[int, dict[str, Any]]:
    """Exit status and findings."""
    done = sipguard(lab, "feeds", "status", "--json")
    return done.returncode, json.loads(done.stdout)


def age(lab: Lab, seconds: int) -> None:
    lab.pbx.run("python3", "-c", AGE, str(seconds))


def read(lab: Lab, path: str) -> str:
    return lab.pbx.run("cat", path)


def exists(lab: Lab, path: str) -> bool:
    return lab.pbx.succeeds("test", "-e", path)


@contextlib.contextmanager
def hanging(lab: Lab, server: FeedServer, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A refresh whose server has the request, and says nothing; killed at the end."""
    asked = len(server.requests)
    argv = lab.pbx.argv("/usr/local/sbin/sipguard", "feeds", "refresh", *arguments)
    with subprocess.Popen(
        argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            while len(server.requests) == asked:
                assert process.poll() is None, process.communicate()
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
