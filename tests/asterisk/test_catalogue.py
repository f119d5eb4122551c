# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue before the real Asterisk: every value is taken, every default is what it does without the option."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import catalogue, options
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.catalogue import SETTINGS, Setting

from .harness import Pbx

VERSIONS = {"16": (16, 28), "22": (22, 10)}
UNREPORTED = {"16": {"redirect_method"}, "22": set()}  # what `pjsip show` leaves out
CERTIFICATE = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=pbx.example.org", "-days", "2"]
CERTIFICATE += ["-keyout", "-", "-out", "-"]

# What each kind of object needs besides.
PJSIP = {
    "global": "[global]\ntype=global\n",
    "endpoint": "[1001]\ntype=endpoint\naors=1001\n",
    "aor": "[1001]\ntype=aor\nmax_contacts=1\n",
    "transport": (
        "[tls]\ntype=transport\nprotocol=tls\nbind=127.0.0.1:5061\ncert_file=/etc/asterisk/key.pem\n"
        "priv_key_file=/etc/asterisk/key.pem\nca_list_file=/etc/asterisk/key.pem\n"
    ),
}
SIP = {
    "general": (
        "[general]\nudpbindaddr=127.0.0.1\ntcpenable=yes\ntlsenable=yes\ntlscertfile=/etc/asterisk/key.pem\n"
        "domain=pbx.example.org\n"
    ),
    "peer": "[1001]\ntype=friend\nhost=dynamic\nsecret=Raisin-Lantern-61\n",
}

# What `sip show settings` calls an option, and what it says for each value: wanted, default.
SHOWN_SETTINGS = {
    "alwaysauthreject": ("Always auth rejects", "Yes", "Yes"),
    "allowguest": ("Allow unknown access", "No", "Yes"),
    "allowoverlap": ("Allow overlap dialing", "No", "Yes"),
    "autocreatepeer": ("AutoCreate Peer", "Off", "Off"),
    "match_auth_username": ("Match Auth Username", "No", "No"),
    "legacy_useroption_parsing": ("Legacy userfield parse", "No", "No"),
    "promiscredir": ("Allow promisc. redir", "No", "No"),
    "useragent": ("User Agent", "PBX", r"Asterisk PBX \d.*"),
    "sdpsession": ("SDP Session Name", "PBX", r"Asterisk PBX \d.*"),
    "allowexternaldomains": ("Call to non-local dom.", "No", "Yes"),
    "allowtransfer": ("SIP Transfer mode", "closed", "open"),
    "allowsubscribe": ("Allow subscriptions", "No", "Yes"),
    "defaultexpiry": ("Reg. default duration", "300 secs", "120 secs"),
    "maxexpiry": ("Reg. max duration", "3600 secs", "3600 secs"),
    "nat": ("Force rport", "Yes", r"Auto \(No\)"),
    "qualify": ("Qualify", "2000", "0"),
    "rtptimeout": ("RTP Timeout", r"300 ?", r"0 \(Disabled\)"),
}
SHOWN_PEER = {
    "allowoverlap": ("Overlap dial", "No", "Yes"),
    "promiscredir": ("PromiscRedir", "No", "No"),
    "allowtransfer": ("Transfer mode", "closed", "open"),
    "directmedia": ("DirectMedia", "No", "Yes"),
    "nat": ("Force rport", "Yes", r"Auto \(No\)"),
}


def table(text: str) -> dict[str, str]:
    """The lines `name : value` of a report of the command line."""
    return {name.strip(): value.strip() for name, dummy, value in (line.partition(":") for line in text.splitlines())}


def complaints(pbx: Pbx) -> list[str]:
    """What the log says about the files of the test, or about a value."""
    files = r"sip\.conf|config_options\.c: |Could not (?:create|find option)|chan_sip\.c|res_pjsip/|sorcery\.c|acl\.c"
    absent = r"Unable to load config file|deprecated|No 'sip' message technology"
    return [
        line
        for line in pbx.log().splitlines()
        if re.search(r" (?:WARNING|ERROR)\[", line) and re.search(files, line) and not re.search(absent, line)
    ]


def section(head: str, settings: Iterable[Setting], scope: str) -> str:
    lines = [
        f"{setting.option}={value}\n"
        for setting in settings
        if setting.scope == scope and setting.kind != "guests"
        for value in setting.lines
    ]
    return head + "".join(lines) + "\n"


@pytest.fixture(scope="module")
def key() -> str:
    """A private key and its certificate."""
    return subprocess.run(CERTIFICATE, capture_output=True, text=True, check=True).stdout


def test_pjsip_takes_and_reports_every_value(pbx: Pbx, key: str) -> None:
    version = VERSIONS[pbx.version]
    strict = catalogue.wanted("strict", "pjsip", version)
    assert {each.scope for each in strict} == set(PJSIP)
    pbx.boot({"pjsip.conf": "".join(section(head, strict, scope) for scope, head in PJSIP.items()), "key.pem": key})
    assert complaints(pbx) == []
    said = {
        "endpoint": table(pbx.cli("pjsip show endpoint 1001")),
        "aor": table(pbx.cli("pjsip show aor 1001")),
        "transport": table(pbx.cli("pjsip show transport tls")),
        "global": table(pbx.cli("pjsip show settings")),
    }
    unreported = {each.option for each in strict if each.kind != "guests" and each.option not in said[each.scope]}
    assert unreported == UNREPORTED[pbx.version]
    for setting in strict:
        if setting.option in unreported:
            continue
        if setting.kind == "bool":
            assert said[setting.scope][setting.option].lower() in (
                ("true", "yes") if setting.value == "yes" else ("false", "no")
            )
        elif setting.kind != "guests":
            assert said[setting.scope][setting.option] == setting.value, setting.id


def test_pjsip_does_without_the_option_what_the_catalogue_says(pbx: Pbx) -> None:
    pbx.boot(
        {"pjsip.conf": PJSIP["global"] + PJSIP["endpoint"] + PJSIP["aor"] + "[udp]\ntype=transport\nbind=127.0.0.1\n"}
    )
    assert complaints(pbx) == []
    said = {
        "endpoint": table(pbx.cli("pjsip show endpoint 1001")),
        "aor": table(pbx.cli("pjsip show aor 1001")),
        "transport": table(pbx.cli("pjsip show transport udp")),
        "global": table(pbx.cli("pjsip show settings")),
    }
    for setting in catalogue.wanted("strict", "pjsip", VERSIONS[pbx.version]):
        if setting.kind == "guests" or setting.option in UNREPORTED[pbx.version]:
            continue
        found = said[setting.scope][setting.option]
        if setting.kind == "bool":
            assert found.lower() in (("true", "yes") if setting.default == "yes" else ("false", "no")), setting.id
        elif "<version>" in setting.default:
            assert re.fullmatch(r"Asterisk PBX \d+\.\d+\..*", found)
        elif setting.option == "method":
            assert found in ("", "unspecified", "default")
        else:
            assert found == setting.default, setting.id
        assert setting.satisfied(found.replace("true", "yes")) == setting.satisfied(), setting.id


def test_one_option_too_many_costs_the_endpoint(pbx: Pbx) -> None:
    """Why a setting is only wanted where the version knows it."""
    pbx.boot({"pjsip.conf": PJSIP["aor"] + PJSIP["endpoint"] + "allowtransfer=no\n"})
    assert "Unable to find object 1001" in pbx.cli("pjsip show endpoint 1001")
    assert "allowtransfer" not in options.known("pjsip", "endpoint", VERSIONS[pbx.version])


def test_tls_1_3_costs_asterisk_16_the_transport(pbx: Pbx) -> None:
    """Why `settings` refuse it there."""
    pbx.boot({"pjsip.conf": "[tls]\ntype=transport\nprotocol=tls\nbind=127.0.0.1:5061\nmethod=tlsv1_3\n"})
    lost = "Unable to find object tls" in pbx.cli("pjsip show transport tls")
    assert lost == (pbx.version == "16")


def test_tables_say_what_the_hosts_own_documentation_says(pbx: Pbx) -> None:
    module = "ansible_collections.sipguard.pbx.plugins.module_utils._asterisk"
    program = f"import json\nfrom {module} import options\nprint(json.dumps(options.documented()))"
    host = pbx.python(program)
    assert set(options.SCOPES["pjsip"]) <= set(host)
    for scope in options.SCOPES["pjsip"]:
        assert set(host[scope]) == options.known("pjsip", scope, VERSIONS[pbx.version])


def test_chan_sip_takes_and_reports_every_value(pbx16: Pbx, key: str) -> None:
    strict = catalogue.wanted("strict", "chan_sip", (16, 28))
    pbx16.boot({"sip.conf": "".join(section(head, strict, scope) for scope, head in SIP.items()), "key.pem": key})
    assert complaints(pbx16) == []
    general, peer = table(pbx16.cli("sip show settings")), table(pbx16.cli("sip show peer 1001"))
    for name, value, dummy in SHOWN_SETTINGS.values():
        assert re.fullmatch(value, general[name]), (name, general[name])
    for name, value, dummy in SHOWN_PEER.values():
        assert re.fullmatch(value, peer[name]), (name, peer[name])


def test_chan_sip_does_without_the_option_what_the_catalogue_says(pbx16: Pbx, key: str) -> None:
    pbx16.boot({"sip.conf": "".join(SIP.values()), "key.pem": key})
    assert complaints(pbx16) == []
    general, peer = table(pbx16.cli("sip show settings")), table(pbx16.cli("sip show peer 1001"))
    for name, dummy, value in SHOWN_SETTINGS.values():
        assert re.fullmatch(value, general[name]), (name, general[name])
    for name, dummy, value in SHOWN_PEER.values():
        assert re.fullmatch(value, peer[name]), (name, peer[name])


def test_chan_sip_shows_most_of_the_catalogue() -> None:
    named = {each.option for each in SETTINGS if each.scope == "general"}
    assert set(SHOWN_SETTINGS) <= named
    assert set(SHOWN_PEER) <= named


def test_chan_sip_overlooks_in_general_what_only_peers_have(pbx16: Pbx) -> None:
    """The sample shows `encryption` in [general]; the tables say it is none of its options."""
    assert "encryption" not in options.known("chan_sip", "general", (16, 28))
    body = "[general]\nudpbindaddr=127.0.0.1\nencryption=yes\n[1001]\ntype=friend\nhost=dynamic\n"
    pbx16.boot({"sip.conf": f"{body}[1002]\ntype=friend\nhost=dynamic\nencryption=yes\n"})
    assert [table(pbx16.cli(f"sip show peer {name}"))["Encryption"] for name in ("1001", "1002")] == ["No", "Yes"]
