# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``sipguard bans`` and ``sipbanctl``: ask sipband over its unix socket, and show what it says.

Little is imported: on a small host that, and not the question, is what takes the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..._sip.errors import SipguardError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["LISTENS", "SOCKET", "add_parser", "hears", "main", "plain", "run", "tell"]

SOCKET = "/run/sipban/control"
LISTENS = "listens to Asterisk"

EXIT_OK, EXIT_NO, EXIT_ERROR = 0, 1, 2
_PATIENCE = 60.0  # s
_MOST_TOLD = 256 << 10  # bytes
_PROMPT = "sipban> "
_WITHOUT = "bans go on in the kernel: 'sipguard why ADDRESS' and 'sipguard unban ADDRESS' work without it"
_USAGE = """usage: {name} [--json] VERB [WORD ...]{more}

Ask sipband, which bans in the instant in which Asterisk says that somebody has got it wrong.
Exit status: 0, 1 (the answer is no) or 2 (sipband could not be asked). --json: for programs.

"""
_INTERACTIVE = "\n       {name} -i   a console; exit, quit or the end of the input leaves it"


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """``sipguard bans``; ``run`` does what it asks for."""
    parser = commands.add_parser(
        "bans", help="sipband's live bans: block, unblock, status, follow, why ...", add_help=False
    )
    parser.add_argument("-h", "--help", action="store_true", dest="helping", help="what there is to ask")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--socket", default=SOCKET, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="verb", help="'sipguard bans help' knows them")


def run(options: argparse.Namespace) -> int:
    """The exit status of ``sipguard bans``. Raises SipguardError when sipband cannot be asked."""
    given = ["--socket", options.socket]
    given += ["--json"] if options.json else []
    return _run("sipguard bans", [*given, *(["help"] if options.helping else options.words)], console=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of ``sipbanctl``."""
    try:
        return _run("sipbanctl", sys.argv[1:] if arguments is None else arguments, console=True)
    except SipguardError as error:
        _complain("sipbanctl", error)
        return EXIT_ERROR


def tell(*words: str, path: str = SOCKET, patience: float = 5.0) -> dict[str, Any] | None:
    """The data that sipband answers another program of ours, for which it is no trouble when there is none: then None.

    ``patience`` is in seconds, for all of it. Programs of root's ask this way, so whoever has taken over sipband must not hold them up.
    """
    end = time.monotonic() + patience
    data = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(patience)
            link.connect(path)
            link.sendall(json.dumps({"words": words}).encode("ascii") + b"\n")
            while not data.endswith(b"\n"):
                link.settimeout(max(end - time.monotonic(), 0.001))
                piece = link.recv(65536)
                data += piece
                if not piece or len(data) > _MOST_TOLD or time.monotonic() > end:
                    return None
        found = _answer(data)["data"]
    except (OSError, SipguardError):
        return None
    return found if isinstance(found, dict) else None


def plain(text: object) -> str:
    """Such an answer's words, for a terminal."""
    return ascii(str(text))[1:-1][:200]


def hears(status: Mapping[str, Any]) -> str:
    """What the answer to "status" says of Asterisk, in a few words: LISTENS, or why it hears nothing."""
    return LISTENS if status.get("ami_hears") is True else f"hears nothing: {plain(status.get('ami_said', ''))}"


def _run(name: str, arguments: Sequence[str], console: bool) -> int:
    words, as_json, interactive, path = list(arguments), False, False, SOCKET
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "--json":
            as_json = True
        elif option == "--socket" and words:
            path = words.pop(0)
        elif option in ("-i", "--interactive") and console:
            interactive = True
        elif option in ("-h", "--help"):
            words = ["help"]
        else:
            raise SipguardError(f"{option!a} is no option of {name}; '{name} help' tells what there is")
    # A reason is for people, and never needs to end like this.
    if words and words[-1] == "--json":
        words.pop()
        as_json = True
    try:
        if interactive and not words:
            return _converse(name, path)
        if words in ([], ["help"]) and not as_json:
            return _help(name, console)
        return _ask(path, words or ["help"], as_json)
    except BrokenPipeError:
        # Whoever reads has seen enough; Python would complain once more when it closes its output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def _help(name: str, console: bool) -> int:
    from .commands import HELP  # needs a good part of sipguard, and nobody waits for it here

    _show(_USAGE.format(name=name, more=_INTERACTIVE.format(name=name) if console else "") + HELP)
    return EXIT_OK


def _converse(name: str, path: str) -> int:
    """A console, one question after the other; the exit status of the last."""
    status = EXIT_OK
    for line in _input():
        words = line.split()
        if words and words[0].lower() in ("exit", "quit"):
            break
        if not words:
            continue
        try:
            status = _ask(path, words, False)
        except SipguardError as error:
            _complain(name, error)
            status = EXIT_ERROR
    return status


def _input() -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with contextlib.suppress(ImportError):
        __import__("readline")  # gives input() a history
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            yield input(_PROMPT)
    sys.stdout.write("\n")


def _ask(path: str, words: Sequence[str], as_json: bool) -> int:
    """Raises SipguardError, and BrokenPipeError when nobody reads what is shown."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(_PATIENCE)
        try:
            link.connect(path)
            # What cannot be UTF-8 in an argument is a surrogate by now, which JSON can write.
            link.sendall(json.dumps({"words": list(words)}).encode("ascii") + b"\n")
        except OSError as error:
            # Too long a request is refused, and the answer can be there although not all of it has been sent.
            if not isinstance(error, (BrokenPipeError, ConnectionResetError)):
                raise SipguardError(_unreachable(path, error)) from error
        lines = _lines(link)
        said = _answer(next(lines, b""))
        if said.get("error"):
            raise SipguardError(_plain(str(said["text"])))
        if said.get("follow"):
            link.settimeout(None)
            with contextlib.suppress(KeyboardInterrupt):
                for line in lines:
                    event = _answer(line)
                    _show(json.dumps(event["data"], sort_keys=True) if as_json else str(event["text"]))
                raise SipguardError("sipband has ended the conversation: it has been stopped, or this reads too slowly")
            return EXIT_OK
    _show(json.dumps(said["data"], indent=2, sort_keys=True) if as_json else str(said["text"]))
    return EXIT_OK if said["ok"] else EXIT_NO


def _lines(link: socket.socket) -> Iterator[bytes]:
    """What sipband says, line by line. Raises SipguardError when it takes too long."""
    with link.makefile("rb") as stream:
        while True:
            try:
                line = stream.readline()
            except ConnectionResetError:  # it has closed before it had read everything
                return
            except OSError as error:
                raise SipguardError(f"sipband does not answer ({error}); journalctl -u sipband may say why") from error
            if not line.endswith(b"\n"):
                return
            yield line


def _answer(line: bytes) -> dict[str, Any]:
    if not line:
        raise SipguardError("sipband has hung up without an answer; journalctl -u sipband may say why")
    try:
        said = json.loads(line.decode("utf-8"))
        if isinstance(said, dict) and {"ok", "text", "data"} <= said.keys():
            return said
    except (RecursionError, ValueError):
        pass
    raise SipguardError("what answers is no sipband of this version; 'systemctl restart sipband' would be right")


def _unreachable(path: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"only root may talk to sipband; {_WITHOUT}"
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return f"sipband does not run (systemctl status sipband); {_WITHOUT}"
    return f"sipband cannot be reached on {_plain(path)}: {error}; {_WITHOUT}"


def _plain(text: str) -> str:
    """Nothing that a terminal would obey, nor anything that its encoding does not have."""
    safe = "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
    encoding = sys.stdout.encoding or "ascii"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def _show(text: str) -> None:
    if text:
        sys.stdout.write(_plain(text) + "\n")
        sys.stdout.flush()


def _complain(name: str, error: SipguardError) -> None:
    sys.stderr.write(f"{name}: {_plain(str(error))}\n")


if __name__ == "__main__":
    raise SystemExit(main())
