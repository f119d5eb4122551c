# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""extensions.conf, as far as it takes to see which calls reach a trunk.

Contexts, extensions, includes, applications with their arguments, and jumps whose targets are written out. What only a running call
decides is taken for possible, and said to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from ..tree import Place, Tree, fold
from . import objects

__all__ = [
    "ANY",
    "Context",
    "Dialplan",
    "Extension",
    "Out",
    "Step",
    "calls",
    "has_password",
    "inner",
    "matches",
    "read",
    "specificity",
    "split",
    "wild",
]

OURS = "sipguard-"  # contexts of this collection's own guard, which asks and limits
ANY = ""  # the extension of a node that stands for every extension of a context
_OWN = "\0"  # every extension of the context itself, without its includes
NO, MAYBE, YES = 0, 1, 2

_APPLICATION = re.compile(r"\s*([\w-]+)\s*(?:\((.*)\)\s*$|\((.*)$|,(.*)$|$)", re.DOTALL)
_PRIORITY = re.compile(r"\s*([\w+]+)\s*(?:\(([^)]*)\))?")
_GUARDS = {"authenticate", "vmauthenticate"}
_UNKNOWN = {
    "agi",
    "eagi",
    "deadagi",
    "fastagi",
    "gotoif",
    "gosubif",
    "execif",
    "macroif",
    "macro",
    "gosub",
    "stasis",
    "lua",
}
_PSTN = {
    "dahdi",
    "zap",
    "misdn",
    "capi",
    "dongle",
    "quectel",
    "khomp",
    "ooh323",
    "h323",
    "ss7",
    "motif",
    "mobile",
    "vpb",
    "woomera",
}
_SIP_LIKE = {"sip", "pjsip", "iax2", "iax"}
# what the caller may have chosen: the extension, variables, the arguments of a subroutine
_EXTEN, _VARIABLES, _ARGUMENTS = 1, 2, 4
_LOOKUPS = re.compile(r"\$\{(?:DB|ODBC_\w+|REALTIME\w*|HASH|AST_CONFIG|LDAP\w*|CURL)\(", re.IGNORECASE)
_NAMED = re.compile(r"\$\{(?:GLOBAL\()?_{0,2}(\w+)(?![\w(])")
_DEVICE = re.compile(rf"(?<![\w/@.-])(local|{'|'.join(sorted(_PSTN | _SIP_LIKE))})/", re.IGNORECASE)
_MAX_GLOBALS = 8
_MAX_DEPTH = 50


@dataclass(frozen=True)
class Step:
    """One priority: an application in lower case with its arguments as written, globals filled in."""

    app: str
    args: str
    place: Place
    label: str = ""


@dataclass
class Extension:
    pattern: str
    place: Place
    steps: list[Step] = field(default_factory=list)


@dataclass
class Context:
    name: str
    place: Place
    extensions: dict[str, Extension] = field(default_factory=dict)
    includes: list[str] = field(default_factory=list)
    switched: bool = False
    _patterns: list[Extension] | None = None

    def patterns(self) -> list[Extension]:
        if self._patterns is None:
            self._patterns = [each for each in self.extensions.values() if each.pattern.startswith("_")]
        return self._patterns


@dataclass(frozen=True)
class Out:
    """A call that leaves through a trunk. ``guard``: NO, MAYBE or YES, whether something asks first. ``sure``: whether it is a trunk.
    ``chosen``: whether the caller chooses the number, as far as that can be seen.

    ``number`` and ``options`` are Dial's own arguments; they are never shown.
    """

    place: Place
    context: str
    number: str
    options: str
    sure: bool
    guard: int
    limited: bool
    chosen: bool


def split(text: str, sign: str = ",") -> list[str]:
    """The parts of an argument list; a sign inside of parentheses, braces, brackets or quotes separates nothing."""
    parts, depth, quoted, begin = [], 0, False, 0
    for index, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif char in "({[":
            depth += 1
        elif char in ")}]":
            depth = max(0, depth - 1)
        elif char == sign and not depth:
            parts.append(text[begin:index])
            begin = index + 1
    parts.append(text[begin:])
    return [part.strip() for part in parts]


def application(text: str) -> tuple[str, str]:
    """``App(arguments)`` or ``App,arguments``: name in lower case and arguments."""
    match = _APPLICATION.match(text)
    if not match:
        return "", ""
    return match[1].lower(), next((each for each in match.groups()[1:] if each is not None), "")


def read(tree: Tree) -> Dialplan:
    """The dialplan of extensions.conf. Lines that Asterisk would refuse are left out."""
    made = Dialplan()
    for category in tree.objects():
        if fold(category.name) == "globals":
            made.globals.update((variable.name, variable.value) for variable in category.variables)
    for category in tree.objects():
        if fold(category.name) in ("general", "globals"):
            continue
        context = made.contexts.setdefault(category.name, Context(category.name, category.place))
        pattern = ""
        for variable in category.variables:
            name = fold(variable.name)
            if name == "include":
                context.includes.append(variable.value.partition(",")[0].strip())
            elif name == "switch" or name == "lswitch" or name == "eswitch":
                context.switched = True
            elif name in ("exten", "same"):
                text = variable.value
                if name == "exten":
                    pattern, dummy, text = text.partition(",")
                    # the caller's number and blanks do not matter here
                    pattern = pattern.partition("/")[0].strip() if not pattern.startswith("_") else _plain(pattern)
                if not pattern:
                    continue
                priority, dummy, rest = text.partition(",")
                found = _PRIORITY.match(priority)
                app, args = application(made.filled(rest))
                if not found or not app or found[1].lower() == "hint":
                    continue
                extension = context.extensions.setdefault(pattern, Extension(pattern, variable.place))
                extension.steps.append(Step(app, args, variable.place, (found[2] or "").strip()))
    return made


def _plain(pattern: str) -> str:
    """A pattern without the caller's part, which begins at a slash outside of brackets, and without the hyphens that Asterisk skips."""
    kept, inside = [], False
    for char in pattern.strip():
        if char == "[":
            inside = True
        elif char == "]":
            inside = False
        elif char == "/" and not inside:
            break
        elif char in "- " and not inside:
            continue
        kept.append(char)
    return "".join(kept)


def _elements(pattern: str) -> Iterator[str]:
    """What each character of a pattern may be: the characters themselves, ``.`` or ``!`` for any number of them."""
    if not pattern.startswith("_"):
        yield from pattern
        return
    index = 1
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "[":
            end = pattern.find("]", index)
            if end < 0:
                return
            yield _set(pattern[index:end])
            index = end + 1
        elif char in "Xx":
            yield "0123456789"
        elif char in "Zz":
            yield "123456789"
        elif char in "Nn":
            yield "23456789"
        else:
            yield char


def _set(text: str) -> str:
    chars: set[str] = set()
    index = 0
    while index < len(text):
        if text[index + 1 : index + 2] == "-" and index + 2 < len(text):
            first, last = ord(text[index]), ord(text[index + 2])
            chars.update(map(chr, range(first, min(last, first + 255) + 1)))
            index += 3
        else:
            chars.add(text[index])
            index += 1
    return "".join(sorted(chars)) or "\0"


@lru_cache(maxsize=65536)
def wild(pattern: str) -> bool:
    """Whether the caller decides how long the number is, or at least six digits of it."""
    if not pattern.startswith("_"):
        return False
    elements = list(_elements(pattern))
    return any(each in (".", "!") for each in elements) or sum(len(each) > 1 for each in elements) >= 6


def matches(pattern: str, number: str) -> bool:
    """Whether a number is one that the pattern takes."""
    if not pattern.startswith("_"):
        return pattern == number
    at = 0
    for each in _elements(pattern):
        if each == ".":
            return at < len(number)
        if each == "!":
            return True
        if at >= len(number) or number[at] not in each:
            return False
        at += 1
    return at == len(number)


def specificity(pattern: str) -> tuple[int, ...]:
    """A key by which the pattern that Asterisk prefers comes first: fewer possible characters earlier, ``.`` and ``!`` last."""
    if not pattern.startswith("_"):
        return (0,)
    return (1, *(1000 if each == "." else 2000 if each == "!" else len(each) for each in _elements(pattern)), 0)


Node = tuple[str, str, int, bool, int]


@dataclass
class Dialplan:
    """``trunks`` and ``phones`` are names of endpoints and peers, ``addresses`` the hosts of trunks, set by whoever knows them."""

    contexts: dict[str, Context] = field(default_factory=dict)
    globals: dict[str, str] = field(default_factory=dict)
    trunks: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    _outs: dict[Node, tuple[Out, ...]] = field(default_factory=dict, repr=False)
    _begun: set[Node] = field(default_factory=set, repr=False)
    _local: dict[Node, tuple[list[Out], list[Node]]] = field(default_factory=dict, repr=False)
    _closures: dict[str, list[Context]] = field(default_factory=dict, repr=False)
    _chosen: dict[tuple[str, str], Extension | None] = field(default_factory=dict, repr=False)

    def filled(self, text: str) -> str:
        """``text`` with the globals in it."""
        if "${" not in text:
            return text
        for dummy in range(_MAX_GLOBALS):
            filled = re.sub(
                r"\$\{(?:GLOBAL\()?(\w+)\)?\}", lambda found: self.globals.get(found[1], found[0])[:1024], text
            )
            if filled == text or len(filled) > 65536:
                return text
            text = filled
        return text

    def closure(self, name: str) -> list[Context]:
        """A context and all that it includes, in the order in which Asterisk searches."""
        if name not in self._closures:
            found: dict[str, Context] = {}
            todo = [name]
            while todo:
                each = todo.pop()
                if each in self.contexts and each not in found:
                    found[each] = self.contexts[each]
                    todo += reversed(self.contexts[each].includes)
            self._closures[name] = list(found.values())
        return self._closures[name]

    def patterns(self, name: str) -> Iterator[tuple[Context, Extension]]:
        """The extensions of a context and its includes that are patterns."""
        for context in self.closure(name):
            for extension in context.patterns():
                yield context, extension

    def chosen(self, name: str, number: str) -> tuple[Context, Extension] | None:
        """The extension that a number gets in a context."""
        for context in self.closure(name):
            key = context.name, number
            if key not in self._chosen:
                found = [each for each in context.patterns() if matches(each.pattern, number)]
                self._chosen[key] = context.extensions.get(number) or min(
                    found, key=lambda each: specificity(each.pattern), default=None
                )
            best = self._chosen[key]
            if best is not None:
                return context, best
        return None

    def outs(self, context: str, pattern: str = ANY) -> tuple[Out, ...]:
        """Every call to a trunk that an extension, or any extension of the context and its includes, can lead to."""
        return self._reach((context, pattern, NO, False, _by_pattern(pattern) if pattern else _EXTEN))

    def _reach(self, start: Node, depth: int = 0) -> tuple[Out, ...]:
        if start in self._outs:
            return self._outs[start]
        found: dict[Out, None] = {}
        seen = {start}
        todo = [start]
        self._begun.add(start)
        while todo:
            node = todo.pop()
            if node[1] in (ANY, _OWN) and node not in self._outs and node not in self._begun and depth < _MAX_DEPTH:
                # many extensions lead here: work it out once
                self._begun.add(node)
                self._reach(node, depth + 1)
            if node in self._outs:
                found.update(dict.fromkeys(self._outs[node]))
                continue
            outs, nodes = self._look(node)
            found.update(dict.fromkeys(outs))
            for each in nodes:
                if each not in seen:
                    seen.add(each)
                    todo.append(each)
        made = self._outs[start] = tuple(found)
        return made

    def _look(self, node: Node) -> tuple[list[Out], list[Node]]:
        """What a node does itself, and where it goes."""
        if node in self._local:
            return self._local[node]
        name, pattern, guard, limited, choice = node
        outs: list[Out] = []
        nodes: list[Node] = []
        if name.startswith(OURS):
            guard, limited = YES, True
        context = self.contexts.get(name)
        if pattern == ANY:
            nodes = [(each.name, _OWN, guard, limited, choice) for each in self.closure(name)]
        elif pattern == _OWN:
            nodes = [
                (name, each, guard, limited, _by_pattern(each) if choice else 0)
                for each in (context.extensions if context else ())
            ]
        else:
            extension = context.extensions.get(pattern) if context else None
            if extension is not None:
                self._walk(name, extension, (guard, limited, choice), outs, nodes)
        self._local[node] = outs, nodes
        return outs, nodes

    def _walk(
        self, name: str, extension: Extension, state: tuple[int, bool, int], outs: list[Out], nodes: list[Node]
    ) -> None:
        guard, limited, choice = state
        variables: dict[str, bool] = {}
        for index, step in enumerate(extension.steps):
            app, args = step.app, step.args
            parts = split(args)
            last = not any(each.label for each in extension.steps[index + 1 :])
            if app in ("execif", "tryexec", "exec"):
                for each, given in inner(app, args):
                    inside = replace(step, app=each, args=given)
                    self._dial(name, extension.pattern, inside, (guard, limited, choice), variables, outs, nodes)
            if app in ("set", "mset"):
                _note(args, choice, variables)
            if app in _GUARDS:
                guard = YES
            elif app == "read":
                if _is_number(parts[0], extension.steps[index + 1 :]):
                    variables[parts[0]] = True
                else:
                    guard = YES
            elif app == "disa":
                asked = fold(parts[0]) != "no-password" and parts[0]
                nodes.append((_part(parts, 1) or "disa", ANY, YES if asked else guard, limited, _EXTEN))
            elif _sets_limit(app, args):
                limited = True
            elif app in ("goto", "gotoif", "gotoiftime", "gosub", "gosubif", "macro", "macroif"):
                targets = list(self._targets(app, args, name, extension.pattern))
                own = any(context.startswith(OURS) for context, dummy in targets)
                if own:
                    guard, limited = YES, True
                after = _VARIABLES if choice & _VARIABLES or any(variables.values()) else 0
                given = args.partition("(")[2] if app.startswith("gosub") else ",".join(parts[1:])
                if app in ("gosub", "gosubif", "macro", "macroif") and _chosen(given, choice, variables):
                    after |= _ARGUMENTS
                for context, pattern in targets:
                    free = choice & _EXTEN if pattern == extension.pattern else _chosen(pattern, choice, variables)
                    nodes += self._into(context, pattern, (guard, limited, after | (_EXTEN if free else 0)))
                if app in ("gotoif", "gosubif", "macroif"):
                    guard = max(guard, MAYBE)
                elif app in ("gosub", "macro") and not own:
                    guard = max(guard, self._asks(targets))
                if app == "goto" and last:
                    return
            elif app in ("waitexten", "background", "backgrounddetect"):
                nodes.append((name, ANY, guard, limited, _EXTEN))
            elif app in _UNKNOWN:
                guard = max(guard, MAYBE)
            else:
                self._dial(name, extension.pattern, step, (guard, limited, choice), variables, outs, nodes)
            if app in ("hangup", "congestion", "busy") and last:
                return

    def _targets(self, app: str, args: str, name: str, pattern: str) -> Iterator[tuple[str, str]]:
        """Where a jump goes: context and extension; ANY for an extension that only a call decides."""
        if app == "macro":
            yield f"macro-{_part(split(args), 0)}", "s"
            return
        choices = [args]
        if app in ("gotoif", "gosubif", "gotoiftime", "macroif"):
            dummy, sign, rest = args.partition("?")
            choices = split(rest, ":") if sign else []
        for choice in choices:
            parts = [part.partition("(")[0].strip() if index == 2 else part for index, part in enumerate(split(choice))]
            if len(parts) >= 3:
                context, extension = parts[0], parts[1]
            elif len(parts) == 2:
                context, extension = name, parts[0]
            else:
                continue  # a priority of the same extension
            if "${" in context:
                continue
            yield (
                context,
                (pattern if extension in ("${EXTEN}", "") and context == name else _literal(extension, pattern)),
            )

    def _into(self, context: str, extension: str, state: tuple[int, bool, int]) -> Iterator[Node]:
        guard, limited, choice = state
        if "${" in extension:
            yield context, ANY, guard, limited, choice & _EXTEN
            return
        for each in self.closure(context):
            if extension in each.extensions:
                yield each.name, extension, guard, limited, choice
                return
        found = self.chosen(context, extension)
        if found:
            yield found[0].name, found[1].pattern, guard, limited, choice

    def _asks(self, targets: Iterable[tuple[str, str]]) -> int:
        """Whether a subroutine asks for a secret; MAYBE when it is not known."""
        known = NO
        some = False
        for context, extension in targets:
            some = True
            found = self.contexts[context].extensions.get(extension) if context in self.contexts else None
            if found is None:
                known = max(known, MAYBE)
            elif any(step.app in _GUARDS for step in found.steps):
                known = YES
            elif any(step.app in _UNKNOWN for step in found.steps):
                known = max(known, MAYBE)
        return known if some else MAYBE

    def _dial(
        self,
        name: str,
        pattern: str,
        step: Step,
        state: tuple[int, bool, int],
        variables: dict[str, bool],
        outs: list[Out],
        nodes: list[Node],
    ) -> None:
        guard, limited, choice = state
        parts = split(step.args)
        if step.app == "retrydial":
            parts = parts[3:]
        options = _part(parts, 2) if step.app != "page" else _part(parts, 1)
        for technology, rest, certain in calls(step):
            if technology == "local":
                extension, dummy, context = rest.partition("@")
                context = context.partition("/")[0]
                free = _EXTEN if _chosen(extension, choice, variables) else 0
                nodes += self._into(context or "default", _literal(extension, pattern), (guard, limited, free))
                continue
            number, sure = self.leads(technology, rest)
            if number:
                chosen = _chosen(number, choice, variables)
                over = limited or bool(_limits(options))
                outs.append(Out(step.place, name, number, options, sure and certain, guard, over, chosen))

    def leads(self, technology: str, rest: str) -> tuple[str, bool]:
        """The part of a device that the caller chooses, if the device is a trunk or may be one; and whether it surely is."""
        if technology in _PSTN:
            number = rest.partition("/")[2]
            return (number, True) if "${" in number else ("", False)
        if technology not in _SIP_LIKE:
            return "", False
        account, at, host = _outside(rest).partition("@")
        host = host.partition("/")[0]
        if technology in ("iax2", "iax"):
            peer, dummy, number = rest.partition("/")
            peer = peer.rpartition("@")[2]
            if at and ":" in account and "${" in number:
                return number, True  # an account at the provider
        elif at and "/" not in account:
            number, dummy, peer = rest.partition("@")
            if ":" in account:  # an account at the provider; the number is the user, or stands behind it
                behind = peer.partition("/")[2]
                number = behind if "${" in behind else number.partition(":")[0]
                return (number, True) if "${" in number else ("", False)
        else:
            peer, dummy, number = rest.partition("/")
            if technology == "pjsip":
                uri = re.sub(r"^sips?:", "", number.strip(), flags=re.IGNORECASE)
                number, at, host = uri.partition("@")
                if at and "${" in number:
                    # whatever endpoint it is, the address says where the call goes
                    host = _bare(host)
                    return number, peer in self.trunks or host in self.addresses or (
                        peer in self.phones and not _near(host)
                    )
        if "${" not in number or peer in self.phones:
            return "", False  # a fixed number, or a phone
        return number, peer in self.trunks or _bare(peer) in self.addresses


def inner(app: str, args: str) -> list[tuple[str, str]]:
    """The applications that ExecIf and TryExec run, with their arguments."""
    if app != "execif":
        return [application(args)]
    dummy, sign, rest = args.partition("?")
    return [application(part) for part in split(rest, ":")] if sign else []


def calls(step: Step) -> Iterator[tuple[str, str, bool]]:
    """What a step calls: technology in lower case, the rest of the device, and whether it is certain that it does."""
    if step.app not in ("dial", "retrydial", "originate", "page"):
        return
    for device in split(_part(split(step.args), 3 if step.app == "retrydial" else 0), "&"):
        if device.startswith("${"):
            # a function that chooses: each device that is written in it
            for found in _DEVICE.finditer(device):
                yield fold(found[1]), _until(device[found.end() :]), False
        else:
            technology, dummy, rest = device.partition("/")
            yield fold(technology), rest, True


def has_password(technology: str, rest: str) -> bool:
    """Whether a device has a password in it, written out: ``user:password@host``."""
    text = re.sub(r"^.*?/\s*sips?:", "", rest, flags=re.IGNORECASE) if technology == "pjsip" else rest
    return technology in _SIP_LIKE and re.match(r"[^/@:]*:[^/@]+@", _outside(text)) is not None


def _outside(text: str) -> str:
    """A text without the variables, functions and expressions in it."""
    for dummy in range(_MAX_DEPTH):
        less = re.sub(r"\$(?:\{[^{}]*\}|\[[^\[\]]*\])", "", text)
        if less == text:
            break
        text = less
    return text


def _until(text: str) -> str:
    """A device in the argument of a function, up to where it ends."""
    depth = 0
    for index, char in enumerate(text):
        depth += (char in "({[") - (char in ")}]")
        scheme = char == ":" and re.search(r"(?:^|/)sips?$", text[:index], re.IGNORECASE)
        if depth < 0 or (not depth and char in ",:&" and not scheme):
            return text[:index]
    return text


def _bare(host: str) -> str:
    """A host as it is compared: without its port, parameters and what stands behind a slash."""
    return fold(re.sub(r"[;?/].*|:\d+$", "", host))


def _near(host: str) -> bool:
    """Whether a host is an address of a private network."""
    found = objects.network(host)
    return found is not None and objects.private(found)


def _by_pattern(pattern: str) -> int:
    return _EXTEN | _VARIABLES | _ARGUMENTS if wild(pattern) else 0


def _literal(extension: str, pattern: str) -> str:
    """The extension of a jump, where ${EXTEN} is known."""
    return extension if pattern.startswith("_") else extension.replace("${EXTEN}", pattern)


def _chosen(text: str, choice: int, variables: dict[str, bool]) -> bool:
    """Whether a text holds what the caller chose. What is looked up by it is somebody else's choice."""
    for name in _NAMED.findall(_without_lookups(text)):
        if name == "EXTEN":
            free = bool(choice & _EXTEN)
        elif re.fullmatch(r"ARG\d+", name):
            free = bool(choice & _ARGUMENTS)
        else:
            free = variables.get(name, bool(choice & _VARIABLES))
        if free:
            return True
    return False


def _without_lookups(text: str) -> str:
    """A text without the calls of functions that look something up."""
    for dummy in range(16):
        found = _LOOKUPS.search(text)
        if not found:
            break
        depth = 0
        end = len(text)
        for index in range(found.start() + 1, len(text)):
            depth += (text[index] == "{") - (text[index] == "}")
            if not depth:
                end = index + 1
                break
        text = text[: found.start()] + text[end:]
    return text


def _note(args: str, choice: int, variables: dict[str, bool]) -> None:
    """Remember whether what Set assigns is the caller's choice."""
    name, sign, value = args.partition("=")
    if sign and re.fullmatch(r"\s*_{0,2}\w+\s*", name):
        variables[name.strip().lstrip("_")] = _chosen(value, choice, variables)


def _is_number(name: str, steps: Iterable[Step]) -> bool:
    """Whether what Read puts into a variable is called or jumped to later: then it is a number and no PIN."""
    names = {name}
    for step in steps:
        used = any(f"${{{each}" in step.args for each in names)
        if used and step.app in ("dial", "retrydial", "originate", "page", "goto", "gosub", "macro"):
            return True
        if used and step.app == "execif" and any(f"${{{each}" in step.args.partition("?")[2] for each in names):
            return True
        if used and step.app in ("set", "mset"):
            names.add(step.args.partition("=")[0].strip().lstrip("_"))
    return False


def _sets_limit(app: str, args: str) -> bool:
    if app in ("set", "mset"):
        return re.search(r"TIMEOUT\(absolute\)\s*=", args, re.IGNORECASE) is not None
    return app == "absolutetimeout"


def _limits(options: str) -> list[str]:
    return re.findall(r"[LS]\(", options)


def _part(parts: list[str], index: int) -> str:
    return parts[index] if index < len(parts) else ""
