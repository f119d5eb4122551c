# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Asterisk with the configuration of a test, in a container without network and without systemd.

A start takes about half a second. Everything runs in the container's namespaces (nsenter), which takes milliseconds.
Telephones and clients of AMI are sockets of the test in the container's network namespace: they speak from any address
of 127.0.0.0/8, 198.51.100.0/24 (as well as ::1 and 2001:db8::/32) to 127.0.0.1 (::1).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import posixpath
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible

from tests.integration.harness.netns import in_namespace

from .ami import Ami
from .phone import Phone

__all__ = ["IMAGES", "PJSIP_TRANSPORTS", "SAMPLES", "Pbx", "eventually", "remove_stale"]

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGES = {"16": "debian11-asterisk16", "22": "sid-asterisk22"}
PATIENCE = 20.0  # seconds in which everything that is waited for has to happen

SAMPLES = "/usr/share/asterisk/etc"  # what the package (and the lab's image) has in /etc/asterisk

_LABEL = "org.sipguard.lab"
_PROJECT = "asterisktests"
_ETC = "/etc/asterisk"
_LOGS = "/var/log/asterisk"
_CODE = "/opt/under-test"
_OURS = "ansible_collections/sipguard/pbx"
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "PYTHONPATH": _CODE,
    "PYTHONPYCACHEPREFIX": "/var/cache/under-test",
}
_FREEBIND = {4: (socket.IPPROTO_IP, 15), 6: (socket.IPPROTO_IPV6, 78)}  # IP_FREEBIND, IPV6_FREEBIND
# The first process only takes in those that lost their parent.
_IDLE = "while :; do sleep 3600 & wait $!; done"

# What wants hardware, a database or a daemon that is not there, and says so at each start.
_NOLOAD = (
    "app_agent_pool app_followme app_queue app_voicemail app_voicemail_imap app_voicemail_odbc cdr_pgsql cdr_radius"
    " cdr_sqlite3_custom cdr_tds cel_pgsql cel_radius cel_sqlite3_custom cel_tds chan_console chan_dahdi chan_iax2 chan_mgcp"
    " chan_mobile chan_motif chan_ooh323 chan_oss chan_phone chan_skinny chan_unistim pbx_dundi res_ari res_config_ldap"
    " res_config_mysql res_config_odbc res_config_pgsql res_corosync res_odbc res_prometheus res_snmp res_stun_monitor"
    " res_xmpp"
)
_BARE = {
    "asterisk.conf": "[options]\nentityid=00:00:5e:00:53:01\nnocolor=yes\n",
    "modules.conf": "[modules]\nautoload=yes\n" + "".join(f"noload => {name}.so\n" for name in _NOLOAD.split()),
    "logger.conf": "[general]\ndateformat=%F %T\n[logfiles]\nfull => notice,warning,error,verbose,security\n",
}

# One transport of each kind for both families, for a pjsip.conf; sip.conf needs only udpbindaddr=[::]:5060 and the like.
PJSIP_TRANSPORTS = "".join(
    f"[{protocol}{family}]\ntype=transport\nprotocol={protocol}\nbind={address}:5060\n"
    for protocol in ("udp", "tcp")
    for family, address in ((4, "0.0.0.0"), (6, "[::]"))
)


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE, pause: float = 0.0) -> bool:
    """Whether a condition comes true in time; one that starts no process needs a `pause`, in seconds, so as not to spin."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def _lab(*argv: str) -> str:
    command = [sys.executable, "-m", "lab", *argv]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def _engine(*argv: str) -> str:
    return _lab("engine", "--", *argv)


def _started(pid: int) -> str:
    """The process by its number and the time of its start, empty when there is none."""
    try:
        return f"{pid}.{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return ""


def remove_stale() -> None:
    """Removes the containers of runs whose process is gone."""
    listing = _engine("ps", "-aq", "--no-trunc", "--filter", f"label={_LABEL}={_PROJECT}")
    for ident in listing.split():
        with contextlib.suppress(AssertionError):  # another run has just removed its own
            owner = _engine("inspect", "--format", f'{{{{index .Config.Labels "{_LABEL}.owner"}}}}', ident)
            if _started(int(owner.split(".")[0])) != owner:
                _engine("rm", "-f", ident)


class Pbx:
    """A container with Asterisk 16 or 22 (`version`), at first not running. To be closed, or used as a context."""

    _numbers = itertools.count()

    def __init__(self, version: str) -> None:
        self.version = version
        image = _lab("images", IMAGES[version]).splitlines()[-1]
        self.container = f"sipguard-{_PROJECT}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: list[Phone | Ami] = []
        volumes = {
            Path(ansible.__file__).with_name("module_utils"): f"{_CODE}/ansible/module_utils",
            CHECKOUT: f"{_CODE}/{_OURS}",
        }
        labels = [f"{_LABEL}={_PROJECT}", f"{_LABEL}.owner={_started(os.getpid())}"]
        argv = ["run", "--detach", "--network", "none", "--name", self.container]
        argv += [word for label in labels for word in ("--label", label)]
        argv += [word for here, there in volumes.items() for word in ("--volume", f"{here}:{there}:ro")]
        _engine(*argv, image, "sh", "-c", _IDLE)
        try:
            self.pid = int(_engine("inspect", "--format", "{{.State.Pid}}", self.container))
            # as an address of the network namespace for tests.integration.harness.netns
            self.netns = os.path.relpath(f"/proc/{self.pid}/ns/net", "/run/netns")
            self._enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
            self.check(["cp", "-a", _ETC, SAMPLES])
            self.check(["install", "-d", "-o", "asterisk", "-g", "asterisk", "/run/asterisk"])
            self.write(f"{_CODE}/ansible/__init__.py", "")
            for family, network, source in (("-4", "198.51.100.0/24", "127.0.0.1"), ("-6", "2001:db8::/32", "::1")):
                self.check(["ip", family, "route", "add", "local", network, "dev", "lo", "src", source])
            self.reset()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Pbx:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the container with everything in it."""
        self._hang_up()
        _engine("rm", "-f", "-v", "--time", "0", self.container)
        if self._process:
            self._process.wait()

    # -- commands and files

    def argv(self, argv: Sequence[str]) -> list[str]:
        """A command as it has to be started to run inside, as root."""
        return [*self._enter, "env", "-i", *(f"{key}={value}" for key, value in _ENV.items()), *argv]

    def run(self, argv: Sequence[str], stdin: bytes | str = b"") -> subprocess.CompletedProcess[str]:
        """A command run inside to its end."""
        data = stdin.encode("utf-8", "surrogateescape") if isinstance(stdin, str) else stdin
        done = subprocess.run(self.argv(argv), input=data, capture_output=True, check=False, timeout=120)
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(list(argv), done.returncode, out, err)

    def check(self, argv: Sequence[str], stdin: bytes | str = b"") -> str:
        """What a command prints that must succeed."""
        done = self.run(argv, stdin)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def spawn(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """A command at work inside, its output in pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.argv(argv), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="surrogateescape"
        )

    def read_bytes(self, path: str) -> bytes:
        """A file's content; relative paths are below /etc/asterisk."""
        done = subprocess.run(self.argv(["cat", posixpath.join(_ETC, path)]), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def read(self, path: str) -> str:
        """The same as text."""
        return self.read_bytes(path).decode("utf-8", "surrogateescape")

    def write(self, path: str, content: str | bytes, *, owner: str = "asterisk", mode: int = 0o640) -> None:
        """Writes one file, in place of what is there; relative paths are below /etc/asterisk."""
        path = posixpath.normpath(posixpath.join(_ETC, path))
        self._unpack("/", {path.lstrip("/"): content}, owner, mode)

    def write_all(self, files: Mapping[str, str | bytes]) -> None:
        """Writes several files below /etc/asterisk at once."""
        self._unpack(_ETC, files, "asterisk", 0o640)

    def _unpack(self, folder: str, files: Mapping[str, str | bytes], owner: str, mode: int, before: str = ":") -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
                entry.size, entry.mode, entry.mtime = len(data), mode, time.time()
                entry.uname = entry.gname = owner
                tar.addfile(entry, io.BytesIO(data))
        self.check(["sh", "-ec", f'{before}; umask 022; tar -C "$1" -x', "sh", folder], buffer.getvalue())

    def configure(self, files: Mapping[str, str | bytes]) -> None:
        """Replaces /etc/asterisk by these files (names below it), with a bare asterisk.conf, modules.conf and logger.conf.

        Asterisk is told nothing: call `restart`, or a reload.
        """
        clean = 'find "$1" -mindepth 1 -delete; chown asterisk:asterisk "$1"'
        self._unpack(_ETC, {**_BARE, **files}, "asterisk", 0o640, clean)
        self.check(["chown", "-R", "asterisk:asterisk", _ETC])

    def log(self, name: str = "full") -> str:
        """A log of Asterisk, by its name in logger.conf; empty while there is none."""
        return self.run(["cat", f"{_LOGS}/{name}"]).stdout

    # -- Asterisk

    def reset(self, files: Mapping[str, str | bytes] | None = None) -> None:
        """Ends Asterisk, removes its logs, its database and sipguard's files, and configures it anew."""
        self._hang_up()
        if self.running():
            self.kill()  # an orderly stop takes a second
        self._process = None
        self.check(
            # what a run that was killed has left in the logs as well
            [
                "sh",
                "-c",
                f"rm -rf {_LOGS}/* {_LOGS}/.sipguard-* /var/lib/asterisk/astdb* /var/lib/sipguard /etc/sipguard /run/sipguard*",
            ]
        )
        self.configure(files or {})

    def boot(self, files: Mapping[str, str | bytes]) -> None:
        """`reset` and `start`."""
        self.reset(files)
        self.start()

    def start(self, as_root: bool = False) -> None:
        """Starts Asterisk, as its own user unless told otherwise, and returns when it has fully booted."""
        assert not self.running(), "Asterisk runs already"
        user = [] if as_root else ["-U", "asterisk", "-G", "asterisk"]
        argv = self.argv(["asterisk", "-f", *user])
        self.run(["rm", "-f", "/run/asterisk/asterisk.ctl"])
        socket_there = Path(f"/proc/{self.pid}/root/run/asterisk/asterisk.ctl").exists
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet, cwd="/")
        assert eventually(lambda: not self.running() or socket_there(), pause=0.01)
        booted = eventually(lambda: not self.running() or "fully booted" in self.cli("core waitfullybooted"))
        assert booted, f"Asterisk has not booted\n{self.log()[-4000:]}"
        assert self.running(), f"Asterisk has not started\n{self.log()[-4000:]}"

    def stop(self) -> None:
        """Stops Asterisk, if it runs, without waiting for calls."""
        if self._process is None:
            return
        if self.running():
            self.cli("core stop now")
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends Asterisk as a crash does."""
        assert self._process is not None
        self.run(["sh", "-c", "kill -9 $(cat /run/asterisk/asterisk.pid)"])
        self._process.wait(PATIENCE)
        self._process = None

    def restart(self) -> None:
        """Stops Asterisk, if it runs, and starts it."""
        self.stop()
        self.start()

    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def cli(self, command: str) -> str:
        """What Asterisk's command line prints, on either output, without the remark that the container has no network card."""
        done = self.run(["asterisk", "-rx", command])
        lines = (done.stdout + done.stderr).splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("No ethernet interface"))

    # -- modules of the collection

    def module_argv(
        self, name: str, options: Mapping[str, Any], *, check: bool = False, diff: bool = True
    ) -> list[str]:
        """The command of a module run, for `spawn`, with its arguments in a file that only root may read."""
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": diff}
        path = f"/root/arguments-{next(self._numbers)}.json"
        self.write(path, json.dumps({"ANSIBLE_MODULE_ARGS": arguments}), owner="root", mode=0o600)
        return ["python3", "-m", f"{_OURS}.plugins.modules.{name}".replace("/", "."), path]

    def module(
        self, name: str, options: Mapping[str, Any], *, check: bool = False, diff: bool = True
    ) -> dict[str, Any]:
        """The result of a module run inside by the container's own Python, failed or not."""
        argv = self.module_argv(name, options, check=check, diff=diff)
        done = self.run(argv)
        self.run(["rm", argv[-1]])
        try:
            result: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise AssertionError(f"the module ended with {done.returncode}\n{done.stdout}\n{done.stderr}") from None
        assert bool(result.get("failed")) == (done.returncode != 0), result
        return result

    def apply(self, name: str, options: Mapping[str, Any], *, check: bool = False) -> dict[str, Any]:
        """The result of a module run that must succeed."""
        result = self.module(name, options, check=check)
        assert not result.get("failed"), result
        return result

    def refused(self, name: str, options: Mapping[str, Any]) -> str:
        """The message with which a module run fails; the files are asserted to be as before."""
        before = self.snapshot()
        result = self.module(name, options)
        assert result.get("failed"), result
        assert self.snapshot() == before
        assert "Traceback" not in result["msg"]
        return str(result["msg"])

    def four_runs(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Check, real, check again, real again, with what each must say and leave; the result of the first real run."""
        before = self.snapshot()
        check = self.apply(name, options, check=True)
        assert self.snapshot() == before, "a check run changed something"
        real = self.apply(name, options)
        after = self.snapshot()
        check_again = self.apply(name, options, check=True)
        real_again = self.apply(name, options)
        assert self.snapshot() == after, "an unchanged run changed something"
        runs = (check, real, check_again, real_again)
        assert [run.get("changed") for run in runs] == [True, True, False, False], runs
        assert check["diff"] == real["diff"]
        assert check_again["diff"] == real_again["diff"]
        return real

    def python(self, program: str, *argv: str) -> Any:
        """What a program run by the container's Python prints as JSON; it can import the collection."""
        return json.loads(self.check(["python3", "-c", program, *argv]))

    def snapshot(self) -> dict[str, str]:
        """Everything below /etc/asterisk with owner, mode, inode, time and content; what lies in /var/lib/sipguard by content."""
        script = (
            f"find {_ETC} -printf '%p\\t%y %m %u:%g %i %T@ %l\\n';"
            f"find {_ETC} /var/lib/sipguard -type f -exec sha256sum {{}} + 2>/dev/null || :"
        )
        found: dict[str, str] = {}
        for line in self.run(["sh", "-c", script]).stdout.splitlines():
            path, tab, text = line.partition("\t")
            if not tab:
                text, dummy, path = line.partition("  ")
                path = f"{path} content"
            found[path] = text
        return found

    def digest(self, path: str) -> str:
        """SHA-256 of a file."""
        return hashlib.sha256(self.read_bytes(path)).hexdigest()

    # -- who talks to it

    def socket(self, family: int, kind: int, source: str = "", source_port: int = 0) -> socket.socket:
        """A socket in the container's network, bound to any address."""
        domain = socket.AF_INET6 if family == 6 else socket.AF_INET
        made = in_namespace(self.netns, lambda: socket.socket(domain, kind))
        made.setsockopt(*_FREEBIND[family], 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if source or source_port:
            made.bind((source, source_port))
        return made

    def sip(
        self,
        source: str = "127.0.0.2",
        transport: str = "udp",
        *,
        port: int = 5060,
        source_port: int = 0,
        user: str = "",
        password: str = "",
        name: str = "",
        domain: str = "pbx.example.org",
    ) -> Phone:
        """A telephone at `source`, an address of either family, that speaks to Asterisk by `transport` udp or tcp.

        `name` is who it says it is, by default `user`.
        """
        family = 6 if ":" in source else 4
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        sock = self.socket(family, kind, source, source_port)
        target = ("::1" if family == 6 else "127.0.0.1", port)
        made = Phone(sock, target, user=user, password=password, name=name, domain=domain)
        self._sockets.append(made)
        return made

    def ami(self, port: int = 5038, source: str = "", address: str = "127.0.0.1") -> Ami:
        """A connection to the manager interface, not yet logged in."""
        made = Ami(self.socket(4, socket.SOCK_STREAM, source), (address, port))
        self._sockets.append(made)
        return made

    def _hang_up(self) -> None:
        while self._sockets:
            self._sockets.pop().close()
