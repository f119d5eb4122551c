# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for single rules and for whole random sites: what was asked for is so, nothing else has changed, and it can be taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import catalogue, planner
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.catalogue import Setting
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.document import Document
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.edit import reverted
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.objects import Conditions, objects_of
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import (
    Category,
    ConfigDirectory,
    Tree,
    fold,
    load,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.asterisk.configurations import DRIVERS, sites

VERSION = {"pjsip": (22, 0), "chan_sip": (16, 28)}
MARK = b" ; sipguard"


def held(files: Mapping[str, bytes]) -> ConfigDirectory:
    return ConfigDirectory("/nonexistent", dict(files))


def plan(
    files: Mapping[str, bytes],
    driver: str = "pjsip",
    given_settings: object = None,
    exceptions: object = None,
    profile: str = "strict",
    only: Sequence[str] = (),
) -> planner.Plan:
    """The plan for a site; ``only`` are the options that are looked at, all without it."""
    version = VERSION[driver]
    wanted = catalogue.override(given_settings, catalogue.wanted(profile, driver, version), driver, version)
    wanted = [each for each in wanted if not only or each.option in only]
    excepted = catalogue.parse_exceptions(exceptions, driver, version)
    directory = held(files)
    return planner.make(directory, load(directory, DRIVERS[driver]), driver, wanted, excepted)


def value(tree: Tree, name: str, option: str, kind: str = "") -> str | None:
    for each in tree.objects():
        if each.name == name and (not kind or any(one.value == kind for one in each.all("type"))):
            found = each.last(option)
            return found.value if found else None
    raise AssertionError(f"no {kind} {name}")


# -- single rules: (title, file, what is asked, the lines that are new, the lines that are gone)

T = "allow_transfer"
NO = {"pjsip": {"endpoint": {T: False}}}
RULES: list[tuple[str, str, dict[str, Any], list[str], list[str]]] = [
    ("a template once", "[t](!)\ntype=endpoint\n[1](t)\n[2](t)\n", {}, ["allow_transfer=no ; sipguard"], []),
    (
        "an exception in the object",
        "[t](!)\ntype=endpoint\n[1](t)\nx=1\n[2](t)\n[3](t)\n",
        {"exceptions": [{"name": "1", "settings": {T: True}}]},
        ["allow_transfer=no ; sipguard", "allow_transfer=yes ; sipguard"],
        [],
    ),
    (
        "a wrong line in the template",
        "[t](!)\ntype=endpoint\nallow_transfer = yes ; all\n[1](t)\n[2](t)\n",
        {},
        ["allow_transfer = no ; all ; sipguard: was yes"],
        ["allow_transfer = yes ; all"],
    ),
    (
        "a wrong line of one object",
        "[t](!)\ntype=endpoint\nallow_transfer=no\n[1](t)\nallow_transfer=yes\n[2](t)\n",
        {},
        ["allow_transfer=no ; sipguard: was yes"],
        ["allow_transfer=yes"],
    ),
    (
        "an exception that the template says already",
        "[t](!)\ntype=endpoint\nallow_transfer=yes\n[1](t)\n[2](t)\n[3](t)\n",
        {"exceptions": [{"name": "3", "settings": {T: True}}]},
        ["allow_transfer=no ; sipguard: was yes", "allow_transfer=yes ; sipguard"],
        ["allow_transfer=yes"],
    ),
    (
        "a good value is left alone",
        "[t](!)\ntype=endpoint\nALLOW_TRANSFER => off\n[1](t)\n",
        {},
        [],
        [],
    ),
    (
        "a non-template base",
        "[1]\ntype=endpoint\nallow_transfer=yes\n[2](1)\n",
        {},
        ["allow_transfer=no ; sipguard: was yes"],
        ["allow_transfer=yes"],
    ),
    (
        "only one of two types of a name",
        "[1]\ntype=aor\nmax_contacts=1\n[1]\ntype=endpoint\naors=1\n",
        {},
        ["allow_transfer=no ; sipguard"],
        [],
    ),
    (
        "the last (+) part",
        "[1]\ntype=endpoint\n[2]\ntype=aor\n[1](+)\ncontext=x\n",
        {},
        ["allow_transfer=no ; sipguard"],
        [],
    ),
    (
        "spacing and line ends as beside it",
        "[1]\r\ntype = endpoint\r\n",
        {},
        ["allow_transfer = no ; sipguard\r"],
        [],
    ),
    (
        "a last line without an end",
        "[1]\ntype=endpoint",
        {},
        ["allow_transfer=no ; sipguard: the line before had no end"],
        [],
    ),
    ("nothing for a section of another kind", "[1]\ntype=auth\nallow_transfer=yes\n", {}, [], []),
    (
        "behind a comment in the header",
        "[1] ; allow_transfer=yes\ntype=endpoint ;-- x --;\n",
        {},
        ["allow_transfer=no ; sipguard"],
        [],
    ),
]


@pytest.mark.parametrize(("title", "text", "asked", "new", "gone"), RULES, ids=[each[0] for each in RULES])
def test_rules(title: str, text: str, asked: dict[str, Any], new: list[str], gone: list[str]) -> None:
    files = {"pjsip.conf": text.encode()}
    made = plan(files, given_settings=NO, only=[T], **asked)
    after = made.files.get("pjsip.conf", files["pjsip.conf"]).decode()
    before_lines, after_lines = text.strip("\n").split("\n"), after.strip("\n").split("\n")
    assert sorted(line for line in after_lines if after_lines.count(line) > before_lines.count(line)) == sorted(new)
    assert [line for line in before_lines if before_lines.count(line) > after_lines.count(line)] == gone
    assert reverted(Document.parse("pjsip.conf", after.encode())) == text.encode()


def test_an_exception_stays_with_the_one_it_is_about() -> None:
    """Its value would do for the others too, who have a good one of their own or by default."""
    text = b"[t](!)\ntype=endpoint\nrtp_timeout=60\n[1](t)\n[2](t)\n[3](t)\n"
    made = plan({"pjsip.conf": text}, exceptions=[{"name": "1", "settings": {"rtp_timeout": 30, "sdp_session": "one"}}])
    tree = load(held(made.files), "pjsip.conf")
    assert [value(tree, name, "rtp_timeout") for name in "123"] == ["30", "60", "60"]
    assert [value(tree, name, "sdp_session") for name in "123"] == ["one", None, None]


@pytest.mark.parametrize("line", ["", "rtp_timeout=0\n", "rtp_timeout=999\n"], ids=["none", "default", "wrong"])
@pytest.mark.parametrize("name", ["1", "2", "3"])
def test_nobody_gets_a_line_twice(line: str, name: str) -> None:
    text = f"[t](!)\ntype=endpoint\n{line}[1](t)\n[2](t)\n[3](t)\n".encode()
    made = plan(
        {"pjsip.conf": text}, only=["rtp_timeout"], exceptions=[{"name": name, "settings": {"rtp_timeout": 600}}]
    )
    assert sorted(each.after or "" for each in made.changes) == ["300", "600"]
    assert {each.section: each.after for each in made.changes} == {"t": "300", name: "600"}


def test_a_file_that_is_included_twice_is_edited_once() -> None:
    files = {"pjsip.conf": b"#include a.conf\n#include a.conf\n", "a.conf": b"[1]\ntype=endpoint\n"}
    made = plan(files, only=[T])
    assert made.files == {"a.conf": b"[1]\ntype=endpoint\nallow_transfer=no ; sipguard\n"}


def test_an_include_behind_the_options_does_not_win() -> None:
    """Where the wrong line cannot be changed, ours goes behind the #include that brings it."""
    files = {
        "sip.conf": b"[general]\nbindport=5060\n#include /elsewhere/x.conf\n[a]\ntype=peer\n",
        "/elsewhere/x.conf": b"allowguest=yes\n",
    }
    made = plan(files, "chan_sip", only=["allowguest"])
    assert made.files["sip.conf"].split(b"\n")[2:4] == [b"#include /elsewhere/x.conf", b"allowguest=no ; sipguard"]


@pytest.mark.parametrize(
    ("line", "option"),
    [("canreinvite=yes", "directmedia"), ("defaultexpirey=7200", "defaultexpiry"), ("MaxExpirey=9000", "maxexpiry")],
)
def test_an_alias_is_the_option(line: str, option: str) -> None:
    made = plan({"sip.conf": f"[general]\n{line}\n".encode()}, "chan_sip", only=[option])
    (change,) = made.changes
    name, dummy, old = line.partition("=")
    assert made.files["sip.conf"] == f"[general]\n{name}={change.after} ; sipguard: was {old}\n".encode()


def test_of_two_names_the_last_line_counts() -> None:
    good = b"[general]\ncanreinvite=yes\ndirectmedia=no\n"
    bad = b"[general]\ndirectmedia=no\ncanreinvite=yes\n"
    assert not plan({"sip.conf": good}, "chan_sip", only=["directmedia"]).files
    assert b"canreinvite=no ; sipguard" in plan({"sip.conf": bad}, "chan_sip", only=["directmedia"]).files["sip.conf"]


@pytest.mark.parametrize("head", ["[anonymous]", "[anonymous](t)", "  [anonymous](t)  ; all", "\ufeff[anonymous](t)"])
def test_who_takes_in_strangers_becomes_a_template(head: str) -> None:
    base = "" if head.startswith("\ufeff") or "(" not in head else "[t](!)\ntype=endpoint\n"
    head = head if base or "(" not in head else head.replace("(t)", "")
    text = f"{base}{head}\ntype=endpoint\ncontext=x\n".encode()
    made = plan({"pjsip.conf": text}, only=["guests"])
    tree = load(held(made.files), "pjsip.conf")
    assert [(each.name, each.template) for each in tree.categories][-1] == ("anonymous", True)
    assert reverted(Document.parse("pjsip.conf", made.files["pjsip.conf"])) == text
    assert not plan(made.files, only=["guests"]).files


def test_guests_that_cannot_be_kept_out_are_a_refusal() -> None:
    with pytest.raises(SipguardError, match="several places"):
        plan({"pjsip.conf": b"[anonymous]\ntype=endpoint\n[anonymous](+)\ncontext=x\n"}, only=["guests"])


REFUSED = {
    "a block comment in the value": (b"[1]\ntype=endpoint\nallow_transfer=y;-- x --;es\n", "edit this line by hand"),
    "a block comment that begins there": (
        b"[1]\ntype=endpoint\nallow_transfer=yes ;-- x\n--;\n",
        "edit this line by hand",
    ),
    "a syntax error": (b"[1\ntype=endpoint\n", "Asterisk refuses pjsip.conf"),
    "a program": (b"[1]\ntype=endpoint\n#exec /bin/x\n", "#exec"),
    "a NUL byte": (b"[1]\ntype=endpoint\n\0\n", "NUL"),
    "endless inclusion": (b"[1]\ntype=endpoint\n#include pjsip.conf\n", "cannot be told"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_refusals(text: bytes, words: str) -> None:
    files = {"pjsip.conf": text, "asterisk.conf": b"[options]\nexecincludes=yes\n"}
    with pytest.raises(SipguardError, match=words):
        plan(files, only=[T])


def test_hostile_names_are_shown_tame() -> None:
    text = "[\x1b[31m\udcfc]\ntype=endpoint\nallow_transfer=y;-- x --;es\n[é\x07]\ntype=endpoint\n"
    made = plan({"pjsip.conf": text.replace("y;-- x --;es", "yes").encode("utf-8", "surrogateescape")}, only=[T])
    for change in made.changes:
        assert all(str(each).isascii() and str(each).isprintable() for each in change.result().values())


def test_thousands_of_endpoints_change_few_lines() -> None:
    parts = ["[t](!)\ntype=endpoint\n[a](!)\ntype=aor\nmax_contacts=1\n"]
    parts += [f"[{n}](t)\naors={n}\n[{n}](a)\n" for n in range(10000, 15000)]
    text = "".join(parts).encode()
    exceptions = [{"name": str(n), "settings": {T: True}} for n in range(10000, 10005)]
    made = plan({"pjsip.conf": text}, exceptions=exceptions)
    tree = load(held(made.files), "pjsip.conf")
    assert [value(tree, str(n), T, "endpoint") for n in (10000, 10004, 10005, 14999)] == ["yes", "yes", "no", "no"]
    assert len(made.files["pjsip.conf"].split(b"\n")) - len(text.split(b"\n")) < 30


# -- random sites

SCOPES: dict[str, dict[str, dict[str, list[Any]]]] = {
    "pjsip": {
        "global": {"user_agent": ["x", "a;b"], "debug": [False]},
        "endpoint": {
            T: [True, False, None],
            "direct_media": [True, False],
            "rtp_timeout": [30, 600],
            "sdp_session": ["a;b", "é"],
        },
        "aor": {"qualify_frequency": [0, 30], "maximum_expiration": [900]},
    },
    "chan_sip": {
        "general": {
            "allowguest": [True, None],
            "useragent": ["x;y"],
            "directmedia": ["nonat", "no"],
            "maxexpiry": [60],
        },
        "peer": {"allowtransfer": [True, False], "qualify": ["no", 2000], "nat": ["no", None], "rtptimeout": [20, 900]},
    },
}
NAMES = ["1001", "1002", "trunk-*", "*", "John Doe", "müller", "anonymous", "[a-z]*"]


@st.composite
def requests(draw: st.DrawFn, driver: str) -> dict[str, Any]:
    """Arguments of `plan`: profile, settings and exceptions."""
    chosen: dict[str, dict[str, Any]] = {}
    for scope, choices in SCOPES[driver].items():
        for option in draw(st.lists(st.sampled_from(sorted(choices)), max_size=2, unique=True)):
            chosen.setdefault(scope, {})[option] = draw(st.sampled_from(choices[option]))
    objects = [each for scope, each in SCOPES[driver].items() if scope not in ("global", "general")]
    exceptions = []
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        options = draw(st.sampled_from(objects))
        option = draw(st.sampled_from(sorted(options)))
        exceptions.append({"name": name, "settings": {option: draw(st.sampled_from(options[option]))}})
    key = "sip" if driver == "chan_sip" else "pjsip"
    return {
        "profile": draw(st.sampled_from(["baseline", "strict"])),
        "given_settings": {key: chosen} if chosen else None,
        "exceptions": exceptions,
    }


def asked(tree: Tree, driver: str, request: Mapping[str, Any]) -> dict[int, dict[str, Setting]]:
    """By section: the names of options, aliases too, and what is wanted of them; worked out here once more."""
    version = VERSION[driver]
    usual = catalogue.override(
        request["given_settings"], catalogue.wanted(request["profile"], driver, version), driver, version
    )
    exceptions = catalogue.parse_exceptions(request["exceptions"], driver, version)
    objects = objects_of(tree, driver)
    conditions = Conditions(tree, driver, objects)
    found: dict[int, dict[str, Setting]] = {}
    for scope, categories in objects.items():
        for each in categories:
            if scope in ("general", "global"):
                mine = [one for one in usual if one.scope == scope]
            else:
                mine = catalogue.for_object(usual, exceptions, scope, each.name)
            for setting in mine:
                if conditions.hold(each, setting):
                    for name in (setting.option, *setting.aliases):
                        found.setdefault(id(each), {})[name] = setting
    return found


def is_stranger(category: Category) -> bool:
    return category.name == "anonymous"


def last(category: Category, setting: Setting) -> list[str]:
    names = (setting.option, *setting.aliases)
    return [each.value for each in category.variables if fold(each.name) in names]


def same_otherwise(before: Tree, after: Tree, wanted: dict[int, dict[str, Setting]]) -> None:
    """(a) and (b): every section says what is wanted of it, keeps what was good, and else says what it said."""
    new = iter(after.categories)
    for old in before.categories:
        now = next(new, None)
        assert now is not None
        assert now.name == old.name
        options = wanted.get(id(old), {})
        if now.template != old.template:
            assert is_stranger(old)
            assert "guests" in options
        if old.template or now.template:
            continue
        assert [(each.name, each.value) for each in now.variables if fold(each.name) not in options] == [
            (each.name, each.value) for each in old.variables if fold(each.name) not in options
        ]
        for setting in options.values():
            if setting.kind == "guests":
                continue
            was, is_now = last(old, setting), last(now, setting)
            if setting.scope == "peer" and not is_now:
                # chan_sip: what [general] says counts for a peer that says nothing
                general = after.first("general")
                is_now = last(general, setting) if general else []
            assert setting.satisfied(*is_now), (old, setting.option, is_now)
            if was and setting.satisfied(*was):
                assert was[-1] == is_now[-1]
    assert {each.name for each in new} <= {"global", "general", "system"}


def untouched(before: bytes, after: bytes) -> None:
    """(e): every line that has not our remark is an old one, in order; as many old ones are gone as ours say they have replaced."""
    old = (before if before.endswith(b"\n") or not before else before + b"\n").split(b"\n")
    new = after.split(b"\n")
    kept = [line for line in new if MARK not in line or line in old]
    if not after.endswith(b"\n"):
        kept.append(b"")
    position = 0
    for line in kept:
        position = old.index(line, position) + 1
    replaced = sum(MARK + b": was" in line and line not in old for line in new)
    assert len(old) - len(kept) == replaced


def attempt(files: Mapping[str, bytes], driver: str, request: Mapping[str, Any]) -> tuple[planner.Plan | None, str]:
    """The plan, or why there is none."""
    try:
        return plan(files, driver, **request), ""
    except SipguardError as error:
        return None, str(error)


def check_site(files: Mapping[str, bytes], driver: str, request: Mapping[str, Any], data: st.DataObject) -> None:
    directory = held(files)
    tree = load(directory, DRIVERS[driver])
    made, refused = attempt(files, driver, request)
    if made is None:
        event("refused: " + refused.rpartition(": ")[2][:40])
        assert refused.isascii()
        assert refused.isprintable()
        return
    event(f"changed: {bool(made.files)}")
    everything = {**files, **made.files}
    after = load(held(everything), DRIVERS[driver])
    assert not after.fatal
    assert not after.unsure
    same_otherwise(tree, after, asked(tree, driver, request))
    again = plan(everything, driver, **request)
    assert not again.files
    assert not again.changes
    for name, content in made.files.items():
        assert content != files[name]
        untouched(files[name], content)
        assert reverted(Document.parse(name, content)) == files[name]
        # somebody's own remark somewhere else stays where it is, and nothing else does
        new = content.splitlines(keepends=True)
        at = data.draw(st.integers(1, len(new))) if len(new) > 1 else 1
        if new[at - 1].endswith(b"\n"):
            edited = b"".join([*new[:at], b"; mine\n", *new[at:]])
            back = reverted(Document.parse(name, edited))
            assert back.replace(b"; mine\n", b"").removesuffix(b"; mine").rstrip(b"\r\n") == files[name].rstrip(b"\r\n")


@settings(max_examples=150)
@given(sites("pjsip"), requests("pjsip"), st.data())
def test_random_sites_of_pjsip(files: dict[str, bytes], request: dict[str, Any], data: st.DataObject) -> None:
    check_site(files, "pjsip", request, data)


@settings(max_examples=150)
@given(sites("chan_sip"), requests("chan_sip"), st.data())
def test_random_sites_of_chan_sip(files: dict[str, bytes], request: dict[str, Any], data: st.DataObject) -> None:
    check_site(files, "chan_sip", request, data)
