# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``python3 -m lab``, run from the checkout."""

from __future__ import annotations

import argparse
import json
import sys

from . import demo, fleet, images, inventory, namespace
from .engine import detect
from .hosts import HOSTS, Lab
from .paths import LabError, say

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab", description="Real PBXs, phones, a trunk and attackers in containers on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--project", default="demo", help="which lab; each has its own network and hosts (default: demo)"
        )
        return command

    add("images", "build the images that are missing").add_argument(
        "names", nargs="*", metavar="IMAGE", help=", ".join(images.RECIPES)
    )
    add("up", "bring the lab up").add_argument(
        "hosts", nargs="*", metavar="HOST", help=f"default: all of {', '.join(HOSTS)}"
    )
    add("down", "remove everything of the lab but the images")
    add("status", "show hosts, addresses and states")
    execute = add("exec", "run a command on a host")
    execute.add_argument("host")
    execute.add_argument("argv", nargs="+", metavar="-- CMD")
    add("inventory", "write the Ansible inventory and print where it is")
    add("demo", "scan, harden, scan again, and print what changed").add_argument(
        "--keep", action="store_true", help="leave the lab up"
    )
    host_up = add("host-up", "bring one host up and print how to reach it (JSON)")
    host_up.add_argument("host")
    host_up.add_argument("--image", choices=list(images.RECIPES))
    for name, text in (
        ("host-restart", "restart one host's container"),
        ("host-down", "remove one host"),
        ("ssh-info", "print how to reach one host (JSON)"),
    ):
        add(name, text).add_argument("host")
    fleet_up = add("fleet-up", "bring up many cheap hosts, and print the inventory's path")
    fleet_up.add_argument("count", type=int, metavar="N", help=f"1 to {fleet.MOST}")
    fleet_up.add_argument("--image", choices=list(images.RECIPES), default=fleet.IMAGE)
    add("fleet-down", "remove them, and give the kernel its own limits back")
    add("engine", "call the container engine as the lab does").add_argument("argv", nargs="+", metavar="-- ARGS")
    return parser


def _status(lab: Lab) -> None:
    for name, have in sorted(lab.containers().items(), key=lambda item: int(item[1]["suffix"])):
        print(f"{name:12} {have['state']:9} {lab.ipv4(have['suffix']):16} {lab.ipv6(have['suffix']):26} {have['tag']}")


def _run(args: argparse.Namespace) -> int:
    engine = detect()
    lab = Lab(engine, args.project)
    if args.command == "images":
        for dummy, tag in sorted(images.build(engine, args.names or images.RECIPES).items()):
            print(tag)
    elif args.command == "up":
        unknown = [name for name in args.hosts if name not in HOSTS]
        if unknown:
            raise LabError(f"no host is called {unknown[0]!r}: {', '.join(HOSTS)} expected (host-up makes others)")
        with lab.lock():
            lab.up(HOSTS[name] for name in args.hosts or HOSTS)
        _status(lab)
    elif args.command == "down":
        with lab.lock():
            lab.down()
    elif args.command == "status":
        _status(lab)
    elif args.command == "exec":
        terminal = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
        engine.replace_process("exec", "-i", *terminal, lab.container(args.host), *args.argv)
    elif args.command == "engine":
        engine.replace_process(*args.argv)
    elif args.command == "inventory":
        print(inventory.write(lab))
    elif args.command == "demo":
        with lab.lock():
            return demo.run(lab, keep=args.keep)
    elif args.command == "host-up":
        with lab.lock():
            host = lab.new_host(args.host, args.image)
            lab.up([host])
        print(json.dumps(lab.ssh_info(host), indent=2))
    elif args.command == "host-restart":
        with lab.lock():
            lab.restart(args.host)
    elif args.command == "host-down":
        with lab.lock():
            lab.remove_hosts([args.host])
    elif args.command == "fleet-up":
        with lab.lock():
            fleet.up(lab, args.count, args.image)
        print(inventory.write(lab))
    elif args.command == "fleet-down":
        with lab.lock():
            fleet.down(lab)
    elif args.command == "ssh-info":
        print(json.dumps(lab.ssh_info(lab.host(args.host)), indent=2))
    return 0


def main(argv: list[str]) -> int:
    """Run one command; the exit status is 0, 1 (it failed, and said why) or 2 (wrong usage)."""
    args = _parser().parse_args(argv)
    try:
        if not namespace.inside() and namespace.needed():
            return namespace.run_inside(argv)
        return _run(args)
    except LabError as error:
        say(f"lab: {error}")
        return 1
    except KeyboardInterrupt:
        say("lab: interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
