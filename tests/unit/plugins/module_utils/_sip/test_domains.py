# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.domains import MAX_DOMAIN, parse_domain, parse_domains
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError

LABEL = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?", fullmatch=True)
LAST = st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,10}", fullmatch=True)


@given(st.lists(LABEL, min_size=1, max_size=3), LAST, st.sampled_from(["", "."]), st.sampled_from(["", " "]))
def test_parse_domain_reads_every_host_name(labels: list[str], last: str, dot: str, blank: str) -> None:
    name = ".".join([*labels, last])
    assert parse_domain(blank + name + dot + blank, "domains") == name.lower()


@given(st.text(max_size=60))
def test_parse_domain_gives_what_can_be_searched_for_or_refuses(text: str) -> None:
    try:
        domain = parse_domain(text, "domains")
    except OptionError as error:
        refusal = error
    else:
        assert domain == domain.lower().strip(". \n")
        assert domain.isascii()
        assert not set(domain) & set(" \t\r\n@:;<>\"'*/|")
        assert "." in domain
        return
    assert (refusal.option, refusal.value) == ("domains", text)
    assert refusal.expected.endswith((" would be right", "at most 100 bytes"))


@pytest.mark.parametrize("entries", [["tel.example.com", "TEL.example.com.", "tel.example.com"], [" Tel.Example.Com "]])
def test_parse_domains_has_each_once(entries: list[str]) -> None:
    assert parse_domains(entries, "domains") == ["tel.example.com"]


def test_parse_domains_keeps_the_order() -> None:
    assert parse_domains(["b.example", "a.example", "x.a.example"], "domains") == [
        "b.example",
        "a.example",
        "x.a.example",
    ]


ALONE = "the domain alone, tel.example.com, would be right"
EXAMPLE = "such as tel.example.com, would be right"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("sip:tel.example.com", ALONE),
        ("SIPS:100@Tel.Example.com:5061;transport=tls", ALONE),
        ("<sip:tel.example.com>", ALONE),
        ("https://tel.example.com/", ALONE),
        ("100@tel.example.com", ALONE),
        ("tel.example.com:5060", ALONE),
        ("tel.example.com, tel.example.org", ALONE),
        ("tel.example.com tel.example.org", "it has a space in it; each domain as an entry of its own"),
        ("tel .example.com", "it has a space in it"),
        ("192.0.2.1", "every scanner knows an address"),
        ("192.0.2.1:5060", "every scanner knows an address"),
        ("sip:192.0.2.1", "every scanner knows an address"),
        ("2001:db8::1", "every scanner knows an address"),
        ("[2001:db8::1]", "every scanner knows an address"),
        ("sip:100@[2001:db8::1]:5060", "every scanner knows an address"),
        ("pbx", "a single word stands in too many packets"),
        ("localhost.", "a single word stands in too many packets"),
        ("*.example.com", "a wildcard cannot be searched for"),
        ("büro.example.com", "on the wire it stands in its ASCII form; xn--bro-hoa.example.com would be right"),
        ("Büro.Example.com.", "on the wire it stands in its ASCII form; xn--bro-hoa.example.com would be right"),
        ("ü" * 70 + ".example.com", "on the wire it stands in its ASCII form; a domain"),
        ("\u212aex.example", EXAMPLE),  # small, it is an ASCII k
        ("tel_1.example.com", EXAMPLE),
        ("-tel.example.com", EXAMPLE),
        ("tel..example.com", EXAMPLE),
        (".example.com", EXAMPLE),
        ("192.0.2", EXAMPLE),
        ("1.2.3.4.5", EXAMPLE),
        ("a" * 64 + ".example.com", EXAMPLE),
        ("", EXAMPLE),
        (" ", EXAMPLE),
        ("sip:", EXAMPLE),
        (None, EXAMPLE),
        (5060, EXAMPLE),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_parse_domain_refuses_and_says_what_would_be_right(text: object, right: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_domain(text, "domains")
    assert right in error.value.expected
    assert (error.value.option, error.value.value) == ("domains", text)


def test_parse_domain_takes_as_much_as_the_kernel_can_search_for() -> None:
    longest = ("a" * 60 + "." + "b" * 60)[: MAX_DOMAIN - 4] + ".org"
    assert parse_domain(longest, "domains") == longest
    with pytest.raises(OptionError, match="at most 100 bytes"):
        parse_domain("x" + longest, "domains")
