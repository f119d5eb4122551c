# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Raspberry Pi for the lab: a whole arm64 machine under QEMU's emulation, with Debian's own kernel and its modules.

``python3 -m lab.pi build`` makes the image from Debian's packages; ``python3 -m lab.pi run`` boots one to play with. What it has
in common with a real one, and what it has not, is on docs/guides/raspberry-pi.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from . import images
from .paths import CACHE, LAB, LabError, locked, progress, say

__all__ = ["ADDRESS4", "ADDRESS6", "Image", "Pi", "build", "fingerprint", "network", "qemu_argv", "startup_seconds"]

# On the network of phones and strangers, as lab/images/pi/etc/network/interfaces has it; the machine that runs the lab is 1 there.
ADDRESS4, ADDRESS6 = "10.213.76.11", "fd5a:9c1e:77d2:76::11"
_NEIGHBOUR4, _NEIGHBOUR6 = "10.213.76.1/24", "fd5a:9c1e:77d2:76::1/64"

# Debian 12 has no Asterisk. Debian 11's installs on it, with two libraries of Debian 11: the least that is not Debian 12.
_RECIPE = images.Recipe(
    "bookworm",
    (
        # what Raspberry Pi OS Lite has, as far as it concerns anybody here; nftables and no iptables
        *("init", "systemd-sysv", "udev", "dbus", "libpam-systemd", "kmod", "procps", "sudo", "nano", "less", "cron"),
        *(
            "ifupdown",
            "isc-dhcp-client",
            "iproute2",
            "iputils-ping",
            "netbase",
            "nftables",
            "logrotate",
            "openssh-server",
        ),
        *(
            "python3",
            "python3-apt",
            "ca-certificates",
            "systemd-zram-generator",
            "initramfs-tools",
            "linux-image-arm64",
        ),
        # what makes it a PBX
        *("asterisk", "asterisk-core-sounds-en-gsm", "fail2ban", "python3-systemd", "python3-pyinotify"),
    ),
    ("common", "asterisk", "debian11-asterisk16", "pi"),
)
# What the role installs, as files: the machine reaches no mirror.
_KEPT = ("iptables", "ipset")
_OLDER = "bullseye"
_PIN = f"Package: *\\nPin: release n={_OLDER}*\\nPin-Priority: 100\\n"
_ROOT_SIZE = "4G"  # sparse: what is not written takes no place
_FIRMWARE_KIB = 64 * 1024

_MEMORY_MIB = 1024
_CORES = 2
# A Pi's firmware adds the last word by itself, unless cmdline.txt says otherwise.
_COMMAND_LINE = "root=/dev/vda rw rootfstype=ext4 console=ttyAMA0 net.ifnames=0 quiet cgroup_disable=memory"

_BOOT_SECONDS = 900
_STOP_SECONDS = 180
_LOCK = Path("/run/lock/sipguard-lab-pi")
_TOOLS = {
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-img": "qemu-utils",
    "/usr/bin/qemu-aarch64-static": "qemu-user-static",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mmdebstrap": "mmdebstrap",
}
# An ELF header of a little-endian 64-bit program (or library) for AArch64, and which of its bits count (elf.h: EM_AARCH64 is 183).
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# Runs "$@" while the kernel starts programs for arm64 by QEMU's user emulation. binfmt_misc is mounted in a mount namespace of its
# own; what is registered there counts for the whole machine until it is removed, and a machine that has it already is left alone.
# F opens the emulator now, so that it need not be in the tree.
_EMULATED = f"""
cd /proc/sys/fs
[ -e binfmt_misc/register ] || mount -t binfmt_misc none binfmt_misc
if ! grep -qs '^magic 7f454c460201010000000000000000000200b700' binfmt_misc/*; then
    printf '%s' ':sipguard-lab:M::{_MAGIC}:{_MASK}:/usr/bin/qemu-aarch64-static:OF' > binfmt_misc/register
    trap 'echo -1 > /proc/sys/fs/binfmt_misc/sipguard-lab' EXIT
    trap 'exit 1' INT TERM
fi
"$@"
"""


@dataclass(frozen=True)
class Image:
    """What a machine starts from; none of it is ever written to again."""

    root: Path
    kernel: Path
    initrd: Path

    @classmethod
    def at(cls, folder: Path) -> Image:
        return cls(folder / "root.img", folder / "vmlinuz", folder / "initrd.img")

    def complete(self) -> bool:
        return all(path.exists() for path in (self.root, self.kernel, self.initrd))


# -- the image


def _script(work: Path) -> list[str]:
    """mmdebstrap's command line; ``work`` holds the overlay and gets the tree."""
    older = (
        f'sed -n "s/ {_RECIPE.suite} main/ {_OLDER} main/p" "$1/etc/apt/sources.list" '
        f'> "$1/etc/apt/sources.list.d/{_OLDER}.list"; printf "{_PIN}" > "$1/etc/apt/preferences.d/lab"'
    )
    kept = (
        'mkdir -p "$1/srv/packages/partial"; APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -q -y -o Dir::Cache::archives="$1/srv/packages" '
        f"install --download-only --no-install-recommends {' '.join(_KEPT)}"
    )
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--arch=arm64",
        "--format=directory",
        # the kernel is asked for it below, in this process's own mount namespace
        "--skip=check/qemu",
        '--aptopt=Acquire::Check-Valid-Until "false"',
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--setup-hook={older}",
        # before the kernel's package makes its initramfs
        f"--essential-hook=copy-in '{LAB}/images/pi/etc/initramfs-tools' /etc",
        f"--customize-hook={kept}",
        f"--customize-hook=tar-in '{work}/overlay.tar' /",
        '--customize-hook=chroot "$1" sh -ec "for s in /tmp/lab-setup/*; do sh -e \\$s; done; rm -rf /tmp/lab-setup"',
        f"--include={','.join(_RECIPE.packages)}",
        _RECIPE.suite,
        str(work / "tree"),
    ]


def fingerprint() -> str:
    """A hash of all that goes into the image, but for the versions that Debian has on that day."""
    what = [_script(Path("/work")), asdict(_RECIPE), _ROOT_SIZE]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).replace(str(LAB), "").encode())
    for path, (mode, content) in sorted(images.tree_files(_RECIPE).items()):
        digest.update(f"{path}\0{mode}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def _call(*argv: str, log: Path | None = None) -> str:
    """Run a program and return what it said, on either stream; LabError with its last lines when it fails. ``log`` gets a copy."""
    with tempfile.TemporaryFile() if log is None else log.open("w+b") as out:
        status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False).returncode
        out.seek(0)
        said = out.read().decode(errors="replace")
    if status:
        tail = said.splitlines()[-15:]
        whole = [] if log is None else [f"(the whole log is {log})"]
        raise LabError("\n".join([f"{argv[0]} failed with status {status}:", *tail, *whole]))
    return said


def build() -> Image:
    """The image, built if it is not there yet: some 20 minutes on two cores. Images of older recipes are removed."""
    folder = CACHE / "pi" / fingerprint()
    image = Image.at(folder)
    # one at a time on the whole machine: the kernel's list of emulators is everybody's
    with locked(_LOCK):
        if image.complete():
            return image
        for tool, package in _TOOLS.items():
            if shutil.which(tool) is None and not Path(tool).exists():
                raise LabError(f"{tool} is missing: apt-get install {package}")
        shutil.rmtree(CACHE / "pi", ignore_errors=True)
        work = CACHE / "pi" / "work"
        work.mkdir(parents=True)
        log = CACHE / "log" / "image-pi.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with progress(f"image pi (Debian {_RECIPE.suite}, arm64)"):
            images.overlay(_RECIPE, work)
            _call(
                "unshare", "--mount", "--propagation", "private", "sh", "-ec", _EMULATED, "sh", *_script(work), log=log
            )
        made = Image.at(work)
        with progress("image pi: file system"):
            for kind, target in (("vmlinuz", made.kernel), ("initrd.img", made.initrd)):
                shutil.copyfile(next((work / "tree/boot").glob(f"{kind}-*")), target)
            _call("mke2fs", "-q", "-t", "ext4", "-L", "rootfs", "-d", str(work / "tree"), str(made.root), _ROOT_SIZE)
        shutil.rmtree(work / "tree")
        (work / "overlay.tar").unlink()
        work.rename(folder)
    return image


# -- the machine


def qemu_argv(
    image: Image, disk: Path, firmware: Path, console: Path, ssh_port: int, tap: str = "", clock: str = ""
) -> list[str]:
    """QEMU's command line for a machine of a Raspberry Pi's class: four words of hardware, two disks, two networks.

    ``ssh_port`` of this machine's loopback leads to its SSH. ``tap`` is the network device of phones and strangers; without one,
    nobody is there. ``clock`` is what time it believes it is (2024-01-31T23:59:59), instead of the truth.
    """
    neighbours = f"tap,id=n1,ifname={tap},script=no,downscript=no" if tap else "user,id=n1,restrict=on"
    return [
        "qemu-system-aarch64",
        *("-machine", "virt", "-cpu", "cortex-a53", "-smp", str(_CORES), "-m", str(_MEMORY_MIB)),
        *("-accel", "tcg,thread=multi"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _COMMAND_LINE),
        *("-drive", f"if=none,id=d0,format=qcow2,file={_escaped(disk)}", "-device", "virtio-blk-pci,drive=d0"),
        *("-drive", f"if=none,id=d1,format=raw,file={_escaped(firmware)}", "-device", "virtio-blk-pci,drive=d1"),
        *("-netdev", f"user,id=n0,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:{ssh_port}-:22"),
        *("-device", "virtio-net-pci,netdev=n0,romfile="),
        *("-netdev", neighbours, "-device", "virtio-net-pci,netdev=n1,romfile="),
        *("-device", "virtio-rng-pci"),
        *(("-rtc", f"base={clock}") if clock else ()),
        *("-display", "none", "-monitor", "none", "-serial", f"file:{console}"),
    ]


def _escaped(path: Path) -> str:
    """A path as a value among QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


def startup_seconds(said: str) -> dict[str, float]:
    """What ``systemd-analyze time`` says, in seconds: ``kernel``, ``userspace`` and so on, their sum as ``total``, and ``target``,
    after which the default target was reached, from the kernel's start.

    Raises ValueError for a machine that has not finished starting.
    """
    parts = {name: _seconds(span) for span, name in re.findall(r"([\d.a-z ]+?) \((\w+)\)", said.partition("\n")[0])}
    total = re.search(r" = ([\d.a-z ]+)", said)
    if not parts or total is None:
        raise ValueError(f"systemd-analyze says: {said.strip()}")
    found = {**parts, "total": _seconds(total[1])}
    target = re.search(r"reached after ([\d.a-z ]+) in userspace", said)
    if target is not None:
        found["target"] = sum(parts.values()) - parts["userspace"] + _seconds(target[1])
    return found


def _seconds(span: str) -> float:
    """A time span as systemd writes it (systemd.time(7)): ``1min 2.345s``, ``900ms``."""
    units = {"min": 60.0, "s": 1.0, "ms": 0.001, "us": 0.000001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(min|ms|us|s)\b", span))


@contextlib.contextmanager
def network(tap: str = "pi0") -> Iterator[str]:
    """A network device for the machine, on which this one has the first address of each family."""
    _call("ip", "tuntap", "add", "dev", tap, "mode", "tap")
    try:
        _call("ip", "link", "set", tap, "up")
        _call("ip", "address", "add", _NEIGHBOUR4, "dev", tap)
        _call("ip", "address", "add", _NEIGHBOUR6, "dev", tap, "nodad")
        yield tap
    finally:
        _call("ip", "link", "delete", tap)


class Pi:
    """One machine: its disk, which is the image's with what it has written itself, its keys, and its QEMU.

    ``folder`` is its own, and short: the path of a socket has at most 107 characters. What it does is in ``console`` there.
    """

    def __init__(self, image: Image, folder: Path, tap: str = "") -> None:
        self.image, self.folder, self.tap = image, folder, tap
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port()
        self._disk, self._firmware = folder / "disk.qcow2", folder / "firmware.img"
        self.console = folder / "console"
        self._key, self._known, self._socket = folder / "id_ed25519", folder / "known_hosts", folder / "ssh"
        self._make_keys()
        _call("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.root), str(self._disk))

    def _make_keys(self) -> None:
        """A key to log in with and the machine's own; it finds both on its boot partition, as a real Pi finds what it is given."""
        boot = self.folder / "boot"
        (boot / "lab").mkdir(parents=True)
        for path in (self._key, boot / "lab" / "ssh_host_ed25519_key"):
            _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sipguard-lab-pi", "-f", str(path))
        shutil.copyfile(self._key.with_suffix(".pub"), boot / "lab" / "authorized_keys")
        public = (boot / "lab" / "ssh_host_ed25519_key.pub").read_text(encoding="ascii")
        self._known.write_text(f"[127.0.0.1]:{self._port} {' '.join(public.split()[:2])}\n", encoding="ascii")
        (boot / "config.txt").write_text("arm_64bit=1\n", encoding="ascii")
        (boot / "cmdline.txt").write_text(f"{_COMMAND_LINE.removesuffix(' cgroup_disable=memory')}\n", encoding="ascii")
        _call("mkfs.vfat", "-C", "-n", "BOOTFS", str(self._firmware), str(_FIRMWARE_KIB))
        _call("mcopy", "-i", str(self._firmware), "-s", *map(str, sorted(boot.iterdir())), "::/")
        shutil.rmtree(boot)

    # -- on and off

    def switch_on(self, clock: str = "") -> float:
        """Start it and wait until it has booted; returns the seconds it took until SSH let somebody in.

        ``clock`` is the time it believes it is, as of a machine without a battery for its clock.
        """
        argv = qemu_argv(self.image, self._disk, self._firmware, self.console, self._port, self.tap, clock)
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self._wait_booted()

    def _wait_booted(self, earlier: str = "") -> float:
        """Wait for a boot other than ``earlier`` (its boot_id)."""
        started = time.monotonic()
        while True:
            self._forget_connection()
            done = self.call("cat /proc/sys/kernel/random/boot_id", timeout=60)
            if done.returncode == 0 and done.stdout.strip() not in ("", earlier):
                break
            self._check_alive()
            if time.monotonic() - started > _BOOT_SECONDS:
                raise LabError(f"no SSH after {_BOOT_SECONDS} s: {done.stderr.strip()}\n{self._last_words()}")
            time.sleep(1)
        took = time.monotonic() - started
        # degraded is for the tests to see
        self.call("systemctl is-system-running --wait", timeout=_BOOT_SECONDS)
        return took

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            said = (self.folder / "qemu.log").read_text(encoding="utf-8", errors="replace")
            raise LabError(f"QEMU has ended: {said.strip()}\n{self._last_words()}")

    def _last_words(self) -> str:
        text = self.console.read_text(encoding="utf-8", errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-15:])

    def reboot(self) -> float:
        """Have it reboot by itself; returns the seconds until SSH let somebody in again."""
        before = self.run("cat /proc/sys/kernel/random/boot_id").strip()
        self.call("systemctl reboot", timeout=60)
        return self._wait_booted(before)

    def pull_the_plug(self) -> None:
        """End it as a power cut does: nothing that is not on the disk yet gets there."""
        self._forget_connection()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def switch_off(self) -> None:
        """Shut it down in order; by the plug where that does not work in time."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.call("systemctl poweroff", timeout=60)
            self._process.wait(_STOP_SECONDS)
        self.pull_the_plug()

    # -- SSH

    def _options(self) -> list[str]:
        settings = (
            f"UserKnownHostsFile={self._known}",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "ServerAliveInterval=30",
            "ServerAliveCountMax=10",
        )
        return [word for setting in settings for word in ("-o", setting)]

    def _forget_connection(self) -> None:
        if self._socket.exists():
            subprocess.run(
                ["ssh", "-F", "none", "-O", "exit", "-S", str(self._socket), "pi"], capture_output=True, check=False
            )
            self._socket.unlink(missing_ok=True)

    def ssh_argv(self) -> list[str]:
        """ssh to it as user pi; the connection stays open for the next."""
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=1800", "-S", str(self._socket)]
        reach = ["-o", "ConnectTimeout=30", "-p", str(self._port), "-i", str(self._key), "pi@127.0.0.1"]
        return ["ssh", "-F", "none", *self._options(), *shared, *reach]

    def call(self, command: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a shell's command line as root, to its end or for ``timeout`` seconds; the caller looks at the exit status (255: no SSH)."""
        argv = [*self.ssh_argv(), f"sudo -n sh -c {shlex.quote(command)}"]
        try:
            return subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 255, "", f"nothing within {timeout:.0f} s")

    def run(self, command: str, timeout: float = 300) -> str:
        """What a command line prints; LabError when it fails."""
        done = self.call(command, timeout)
        if done.returncode:
            raise LabError(f"pi: {command}: status {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def ansible(self) -> dict[str, object]:
        """Ansible's variables for it. Everything takes long there: long patience, one connection, no copied files."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self._port,
            "ansible_user": "pi",
            "ansible_ssh_private_key_file": str(self._key),
            "ansible_ssh_common_args": shlex.join(self._options()),
            "ansible_ssh_timeout": 120,
            "ansible_ssh_pipelining": True,
            "ansible_python_interpreter": "/usr/bin/python3",
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- the command


def _run() -> None:
    """Boot one, say how to reach it, and keep it until interrupted."""
    with tempfile.TemporaryDirectory(prefix="sipguard-pi-") as folder:
        machine = Pi(build(), Path(folder))
        try:
            with progress("starting the Pi"):
                machine.switch_on()
            print(shlex.join(machine.ssh_argv()), flush=True)
            say("  Ctrl-C switches it off; nothing of it is kept")
            signal.pause()
        finally:
            machine.switch_off()


def main(argv: list[str]) -> int:
    """Build the image or run a machine; the exit status is 0, or 1 (it failed, and said why)."""
    parser = argparse.ArgumentParser(prog="lab.pi", description="A Raspberry Pi, emulated as a whole.")
    parser.add_argument(
        "command", choices=("build", "run"), help="build: the image; run: boot one and say how to reach it"
    )
    args = parser.parse_args(argv)
    try:
        if args.command == "build":
            print(build().root.parent)
        else:
            _run()
    except LabError as error:
        say(f"lab: {error}")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
