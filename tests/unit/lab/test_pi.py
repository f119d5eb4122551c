# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated Raspberry Pi: what it is started with, and what it says of its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import images, pi
from lab.paths import LAB

IMAGE = pi.Image.at(Path("/cache/0123"))


def argv(tap: str = "", disk: str = "/run/disk.qcow2") -> list[str]:
    return pi.qemu_argv(IMAGE, Path(disk), Path("/run/firmware.img"), Path("/run/console"), 2222, tap)


def test_machine_is_of_a_pis_class() -> None:
    line = " ".join(argv())
    assert line.startswith("qemu-system-aarch64 -machine virt -cpu cortex-a53 -smp 2 -m 1024 ")
    assert "cgroup_disable=memory" in line
    assert "-kernel /cache/0123/vmlinuz -initrd /cache/0123/initrd.img" in line


def test_image_is_never_written_to() -> None:
    drives = [word for word in argv() if word.startswith("if=none")]
    assert drives == [
        "if=none,id=d0,format=qcow2,file=/run/disk.qcow2",
        "if=none,id=d1,format=raw,file=/run/firmware.img",
    ]


def test_comma_in_a_path_is_no_option() -> None:
    assert "if=none,id=d0,format=qcow2,file=/run/a,,b/disk" in argv(disk="/run/a,b/disk")


def test_only_loopback_leads_to_its_ssh_and_nothing_leads_out() -> None:
    networks = [word for word in argv() if word.startswith(("user,", "tap,"))]
    assert networks == ["user,id=n0,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22", "user,id=n1,restrict=on"]
    assert "tap,id=n1,ifname=pi0,script=no,downscript=no" in argv("pi0")


def test_clock_is_the_truth_unless_told_otherwise() -> None:
    assert "-rtc" not in argv()
    wrong = pi.qemu_argv(IMAGE, Path("d"), Path("f"), Path("c"), 2222, clock="2025-01-01T00:00:00")
    assert "-rtc base=2025-01-01T00:00:00" in " ".join(wrong)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "Startup finished in 6.254s (kernel) + 24.918s (userspace) = 31.173s \n"
            "graphical.target reached after 24.5s in userspace.\n",
            {"kernel": 6.254, "userspace": 24.918, "total": 31.173, "target": 30.754},
        ),
        (
            "Startup finished in 900ms (kernel) + 1min 2.5s (userspace) = 1min 3.4s\n"
            "multi-user.target reached after 1min 1s in userspace\n",
            {"kernel": 0.9, "userspace": 62.5, "total": 63.4, "target": 61.9},
        ),
        (
            "Startup finished in 2s (kernel) + 1s (initrd) + 3s (userspace) = 6s \n",
            {"kernel": 2.0, "initrd": 1.0, "userspace": 3.0, "total": 6.0},
        ),
    ],
)
def test_time_of_the_start_is_read(said: str, expected: dict[str, float]) -> None:
    assert pi.startup_seconds(said) == pytest.approx(expected)


def test_machine_that_is_still_starting_has_no_time() -> None:
    with pytest.raises(ValueError, match="Bootup is not yet finished"):
        pi.startup_seconds(
            "Bootup is not yet finished (org.freedesktop.systemd1.Manager.FinishTimestampMonotonic=0).\n"
        )


def test_image_is_known_by_what_goes_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pi.fingerprint()
    assert pi.fingerprint() == before
    files = images.tree_files

    def one_more(recipe: images.Recipe) -> dict[str, tuple[int, bytes]]:
        return {**files(recipe), "etc/motd": (0o644, b"hello\n")}

    monkeypatch.setattr(images, "tree_files", one_more)
    assert pi.fingerprint() != before


def test_image_does_not_depend_on_where_the_checkout_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = pi.fingerprint()
    (tmp_path / "images").symlink_to(LAB / "images")
    monkeypatch.setattr("lab.pi.LAB", tmp_path)
    assert pi.fingerprint() == before


def test_half_an_image_is_none(tmp_path: Path) -> None:
    image = pi.Image.at(tmp_path)
    image.kernel.touch()
    image.root.touch()
    assert not image.complete()
    image.initrd.touch()
    assert image.complete()
