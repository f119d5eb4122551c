# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of ours in a file of somebody else: how they look, and how they go without a trace. More of it in test_planner.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.document import Document, Option, Section
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.edit import Edits, marked, option_line, reverted
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import Place
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.asterisk.configurations import configurations

NAME = "x.conf"


def edits(data: bytes) -> Edits:
    return Edits({NAME: Document.parse(NAME, data)})


def replaced(data: bytes, value: str, line: int = 2) -> bytes:
    made = edits(data)
    made.replace(Place(NAME, line), value)
    return made.apply()[NAME]


def inserted(data: bytes, line: int = 1, option: str = "o", value: str = "v") -> bytes:
    made = edits(data)
    made.insert(Place(NAME, line), option, value)
    return made.apply()[NAME]


def back(data: bytes) -> bytes:
    return reverted(Document.parse(NAME, data))


REPLACED = {
    "plain": (b"k=v\n", "n", b"k=n ; sipguard: was v\n"),
    "spacing": (b"\tk  =>  v  \r\n", "n", b"\tk  =>  n   ; sipguard: was v\r\n"),
    "a remark": (b"k=v;r\n", "n", b"k=n;r ; sipguard: was v\n"),
    "no end": (b"k = v", "n", b"k = n ; sipguard: was v"),
    "a semicolon": (b"k=a\\;b\n", "c;d", b"k=c\\;d ; sipguard: was a\\;b\n"),
    "a semicolon first": (b"k=\\;b\n", "n", b"k=n ; sipguard: was \\;b\n"),
    "an empty one": (b"k = ; r\n", "n", b"k =n ; r ; sipguard: was \n"),
    "to an empty one": (b"k = v ; r\n", "", b"k = ; r ; sipguard: was  v\n"),
    "an inline block comment": (b"k=v ;-- r --;\n", "n", b"k=n ;-- r --; ; sipguard: was v\n"),
    "our words in a block comment": (
        b"k=v ;-- a ; sipguard: was b --;\n",
        "n",
        b"k=n ;-- a ; sipguard: was b --; ; sipguard: was v\n",
    ),
    "nearly our words": (b"k=v ; sipguard's\n", "n", b"k=n ; sipguard's ; sipguard: was v\n"),
    "our words in a value": (
        b"k=a \\; sipguard: was b\n",
        "n",
        b"k=n ; sipguard: was a \\; sipguard: was b\n",
    ),
}


@pytest.mark.parametrize(("line", "value", "result"), REPLACED.values(), ids=REPLACED)
def test_replaced(line: bytes, value: str, result: bytes) -> None:
    assert replaced(b"[a]\n" + line, value) == b"[a]\n" + result
    assert back(b"[a]\n" + result) == b"[a]\n" + line
    assert back(replaced(b"[a]\n" + result, "again")) == b"[a]\n" + line


def test_a_line_of_ours_keeps_its_remark() -> None:
    assert replaced(b"[a]\nk=v ; sipguard\n", "n") == b"[a]\nk=n ; sipguard\n"


def test_no_remark_keeps_a_secret() -> None:
    made = edits(b"[a]\nsecret=pT4v\n")
    made.replace(Place(NAME, 2), "new", remember=False)
    assert made.apply()[NAME] == b"[a]\nsecret=new\n"


INSERTED = {
    "below the header": (b"[a] ; r\n[b]\n", b"[a] ; r\no=v ; sipguard\n[b]\n"),
    "below the last option": (b"[a]\nk = x\n\n; r\n[b]\n", b"[a]\nk = x\no = v ; sipguard\n\n; r\n[b]\n"),
    "line ends": (b"[a]\r\nk=x\r\n", b"[a]\r\nk=x\r\no=v ; sipguard\r\n"),
    "no end": (b"[a]\nk=x", b"[a]\nk=x\no=v ; sipguard: the line before had no end\n"),
    "no end but a carriage return": (b"[a]\nk=x\r", b"[a]\nk=x\r\no=v ; sipguard: the line before had no end\n"),
    "before an include": (b"[a]\nk=x\n#include y\n", b"[a]\nk=x\no=v ; sipguard\n#include y\n"),
    "not into a comment": (b"[a]\nk=x\nl=y ;--\n--;\n", b"[a]\nk=x\no=v ; sipguard\nl=y ;--\n--;\n"),
}


@pytest.mark.parametrize(("data", "result"), INSERTED.values(), ids=INSERTED)
def test_inserted(data: bytes, result: bytes) -> None:
    assert inserted(data) == result
    assert back(result) == data


@pytest.mark.parametrize("data", [b"[a] ;-- x\n--;\n", b"[a] ;-- x"])
def test_nothing_is_inserted_into_a_comment(data: bytes) -> None:
    with pytest.raises(SipguardError, match="block comment"):
        inserted(data)


def test_late_is_behind_the_includes() -> None:
    made = edits(b"[a]\nk=x\n#include y\n; r\n")
    made.insert(Place(NAME, 1), "o", "v", late=True)
    assert made.apply()[NAME] == b"[a]\nk=x\n#include y\no=v ; sipguard\n; r\n"


APPENDED = {
    "a new file": (b"", b"k=v ; sipguard\n"),
    "an end": (b"[a]\n", b"[a]\nk=v ; sipguard\n"),
    "no end": (b"[a]", b"[a]\nk=v ; sipguard: the line before had no end\n"),
    "line ends": (b"[a]\r\n", b"[a]\r\nk=v ; sipguard\r\n"),
}


@pytest.mark.parametrize(("data", "result"), APPENDED.values(), ids=APPENDED)
def test_appended(data: bytes, result: bytes) -> None:
    made = edits(data)
    made.append(NAME, [option_line("k", "v")])
    assert made.apply() == {NAME: result}
    assert back(result) == data


def test_nothing_is_appended_to_an_open_comment() -> None:
    made = edits(b"[a]\n;-- x\n")
    made.append(NAME, [b"k=v ; sipguard\n"])
    with pytest.raises(SipguardError, match="never ends"):
        made.apply()


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (b"k=x\n; r\n[a]\n", b"k=x\n; r\no=v ; sipguard\n[a]\n"),
        (b"[a]\n", b"o=v ; sipguard\n[a]\n"),
        (b"k=x\n", b"k=x\no=v ; sipguard\n"),
        (b"", b"o=v ; sipguard\n"),
    ],
)
def test_prepended(data: bytes, result: bytes) -> None:
    made = edits(data)
    made.prepend(NAME, [b"o=v ; sipguard\n"])
    assert made.apply() == {NAME: result}
    assert back(result) == data


BACK = {
    "commented out by somebody": (b"[a]\n;k=v ; sipguard\n;l=w ; sipguard: was x\n", None),
    "a block comment around it": (b"[a]\n;--\nk=v ; sipguard\n--;\n", None),
    "a block comment that begins in it": (b"[a]\nk=v ;-- ; sipguard\n--;\nl=w\n", None),
    "somebody's text": (b"[a]\nk=v ; sipguard is good\n", None),
    "a changed value": (b"[a]\nk=mine ; sipguard: was v\n", b"[a]\nk=v\n"),
    "a blank that an editor took away": (b"[a]\nk=n ; sipguard: was\n", b"[a]\nk=\n"),
    "a section of ours": (b"[a]\n[g] ; sipguard\ntype=g ; sipguard\nk=v ; sipguard\n", b"[a]\n"),
    "a section of ours with somebody's option": (
        b"[a]\n[g] ; sipguard\ntype=g ; sipguard\nk=v ; sipguard\nl=mine\n",
        b"[a]\n[g]\ntype=g\nl=mine\n",
    ),
    "lines behind ours at the end": (
        b"[a]\nk=x\no=v ; sipguard: the line before had no end\nl=mine\n",
        b"[a]\nk=x\nl=mine\n",
    ),
    "a template with a remark": (b"[a](!) ; mine ; sipguard: was [a]\n", b"[a] ; mine\n"),
}


@pytest.mark.parametrize(("data", "result"), BACK.values(), ids=BACK)
def test_taken_back(data: bytes, result: bytes | None) -> None:
    assert back(data) == (data if result is None else result)


@pytest.mark.parametrize(
    ("head", "result"),
    [
        (b"[a]", b"[a](!) ; sipguard: was [a]"),
        (b" [a](t)x ; r", b" [a](!,t)x ; r ; sipguard: was [a](t)"),
        (b"\xef\xbb\xbf[a]\r", b"\xef\xbb\xbf[a](!) ; sipguard: was [a]\r"),
    ],
)
def test_templates(head: bytes, result: bytes) -> None:
    made = edits(head + b"\nk=v\n")
    made.make_template(Place(NAME, 1))
    assert made.apply()[NAME] == result + b"\nk=v\n"
    assert back(result + b"\nk=v\n") == head + b"\nk=v\n"


def test_a_header_that_a_comment_cuts_is_refused() -> None:
    made = edits(b"[a;-- x --;b]\n")
    made.make_template(Place(NAME, 1))
    with pytest.raises(SipguardError, match="by hand"):
        made.apply()


def test_what_is_ours_is_told_without_secrets() -> None:
    data = b"[a](!) ; sipguard: was [a]\nk=v ; sipguard: was x\nSecret=pT4v ; sipguard: was Zq81\nl=w ; sipguard\nm=z\n"
    found = marked(Document.parse(NAME, data))
    assert [(each.number, each.section, each.option, each.now, each.was) for each in found] == [
        (1, "a", "section", "[a](!)", "[a]"),
        (2, "a", "k", "v", "x"),
        (3, "a", "Secret", "***", "***"),
        (4, "a", "l", "w", None),
    ]


@given(configurations(), st.data(), st.sampled_from(["n", "", "a;b", "x y", "; sipguard"]))
def test_every_edit_can_be_taken_back(content: bytes, data: st.DataObject, value: str) -> None:
    document = Document.parse(NAME, content)
    made = Edits({NAME: document})
    places = [each for each in document.statements if isinstance(each, (Option, Section))]
    for each in data.draw(st.lists(st.sampled_from(places), unique_by=lambda one: one.line)) if places else []:
        place = Place(NAME, each.line)
        try:
            if isinstance(each, Option):
                made.replace(place, value)
            elif data.draw(st.booleans()):
                made.insert(place, "o", value)
            else:
                made.make_template(place)
        except SipguardError:
            return
    try:
        new = made.apply().get(NAME, content)
    except SipguardError:
        return
    if Document.parse(NAME, new).statements[:1] == document.statements[:1] or made:
        assert back(new) == content


@given(configurations())
def test_what_we_never_touched_stays(content: bytes) -> None:
    assert back(content) == content
