# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we read in a configuration is what Asterisk reads in it: AMI's GetConfig is asked about the same files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.document import Document
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import ConfigDirectory, Tree, load

from .ami import Ami
from .configurations import configurations
from .harness import IMAGES, SAMPLES, Pbx

MANAGER = "[general]\nenabled=yes\nbindaddr=127.0.0.1\n[reader]\nsecret=Nv83-kLqp-2mXz\nread=config\nwrite=config\n"
# One file a rule, and what could be mistaken in it.
CASES = {
    "comments": b"[a];x\nk=v;w\nk= v \\; w ; x\nk=v;-- x --;w\n;-- k=1\nk=2 --; k=3\n;--- k=4\nk=5 ;--x\nk=6\n--;\n",
    "nested": b"[a]\n;-- ;-- k=1 --; k=2 --; k=3\nk=4 ;--;--;x--;y--; 5\n",
    "append": b"[a]\nk=1\nK=2\nk=1\nk+=2\nk += 3\nnew+= 4\nk+=\n",
    "arrows": b"[a]\nk=>1\nk = > 2\nk+=>3\nk =>=> 4\n",
    "templates": b"[t](!)\nk=t\n[u](!,t)\nk=u\n[a](t,u)\nk=a\n[b](a)\n[t]\nk=second\n[c](t)\n",
    "additions": b"[a]\nk=1\n[b]\n[A]\nk=2\n[a](+)\nk=3\n[b](+,a)\n",
    "filters": b"[a]\ntype=x\n[a]\ntype=y\n[a](+type=y)\nk=1\n[a](+type=^x$)\nk=2\n",
    "escapes": b"[a]\n\\#k=1\n\\[k]=2\n\\=k=3\n\\\\k=4\n",
    "byte order": b"\xef\xbb\xbf[a]\nk=1\n",
    "spaces": b"  [a]  \n\tk\t=\tv\t\r\n\x01k\x02=\x03v\n",
    "long": b"[a]\nk=" + b"x" * 8186 + b"\nl=" + b"x" * 8187 + b"\nm=1\n",
    "no equal sign": b"[a]\nk\n=v\n+=v\n#nothing\n#include\nk=1\n",
    "header space": b"[t](!)\nk=1\n[a] (t)\n[b](t) x\nk=2\n",
    "unfinished comment": b"[a]\nk=1\n;-- x\nk=2\n",
    "latin": b"[a]\nk=\xfc\xe9\n",
}
REFUSED = {
    "no section": b"k=1\n",
    "inheritance from nothing": b"[a](t)\nk=1\n",
    "inheritance with a blank": b"[t](!)\n[u](!)\n[a](t, u)\n",
    "addition to nothing": b"[a](+)\n",
    "addition to a template": b"[a](!)\n[a](+)\n",
    "no bracket": b"[a\nk=1\n",
    "no parenthesis": b"[a](t\nk=1\n",
    "include of nothing": b"[a]\n#include nothing.conf\n",
    "escape of nothing": b"[a]\n\\\nk=1\n",
}


def ours(tree: Tree) -> list[tuple[str, bool, list[str]]]:
    return [
        (each.name, each.template, [f"{variable.name}={variable.value}" for variable in each.variables])
        for each in tree.categories
    ]


def theirs(ami: Ami, name: str) -> list[tuple[str, bool, list[str]]] | str:
    """What Asterisk made of the file, or why nothing."""
    answer = ami.action("GetConfig", Filename=name, Filter="TEMPLATES=include")
    if answer["Response"] != "Success":
        return answer["Message"]
    found: dict[str, Any] = {}
    for key, value in answer.items():
        kind, _dash, number = key.partition("-")
        if kind == "Category":
            found[number] = (value, answer.get(f"IsTemplate-{number}") == "1", [])
        elif kind == "Line":
            found[number.partition("-")[0]][2].append(value)
    return list(found.values())


def connected(pbx: Pbx) -> Ami:
    pbx.boot({"manager.conf": MANAGER})
    ami = pbx.ami()
    assert ami.login("reader", "Nv83-kLqp-2mXz")["Response"] == "Success"
    return ami


def held(files: dict[str, bytes]) -> ConfigDirectory:
    return ConfigDirectory("/nonexistent", dict(files))


def compare(ami: Ami, files: dict[str, bytes], name: str) -> None:
    tree = load(held(files), name)
    if tree.unsure:
        return
    answer = theirs(ami, name)
    if tree.fatal:
        assert answer == "Config file has invalid format", (files, tree.problems)
    else:
        assert answer == ours(tree), (files, tree.problems)


def test_every_rule_is_read_as_asterisk_reads_it(pbx: Pbx) -> None:
    ami = connected(pbx)
    for title, content in {**CASES, **REFUSED}.items():
        name = f"{title.replace(' ', '-')}.conf"
        pbx.write(name, content)
        tree = load(held({name: content}), name)
        assert not tree.unsure, title
        assert bool(tree.fatal) == (title in REFUSED), (title, tree.problems)
        compare(ami, {name: content}, name)


def test_includes_are_followed_as_asterisk_follows_them(pbx: Pbx) -> None:
    files = {
        "top.conf": b'[a]\nk=1\n#include "one.conf"\nk=2\n#tryinclude missing.conf\n#include <part/*.conf>\nk=3\n'
        b"#include {two,three}.conf\n",
        "one.conf": b"k=one\n[b]\nk=b\n[a](+)\nk=more\n",
        "part/x.conf": b"k=x\n[c]\n;-- a comment that goes on in the next file\n",
        "part/y.conf": b"k=hidden --; k=y\n[d]\nk=d\n",
        "two.conf": b"k=two\n[e]\n;-- open\n",
        "three.conf": b"hidden --; k=three\n",
        "loop.conf": b"[a]\n#include loop.conf\n",
    }
    ami = connected(pbx)
    for name, content in files.items():
        pbx.write(name, content)
    # patterns need a real directory: the container's own, as this machine sees it
    with_disk = ConfigDirectory(f"/proc/{pbx.pid}/root/etc/asterisk")
    tree = load(with_disk, "top.conf")
    assert not [each for each in tree.problems if each.unsure or each.fatal]
    assert theirs(ami, "top.conf") == ours(tree)
    assert load(with_disk, "loop.conf").unsure


@pytest.mark.parametrize("version", list(IMAGES))
def test_samples_of_the_package_are_read_as_asterisk_reads_them(version: str, request: pytest.FixtureRequest) -> None:
    pbx: Pbx = request.getfixturevalue(f"pbx{version}")
    ami = connected(pbx)
    names = pbx.check(["sh", "-c", f"cd {SAMPLES}; find . -type f"]).split()
    assert len(names) > 80
    samples = {f"sample{name[1:].replace('/', '-')}": pbx.read_bytes(f"{SAMPLES}/{name}") for name in names}
    pbx.write_all(samples)
    for name, content in samples.items():
        assert Document.parse(name, content).render() == content
        compare(ami, {name: content}, name)


@pytest.mark.parametrize("version", list(IMAGES))
def test_whatever_is_written_is_read_as_asterisk_reads_it(version: str, request: pytest.FixtureRequest) -> None:
    pbx: Pbx = request.getfixturevalue(f"pbx{version}")
    ami = connected(pbx)

    # forty files an example: a file costs nothing, a connection to the container does
    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(configurations(), min_size=40, max_size=40))
    def check(contents: list[bytes]) -> None:
        files = {f"fuzz-{number}.conf": content for number, content in enumerate(contents)}
        pbx.write_all(files)
        for name, content in files.items():
            compare(ami, {name: content}, name)

    check()
