# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations as hypothesis strategies: files nobody would write, with every rule of the grammar beside every other, and whole sites
as administrators leave them, with templates of templates, additions, includes and remarks."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["DRIVERS", "configurations", "lines", "sites"]

_NAMES = st.sampled_from(["a", "A", "bb", "general", "1001", "type", "x y", "#a", "[z", "ü"])
_SECTIONS = st.sampled_from(["a", "A", "general", "General", "1001", "t", "x y"])
_BLANKS = st.sampled_from(["", "", " ", "\t", "  ", "\r"])
_WORDS = st.sampled_from(
    ["1", "yes", "a,b", '"q"', "x=y", ">", "+", "[a]", "(!)", "\\;", "\\", "--", ";", ";--", "--;", ";---", "é", "\x01"]
)
_VALUES = st.lists(_WORDS, max_size=3).map("".join)
_SIGNS = st.sampled_from(["=", "=", "=>", "+=", " = ", " => ", " += ", "\t=", "= >"])
_FLAGS = st.sampled_from(
    ["", "", "", "(!)", "(t)", "(a)", "(+)", "(!,a)", "(a,t)", "(a, t)", " (t)", "(+,a)", "(a,+)", "(", "(+type=1)"]
)
_COMMENTS = st.sampled_from(
    ["", "", "", ";c", " ; c", ";-- x", ";-- x --;", "--;", ";--- c", "; \\; c", ";;", ";--;--;"]
)
_NOISE = st.sampled_from(
    [
        "",
        " ",
        ";",
        "; c",
        ";--",
        "--;",
        "; --;",
        "x",
        "#unknown",
        "#include",
        "]",
        "[",
        "\\",
        "\\[a=b",
        "\\\\=c",
        "=v",
        "+=v",
    ]
)


@st.composite
def _options(draw: st.DrawFn) -> str:
    return "".join(draw(part) for part in (_BLANKS, _NAMES, _SIGNS, _VALUES, _BLANKS, _COMMENTS))


@st.composite
def _headers(draw: st.DrawFn) -> str:
    return "".join(["[", draw(_SECTIONS), "]", draw(_FLAGS), draw(_BLANKS), draw(_COMMENTS)])


lines = st.one_of(_options(), _options(), _options(), _headers(), _headers(), _NOISE)


@st.composite
def configurations(draw: st.DrawFn) -> bytes:
    """A file's content that begins with two sections, so that most of what follows is read."""
    body = draw(st.lists(lines, max_size=14))
    start = draw(st.sampled_from(["[a]\n[t](!)\ntype=1\n", "\ufeff[a]\n[t](!)\n", "[t](!)\n[general]\n", ""]))
    end = draw(st.sampled_from(["\n", "", "\r\n"]))
    return (start + "\n".join(body) + end).encode()


# -- whole sites

DRIVERS = {"pjsip": "pjsip.conf", "chan_sip": "sip.conf"}
_PEOPLE = ["1001", "1002", "trunk-1", "John Doe", "m\u00fcller", "a.b@c", "1001x", "anonymous"]
_KINDS = {
    "pjsip": {
        "endpoint": [
            "allow_transfer",
            "Allow_Transfer",
            "direct_media",
            "rtp_timeout",
            "sdp_session",
            "allow_overlap",
            "aors",
        ],
        "aor": ["max_contacts", "maximum_expiration", "qualify_frequency", "contact"],
        "transport": ["protocol", "method", "bind"],
    },
    "chan_sip": {
        "peer": ["allowtransfer", "canreinvite", "DirectMedia", "nat", "host", "qualify", "secret", "rtptimeout"]
    },
}
_SAID = {
    "aors": ["1001", "1001,1002", "trunk-1"],
    "max_contacts": ["0", "1", "5"],
    "protocol": ["udp", "tls"],
    "host": ["dynamic", "192.0.2.1"],
    "secret": ["x\\; sipguard: was y", "pT4v-Zq81"],
    "sdp_session": ["Asterisk", "PBX", "a\\;b", "Asterisk 16.2", "\u00e9"],
    "rtp_timeout": ["0", "60", "300", "9999", "x"],
    "rtptimeout": ["0", "60", "9999"],
    "nat": ["no", "force_rport,comedia", "auto_force_rport"],
}
_YES_NO = ["yes", "no", "YES", "0", "true", "nonsense", ""]
_GENERAL = {
    "pjsip": ["user_agent", "max_forwards", "debug"],
    "chan_sip": [
        "allowguest",
        "useragent",
        "defaultexpirey",
        "maxexpiry",
        "allowtransfer",
        "canreinvite",
        "tlsenable",
        "domain",
    ],
}
_REMARKS = st.sampled_from(
    ["", "", "", "", " ; a remark", ";tight", " ; sipguard's idea", " ;-- inside --;", " ;-- a ; sipguard --;", "\t"]
)
_SPACING = st.sampled_from(["=", "=", " = ", " => ", "=>", "\t= "])
_BETWEEN = st.sampled_from(
    [
        "",
        "",
        "; a remark",
        ";; [x](!)",
        ";-- taken out\n[gone]\ntype=endpoint\ncontext=gone ; sipguard\n--;",
        ";--x--;",
    ]
)


@st.composite
def _line(draw: st.DrawFn, options: list[str]) -> str:
    name = draw(st.sampled_from(options))
    value = draw(st.sampled_from(_SAID.get(name, _YES_NO)))
    sign = draw(st.one_of(_SPACING, _SPACING, st.just(" += ")))
    return f"{name}{sign}{value}{draw(_REMARKS)}"


@st.composite
def _body(draw: st.DrawFn, options: list[str], most: int = 3) -> str:
    return "".join(f"{line}\n" for line in draw(st.lists(_line(options), max_size=most)))


@st.composite
def _objects(draw: st.DrawFn, kind: str, options: list[str], chan_sip: bool) -> list[str]:
    """The sections of one kind: templates first, then who inherits from them."""
    said = "friend" if chan_sip else kind
    made: list[str] = []
    bases: list[str] = []
    for number in range(draw(st.integers(0, 3))):
        flags = ",".join(["!", *draw(st.lists(st.sampled_from(bases), max_size=2))] if bases else ["!"])
        # now and then a base that is no template
        if number and draw(st.integers(0, 5)) == 0:
            flags = ",".join(flags.split(",")[1:])
        name = f"{kind}-{number}"
        made.append(f"[{name}]{f'({flags})' if flags else ''}\ntype={said}\n{draw(_body(options))}{draw(_BETWEEN)}\n")
        bases.append(name)
    for name in draw(st.lists(st.sampled_from(_PEOPLE), min_size=1, max_size=5)):
        own = draw(st.lists(st.sampled_from(bases), max_size=2)) if bases else []
        head = f"[{name}]{f'({chr(44).join(own)})' if own else ''}{draw(_REMARKS)}\n"
        made.append(f"{head}type={said}\n{draw(_body(options))}{draw(_BETWEEN)}\n")
        if draw(st.integers(0, 3)) == 0:
            made.append(f"[{name}](+^type$=^{said}$)\n{draw(_body(options))}")
    return made


@st.composite
def sites(draw: st.DrawFn, driver: str) -> dict[str, bytes]:
    """The files of a site, by name below the configuration directory. Not all are such that Asterisk takes them."""
    general = draw(_body(_GENERAL[driver], 4))
    head = "[general]\n" if driver == "chan_sip" else "[global]\ntype=global\n"
    parts = [head + general] if draw(st.integers(0, 4)) else []
    for kind, options in _KINDS[driver].items():
        parts += draw(_objects(kind, options, driver == "chan_sip"))
    files: dict[str, str] = {}
    for number in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(parts)))
        name = f"part{number}.conf"
        files[name] = "".join(parts[at : at + 2])
        parts[at : at + 2] = [f"#include {name}\n"] * draw(st.sampled_from([1, 1, 1, 2]))
    files[DRIVERS[driver]] = "".join(parts)
    made: dict[str, bytes] = {}
    for name, text in files.items():
        ending = draw(st.sampled_from(["\n", "\n", "\r\n"]))
        if draw(st.booleans()):
            text = text.rstrip("\n")
        mark = draw(st.sampled_from(["", "", "", "\ufeff"])) if name in DRIVERS.values() else ""
        made[name] = (mark + text).replace("\n", ending).encode()
    return made
