# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Asterisk 16 and 22 really print, read back."""

from __future__ import annotations

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.cli import Cli, NoSuchCommand, NotRunning
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.effective import Effective, same
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from tests.unit.plugins.module_utils._netfilter.samples import FIXTURES

from .consoles import DOWN, RELEASES, Console

LONG = "a-rather-long-endpoint-name-of-more-than-fifty-characters-in-all"
LONG_PEER = "a-rather-long-peer-name-of-more-than-fifty-characters-in-all"


@pytest.fixture(params=RELEASES)
def console(request: pytest.FixtureRequest) -> Console:
    return Console(request.param)


@pytest.fixture
def effective(console: Console) -> Effective:
    return Effective(Cli(console))


@pytest.fixture
def chan_sip() -> Effective:
    return Effective(Cli(Console("16.28")))


def test_sip_general(chan_sip: Effective) -> None:
    found = chan_sip.sip_general()
    expected = {
        "alwaysauthreject": "yes",
        "allowguest": "no",
        "allowoverlap": "no",
        "allowtransfer": "no",
        "allowsubscribe": "no",
        "autocreatepeer": "no",
        "defaultexpiry": "300",
        "maxexpiry": "600",
        "minexpiry": "60",
        "qualify": "2000",
        "qualifyfreq": "60",
        "nat": "force_rport,comedia",
        "useragent": "PBX",
        "sdpsession": "PBX",
        "realm": "pbx.example.org",
        "allowexternaldomains": "no",
        "context": "unknown-callers",
        "udpbindaddr": "127.0.0.1:5070",
        "tcpenable": "no",
        "tlsenable": "no",
        "allow": "alaw",
        "transport": "udp",
        "rtptimeout": "0",
    }
    assert {option: found.get(option) for option in expected} == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (
            "2001",
            {
                "secret": "yes",
                "call-limit": "2",
                "nat": "force_rport,comedia",
                "insecure": "no",
                "dynamic": "yes",
                "acl": "yes",
            },
        ),
        (
            "2002",
            {"nat": "no", "insecure": "port,invite", "directmedia": "no", "allowtransfer": "no", "contactacl": "no"},
        ),
        ("carrier", {"secret": "no", "md5secret": "yes", "dynamic": "no", "acl": "no", "context": "unknown-callers"}),
    ],
)
def test_sip_peer(chan_sip: Effective, peer: str, expected: dict[str, str]) -> None:
    found = chan_sip.sip_peer(peer)
    assert found is not None
    assert {option: found.get(option) for option in expected} == expected


def test_sip_peer_that_is_not_there(chan_sip: Effective) -> None:
    assert chan_sip.sip_peer("nobody") is None


def test_sip_domains(chan_sip: Effective) -> None:
    assert chan_sip.sip_domains() == {"pbx.example.org": "", "other.example.org": "from-other"}


def test_sip_peers_have_their_whole_names(chan_sip: Effective) -> None:
    assert chan_sip.objects("peer") == {"2001", "2002", "carrier", LONG_PEER}
    assert chan_sip.missing("peer", ["2002", "2003", LONG_PEER]) == ["2003"]


def test_without_chan_sip() -> None:
    found = Effective(Cli(Console("22.10")))
    for ask in (found.sip_general, found.sip_domains, lambda: found.sip_peer("2001"), lambda: found.objects("peer")):
        with pytest.raises(NoSuchCommand):
            ask()


def test_pjsip_global_and_system(effective: Effective) -> None:
    found = effective.pjsip_global()
    assert found["user_agent"] == "PBX"
    assert found["default_realm"] == "pbx.example.org"
    assert found["endpoint_identifier_order"] == "ip,username"
    assert found["disable_multi_domain"] == "no"
    assert found["norefersub"] == "yes"
    assert "timer_t1" not in found
    assert effective.pjsip_system()["timer_t1"] == "500"


def test_pjsip_endpoint(effective: Effective) -> None:
    found = effective.pjsip("endpoint", "1001")
    assert found is not None
    expected = {
        "allow_transfer": "no",
        "allow_subscribe": "yes",
        "direct_media": "no",
        "force_rport": "yes",
        "rtp_symmetric": "yes",
        "allow": "alaw,ulaw",
        "auth": "1001",
        "context": "phones",
        "dtls_verify": "no",
        "rtp_timeout": "0",
        "callerid": '"Alice" <1001>',
        "subscribe_context": "",
        "identify_by": "username,ip",
    }
    assert {option: found.get(option) for option in expected} == expected
    assert effective.pjsip("endpoint", "nobody") is None


def test_a_variable_that_looks_like_an_option_is_not_believed(effective: Effective) -> None:
    found = effective.pjsip("endpoint", "tricky")
    assert found is not None
    assert "allow_transfer" not in found
    assert found["allow_subscribe"] == "yes"


def test_pjsip_aor_and_transport(effective: Effective) -> None:
    aor = effective.pjsip("aor", "1001")
    assert aor is not None
    assert (aor["max_contacts"], aor["remove_existing"], aor["default_expiration"], aor["qualify_timeout"]) == (
        "1",
        "yes",
        "300",
        "3",
    )
    transport = effective.pjsip("transport", "udp4")
    assert transport is not None
    assert (transport["protocol"], transport["bind"], transport["verify_client"]) == ("udp", "0.0.0.0:5060", "no")


def test_a_password_is_never_asked_for(effective: Effective, console: Console) -> None:
    with pytest.raises(ValueError, match="auth"):
        effective.pjsip("auth", "1001")
    assert console.asked == []


@pytest.mark.parametrize(
    ("kind", "names", "others"),
    [
        ("endpoint", {"1001", "carrier", "tricky"}, {"1002", "<Endpoint/CID", "PJSIP"}),
        ("aor", {"1001", "carrier"}, {"1002", "<Aor"}),
        ("auth", {"1001"}, {"carrier"}),
        ("transport", {"udp4", "udp6", "tcp4", "tcp6"}, {"tls4"}),
        ("identify", {"carrier"}, {"198.51.100.9/32", "1001"}),
        ("manager user", {"spy", "admin"}, {"username", ""}),
    ],
)
def test_objects(effective: Effective, kind: str, names: set[str], others: set[str]) -> None:
    found = effective.objects(kind)
    assert names <= found
    assert not others & found


def test_presence_of_many_takes_one_question(effective: Effective, console: Console) -> None:
    assert effective.missing("endpoint", ["1001", "carrier", "tricky"]) == []
    assert [asked[-1] for asked in console.asked] == ["pjsip show endpoints"]


def test_presence_of_a_name_too_long_for_the_list(console: Console) -> None:
    text = (FIXTURES / "asterisk" / f"{console.release}-pjsip-show-endpoint-1001.txt").read_text(encoding="utf-8")
    other = LONG.replace("all", "fact")
    console.answers[f"pjsip show endpoint {LONG}"] = text
    console.answers[f"pjsip show endpoint {other}"] = f"Unable to find object {other}.\n\n"
    effective = Effective(Cli(console))
    assert effective.missing("endpoint", [LONG, "1002", other]) == ["1002", other]


def test_names_that_cannot_be_asked_for(effective: Effective, console: Console) -> None:
    with pytest.raises(OptionError):
        effective.pjsip("endpoint", 'x" y')
    with pytest.raises(OptionError):
        effective.manager_user("a b")
    with pytest.raises(OptionError):
        effective.sip_peer("a\nb")
    assert console.asked == []


def test_manager(effective: Effective) -> None:
    found = effective.manager()
    assert (found["enabled"], found["webenabled"], found["bindaddr"], found["tlsenable"]) == (
        "yes",
        "no",
        "127.0.0.1:5038",
        "no",
    )
    assert effective.manager_user("spy") == {
        "read": "security",
        "write": "",
        "acl": "yes",
        "displayconnects": "yes",
        "allowmultiplelogin": "yes",
    }
    assert effective.manager_user("nobody") is None


def test_log_channels(effective: Effective) -> None:
    levels = {"notice", "warning", "error", "verbose", "security"}
    assert effective.log_channels() == {"/var/log/asterisk/full": frozenset(levels)}


def test_no_secret_is_in_what_the_commands_print() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (FIXTURES / "asterisk").iterdir()]
    assert len(texts) > 40
    assert not any("not-shown" in text or "0123456789abcdef" in text for text in texts)


def test_lines_nobody_knows_are_passed_over() -> None:
    odd = "\n ParameterName : ParameterValue\n =====\n allow_transfer : false\n ???\n:\n  \n new_option : some: thing\n"
    found = Effective(Cli(Console("22.10", {"pjsip show endpoint x": odd}))).pjsip("endpoint", "x")
    assert found == {"allow_transfer": "no", "new_option": "some: thing"}
    assert Effective(Cli(Console("16.28", {"sip show settings": "\n\n  odd\n"}))).sip_general() == {}


def test_nothing_runs() -> None:
    with pytest.raises(NotRunning):
        Effective(Cli(Console("16.28", {"sip show settings": DOWN}))).sip_general()


@pytest.mark.parametrize(
    ("wanted", "shown", "expected"),
    [
        ("yes", "yes", True),
        ("true", "yes", True),
        ("off", "no", True),
        ("0", "no", True),
        ("yes", "no", False),
        ("3.0", "3", True),
        ("300", "3600", False),
        ("alaw, ulaw", "alaw,ulaw", True),
        ("ulaw,alaw", "alaw,ulaw", False),
        ("Phones", "phones", True),
        ("", "", True),
        ("", "x", False),
        ("x", "", False),
    ],
)
def test_same(wanted: str, shown: str, expected: bool) -> None:
    assert same(wanted, shown) is expected
