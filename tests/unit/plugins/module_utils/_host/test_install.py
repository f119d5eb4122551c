# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host import install
from ansible_collections.sipguard.pbx.plugins.module_utils._host.emergency import Settings
from ansible_collections.sipguard.pbx.plugins.module_utils._host.install import (
    COMMAND,
    LIBRARY,
    REPAIR_UNIT,
    UNIT,
    Installation,
    Report,
    Setup,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import lock, switch_guard
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import CommandError, Completed
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.switch_guard import Pending
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError, SipguardError
from tests.unit.plugins.module_utils._netfilter.fakes import FakeHost

CACHE = Path(__file__).resolve().parents[5] / ".cache"
WANTS = "/etc/systemd/system/multi-user.target.wants"
WANTED = f"{WANTS}/sipguard-restore.service"
SETS_UNIT = "/etc/systemd/system/sipguard-sets.service"
PLUGINS = "/usr/share/netfilter-persistent/plugins.d"
DROP_IN = "/etc/systemd/system/netfilter-persistent.service.d/sipguard.conf"
SETTINGS = "/etc/sipguard/boot.json"
NP = Setup("netfilter-persistent")
SETUPS = {
    "systemd": Setup(),
    "no repair": Setup(repair=False),
    "netfilter-persistent": NP,
    "none": Setup("none"),
    "closing": Setup(settings=Settings("close", ("5060",), ("2222",), True)),
}


def at(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


class _Installation(Installation):
    """With the default setup where a test does not say another."""

    def install(self, setup: Setup | bool = False, check: bool = False) -> Report:
        return super().install(setup, check) if isinstance(setup, Setup) else super().install(Setup(), setup or check)


def installation(root: Path) -> _Installation:
    return _Installation(FakeHost(), str(root))


def with_package(root: Path) -> None:
    """As if netfilter-persistent were installed."""
    at(root, "/usr/sbin").mkdir(parents=True, exist_ok=True)
    at(root, "/usr/sbin/netfilter-persistent").touch()
    at(root, WANTS).mkdir(parents=True, exist_ok=True)
    at(root, f"{WANTS}/netfilter-persistent.service").symlink_to("/lib/systemd/system/netfilter-persistent.service")


def everything(root: Path) -> dict[str, str]:
    """Every file and link below ``root``: its mode, and its text or where it leads."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = f"{stat.S_IMODE(path.stat().st_mode):o} {path.read_bytes()!r}"
    return found


def test_install_puts_everything_in_place(tmp_path: Path) -> None:
    report = installation(tmp_path).install(check=False)
    assert (report.changed, report.before) == (True, "")
    lines = [f"{LIBRARY} ({report.version})", COMMAND, UNIT, SETS_UNIT, REPAIR_UNIT]
    lines += [f"{WANTS}/sipguard-{name}.service" for name in ("repair", "restore", "sets")]
    assert report.after.splitlines()[:-1] == lines
    assert report.after.splitlines()[-1].startswith(f"{SETTINGS}: {{ ")
    assert stat.S_IMODE(at(tmp_path, COMMAND).stat().st_mode) == 0o755
    assert stat.S_IMODE(at(tmp_path, UNIT).stat().st_mode) == 0o644
    assert os.readlink(at(tmp_path, WANTED)) == UNIT
    assert "ExecStart=/usr/local/sbin/sipguard restore\n" in at(tmp_path, UNIT).read_text()
    library = at(tmp_path, LIBRARY)
    assert library.is_symlink()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in library.rglob("*.py")}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in [library.resolve(), *library.iterdir()] if path.is_dir()}
    assert (modes, folders) == ({0o644}, {0o755})


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_installed_files_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        installation(tmp_path).install(check=False)
    finally:
        os.umask(before)
    tree = at(tmp_path, LIBRARY).resolve()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tree, *tree.rglob("*")) if path.is_dir()} == {0o755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tree.rglob("*") if path.is_file()} == {0o644}
    assert stat.S_IMODE(at(tmp_path, COMMAND).stat().st_mode) == 0o755
    assert stat.S_IMODE(at(tmp_path, UNIT).stat().st_mode) == 0o644


def test_check_changes_nothing_and_says_the_same(tmp_path: Path) -> None:
    would = installation(tmp_path).install(check=True)
    assert everything(tmp_path) == {}
    assert installation(tmp_path).install(check=False) == would


def test_second_run_touches_nothing(tmp_path: Path) -> None:
    first = installation(tmp_path).install(check=False)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    for check in (True, False):
        second = installation(tmp_path).install(check=check)
        assert (second.changed, second.before, second.after) == (False, first.after, first.after)
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def append(path: Path) -> None:
    path.write_text(path.read_text() + "# edited\n")


def binary(path: Path) -> None:
    path.write_bytes(b"\x7fELF\xff\xfe")


def mask(path: Path) -> None:
    """As systemctl mask does it."""
    path.unlink()
    path.symlink_to("/dev/null")


EDITS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "command edited": (COMMAND, append, f"{COMMAND} (edited)"),
    "command replaced by a program": (COMMAND, binary, f"{COMMAND} (edited)"),
    "command not executable": (COMMAND, lambda path: path.chmod(0o644), f"{COMMAND} (edited)"),
    "command gone": (COMMAND, Path.unlink, ""),
    "unit edited": (UNIT, append, f"{UNIT} (edited)"),
    "unit gone": (UNIT, Path.unlink, ""),
    "unit disabled": (WANTED, Path.unlink, ""),
    "repair unit disabled": (f"{WANTS}/sipguard-repair.service", Path.unlink, ""),
    "settings gone": (SETTINGS, Path.unlink, ""),
    "list of files gone": ("/etc/sipguard/manifest", Path.unlink, " (damaged)"),
    "unit linked elsewhere": (WANTED, mask, f"{WANTED} (edited)"),
    "code edited": (f"{LIBRARY}/_sip/errors.py", append, f"{LIBRARY} (another version)"),
    "code gone": (f"{LIBRARY}/_host/cli.py", Path.unlink, f"{LIBRARY} (another version)"),
    "code added": (f"{LIBRARY}/_host/extra.py", Path.touch, f"{LIBRARY} (another version)"),
    "link to the code gone": (LIBRARY, Path.unlink, ""),
}


@pytest.mark.parametrize("edit", EDITS)
def test_next_run_repairs_what_somebody_changed(tmp_path: Path, edit: str) -> None:
    path, change, shown = EDITS[edit]
    right = installation(tmp_path).install(check=False).after
    change(at(tmp_path, path))
    check = installation(tmp_path).install(check=True)
    assert (check.changed, check.after) == (True, right)
    lines = check.before.splitlines()
    assert (
        any(line.endswith(shown) for line in lines)
        if shown
        else len(lines) < len(right.splitlines()) + ("left over" in check.before)
    )
    assert installation(tmp_path).install(check=False) == check
    assert installation(tmp_path).install(check=True).changed is False
    assert sorted(
        path.name for path in at(tmp_path, "/usr/local/lib").iterdir() if path.is_dir() and not path.is_symlink()
    ) == [os.readlink(at(tmp_path, LIBRARY))]


def test_other_version_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = install._sources()
    older = {**sources, "_host/gone.py": "GONE = 1\n", "_sip/errors.py": "# older\n"}
    with monkeypatch.context() as patch:
        patch.setattr(install, "_sources", lambda: older)
        old = installation(tmp_path).install(check=False)
        old_tree = at(tmp_path, LIBRARY).resolve()
    new = installation(tmp_path).install(check=False)
    assert new.version != old.version
    assert new.before == old.after.replace(old.version, "another version")
    tree = at(tmp_path, LIBRARY)
    assert {str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*.py")} == sources
    assert not old_tree.exists()


LEFT_OVER = ("sipguard-0123456789ab", "sipguard-0123456789ab.new", "sipguard-{version}.new")
OTHERS = ("sipguard-data", "sipguard-0123456789ab-data", "sipguard-0123456789AB", "sipguard-0123456789", "sipguard2")


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("act", ["install", "remove"])
def test_trees_that_a_killed_run_left_go_and_those_of_others_stay(tmp_path: Path, act: str, installed: bool) -> None:
    parent = at(tmp_path, LIBRARY).parent
    version = installation(tmp_path).version
    if installed:
        installation(tmp_path).install(check=False)
    left = [parent / name.format(version=version) for name in LEFT_OVER]
    for path in (*left, *(parent / name for name in OTHERS)):
        (path / "_sip").mkdir(parents=True)
        (path / "_sip/errors.py").write_text("half of\n")
    would = getattr(installation(tmp_path), act)(True)
    assert [line for line in would.before.splitlines() if "left over" in line] == [
        f"{path} (left over)" for path in sorted(left)
    ]
    assert all(path.is_dir() for path in left)
    done = getattr(installation(tmp_path), act)(False)
    assert done == would
    assert done.changed is True
    own = ["sipguard", f"sipguard-{version}"] if act == "install" else []
    assert sorted(path.name for path in parent.iterdir()) == sorted([*own, *OTHERS])
    assert all((parent / name / "_sip/errors.py").read_text() == "half of\n" for name in OTHERS)
    assert getattr(installation(tmp_path), act)(False).changed is False


def test_tree_is_named_after_its_content(tmp_path: Path) -> None:
    version = installation(tmp_path).install(check=False).version
    assert re.fullmatch("[0-9a-f]{12}", version)
    assert os.readlink(at(tmp_path, LIBRARY)) == f"sipguard-{version}"


@pytest.mark.parametrize("damaged", [False, True])
def test_remove_leaves_nothing_of_ours(tmp_path: Path, damaged: bool) -> None:
    other = at(tmp_path, "/usr/local/lib/other/file")
    other.parent.mkdir(parents=True)
    other.write_text("not ours\n")
    before = everything(tmp_path)
    installed = installation(tmp_path).install(check=False)
    if damaged:
        at(tmp_path, UNIT).unlink()
        append(at(tmp_path, f"{LIBRARY}/_sip/errors.py"))
    would = installation(tmp_path).remove(check=True)
    assert (would.changed, would.after) == (True, "")
    assert everything(tmp_path) != before
    assert installation(tmp_path).remove(check=False) == would
    assert everything(tmp_path) == before
    assert not at(tmp_path, LIBRARY).exists()
    assert [path.name for path in at(tmp_path, "/usr/local/lib").iterdir()] == ["other"]
    again = installation(tmp_path).remove(check=False)
    assert (again.changed, again.before, again.version) == (False, "", installed.version)


@pytest.mark.parametrize("act", ["install", "remove"])
def test_directory_of_somebody_else_is_refused_and_kept(tmp_path: Path, act: str) -> None:
    file = at(tmp_path, LIBRARY) / "file"
    file.parent.mkdir(parents=True)
    file.write_text("not ours\n")
    before = everything(tmp_path)
    with pytest.raises(SipguardError, match="sipguard is a directory that sipguard did not make"):
        getattr(installation(tmp_path), act)(False)
    assert everything(tmp_path) == before


def test_failing_installation_names_what_could_not_be_written(tmp_path: Path) -> None:
    at(tmp_path, "/usr").mkdir()
    at(tmp_path, "/usr/local").write_text("a file\n")
    with pytest.raises(SipguardError, match=r"cannot install sipguard on this host: .*/usr/local"):
        installation(tmp_path).install(check=False)


def test_image_in_a_directory_reloads_no_units(tmp_path: Path) -> None:
    host = FakeHost(commands={"systemctl"})
    _Installation(host, str(tmp_path)).install(check=False)
    assert host.calls == []


# -- modes


@pytest.mark.parametrize("second", SETUPS)
@pytest.mark.parametrize("first", SETUPS)
def test_setup_leaves_nothing_of_the_one_before(tmp_path: Path, first: str, second: str) -> None:
    direct, changed = tmp_path / "direct", tmp_path / "changed"
    for root in (direct, changed):
        with_package(root)
    installation(changed).install(SETUPS[first])
    for root in (direct, changed):
        would = installation(root).install(SETUPS[second], check=True)
        done = installation(root).install(SETUPS[second])
        assert (done, done.changed) == (would, root == direct or first != second)
        assert installation(root).install(SETUPS[second]).changed is False
    assert everything(changed) == everything(direct)
    for root in (direct, changed):
        assert installation(root).remove(False).changed is True
        assert everything(root).keys() == {
            "usr/sbin/netfilter-persistent",
            f"{WANTS}/netfilter-persistent.service".lstrip("/"),
        }


def test_plugins_stand_before_and_after_those_of_debian(tmp_path: Path) -> None:
    with_package(tmp_path)
    installation(tmp_path).install(NP)
    names = sorted(path.name for path in at(tmp_path, PLUGINS).iterdir())
    assert sorted([*names, "10-ipset", "15-ip4tables", "25-ip6tables", "40-ipset"]) == [
        "10-ipset", "12-sipguard", "15-ip4tables", "25-ip6tables", "40-ipset", "90-sipguard",
    ]  # fmt: skip
    # run-parts leaves out names with other characters, and files that cannot be executed.
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", name) for name in names)
    assert {stat.S_IMODE(path.stat().st_mode) for path in at(tmp_path, PLUGINS).iterdir()} == {0o755}
    assert "Before=asterisk.service" in at(tmp_path, DROP_IN).read_text()


@pytest.mark.parametrize("plugin", ["12-sipguard", "90-sipguard"])
@pytest.mark.parametrize("action", ["start", "restart", "reload", "force-reload", "stop", "save", "flush"])
def test_plugin_restores_and_never_saves_or_flushes(tmp_path: Path, plugin: str, action: str) -> None:
    with_package(tmp_path)
    installation(tmp_path).install(NP)
    said = tmp_path / "said"
    command = tmp_path / "sipguard"
    command.write_text(f'#!/bin/sh\necho "$@" >{said}\n')
    command.chmod(0o755)
    script = at(tmp_path, f"{PLUGINS}/{plugin}")
    script.write_text(script.read_text().replace(COMMAND, str(command)))
    subprocess.run([script, action], check=True)
    wanted = "restore --sets\n" if plugin == "12-sipguard" else "restore\n"
    assert (said.read_text() if said.exists() else "") == (wanted if action.endswith(("start", "load")) else "")


REFUSED: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    "no package": (lambda root: None, "the package 'netfilter-persistent' is not installed", False),
    "ufw": (lambda root: at(root, "/usr/sbin/ufw").touch(), "ufw is installed", True),
    "masked": (
        lambda root: at(root, "/etc/systemd/system/netfilter-persistent.service").symlink_to("/dev/null"),
        "netfilter-persistent.service is masked",
        True,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_netfilter_persistent_that_would_not_load_anything_is_refused(tmp_path: Path, case: str) -> None:
    prepare, said, in_check_mode = REFUSED[case]
    for folder in ("/usr/sbin", "/etc/systemd/system"):
        at(tmp_path, folder).mkdir(parents=True)
    prepare(tmp_path)
    before = everything(tmp_path)
    with pytest.raises(OptionError, match=f"persistence: 'netfilter-persistent' cannot be used; {said}"):
        installation(tmp_path).install(NP)
    if in_check_mode:
        with pytest.raises(OptionError, match=said):
            installation(tmp_path).install(NP, check=True)
    else:  # a role installs it in between, but not in check mode
        assert installation(tmp_path).install(NP, check=True).changed is True
    assert everything(tmp_path) == before


def test_netfilter_persistent_that_somebody_disabled_is_enabled(tmp_path: Path) -> None:
    with_package(tmp_path)
    link = at(tmp_path, f"{WANTS}/netfilter-persistent.service")
    installation(tmp_path).install(NP)
    link.unlink()
    assert installation(tmp_path).install(NP).changed is True
    assert os.readlink(link) == "/lib/systemd/system/netfilter-persistent.service"


def test_remove_takes_the_data_along_and_leaves_what_is_not_ours(tmp_path: Path) -> None:
    installation(tmp_path).install()
    for path in ("rules.v4", "rules.v6", "sets", ".sets.new", "notes"):
        at(tmp_path, f"/etc/sipguard/{path}").write_text("text\n")
    at(tmp_path, "/var/lib/sipguard").mkdir(parents=True)
    at(tmp_path, "/var/lib/sipguard/record.json").write_text("{}\n")
    would = installation(tmp_path).remove(True)
    assert installation(tmp_path).remove(False) == would
    assert everything(tmp_path) == {"etc/sipguard/notes": "644 b'text\\n'"}
    assert "/etc/sipguard/rules.v4\n" in would.before
    assert "/var/lib/sipguard\n" in would.before


@pytest.mark.parametrize("setup", SETUPS)
def test_settings_are_written_for_root_only(tmp_path: Path, setup: str) -> None:
    with_package(tmp_path)
    installation(tmp_path).install(SETUPS[setup])
    assert at(tmp_path, SETTINGS).read_text() == SETUPS[setup].settings.render()
    assert stat.S_IMODE(at(tmp_path, SETTINGS).stat().st_mode) == 0o600
    assert stat.S_IMODE(at(tmp_path, "/etc/sipguard").stat().st_mode) == 0o700


IS_DIR = Path.is_dir


@pytest.fixture
def booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A host under systemd; what would be "/" is below the test's directory."""
    monkeypatch.setattr(Path, "is_dir", lambda self: str(self) == "/run/systemd/system" or IS_DIR(self))
    monkeypatch.setattr(Installation, "_at", lambda self, path: at(tmp_path, path))
    monkeypatch.setattr(lock, "LOCK_FILE", str(tmp_path / "sipguard.lock"))
    monkeypatch.setattr(install, "read_pending", lambda: None)
    host = FakeHost(commands={"systemctl"})
    host.interfere = lambda argv, stdin: Completed(0, "", "")
    return host


def test_systemd_is_told_after_files_came_and_before_they_go(booted: FakeHost) -> None:
    def told() -> list[str]:
        found = [call.removeprefix("systemctl ") for call in booted.calls if "is-active" not in call]
        booted.calls.clear()
        return found

    _Installation(booted, "/").install(check=True)
    assert told() == []
    _Installation(booted, "/").install(check=False)
    assert told() == ["daemon-reload", "restart sipguard-repair.service"]
    _Installation(booted, "/").install(check=False)
    assert told() == []
    Installation(booted, "/").install(SETUPS["closing"], check=False)
    assert told() == []  # settings are read when they are needed
    Installation(booted, "/").install(Setup("none"), check=False)
    stops = [f"stop sipguard-{name}.service" for name in ("repair", "restore", "sets")]
    assert told() == [*stops, "daemon-reload"]
    Installation(booted, "/").remove(check=False)
    assert told() == [*stops, "daemon-reload"]
    Installation(booted, "/").remove(check=False)
    assert told() == []


def test_service_that_somebody_stopped_is_started_again(booted: FakeHost) -> None:
    _Installation(booted, "/").install()
    booted.calls.clear()
    booted.interfere = lambda argv, stdin: Completed(3 * (argv[1] == "is-active"), "", "")
    for check in (True, False):
        report = _Installation(booted, "/").install(check)
        assert report.changed is True
        assert report.before.endswith("\nsipguard-repair.service (stopped)\n")
        assert report.after.endswith("\nsipguard-repair.service (running)\n")
    assert [call for call in booted.calls if "is-active" not in call] == ["systemctl restart sipguard-repair.service"]


def test_unit_that_systemd_does_not_know_is_no_obstacle(booted: FakeHost) -> None:
    _Installation(booted, "/").install(check=False)
    booted.interfere = lambda argv, stdin: Completed(5 * (argv[1] == "stop"), "", "Unit not loaded.\n")
    assert Installation(booted, "/").remove(check=False).changed is True


def test_remove_is_refused_while_a_change_waits(
    booted: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _Installation(booted, "/").install()
    before = everything(tmp_path)
    pending = Pending("c00kie", 1, 0, 0, switch_guard.boot_identity(), switch_guard.now() + 60, (), "", "change")
    monkeypatch.setattr(install, "read_pending", lambda: pending)
    for check in (True, False):
        with pytest.raises(SipguardError, match="the change c00kie of the rules waits to be confirmed"):
            Installation(booted, "/").remove(check)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("act", "command"), [("install", "daemon-reload"), ("remove", "stop"), ("remove", "daemon-reload")]
)
def test_failing_systemctl_is_an_error(booted: FakeHost, act: str, command: str) -> None:
    if act == "remove":
        _Installation(booted, "/").install(check=False)
    booted.interfere = lambda argv, stdin: Completed(int(argv[1] == command), "", "Failed\n")
    with pytest.raises(CommandError, match="systemctl failed: Failed"):
        getattr(_Installation(booted, "/"), act)(False)


RUN = """
import sys
sys.path.insert(0, sys.argv.pop(1))
sys.dont_write_bytecode = True
from sipguard._host.cli import main
sys.exit(main(sys.argv[1:]))
"""


def alone(tmp_path: Path) -> Path:
    """Installed by a process that has loaded nothing but the installation, as the module does; returns the tree's parent."""
    script = (
        "import sys; sys.dont_write_bytecode = True\n"
        "from ansible_collections.sipguard.pbx.plugins.module_utils._host.install import Installation, Setup\n"
        "from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import HostRunner\n"
        "Installation(HostRunner(), sys.argv[1]).install(Setup(), False)\n"
    )
    environment = {"PYTHONPATH": str(CACHE), "PATH": os.defpath}
    subprocess.run([sys.executable, "-c", script, tmp_path], env=environment, check=True)
    return at(tmp_path, LIBRARY).parent


@pytest.mark.parametrize("python", ["/usr/bin/python3", sys.executable])
@pytest.mark.parametrize(
    ("arguments", "status", "out", "err"),
    [
        (["--help"], 0, "usage: sipguard", ""),
        (["restore", "--help"], 0, "usage: sipguard restore", ""),
        (["why", "192.0.2"], 2, "", "sipguard: '192.0.2' is not an address; 192.0.2.7 or 2001:db8::7 would be right\n"),
        ([], 2, "", "usage: sipguard"),
    ],
)
def test_installed_tree_runs_by_itself(
    tmp_path: Path, python: str, arguments: list[str], status: int, out: str, err: str
) -> None:
    """Isolated from site-packages and environment (-I), as the command is: nothing but this tree and the standard library."""
    parent = alone(tmp_path)
    done = subprocess.run(
        [python, "-IS", "-c", RUN, parent, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={},
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert done.stdout.startswith(out)
    assert done.stderr.startswith(err)


def test_installed_tree_holds_only_what_the_command_needs(tmp_path: Path) -> None:
    parent = alone(tmp_path)
    loaded = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {str(parent)!r}); sys.dont_write_bytecode = True\n"
         "import sipguard._host.cli, sipguard._host.sipban.daemon\nimport sipguard._host.sipban.console, sipguard._host.sipban.crowdsec\n"
         "print(*[m.__file__ for n, m in sorted(sys.modules.items()) if n.split('.')[0] == 'sipguard' and m.__file__], sep='\\n')"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    tree = at(tmp_path, LIBRARY)
    there = {str(path.relative_to(tree)) for path in tree.rglob("*.py")}
    needed = {str(Path(name).relative_to(tree)) for name in loaded}
    # The installation itself goes along, with what it needs: it is what makes the tree, and no program needs it.
    assert there - needed == {"_host/install.py", "_host/inspection.py"}
    assert needed <= there


def test_command_starts_the_installed_package(tmp_path: Path) -> None:
    installation(tmp_path).install(check=False)
    text = at(tmp_path, COMMAND).read_text()
    assert text.startswith("#!/usr/bin/python3 -I\n")
    compile(text, COMMAND, "exec")
    assert f'sys.path.append("{Path(LIBRARY).parent}")' in text
    assert f"from {Path(LIBRARY).name}._host.cli import main" in text
