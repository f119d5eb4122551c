# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's images: one mmdebstrap run each, imported as a single layer. No registry is asked for anything."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from .engine import Engine
from .paths import CACHE, CHECKOUT, LAB, LabError, locked, progress

__all__ = ["RECIPES", "Recipe", "build", "overlay", "tag", "tree_files"]

_HOST = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "python3-apt",
    "openssh-server",
    "iproute2",
    "iptables",
    "ipset",
    "procps",
    "conntrack",
)
# With what it recommends: without that it polls files, and cannot read the journal.
_FAIL2BAN = ("fail2ban", "python3-pyinotify", "python3-systemd")
_PBX = (*_HOST, "asterisk", "logrotate", *_FAIL2BAN)
_BEFORE = "tmp/lab-before/"
_TOOLS = ("python3", "iproute2", "procps", "sip-tester", "sipsak", "tcpdump")


# Trees that tests without a lab have use for as well.
_ELSEWHERE = {"freepbx": CHECKOUT / "tests/fixtures/freepbx/files"}


@dataclass(frozen=True)
class Recipe:
    """What an image is made of; any change gives it another tag.

    ``trees`` are folders of lab/images (or _ELSEWHERE) laid over the system, in order; a file ``setup`` at a tree's top is run in the
    image at the end, a file ``before`` when only the base system is there, before ``packages`` are set up.
    """

    suite: str
    packages: tuple[str, ...]
    trees: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    command: str = '["/lib/systemd/systemd"]'


RECIPES = {
    "debian11-asterisk16": Recipe("bullseye", _PBX, ("common", "host", "asterisk", "debian11-asterisk16")),
    "sid-asterisk22": Recipe("sid", _PBX, ("common", "host", "asterisk", "sid-asterisk22")),
    # With Debian's own jail for Asterisk, as the package has it.
    "debian11-asterisk16-fail2ban": Recipe(
        "bullseye", (*_PBX, "nftables"), ("common", "host", "asterisk", "debian11-asterisk16", "fail2ban")
    ),
    "sid-asterisk22-fail2ban": Recipe(
        "sid", (*_PBX, "nftables"), ("common", "host", "asterisk", "sid-asterisk22", "fail2ban")
    ),
    # A stand-in for FreePBX 17: its layout and its firewall (docs/freepbx-standin.md) over the Asterisk that it has, of which
    # Debian 12 has none.
    "sid-asterisk22-freepbx17": Recipe(
        "sid", (*_PBX, "php-cli", "php-sqlite3"), ("common", "host", "freepbx", "freepbx17")
    ),
    "debian12": Recipe("bookworm", (*_HOST, *_FAIL2BAN), ("common", "host")),
    # Nothing but the fail2ban of that release, to try filters with.
    "debian13-fail2ban": Recipe("trixie", ("python3", *_FAIL2BAN), ("common",), command='["sleep", "infinity"]'),
    # CrowdSec 1.4.6 with its local API, and nothing of its maker's central one.
    "debian12-crowdsec": Recipe("bookworm", (*_HOST, *_FAIL2BAN, "crowdsec"), ("common", "host", "crowdsec")),
    # A host that hardens itself, with the Ansible of its own distribution.
    "debian13-pull": Recipe("trixie", (*_HOST, "git", "ansible-core"), ("common", "host")),
    "tools": Recipe("bookworm", _TOOLS, ("common", "tools"), ("sipvicious==0.3.8",), '["sleep", "infinity"]'),
}


def tree_files(recipe: Recipe) -> dict[str, tuple[int, bytes]]:
    """Path in the image -> mode and content, later trees over earlier ones; their ``setup`` files side by side."""
    # so that the loop over the setup files always has one
    found: dict[str, tuple[int, bytes]] = {"tmp/lab-setup/0000": (0o644, b"true\n")}
    for tree in recipe.trees:
        root = _ELSEWHERE.get(tree, LAB / "images" / tree)
        for path in sorted(root.rglob("*")):
            if path.is_file():
                name = str(path.relative_to(root))
                if name in ("setup", "before"):
                    name = f"tmp/lab-{name}/{len(found):04d}-{tree}"
                found[name] = (0o755 if os.access(path, os.X_OK) else 0o644, path.read_bytes())
    return found


def tag(name: str) -> str:
    """The image's full name: ``localhost/sipguard-lab/NAME:HASH``, HASH over the recipe and the content of its trees."""
    recipe = RECIPES[name]
    digest = hashlib.sha256(json.dumps([_build_script(), asdict(recipe)], sort_keys=True).encode())
    for path, (mode, content) in sorted(tree_files(recipe).items()):
        digest.update(f"{path}\0{mode}\0{len(content)}\0".encode() + content)
    return f"localhost/sipguard-lab/{name}:{digest.hexdigest()[:12]}"


def _build_script() -> list[str]:
    """mmdebstrap's options that all images share; {work} is the folder with the overlay."""
    return [
        "--variant=minbase",
        # a mirror may be a snapshot, and a lab is not kept up to date anyway
        '--aptopt=Acquire::Check-Valid-Until "false"',
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--customize-hook=tar-in '{work}/overlay.tar' /",
        '--customize-hook=chroot "$1" sh -ec "for s in /tmp/lab-setup/*; do sh -e \\$s; done; rm -rf /tmp/lab-setup"',
    ]


def _before_options(recipe: Recipe, work: Path) -> list[str]:
    """mmdebstrap's options that run the trees' ``before`` files, in order."""
    options = []
    for path, (dummy, content) in sorted(tree_files(recipe).items()):
        if path.startswith(_BEFORE):
            script = work / path.replace("/", "-")
            script.write_bytes(content)
            options.append(f"--essential-hook=chroot \"$1\" sh -e < '{script}'")
    return options


def overlay(recipe: Recipe, work: Path) -> None:
    """Write work/overlay.tar: the trees, owned by root, and what pip brings."""
    files = {path: entry for path, entry in tree_files(recipe).items() if not path.startswith(_BEFORE)}
    if recipe.pip:
        target = work / "pip"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-compile",
                "--target",
                str(target),
                *recipe.pip,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"pip install {' '.join(recipe.pip)}: {done.stderr.strip()}")
        for path in sorted(target.rglob("*")):
            if path.is_file():
                files[f"opt/pip/{path.relative_to(target)}"] = (0o644, path.read_bytes())
    with tarfile.open(work / "overlay.tar", "w") as tar:
        for name, (mode, content) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = mode, len(content)
            tar.addfile(entry, io.BytesIO(content))


def _build_one(engine: Engine, name: str) -> None:
    recipe, wanted = RECIPES[name], tag(name)
    log = CACHE / "log" / f"image-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / "lock" / f"image-{name}"):
        if engine.call("image", "inspect", wanted).returncode == 0:
            return
        work = CACHE / "build" / name
        shutil.rmtree(work, ignore_errors=True)  # of a build that was killed
        work.mkdir(parents=True)
        with progress(f"image {name} (Debian {recipe.suite})"):
            overlay(recipe, work)
            argv = [
                "mmdebstrap",
                *(option.replace("{work}", str(work)) for option in _build_script()),
                *_before_options(recipe, work),
                f"--include={','.join(recipe.packages)}",
                recipe.suite,
                str(work / "image.tar"),
            ]
            with log.open("w") as out:
                status = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False
                ).returncode
            if status:
                tail = log.read_text(errors="replace").splitlines()[-15:]
                raise LabError("\n".join([f"mmdebstrap failed for {name}; the whole log is {log}", *tail]))
            engine.run(*engine.import_args(work / "image.tar", wanted, recipe.command))
        shutil.rmtree(work)
        _forget_older(engine, name, wanted)


def _forget_older(engine: Engine, name: str, wanted: str) -> None:
    """Remove the image's earlier versions; the engine itself keeps those that a container uses."""
    for line in engine.run("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
        if line.startswith(f"localhost/sipguard-lab/{name}:") and line != wanted:
            engine.call("rmi", line)


def build(engine: Engine, names: Iterable[str]) -> dict[str, str]:
    """Build what is missing of the named images, two at a time; returns name -> tag."""
    names = sorted(set(names))
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise LabError(f"no image is called {unknown[0]!r}: one of {', '.join(RECIPES)} expected")
    tags = {name: tag(name) for name in names}
    missing = [name for name in names if engine.call("image", "inspect", tags[name]).returncode]
    # the slow ones first
    missing.sort(key=lambda name: "asterisk" not in RECIPES[name].packages)
    with ThreadPoolExecutor(max_workers=2) as pool:
        for dummy in pool.map(lambda name: _build_one(engine, name), missing):
            pass
    return tags
