# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import freepbx_rules
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter import matches as m
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.freepbx_rules import (
    ENABLED,
    FILE,
    Document,
    Others,
    commands,
    follow,
    leaving,
    memory,
    others,
    parse,
    plan,
    present,
    remember,
    rules_path,
    settle,
    unknown,
    writable,
    write_all,
)
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.names import FAMILIES, IPV4, IPV6, Family
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.policy import assemble
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.rule import Match, Option, Rule, parse_rule, quote
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError
from tests.fixtures.freepbx import custom_rules
from tests.unit.plugins.module_utils._netfilter import samples
from tests.unit.plugins.module_utils._netfilter.test_rule import learning, plain_rules, rejecting

CHAINS = {"SIPGUARD": (Rule("SIPGUARD", (), "SIPGUARD-UA"),), "SIPGUARD-UA": (Rule("SIPGUARD-UA", (), "DROP"),)}
BLOCK = """\
# BEGIN sipguard.pbx
# sipguard's rules as they are in the kernel, for FreePBX to load when it has flushed them. Written anew whenever they change.
# Lines above and below are never touched. A line below that begins with -I INPUT 1 is met before these.
-w 10 -N SIPGUARD
-w 10 -N SIPGUARD-UA
-w 10 -F SIPGUARD
-w 10 -F SIPGUARD-UA
-w 10 -I SIPGUARD 1 -j SIPGUARD-UA
-w 10 -I SIPGUARD-UA 1 -j DROP
-w 10 -I INPUT 1 -j SIPGUARD
# END sipguard.pbx
"""
FOREIGN = b"# mine\n-A INPUT -s 192.0.2.0/24 -j ACCEPT\n"
FILE_4, FILE_6 = "firewall-4.rules", "firewall-6.rules"


def delivered(line: str, chain: str) -> Rule:
    """The rule that iptables makes of a line, by way of PHP and the shell."""
    words = custom_rules.arguments(line)
    assert words[:4] == ["-w", "10", "-I", chain]
    option, saved = "", ["-A", chain]
    for word in words[5:]:
        if word.startswith("-") and len(word) > 1 and not word[1].isdigit():
            option = word
        if option == "--hex-string" and word != option:
            # what iptables-save then lists
            pattern = m.string(bytes.fromhex(word.strip("|"))).options[0]
            saved[-1:] = [pattern.name, quote(pattern.values[0], pattern.name)]
        else:
            bare = word == option or word in ("!", chain)
            saved.append(word if bare else quote(word, option))
    return parse_rule(" ".join(saved))


@given(st.one_of(plain_rules, learning, rejecting))
def test_every_rule_arrives_as_it_is(rule: Rule) -> None:
    (line,) = [each for each in commands({rule.chain: (rule,)}) if " -I " in each and " -I INPUT " not in each]
    assert line.isascii()
    assert "'" not in line
    assert delivered(line, rule.chain) == rule


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("sample", samples.SAMPLES)
def test_samples_arrive_whole_and_in_order(sample: str, family: Family) -> None:
    policy = samples.policy(family, **samples.SAMPLES[sample])
    for chains in assemble(policy, samples.GENERATIONS[sample]).values():
        found: dict[str, list[Rule]] = {name: [] for name in chains}
        for line in commands(chains):
            words = custom_rules.arguments(line)
            if words[2] == "-I" and words[3] in found:
                assert int(words[4]) == len(found[words[3]]) + 1
                found[words[3]].append(delivered(line, words[3]))
        assert {name: tuple(rules) for name, rules in found.items()} == dict(chains)


def test_escaping_is_that_of_php() -> None:
    texts = [
        *string.punctuation,
        'a "b c" d',
        'a "b',
        "it's",
        "'a' 'b",
        '"a\'b"',
        "\\|",
        "(x) [y] {z} $1 `w`",
        '"|a| b"',
    ]
    texts += [f'{one}x{two}y"' for one in "\"'" for two in "\"'|"]
    for text in texts:
        php = subprocess.run(
            ["php", "-r", "echo escapeshellcmd($argv[1]);", "--", text], capture_output=True, text=True, check=True
        )
        assert custom_rules.escapeshellcmd(text) == php.stdout


@pytest.mark.parametrize(
    "text", ["\n".join(f"-A INPUT -m string --hex-string {pattern}" for pattern in ('"|66|"', "|66|"))]
)
def test_quoted_patterns_would_not_arrive(text: str) -> None:
    quoted, bare = (custom_rules.arguments(line)[-1] for line in custom_rules.rules(text))
    assert (quoted, bare) == ("\\|66\\|", "|66|")


def test_comments_are_those_that_begin_a_line() -> None:
    assert list(custom_rules.rules("#a\n;b\n\n # c\n-N X\n")) == [" # c", "-N X"]


def test_block_as_text() -> None:
    text = parse(b"", "").with_block().render(commands(CHAINS)).decode()
    assert text == BLOCK
    assert all(line.startswith(("#", "-")) for line in text.splitlines())


def test_chains_come_before_what_leads_to_them_and_the_hook_comes_last() -> None:
    lines = commands(CHAINS)
    assert lines[-1] == "-w 10 -I INPUT 1 -j SIPGUARD"
    made = [line.split()[-1] for line in lines if " -N " in line]
    assert made == sorted(CHAINS)
    assert all(" -N " in line for line in lines[: len(made)])
    assert commands({}) == []


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule("SIPGUARD", unread="-A SIPGUARD -m odd"), "cannot be read"),
        (Rule("SIPGUARD", (Match("comment", (Option("--comment", ("it's",)),)),)), "as it is"),
        (Rule("SIPGUARD", (Match("comment", (Option("--comment", ('"',)),)),)), "as it is"),
        (Rule("SIPGUARD", (Match("comment", (Option("--comment", ("\u00e9",)),)),)), "as it is"),
        (Rule("SIPGUARD", (Match("comment", (Option("--comment", ("a\nb",)),)),)), "as it is"),
        (Rule("SIPGUARD", (Match("u32", (Option("--u32", ("0x0=0x1&&" * 500,)),)),)), "too long"),
    ],
    ids=["unread", "apostrophe", "quote", "latin", "line_end", "long"],
)
def test_rules_that_cannot_be_said(rule: Rule, said: str) -> None:
    with pytest.raises(SipguardError, match=said):
        commands({"SIPGUARD": (rule,)})


# -- the file

lines = st.binary(max_size=40).filter(lambda data: b"sipguard.pbx" not in data)
flags = st.sets(st.sampled_from([ENABLED, "others=0123456789abcdef"]))


@given(lines, lines, flags)
def test_what_is_not_ours_stays_byte_for_byte(before: bytes, after: bytes, kept: set[str]) -> None:
    fresh = parse(before, "").with_block(kept)
    written = fresh.render(commands(CHAINS))
    assert written.startswith(before)
    again = parse(written, "")
    assert again == fresh
    assert again.with_block().render([]) == fresh.render([])
    assert again.without_block() == before
    # somebody adds lines below, by hand
    more = parse(written + after, "")
    assert more.after == after
    assert more.render(commands(CHAINS)) == written + after
    rest = more.without_block()
    assert rest is not None
    assert rest.startswith(before)
    assert rest.endswith(after)
    # a line end of ours stays where two lines would become one
    assert len(rest) - len(before) - len(after) == bool(before and not before.endswith(b"\n") and after)


def test_file_of_our_own_goes_with_us_unless_somebody_has_written_into_it(tmp_path: Path) -> None:
    path = tmp_path / FILE_4
    change, dummy = plan(IPV4, CHAINS, str(tmp_path))
    change.write()
    assert path.stat().st_mode & 0o777 == 0o644
    assert FILE in (parse(path.read_bytes(), "").flags or ())
    with path.open("ab") as stream:
        stream.write(FOREIGN)
    plan(IPV4, None, str(tmp_path))[0].write()
    assert path.read_bytes() == FOREIGN
    path.unlink()
    plan(IPV4, CHAINS, str(tmp_path))[0].write()
    plan(IPV4, None, str(tmp_path))[0].write()
    assert not path.exists()


@pytest.mark.parametrize("foreign", [FOREIGN, b"", b"-A INPUT -j ACCEPT", b"\n\n", b"a\r\nb\r\n", b"\xff\x00"])
@pytest.mark.parametrize("mode", [0o644, 0o666, 0o600])
def test_as_if_we_had_never_been_there(tmp_path: Path, foreign: bytes, mode: int) -> None:
    path = tmp_path / FILE_4
    path.write_bytes(foreign)
    path.chmod(mode)
    plan(IPV4, CHAINS, str(tmp_path))[0].write()
    assert path.read_bytes().startswith(foreign)
    assert path.stat().st_mode & 0o777 == mode
    assert not plan(IPV4, CHAINS, str(tmp_path))[0].changed
    plan(IPV4, None, str(tmp_path))[0].write()
    assert path.read_bytes() == foreign
    assert path.stat().st_mode & 0o777 == mode
    assert os.listdir(tmp_path) == [FILE_4]


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


STRANGER = (65534, 65533)


@pytest.mark.parametrize("text", [b"", b"# mine\n\n;-A INPUT -j DROP\n \n"])
def test_file_of_a_stranger_becomes_roots(tmp_path: Path, text: bytes) -> None:
    """FreePBX says "is not owned by root, skipping" at every rebuild."""
    path = tmp_path / FILE_4
    path.write_bytes(text)
    path.chmod(0o640)
    os.chown(path, *STRANGER)
    change = plan(IPV4, CHAINS, str(tmp_path))[0]
    assert owner(path) == STRANGER
    change.write()
    assert (owner(path), path.stat().st_mode & 0o777) == ((0, 0), 0o640)
    change.undo().write()
    assert (owner(path), path.read_bytes()) == (STRANGER, text)
    change.write()
    # the block is right, and nobody would load it
    os.chown(path, *STRANGER)
    written = path.read_bytes()
    changes, problems = follow({IPV4: CHAINS}, str(tmp_path))
    assert (len(changes), problems) == (1, [])
    assert changes[0].before == changes[0].after == written
    assert changes[0].changed
    assert write_all(changes) == []
    assert (owner(path), path.read_bytes()) == ((0, 0), written)
    assert not plan(IPV4, CHAINS, str(tmp_path))[0].changed


def test_group_of_roots_file_stays(tmp_path: Path) -> None:
    path = tmp_path / FILE_4
    path.write_bytes(b"")
    os.chown(path, 0, STRANGER[1])
    plan(IPV4, CHAINS, str(tmp_path))[0].write()
    assert owner(path) == (0, STRANGER[1])


def test_lines_of_others_are_not_loaded_by_making_their_file_roots(tmp_path: Path) -> None:
    path = tmp_path / FILE_4
    path.write_bytes(FOREIGN)
    os.chown(path, *STRANGER)
    change = plan(IPV4, CHAINS, str(tmp_path))[0]
    assert change.skipped
    changes, problems = settle({IPV4: CHAINS}, str(tmp_path))
    assert write_all(changes) == []
    assert owner(path) == STRANGER
    assert len(problems) == 1
    assert "is not root's" in problems[0]
    assert parse(path.read_bytes(), "").flags is not None
    change = plan(IPV4, CHAINS, str(tmp_path), adopt=True)[0]
    assert change.changed
    assert not change.skipped
    change.write()
    assert owner(path) == (0, 0)
    # whoever goes leaves it to FreePBX whose it is
    os.chown(path, *STRANGER)
    plan(IPV4, None, str(tmp_path))[0].write()
    assert (owner(path), path.read_bytes()) == (STRANGER, FOREIGN)


def test_page_of_freepbx_may_have_written_other_line_ends(tmp_path: Path) -> None:
    path = tmp_path / FILE_4
    plan(IPV4, CHAINS, str(tmp_path))[0].write()
    path.write_bytes((FOREIGN + path.read_bytes()).replace(b"\n", b"\r\n") + b"-A OUTPUT -j ACCEPT\r\n")
    change = plan(IPV4, CHAINS, str(tmp_path))[0]
    change.write()
    text = path.read_bytes()
    assert text.startswith(FOREIGN.replace(b"\n", b"\r\n"))
    assert text.endswith(b"-A OUTPUT -j ACCEPT\r\n")
    assert not plan(IPV4, CHAINS, str(tmp_path))[0].changed


DAMAGED = {
    "no end": b"# BEGIN sipguard.pbx\n-N X\n",
    "no begin": b"-N X\n# END sipguard.pbx\n",
    "twice": (BLOCK * 2).encode(),
    "backwards": b"# END sipguard.pbx\n# BEGIN sipguard.pbx\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_block_is_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / FILE_4
    path.write_bytes(DAMAGED[name])
    with pytest.raises(SipguardError, match="is damaged"):
        plan(IPV4, CHAINS, str(tmp_path))
    changes, problems = follow({IPV4: CHAINS, IPV6: CHAINS}, str(tmp_path))
    assert changes == []
    # what has lost its first line is nothing that we would follow
    assert len(problems) == (name != "no begin")
    assert path.read_bytes() == DAMAGED[name]


def test_blocks_follow_where_there_are_any(tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert follow({IPV4: CHAINS, IPV6: CHAINS}, directory) == ([], [])
    (tmp_path / FILE_4).write_bytes(FOREIGN)
    assert follow({IPV4: CHAINS}, directory) == ([], [])
    plan(IPV6, {}, directory)[0].write()
    assert present(FAMILIES, directory) == [IPV6]
    assert b"has no rules" in Path(rules_path(IPV6, directory)).read_bytes()
    changes, problems = follow({IPV4: CHAINS, IPV6: CHAINS}, directory)
    assert [change.path for change in changes] == [rules_path(IPV6, directory)]
    assert write_all(changes) == problems == []
    assert follow({IPV4: CHAINS, IPV6: CHAINS}, directory) == ([], [])
    assert (tmp_path / FILE_4).read_bytes() == FOREIGN


def test_rules_that_cannot_be_said_empty_the_block(tmp_path: Path) -> None:
    directory = str(tmp_path)
    plan(IPV4, CHAINS, directory)[0].write()
    odd = {"SIPGUARD": (Rule("SIPGUARD", unread="-A SIPGUARD -m odd"),)}
    changes, problems = settle({IPV4: odd}, directory)
    assert len(problems) == 1
    assert "odd" in problems[0]
    assert write_all(changes) == []
    assert b"SIPGUARD 1" not in (tmp_path / FILE_4).read_bytes()
    assert present([IPV4], directory) == [IPV4]


def test_somebody_who_was_faster_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / FILE_4
    change = plan(IPV4, CHAINS, str(tmp_path))[0]
    path.write_bytes(FOREIGN)
    with pytest.raises(SipguardError, match="changed by somebody else"):
        change.write()
    assert len(write_all([change])) == 1
    assert path.read_bytes() == FOREIGN


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_what_is_no_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / FILE_4
    target = tmp_path / "other"
    target.write_bytes(FOREIGN)
    if kind == "link":
        path.symlink_to(target)
    else:
        path.mkdir()
    with pytest.raises(SipguardError, match="no regular file"):
        plan(IPV4, CHAINS, str(tmp_path))
    assert target.read_bytes() == FOREIGN


def test_directory_that_takes_no_file(tmp_path: Path) -> None:
    change = plan(IPV4, CHAINS, str(tmp_path / "nowhere"))[0]
    with pytest.raises(SipguardError, match="cannot write"):
        change.write()


def test_document_without_anything() -> None:
    assert Document(b"").without_block() == b""
    assert freepbx_rules.DIRECTORY == "/etc"


def test_who_switched_custom_rules_on(tmp_path: Path) -> None:
    directory = str(tmp_path)

    def now() -> frozenset[str]:
        return memory(FAMILIES, directory)

    assert now() == frozenset()
    plan(IPV4, {}, directory)[0].write()
    assert now() == frozenset()
    (tmp_path / FILE_6).write_bytes(FOREIGN)
    said = remember(others(FAMILIES, directory))
    assert ENABLED in said
    assert len(said) == 2
    assert write_all(settle({IPV4: CHAINS}, directory, memory=said)[0]) == []
    assert now() == said
    # whatever else changes
    assert write_all(follow({IPV4: {}}, directory)[0]) == []
    assert now() == said
    assert write_all(settle({IPV4: {}}, directory, memory=remember(Others({})))[0]) == []
    assert now() == {ENABLED}
    assert write_all(settle({IPV4: {}}, directory, memory=frozenset())[0]) == []
    assert now() == frozenset()
    # damaged
    (tmp_path / FILE_4).write_bytes(b"# BEGIN sipguard.pbx (enabled)\n")
    assert now() == frozenset()


def test_lines_of_others(tmp_path: Path) -> None:
    directory = str(tmp_path)

    def now() -> Others:
        return others(FAMILIES, directory)

    assert not now()
    assert now().digest == ""
    (tmp_path / FILE_4).write_bytes(b"# a remark\n; another\n\n \r\n")
    plan(IPV4, CHAINS, directory)[0].write()
    assert not now()
    (tmp_path / FILE_6).write_bytes(FOREIGN)
    first = now()
    assert str(first) == f"1 line of {tmp_path}/{FILE_6}"
    # what is ours, and remarks, count for nothing
    plan(IPV6, CHAINS, directory)[0].write()
    (tmp_path / FILE_6).write_bytes(b"\n; more\n" + (tmp_path / FILE_6).read_bytes())
    assert now() == first
    with (tmp_path / FILE_4).open("ab") as stream:
        stream.write(b"-P INPUT DROP\n # no remark for FreePBX\n")
    assert str(now()) == f"2 lines of {tmp_path}/{FILE_4} and 1 line of {tmp_path}/{FILE_6}"
    assert now().digest != first.digest
    (tmp_path / FILE_6).rename(tmp_path / "aside")
    digests = {first.digest, now().digest}
    (tmp_path / FILE_4).rename(tmp_path / FILE_6)
    # the same lines of the other family are others
    assert len(digests | {now().digest}) == 3
    (tmp_path / FILE_4).write_bytes(b"# END sipguard.pbx\n")
    with pytest.raises(SipguardError, match="is damaged"):
        now()


def test_lines_that_were_loaded_before_may_be_loaded_again(tmp_path: Path) -> None:
    directory = str(tmp_path)
    for known in ("", None):
        assert unknown(FAMILIES, known, directory) == ""
    (tmp_path / FILE_4).write_bytes(FOREIGN)
    known = others(FAMILIES, directory).digest
    assert unknown(FAMILIES, known, directory) == ""
    for wrong in ("", None, "0123"):
        assert "1 line of" in unknown(FAMILIES, wrong, directory)
    (tmp_path / FILE_4).write_bytes(b"# END sipguard.pbx\n")
    assert "is damaged" in unknown(FAMILIES, known, directory)


def test_custom_rules_go_off_where_everything_is_as_it_was_found() -> None:
    none, drafts, more = Others({}), Others({"/file": 1}, "aa"), Others({"/file": 2}, "bb")
    assert leaving(none, remember(none)) == leaving(none, remember(drafts)) == (True, "")
    off, said = leaving(drafts, remember(drafts))
    assert off
    assert "does not load 1 line of /file any more" in said
    for found, remembered, keep in (
        (drafts, remember(none), False),
        (more, remember(drafts), False),
        (drafts, remember(drafts), True),
    ):
        off, said = leaving(found, remembered, keep)
        assert not off
        assert f"stay on for {found}" in said


def test_who_can_write_the_files(tmp_path: Path) -> None:
    for name, mode in ((FILE_4, 0o644), (FILE_6, 0o666)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    assert writable(FAMILIES, str(tmp_path)) == [(f"{tmp_path}/{FILE_6}", 0o666)]
    (tmp_path / FILE_4).chmod(0o620)
    (tmp_path / FILE_6).unlink()
    assert writable(FAMILIES, str(tmp_path)) == [(f"{tmp_path}/{FILE_4}", 0o620)]
