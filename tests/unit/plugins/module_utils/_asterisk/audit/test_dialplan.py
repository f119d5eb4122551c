# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of extensions.conf: patterns, precedence, jumps, and that no configuration whatever makes the audit fail."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit import dialplan, report
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.dialplan import (
    MAYBE,
    NO,
    YES,
    Dialplan,
    application,
    matches,
    read,
    split,
    wild,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import ConfigDirectory, load
from tests.unit.plugins.module_utils._asterisk.audit.configurations import KEPT, SIP_KEPT, audit, write

TRUNK = "Dial(PJSIP/${EXTEN}@carrier)"


def plan(text: str) -> Dialplan:
    made = read(load(ConfigDirectory("/none", {"extensions.conf": text.encode()}), "extensions.conf"))
    made.trunks, made.phones = frozenset({"carrier"}), frozenset({"desk"})
    return made


@pytest.mark.parametrize(
    ("pattern", "number", "expected"),
    [
        ("100", "100", True),
        ("100", "1000", False),
        ("_1XX", "123", True),
        ("_1xx", "123", True),
        ("_1XX", "12", False),
        ("_NZX", "210", True),
        ("_NZX", "110", False),
        ("_NZX", "200", False),
        ("_X.", "1", False),
        ("_X.", "1+&x", True),
        ("_X!", "1", True),
        ("_[13-5]0", "40", True),
        ("_[13-5]0", "20", False),
        ("_[", "1", False),
        ("_+X.", "+49", True),
    ],
)
def test_pattern_matches(pattern: str, number: str, expected: bool) -> None:
    assert matches(pattern, number) is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("_X.", True), ("_9X!", True), ("_0ZXXXXXX", True), ("_1XX", False), ("0049123456", False), ("_11[27]", False)],
)
def test_wild(pattern: str, expected: bool) -> None:
    assert wild(pattern) is expected


@pytest.mark.parametrize(
    ("number", "pattern"),
    [("0044", "_00X."), ("0144", "_0X."), ("911", "911"), ("912", "_9XX"), ("9123", "_X."), ("555", "_[5]XX")],
)
def test_best_match_wins_in_any_order(number: str, pattern: str) -> None:
    patterns = ["_X.", "_0X.", "_00X.", "_9XX", "911", "_[5]XX", "_XXX"]
    for order in (patterns, patterns[::-1]):
        text = "[a]\n" + "".join(f"exten => {each},1,NoOp\n" for each in order)
        found = plan(text).chosen("a", number)
        assert found is not None
        assert found[1].pattern == pattern


def test_own_context_comes_before_includes() -> None:
    made = plan("[a]\ninclude => b\nexten => _X.,1,NoOp\n[b]\nexten => 911,1,NoOp\n")
    found = made.chosen("a", "911")
    assert found is not None
    assert found[0].name == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dial(SIP/x,30,t)", ("dial", "SIP/x,30,t")),
        ("dial,SIP/x,30", ("dial", "SIP/x,30")),
        ("Set(a=${FILTER(0-9,${b})})", ("set", "a=${FILTER(0-9,${b})}")),
        ("Hangup", ("hangup", "")),
        ("Hangup()", ("hangup", "")),
        ("  ", ("", "")),
        ("(x)", ("", "")),
    ],
)
def test_application(text: str, expected: tuple[str, str]) -> None:
    assert application(text) == expected


def test_split_keeps_nested_commas() -> None:
    assert split('a(b,c),${d(e,f)},"g,h",$[i,j]') == ["a(b,c)", "${d(e,f)}", '"g,h"', "$[i,j]"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"exten => _X.,1,{TRUNK}", [NO]),
        (f"exten => _X.,1,Authenticate(1234)\n same => n,{TRUNK}", [YES]),
        (f"exten => _X.,1,{TRUNK}\n same => n,Authenticate(1234)", [NO]),
        (f"exten => _X.,1,VMAuthenticate(1@d)\n same => n,{TRUNK}", [YES]),
        (f"exten => _X.,1,Read(x)\n same => n,{TRUNK}", [YES]),
        ("exten => _X.,1,Read(x)\n same => n,Dial(PJSIP/${x}@carrier)", [NO]),
        (f"exten => _X.,1,Read(x)\n same => n,GotoIf($[${{x}} = 77]?a)\n same => n(a),{TRUNK}", [YES]),
        (f"exten => 30,1,Goto(b,${{EXTEN}},1)\n[b]\nexten => 30,1,Hangup\nexten => _X.,1,{TRUNK}", []),
        (f"exten => _X.,1,AGI(x)\n same => n,{TRUNK}", [MAYBE]),
        (f"exten => _X.,1,GotoIf($[1]?a)\n same => n,{TRUNK}\n same => n(a),Hangup", [MAYBE]),
        (f"exten => _X.,1,ExecIf($[1]?{TRUNK})", [NO]),
        (f"exten => _X.,1,Goto(b,${{EXTEN}},1)\n[b]\nexten => _X.,1,{TRUNK}", [NO]),
        (f"exten => _X.,1,Goto(b,${{EXTEN}},1)\n same => n,{TRUNK}\n[b]\nexten => _X.,1,Hangup", []),
        (f"exten => _X.,1,Hangup\n same => n,{TRUNK}", []),
        (
            f"exten => _X.,1,Gosub(b,s,1(x))\n same => n,{TRUNK}\n[b]\nexten => s,1,Authenticate(9)\n same => n,Return",
            [YES],
        ),
        (f"exten => _X.,1,Gosub(b,s,1)\n same => n,{TRUNK}\n[b]\nexten => s,1,Return", [NO]),
        (f"exten => _X.,1,Gosub(nowhere,s,1)\n same => n,{TRUNK}", [MAYBE]),
        (f"exten => _X.,1,Gosub(sipguard-outbound,s,1)\n same => n,{TRUNK}", [YES]),
        (f"exten => _X.,1,Macro(out)\n[macro-out]\nexten => s,1,{TRUNK}", [NO]),
        (f"exten => s,1,WaitExten()\ninclude => b\n[b]\nexten => _X.,1,{TRUNK}", [NO]),
        (f"exten => s,1,Dial(Local/0@b/n)\n[b]\nexten => 0,1,{TRUNK}", [NO]),
        ("exten => _X.,1,Dial(PJSIP/carrier/sip:${EXTEN}@x)", [NO]),
        ("exten => _X.,1,Dial(SIP/carrier/${EXTEN}&SIP/desk)", [NO]),
        ("exten => _X.,1,Dial(DAHDI/g1/${EXTEN})", [NO]),
        ("exten => _X.,1,Dial(IAX2/u:p@carrier/${EXTEN})", [NO]),
        ("exten => _X.,1,Dial(DAHDI/1)", []),
        ("exten => _X.,1,Dial(PJSIP/${EXTEN})", []),
        ("exten => _X.,1,Dial(PJSIP/desk)", []),
        ("exten => _X.,1,Dial(PJSIP/+4930123@carrier)", []),
        ("exten => _X,hint,PJSIP/carrier", []),
        (f"include => a\nexten => _X.,1,Goto(a,${{EXTEN}},1)\nexten => _9.,1,{TRUNK}", [NO]),
    ],
)
def test_what_reaches_a_trunk_and_what_asks_first(body: str, expected: list[int]) -> None:
    assert [each.guard for each in plan(f"[a]\n{body}\n").outs("a")] == expected


def test_globals_are_filled_in() -> None:
    outs = plan(
        "[globals]\nT=${U}\nU=carrier\nL=${L}x\n[a]\nexten => _X.,1,Dial(PJSIP/${EXTEN}@${T},60,L(${L}))\n"
    ).outs("a")
    assert [each.sure for each in outs] == [True]
    assert [each.limited for each in outs] == [True]


def test_trunk_that_only_the_call_names_is_not_sure() -> None:
    assert [each.sure for each in plan("[a]\nexten => _X.,1,Dial(PJSIP/${EXTEN}@${ODBC_T()})\n").outs("a")] == [False]


def test_extension_contexts_of_thousands_are_quick_to_reach() -> None:
    """Each leads to all of them: work that grew with the square would not end here."""
    lines = "".join(f"exten => {number},1,WaitExten()\nexten => _{number}X.,1,{TRUNK}\n" for number in range(3000))
    made = plan(f"[a]\n{lines}")
    assert len(made.outs("a")) == 3000
    looked = len(made._local)
    assert all(len(made.outs("a", str(number))) == 3000 for number in range(0, 3000, 10))
    assert len(made._local) == looked


WORDS_USED = r"""
    general globals global system transport endpoint aor auth acl identify phone a b anonymous type secret
    password host dynamic friend peer user context include exten same _X. _. _[ _9X! s 1 n
    Dial(PJSIP/${EXTEN}@carrier) Goto(a,${EXTEN},1) GotoIf($[1]?a,s,1:b,s,1) Gosub(b,s,1) Macro(x)
    ExecIf(1?Dial(SIP/a/${EXTEN}):DISA(no-password,b)) DISA() System(${EXTEN}) WaitExten()
    Set(TIMEOUT(absolute)=5) Local/x@a Dial(Local/${EXTEN}@b) deny permit 0.0.0.0/0 ::/0 10.0.0.0/33 match bind
    [::]:x 0.0.0.0:99999 rtpstart rtpend -1 99999999999 ٣ yes no maybe insecure very,invite nat cipher ALL
    protocol tls cert_file /etc priv_key_file method write all enabled bindaddr localhost: tlsenable webenabled
    wizard accepts_auth inbound_auth/password remote_hosts endpoint/context calltokenoptional identify_by
    qualify ² allowguest 200 1234,x ${a} , & | ( ) [ ] # #exec
"""
WORDS = st.sampled_from([*WORDS_USED.split(), "\x01", ""])
LINES = st.one_of(
    st.tuples(WORDS, st.sampled_from(["=", " => ", "+=", " "]), st.lists(WORDS, max_size=4).map(",".join)).map("".join),
    st.tuples(WORDS, st.sampled_from(["", "(!)", "(+)", "(a)", " (a)", "(a,b)"])).map(
        lambda each: f"[{each[0]}]{each[1]}"
    ),
    st.text(max_size=30),
)
STEMS = """
    sip pjsip pjsip_wizard iax extensions manager ari http rtp udptl voicemail logger modules asterisk users sorcery extconfig
"""
FILES = st.sampled_from([f"{stem}.conf" for stem in STEMS.split()])


@given(
    texts=st.dictionaries(FILES, st.lists(LINES, max_size=25).map("\n".join), max_size=8),
    options=st.fixed_dictionaries(
        {
            "version": st.sampled_from([None, (16, 28), (20, 9), (22, 10), (0, 0)]),
            "drivers": st.sampled_from([(), ("chan_sip", "pjsip")]),
            "freepbx": st.booleans(),
        }
    ),
    kept=st.booleans(),
)
@settings(max_examples=150)
def test_no_configuration_makes_it_fail(texts: dict[str, str], options: dict[str, object], kept: bool) -> None:
    files = {**(KEPT | SIP_KEPT if kept else {}), **texts}
    if kept:
        files |= {name: (KEPT | SIP_KEPT)[name] + text for name, text in texts.items() if name in KEPT | SIP_KEPT}
    with TemporaryDirectory() as directory:
        safe = {name: text.encode("utf-8", "replace").decode() for name, text in files.items()}
        found = audit(Path(directory), safe, **options)
    assert report.table(found).isascii()
    assert json.dumps(report.as_dict(found)).isascii()


@given(st.text(alphabet="_XZN.!0129[]-+${}(),\"':&@/abE", max_size=60))
def test_no_argument_makes_the_reader_fail(text: str) -> None:
    made = plan(f"[a]\nexten => {text},1,Dial({text})\nexten => s,1,Goto({text})\n")
    assert isinstance(made.outs("a"), tuple)
    assert isinstance(matches(text, "0123"), bool)
    assert dialplan.specificity(text) >= (0,)
    assert "".join(split(text)).replace(" ", "") == "".join(split(text))


def test_directory_that_is_not_there_is_no_configuration(tmp_path: Path) -> None:
    assert audit(tmp_path / "x", {}) == []
    write(tmp_path / "y", {"pjsip.conf": "\0"})
    assert audit(tmp_path / "y", {"pjsip.conf": "[a]\0"}) != []
