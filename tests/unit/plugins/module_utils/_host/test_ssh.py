# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import ssh
from ansible_collections.sipguard.pbx.plugins.module_utils._host.ssh import logged_in, ssh_peers

PEERS = """
import sys
sys.dont_write_bytecode = True
from ansible_collections.sipguard.pbx.plugins.module_utils._host.ssh import ssh_peers
print(*ssh_peers())
"""
CACHE = Path(__file__).resolve().parents[5] / ".cache"


@pytest.mark.parametrize(
    ("outer", "inner", "peers"),
    [
        ("", "", []),
        ("192.0.2.7 50000 192.0.2.1 22", "", ["192.0.2.7"]),
        ("", "192.0.2.7 50000 192.0.2.1 22", ["192.0.2.7"]),
        ("192.0.2.7 50000 192.0.2.1 22", "192.0.2.8 50000 192.0.2.1 22", ["192.0.2.8", "192.0.2.7"]),
        ("192.0.2.7 50000 192.0.2.1 22", "192.0.2.7 50000 192.0.2.1 22", ["192.0.2.7"]),
        ("fe80::1%eth0 50000 fe80::2%eth0 22", "", ["fe80::1"]),
    ],
)
def test_ssh_peers_asks_the_parents_too(tmp_path: Path, outer: str, inner: str, peers: list[str]) -> None:
    """As under sudo: a shell with the variable, then processes without it; one of them has a name that is hard to read in /proc."""
    sudo = tmp_path / "a) S 1 (b"
    sudo.symlink_to("/bin/sh")
    # The innermost process has INNER for its variable, or none; an empty one names nobody.
    script = 'env SSH_CONNECTION="" "$0" -c \'"$@"; exit $?\' sh env SSH_CONNECTION="$INNER" "$@"; exit $?'
    done = subprocess.run(
        ["/bin/sh", "-c", script, sudo, sys.executable, "-c", PEERS],
        env={"PYTHONPATH": str(CACHE), "PATH": os.defpath, "INNER": inner, "SSH_CONNECTION": outer},
        capture_output=True,
        text=True,
        check=True,
    )
    here = set(ssh_peers())  # the tests themselves may run over SSH
    assert [peer for peer in done.stdout.split() if peer not in here - {*peers}] == peers


def test_sessions_name_where_somebody_is_logged_in_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As systemd-logind writes them; beside each is a pipe, which would be waited for."""
    monkeypatch.setattr(ssh, "_SESSIONS", str(tmp_path))
    assert logged_in() == []
    (tmp_path / "1").write_text("UID=0\nACTIVE=1\nREMOTE=1\nREMOTE_HOST=192.0.2.7\nSERVICE=sshd\n")
    (tmp_path / "2").write_text("UID=0\nREMOTE=1\nREMOTE_HOST=fe80::1%eth0\n")
    (tmp_path / "3").write_text("UID=0\nREMOTE=0\nTTY=tty1\n")
    (tmp_path / "4").write_text("REMOTE_HOST=admin.example.com\n")
    os.mkfifo(tmp_path / "1.ref")
    assert sorted(logged_in()) == ["192.0.2.7", "fe80::1"]
