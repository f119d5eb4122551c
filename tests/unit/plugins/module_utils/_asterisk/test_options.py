# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import options
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from tests.unit.repository.checkout import TOP

FIXTURES = TOP / "tests/unit/fixtures/asterisk"
# What the XML documentation of Debian's packages says: {type: {option: default}}.
PJSIP = {
    version: json.loads((FIXTURES / f"{version[0]}-pjsip-options.json").read_text(encoding="utf-8"))
    for version in ((16, 28), (22, 10))
}
SAMPLE = json.loads((FIXTURES / "16-sip-options.json").read_text(encoding="utf-8"))
# The sample shows these in [general], where chan_sip does not read them.
PEERS_ONLY = {
    "avpf",
    "directmediaacl",
    "directmediadeny",
    "directmediapermit",
    "encryption",
    "encryption_taglen",
    "force_avp",
}

XML = """<docs><configInfo name="res_example"><configFile name="pjsip.conf"><configObject name="endpoint">
<configOption name="Allow_Warp"><synopsis>Faster
than light</synopsis></configOption><configOption name="bare"/></configObject></configFile>
<configFile name="acl.conf"><configObject name="endpoint"><configOption name="elsewhere"/></configObject></configFile>
</configInfo></docs>"""


@pytest.mark.parametrize("version", PJSIP)
def test_tables_say_what_the_documentation_says(version: tuple[int, int]) -> None:
    for scope, documented in PJSIP[version].items():
        assert options.known("pjsip", scope, version) == set(documented), scope
    assert set(options.SCOPES["pjsip"]) <= set(PJSIP[version])


def test_tables_hold_the_options_of_the_sample_sip_conf() -> None:
    assert set(SAMPLE["general"]) - options.known("chan_sip", "general", (16, 28)) == PEERS_ONLY
    assert set(SAMPLE["peer"]) <= options.known("chan_sip", "peer", (16, 28))
    assert options.known("chan_sip", "peer", (16, 28)) >= PEERS_ONLY


@pytest.mark.parametrize(
    ("version", "there"),
    [
        ((16, 17), False),
        ((16, 18), True),
        ((17, 9), False),
        ((18, 3), False),
        ((18, 4), True),
        ((19, 0), True),
        ((22, 10), True),
    ],
)
def test_option_of_some_branches_is_known_from_its_release_on(version: tuple[int, int], there: bool) -> None:
    assert ("allow_unauthenticated_options" in options.known("pjsip", "endpoint", version)) == there


def test_chan_sip_is_gone_from_21() -> None:
    assert options.known("chan_sip", "general", (20, 19))
    assert not options.known("chan_sip", "general", (21, 0))
    with pytest.raises(OptionError, match=r"Asterisk 21\.0 has no chan_sip"):
        options.check("allowguest", "chan_sip", "general", (21, 0))


def test_documentation_of_the_host_is_read(tmp_path: Path) -> None:
    (tmp_path / "core-en_US.xml").write_text(XML, encoding="utf-8")
    (tmp_path / "appdocsxml.dtd").write_text("<", encoding="utf-8")
    host = options.documented(str(tmp_path))
    assert host == {"endpoint": {"allow_warp": "Faster than light", "bare": ""}}
    assert options.check("allow_Warp ", "pjsip", "endpoint", (16, 28), host) == "allow_warp"
    with pytest.raises(OptionError):
        options.check("allow_warp", "pjsip", "endpoint", (16, 28))
    # a kind of section of which it says nothing
    assert options.check("max_contacts", "pjsip", "aor", (16, 28), host) == "max_contacts"


@pytest.mark.parametrize("content", [None, "<docs><configInfo", ""])
def test_documentation_that_cannot_be_read_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "core-en_US.xml").write_text(content, encoding="utf-8")
    assert options.documented(str(tmp_path / "core" if content is None else tmp_path)) == {}


@pytest.mark.parametrize(
    ("name", "driver", "scope", "message"),
    [
        ("allowtransfer", "pjsip", "endpoint", "allow_transfer"),
        ("allow_transfer", "chan_sip", "general", "allowtransfer"),
        ("alowguest", "chan_sip", "general", "allowguest may be meant"),
        ("allowguest", "chan_sip", "peer", "Asterisk 16.10 knows no such option there"),
        ("match_request_uri", "pjsip", "identify", "it came with 18.23 and 20.8 and 21.3"),
        ("max_contacts", "pjsip", "endpoint", "Asterisk 16.10 knows no such option there"),
        ("", "pjsip", "endpoint", "the name of an option is needed"),
        (7, "pjsip", "endpoint", "the name of an option is needed"),
        ("@", "pjsip", "endpoint", "knows no such option"),
        ("a\nb", "pjsip", "endpoint", "'a\\nb' cannot be used"),
        ("x" * 200, "pjsip", "endpoint", "'" + "x" * 76 + "... cannot be used"),
    ],
)
def test_unknown_option_is_refused_with_what_looks_like_it(name: object, driver: str, scope: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        options.check(name, driver, scope, (16, 10))
    assert message in str(caught.value)


def test_option_of_the_users_own_is_taken_as_sorcery_takes_it() -> None:
    assert options.check("@site", "pjsip", "endpoint", (16, 28)) == "@site"
    with pytest.raises(OptionError):
        options.check("@site", "chan_sip", "peer", (16, 28))
