# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local API of a real CrowdSec (Debian's 1.4.6) in a container without network and without systemd, and PBXs that share bans by it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import images
from lab.engine import detect

from .harness import CHECKOUT, eventually

__all__ = ["IMAGE", "Lapi", "Member"]

IMAGE = "debian12-crowdsec"
# Removed with what a crashed run of the tests beside these has left, see tests.asterisk.harness.remove_stale.
_LABELS = {"org.sipguard.lab": "asterisktests"}
_IDLE = "while :; do sleep 3600 & wait $!; done"
_CODE = "/opt/under-test"
_HOME = "/run/lapi"
_CONFIG = f"{_HOME}/config.yaml"

# Debian's own configuration, with a database of our own, logs where they are seen, and without "online_client": no central API.
_YAML = """\
common: {{daemonize: false, log_media: stdout, log_level: info}}
config_paths:
  config_dir: /etc/crowdsec/
  data_dir: /var/lib/crowdsec/data/
  simulation_path: /etc/crowdsec/simulation.yaml
  hub_dir: /var/lib/crowdsec/hub/
  index_path: /var/lib/crowdsec/hub/.index.json
  notification_dir: /etc/crowdsec/notifications/
  plugin_dir: /usr/lib/crowdsec/plugins/
cscli: {{output: human}}
db_config: {{type: sqlite, db_path: {home}/crowdsec.db, use_wal: true}}
api:
  client: {{credentials_path: {home}/credentials.yaml}}
  server:
    log_level: info
    listen_uri: 127.0.0.1:8080
    profiles_path: /etc/crowdsec/profiles.yaml
{tls}
prometheus: {{enabled: false}}
"""

# A Fleet in the container: takes orders as lines of JSON, and tells what it is told as such.
_DRIVER = """
import asyncio, ipaddress, json, sys
from ansible_collections.sipguard.pbx.plugins.module_utils._host.sipban.crowdsec import CrowdSec, Fleet

def tell(**what):
    print(json.dumps(what), flush=True)

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    given = json.loads(await reader.readline())
    fleet = Fleet(
        CrowdSec(**given['settings']), lambda: given['password'], lambda: given['key'],
        lambda network, seconds, comment: tell(ban=str(network), seconds=seconds, comment=comment),
        lambda network: tell(unban=str(network)),
        lambda priority, line: tell(priority=priority, line=line),
        loop,
    )
    fleet.start()
    while order := await reader.readline():
        order = json.loads(order)
        what = [ipaddress.ip_network(text) for text in order['what']]
        for each in what:
            if order['do'] == 'publish':
                fleet.publish(each, order['seconds'], order['reason'])
            else:
                fleet.withdraw(each)
        tell(status=fleet.status())
    fleet.stop()

asyncio.run(main())
"""


class Lapi:
    """A container with the LAPI at 127.0.0.1:8080, at first not running. To be closed, or used as a context."""

    def __init__(self) -> None:
        self._engine = detect()
        image = images.build(self._engine, [IMAGE])[IMAGE]
        self.container = f"sipguard-asterisktests-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._members: list[Member] = []
        started = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
        labels = {**_LABELS, "org.sipguard.lab.owner": f"{os.getpid()}.{started}"}
        argv = ["run", "--detach", "--network", "none", "--name", self.container]
        argv += [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
        argv += ["--volume", f"{CHECKOUT}:{_CODE}/ansible_collections/sipguard/pbx:ro"]
        self._engine.run(*argv, image, "sh", "-c", _IDLE)
        try:
            pid = self._engine.run("inspect", "--format", "{{.State.Pid}}", self.container)
            self._enter = ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Lapi:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the container with everything in it."""
        self._dismiss()
        self._engine.run("rm", "-f", "-v", "--time", "0", self.container)
        if self._process:
            self._process.wait()

    def argv(self, argv: Sequence[str]) -> list[str]:
        """A command as it has to be started to run inside, as root."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return [*self._enter, "env", "-i", f"PATH={path}", "LC_ALL=C.UTF-8", f"PYTHONPATH={_CODE}", *argv]

    def check(self, argv: Sequence[str], stdin: str = "") -> str:
        """What a command prints that must succeed."""
        done = subprocess.run(
            self.argv(argv), input=stdin, capture_output=True, text=True, check=False, timeout=60, errors="replace"
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, content: str) -> None:
        """Writes a file below /run/lapi."""
        self.check(["sh", "-c", 'umask 077; cat > "$1"', "sh", f"{_HOME}/{path}"], content)

    def cscli(self, *argv: str) -> str:
        """What CrowdSec's own command says; what it logs is left out."""
        return self.check(["cscli", "-c", _CONFIG, *argv])

    def decisions(self) -> list[dict[str, Any]]:
        """What stands, with the alert's message and machine; `cscli decisions list` tells only one of each address."""
        alerts = json.loads(self.cscli("alerts", "list", "--limit", "1000", "-o", "json")) or []
        return [
            {**each, "message": alert["message"], "machine": alert["machine_id"]}
            for alert in alerts
            for each in alert["decisions"] or []
            if not each["duration"].startswith("-")
        ]

    def reset(self, *, tls: str = "") -> None:
        """Ends it, forgets everything, and makes anew: machines pbx1 and pbx2, with a bouncer's key each, and cscli's own.

        `tls` is a certificate with its key.
        """
        self._dismiss()
        if self.running():
            self.kill()
        self.check(["sh", "-c", f"rm -rf {_HOME} && mkdir -m 700 {_HOME}"])
        files = f"    tls: {{cert_file: {_HOME}/tls.pem, key_file: {_HOME}/tls.pem}}"
        self.write("config.yaml", _YAML.format(home=_HOME, tls=files if tls else ""))
        self.write("tls.pem", tls)
        for machine, target in (("cscli", f"{_HOME}/credentials.yaml"), ("pbx1", "/dev/null"), ("pbx2", "/dev/null")):
            self.cscli("machines", "add", machine, "--password", f"password-of-{machine}", "-f", target)
            if machine != "cscli":
                self.cscli("bouncers", "add", machine, "-k", f"key-of-{machine}")

    def start(self) -> None:
        """Starts it, and returns when it listens."""
        log = open(f"/proc/{self._enter[1].partition('=')[2]}/root{_HOME}/log", "ab")  # noqa: SIM115
        with log:
            self._process = subprocess.Popen(
                self.argv(["crowdsec", "-c", _CONFIG, "-no-cs"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        listens = ["sh", "-c", "ss -Hltn sport = :8080"]
        assert eventually(lambda: not self.running() or "8080" in self.check(listens), pause=0.02), self.log()
        assert self.running(), self.log()

    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Ends it as a crash does."""
        assert self._process is not None
        self.check(["sh", "-c", "kill -9 $(ps -C crowdsec -o pid=)"])
        self._process.wait(20)

    def log(self) -> str:
        """What it has logged since `reset`."""
        return self.check(["cat", f"{_HOME}/log"])

    def member(self, machine: str, password: str = "", key: str = "", **settings: Any) -> Member:
        """A PBX of the fleet, its Fleet at work."""
        given = {
            "settings": {"url": "http://127.0.0.1:8080", "machine_id": machine, "interval": 1, **settings},
            "password": password or f"password-of-{machine}",
            "key": key or f"key-of-{machine}",
        }
        made = Member(self.argv(["python3", "-c", _DRIVER]), given)
        self._members.append(made)
        return made

    def _dismiss(self) -> None:
        while self._members:
            self._members.pop().close()


class Member:
    """A PBX with what it was told: bans as (network, seconds, comment), unbans, lines."""

    def __init__(self, argv: list[str], given: dict[str, Any]) -> None:
        self.told: list[dict[str, Any]] = []
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._order(given)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.told.append(json.loads(line))

    def _order(self, order: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    @property
    def bans(self) -> list[tuple[str, int, str]]:
        return [(each["ban"], each["seconds"], each["comment"]) for each in list(self.told) if "ban" in each]

    @property
    def unbans(self) -> list[str]:
        return [each["unban"] for each in list(self.told) if "unban" in each]

    @property
    def lines(self) -> list[str]:
        return [each["line"] for each in list(self.told) if "line" in each]

    def publish(self, *what: str, seconds: int = 3600, reason: str = "wrong password") -> dict[str, Any]:
        """Has it publish bans; the status right afterwards."""
        return self._ask({"do": "publish", "what": what, "seconds": seconds, "reason": reason})

    def withdraw(self, *what: str) -> dict[str, Any]:
        """Has it take back what it has published."""
        return self._ask({"do": "withdraw", "what": what})

    def status(self) -> dict[str, Any]:
        return self._ask({"do": "nothing", "what": []})

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        before = sum("status" in each for each in list(self.told))
        self._order(order)
        assert eventually(lambda: sum("status" in each for each in list(self.told)) > before, pause=0.002)
        found: dict[str, Any] = [each["status"] for each in list(self.told) if "status" in each][-1]
        return found

    def reached(self) -> bool:
        """Whether it gets into touch in time."""
        return eventually(lambda: bool(self.status()["reachable"]), pause=0.02)

    def close(self) -> None:
        """Ends it; the thread has to end by itself."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)
        self._reader.join(20)
        assert self._process.stdout
        self._process.stdout.close()
