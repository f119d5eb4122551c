# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/examples/pull: a host that hardens itself, with the Ansible of its own distribution, from a git repository on it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import CHECKOUT, PROJECT, LabHost, lab

EXAMPLE = CHECKOUT / "docs/examples/pull"
PULL = "ansible-pull --url file:///srv/pbx --checkout main --directory /var/lib/sipguard-pull --inventory hosts.yml local.yml"
SERVICE = "sipguard-pull.service"


class Puller(LabHost):
    """A host of that example, with its repository and the collection's tarball."""

    def sh(self, script: str, stdin: bytes = b"", good: bool = True) -> str:
        """What a script on the host prints; AssertionError if it did not end as ``good`` says."""
        argv = [sys.executable, "-m", "lab", "exec", "--project", PROJECT, self.name, "--", "sh", "-ec", script]
        done = subprocess.run(argv, cwd=CHECKOUT, input=stdin, capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode()
        assert (done.returncode == 0) is good, said
        return said

    def commit(self, what: str) -> None:
        """A change of the inventory, on its way to every host."""
        self.sh(f"cd /srv/pbx; {what}; git add -A; git -c user.name=a -c user.email=a@example.com commit -qm change")

    def pull(self, good: bool = True) -> str:
        """What the unit writes in one run, started as its timer does."""
        self.sh("journalctl --rotate --vacuum-time=1us >/dev/null 2>&1")
        self.sh(f"systemctl start {SERVICE}", good=good)
        return self.sh(f"journalctl -o cat --no-pager -u {SERVICE}")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Puller]:
    """Debian 13, the collection from a built tarball, the example in a repository, and its units."""
    folder = tmp_path_factory.mktemp("built")
    tool = str(Path(sys.executable).with_name("ansible-galaxy"))
    subprocess.run(
        [tool, "collection", "build", "--output-path", str(folder)], cwd=CHECKOUT, check=True, capture_output=True
    )
    example = subprocess.run(["tar", "-C", str(EXAMPLE), "-cf", "-", "."], check=True, capture_output=True).stdout
    made = Puller("pbx1", "debian13-pull")
    try:
        made.sh("cat > /root/collection.tar.gz", b"".join(path.read_bytes() for path in folder.glob("*.tar.gz")))
        made.sh("ansible-galaxy collection install --offline -p /usr/share/ansible/collections /root/collection.tar.gz")
        made.sh("mkdir /srv/pbx; cd /srv/pbx; tar -xf -; git init -q -b main", example)
        made.sh("cd /etc/systemd/system; cp /srv/pbx/sipguard-pull.service /srv/pbx/sipguard-pull.timer .")
        made.sh("echo SIPGUARD_PULL_URL=file:///srv/pbx > /etc/default/sipguard-pull; systemctl daemon-reload")
        made.commit("true")
        yield made
    finally:
        lab("host-down", "pbx1")


def test_pull_in_check_mode_changes_nothing_and_the_unit_converges(host: Puller) -> None:
    before = host.state()
    said = host.sh(f"cd /; {PULL} --check")
    assert "failed=0" in said
    assert "SIPGUARD" not in host.rules()
    assert host.state() == before

    first = host.pull()
    assert "failed=0" in first
    assert "SIPGUARD-UA" in host.rules()
    assert "198.51.100.10" in host.run("ipset", "save", "sipguard-trusted4")
    assert not host.pending()


def test_pull_brings_what_was_merged_and_then_changes_nothing(host: Puller) -> None:
    host.commit("sed -i 's/198.51.100.10/198.51.100.11/' group_vars/all.yml")
    assert "failed=0" in host.pull()
    trusted = host.run("ipset", "save", "sipguard-trusted4")
    assert "198.51.100.11" in trusted
    assert "198.51.100.10" not in trusted
    after = host.state()
    assert "changed=0" in host.pull()
    assert host.state() == after


def test_pull_leaves_the_port_open_to_which_ssh_has_moved(host: Puller) -> None:
    """Nobody is connected over SSH when a host runs this itself, and its firewall drops what is offered to nobody."""
    host.sh("echo 'Port 2222' > /etc/ssh/sshd_config.d/moved.conf; systemctl restart ssh")
    policy = "pbx_firewall_host_policy: true"
    host.commit(f"printf '%s\\n' '{policy}' 'pbx_lan: [{host.info['controller']}]' >> group_vars/all.yml")
    assert "failed=0" in host.pull()
    assert "SIPGUARD-HOST" in host.rules()
    with socket.create_connection((host.info["address"], 2222), timeout=5) as line:
        assert line.recv(4) == b"SSH-"
    # The port that it came from stays open as well, for who has not moved yet; what is offered to nobody does not.
    with pytest.raises(TimeoutError), socket.create_connection((host.info["address"], 5038), timeout=1):
        pass
    assert "changed=0" in host.pull()
    host.commit(f"sed -i -e '/^{policy}/d' -e '/^pbx_lan:/d' group_vars/all.yml")
    assert "failed=0" in host.pull()
    assert "SIPGUARD-HOST" not in host.rules()


def test_pull_of_a_typing_error_leaves_the_host_as_it_was(host: Puller) -> None:
    before = host.state()
    host.commit("sed -i 's/198.51.100.11/198.51.100.311/' group_vars/all.yml")
    said = host.pull(good=False)
    assert "198.51.100.311" in said
    assert host.state() == before


def test_pull_runs_again_by_itself(host: Puller) -> None:
    host.sh("systemctl enable --now sipguard-pull.timer")
    assert "sipguard-pull.service" in host.run("systemctl", "list-timers", "--all", "sipguard-pull.timer")
    host.sh("systemd-analyze verify /etc/systemd/system/sipguard-pull.service /etc/systemd/system/sipguard-pull.timer")
    host.sh("systemctl disable --now sipguard-pull.timer")
