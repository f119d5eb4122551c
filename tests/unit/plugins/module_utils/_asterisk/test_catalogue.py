# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import catalogue, options
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.catalogue import SETTINGS, Setting
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from tests.unit.repository.checkout import TOP

FIXTURES = TOP / "tests/unit/fixtures/asterisk"
V16, V22 = (16, 28), (22, 10)
BY_ID = {setting.id: setting for setting in SETTINGS}
DOCUMENTED = {
    version: json.loads((FIXTURES / f"{version[0]}-pjsip-options.json").read_text(encoding="utf-8"))
    for version in (V16, V22)
}
SAMPLE = json.loads((FIXTURES / "16-sip-options.json").read_text(encoding="utf-8"))
# What the sample does not show and chan_sip reads all the same (main/tcptls.c).
NOT_IN_SAMPLE = {"tlsdisablev1", "tlsdisablev11", "insecure", "qualify"}


def change(
    settings: object, profile: str = "baseline", driver: str = "pjsip", version: tuple[int, int] = V16
) -> dict[str, Setting]:
    wanted = catalogue.wanted(profile, driver, version)
    return {setting.id: setting for setting in catalogue.override(settings, wanted, driver, version)}


def refusal(settings: object, driver: str = "pjsip", version: tuple[int, int] = V16) -> str:
    with pytest.raises(OptionError) as caught:
        change(settings, driver=driver, version=version)
    return str(caught.value)


# -- the catalogue itself


def test_ids_are_unique() -> None:
    assert len(BY_ID) == len(SETTINGS)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda each: each.id)
def test_setting_is_sound(setting: Setting) -> None:
    assert setting.check(setting.value) == setting.value
    assert setting.profile in catalogue.PROFILES
    assert setting.reload in ("module", "restart")
    assert set(setting.when) <= set(catalogue.CONDITIONS)
    assert setting.why.endswith(".")
    assert ". " not in setting.why
    assert setting.source
    if setting.kind != "guests":
        assert setting.satisfied(setting.value)
        for better in setting.satisfied_by.values:
            assert setting.satisfied(better)


@pytest.mark.parametrize("version", DOCUMENTED)
@pytest.mark.parametrize(
    "setting", [each for each in SETTINGS if each.driver == "pjsip" and each.kind != "guests"], ids=lambda each: each.id
)
def test_setting_of_pjsip_is_documented_with_this_default(setting: Setting, version: tuple[int, int]) -> None:
    documented = DOCUMENTED[version][setting.scope]
    assert setting.option in documented
    default = documented[setting.option]
    if setting.option == "user_agent":
        assert "Version" in default
    elif default is None:  # the documentation gives it in words
        assert (setting.option, setting.default) in {
            ("identify_by", "username,ip"),
            ("redirect_method", "user"),
            ("method", ""),
            ("rewrite_contact", "no"),
        }
    else:
        assert default.replace("false", "no") == setting.default


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each.driver == "chan_sip"], ids=lambda each: each.id)
def test_setting_of_chan_sip_is_known_there(setting: Setting) -> None:
    assert setting.option in options.known("chan_sip", setting.scope, V16)
    assert setting.option in {*SAMPLE["general"], *SAMPLE["peer"], *NOT_IN_SAMPLE}
    assert setting.until == (21, 0)


def test_conditions_are_used_and_explained() -> None:
    assert {word for setting in SETTINGS for word in setting.when} == set(catalogue.CONDITIONS)


def test_what_a_peer_may_say_itself_is_enforced_there_too() -> None:
    both = {each.option for each in SETTINGS if each.scope == "peer"}
    general = {each.option for each in SETTINGS if each.scope == "general"}
    readable = options.known("chan_sip", "peer", V16)
    assert both == (general & readable) - {"insecure"}  # many trunks need it; the audit names them
    assert all("own_line" in each.when for each in SETTINGS if each.scope == "peer")


def test_strict_holds_all_of_baseline() -> None:
    for driver in options.DRIVERS:
        baseline = catalogue.wanted("baseline", driver, V16)
        strict = catalogue.wanted("strict", driver, V16)
        assert [each for each in strict if each.profile == "baseline"] == baseline != strict
        assert {each.profile for each in baseline} == {"baseline"}


@pytest.mark.parametrize(
    ("version", "there"), [((16, 17), False), ((16, 18), True), ((17, 9), False), ((18, 3), False), ((22, 1), True)]
)
def test_what_a_version_does_not_know_is_not_wanted(version: tuple[int, int], there: bool) -> None:
    wanted = {setting.option for setting in catalogue.wanted("baseline", "pjsip", version)}
    assert ("allow_unauthenticated_options" in wanted) == there
    assert "allow_overlap" in wanted


def test_documentation_of_the_host_decides() -> None:
    host = {"endpoint": {"allow_transfer": ""}}
    wanted = catalogue.wanted("strict", "pjsip", V22, host)
    assert {each.option for each in wanted if each.scope == "endpoint"} == {"guests", "allow_transfer"}
    assert any(each.scope == "aor" for each in wanted)


def test_chan_sip_wants_nothing_where_there_is_none() -> None:
    assert catalogue.wanted("strict", "chan_sip", (21, 0)) == []
    assert change({"sip": {"general": {}}}, driver="chan_sip", version=(22, 0)) == {}


def test_unknown_profile_is_refused() -> None:
    with pytest.raises(OptionError, match="one of baseline, strict"):
        catalogue.wanted("paranoid", "pjsip", V16)


# -- when a value is good enough


@pytest.mark.parametrize(
    ("ident", "found", "good"),
    [
        ("sip.general.allowguest", (), False),
        ("sip.general.allowguest", ("no",), True),
        ("sip.general.allowguest", ("nope",), True),  # Asterisk takes it for no
        ("sip.general.allowguest", ("ON",), False),
        ("sip.general.allowguest", ("no", "yes"), False),  # the last line wins
        ("sip.general.alwaysauthreject", (), True),
        ("sip.general.alwaysauthreject", ("nope",), False),
        ("sip.general.allowoverlap", ("dtmf",), False),
        ("sip.general.allowoverlap", ("off",), True),
        ("sip.general.autocreatepeer", ("persist",), False),
        ("sip.general.useragent", (), False),
        ("sip.general.useragent", ("Asterisk PBX 16.28.0~dfsg-0+deb11u4",), False),
        ("sip.general.useragent", ("FPBX-16.0.40(18.13)",), False),
        ("sip.general.useragent", ("Asterisk 22",), False),
        ("sip.general.useragent", ("Asterisk PBX GIT-master-1a2b3c",), False),
        ("sip.general.useragent", ("PBX/v18",), False),
        ("sip.general.useragent", ("Office 2",), True),
        ("sip.general.useragent", ("Asterisk PBX",), True),
        ("sip.general.useragent", ("",), True),
        ("pjsip.endpoint.sdp_session", (), True),
        ("sip.general.tcpauthlimit", ("500",), True),
        ("sip.general.tcpauthlimit", ("5000",), False),
        ("sip.general.tcpauthlimit", ("many",), False),
        ("sip.general.tcpauthlimit", ("0",), False),
        ("sip.general.defaultexpiry", (), True),
        ("sip.general.defaultexpiry", ("60",), True),
        ("sip.general.defaultexpiry", ("301",), False),
        ("sip.general.defaultexpiry", ("59",), False),
        ("sip.general.directmedia", ("nonat",), False),
        ("sip.general.directmedia", ("False",), True),
        ("sip.general.nat", ("comedia,force_rport",), True),
        ("sip.general.nat", ("force_rport, comedia",), False),  # chan_sip overlooks what stands behind the blank
        ("sip.general.nat", ("yes",), False),
        ("sip.general.qualify", ("YES",), True),
        ("sip.general.qualify", ("true",), False),  # a warning and 0 in chan_sip
        ("sip.general.qualify", ("2000",), True),
        ("sip.general.qualify", ("0",), False),
        ("sip.general.insecure", ("port,invite",), False),
        ("pjsip.transport.method", (), False),
        ("pjsip.transport.method", ("tlsv1_3",), True),
        ("pjsip.transport.method", ("tlsv1",), False),
        ("pjsip.aor.qualify_frequency", (), False),
        ("pjsip.aor.qualify_frequency", ("15",), True),
        ("pjsip.endpoint.rtp_timeout", ("3600",), False),
        ("pjsip.endpoint.redirect_method", (), True),
        ("pjsip.endpoint.redirect_method", ("uri_pjsip",), False),
        ("pjsip.guests", (), True),
        ("pjsip.guests", ("anonymous",), False),
    ],
)
def test_satisfied(ident: str, found: tuple[str, ...], good: bool) -> None:
    assert BY_ID[ident].satisfied(*found) == good


# -- values


@pytest.mark.parametrize(
    ("ident", "value", "text"),
    [
        ("sip.general.allowguest", True, "yes"),
        ("sip.general.allowguest", "OFF", "no"),
        ("sip.general.allowguest", 0, "no"),
        ("sip.general.allowoverlap", "dtmf", "dtmf"),
        ("sip.general.allowoverlap", False, "no"),
        ("sip.general.defaultexpiry", 120, "120"),
        ("sip.general.defaultexpiry", " 0120 ", "120"),
        ("sip.general.qualify", True, "yes"),
        ("sip.general.qualify", 1, "1"),
        ("sip.general.qualify", "true", "yes"),
        ("sip.general.nat", "force_rport, comedia", "force_rport,comedia"),
        ("sip.general.nat", ["force_rport", "comedia", "comedia"], "force_rport,comedia"),
        ("sip.general.nat", False, "no"),
        ("sip.general.useragent", "Büro; 1. Stock", "Büro; 1. Stock"),
        ("sip.general.useragent", "", ""),
        ("pjsip.guests", False, "no"),
    ],
)
def test_check_reads_a_value(ident: str, value: object, text: str) -> None:
    assert BY_ID[ident].check(value) == text


@pytest.mark.parametrize(
    ("ident", "value", "expected"),
    [
        ("sip.general.allowguest", "nope", "yes or no would be right; Asterisk takes any other word for no"),
        ("sip.general.allowguest", 2, "yes or no"),
        ("sip.general.allowguest", "", "yes or no"),
        ("sip.general.allowguest", [False], "one value is needed"),
        ("sip.general.allowguest", None, "one value is needed"),
        ("sip.general.allowoverlap", "maybe", "one of yes, no, dtmf"),
        ("sip.general.defaultexpiry", 0, "a whole number from 1"),
        ("sip.general.defaultexpiry", "5m", "a whole number"),
        ("sip.general.defaultexpiry", True, "a whole number"),
        ("sip.general.defaultexpiry", 4294967296, "a whole number"),
        ("sip.general.defaultexpiry", 1.5, "a whole number"),
        ("pjsip.aor.qualify_frequency", 86401, "from 0 to 86400"),
        ("sip.general.qualify", "often", "yes or no or a whole number from 1"),
        ("sip.general.nat", "yes", "any of no, force_rport"),
        ("sip.general.nat", ["no", "comedia"], "stand alone"),
        ("sip.general.nat", [], "stand alone"),
        ("pjsip.transport.method", "tls1.2", "tlsv1_2"),
        ("sip.general.useragent", "PBX\nallowguest=yes", "one line of text"),
        ("sip.general.useragent", "PBX\x00", "one line of text"),
        ("sip.general.useragent", "PBX\u2028", "one line of text"),
        ("sip.general.useragent", "> PBX", "=>"),
        ("sip.general.useragent", "x" * 2001, "at most 2000"),
        ("sip.general.useragent", {"a": 1}, "one value is needed"),
        ("pjsip.guests", True, "endpoint of your own"),
    ],
)
def test_check_refuses_what_asterisk_would_misunderstand(ident: str, value: object, expected: str) -> None:
    with pytest.raises(OptionError) as caught:
        BY_ID[ident].check(value)
    assert expected in caught.value.expected
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@given(
    st.sampled_from(SETTINGS),
    st.one_of(st.text(max_size=40), st.integers(), st.booleans(), st.lists(st.text(max_size=9), max_size=3)),
)
def test_check_gives_one_line_that_it_reads_as_the_same_or_refuses(setting: Setting, value: object) -> None:
    try:
        text = setting.check(value)
    except OptionError as error:
        text = ""
        message = str(error)
    else:
        message = ""
        assert setting.check(text) == text
    assert text == text.strip()
    assert (text + message).isprintable()


# -- what the inventory says


def test_override_takes_the_place_of_the_profile() -> None:
    changed = change({"pjsip": {"endpoint": {"allow_overlap": True}, "global": {"user_agent": "Office"}}})
    overlap = changed["pjsip.endpoint.allow_overlap"]
    assert (overlap.value, overlap.profile, overlap.why) == ("yes", "own", "as the inventory says")
    assert overlap.satisfied()
    assert not overlap.satisfied("no")
    assert changed["pjsip.global.user_agent"].satisfied("Office")
    assert not changed["pjsip.global.user_agent"].satisfied("PBX")  # nothing else is good enough
    assert set(changed) == set(change({}))


def test_override_none_leaves_the_option_alone() -> None:
    assert set(change({})) - set(change({"pjsip": {"endpoint": {"allow_overlap": None, "guests": None}}})) == {
        "pjsip.endpoint.allow_overlap",
        "pjsip.guests",
    }


def test_override_of_what_another_profile_has_keeps_its_conditions() -> None:
    setting = change({"pjsip": {"aor": {"qualify_frequency": 30}}})["pjsip.aor.qualify_frequency"]
    assert (setting.value, setting.when, setting.reload) == ("30", ("registers",), "module")
    assert not setting.satisfied("60")


def test_override_of_any_option_the_version_knows() -> None:
    changed = change(
        {"pjsip": {"global": {"Max_Forwards": 30}, "transport": {"tos": "cs3"}, "system": {"timer_t1": "400"}}}
    )
    assert changed["pjsip.global.max_forwards"].lines == ("30",)
    assert changed["pjsip.transport.tos"].reload == "restart"
    assert changed["pjsip.system.timer_t1"].reload == "restart"
    assert changed["pjsip.system.timer_t1"].file == "pjsip.conf"


def test_override_of_a_cumulative_option_has_a_line_for_each() -> None:
    setting = change({"pjsip": {"acl": {"permit": ["192.0.2.0/24", "198.51.100.7"]}}})["pjsip.acl.permit"]
    assert setting.lines == ("192.0.2.0/24", "198.51.100.7")
    assert setting.satisfied("192.0.2.0/24", "198.51.100.7")
    assert not setting.satisfied("198.51.100.7", "192.0.2.0/24")
    assert change({"pjsip": {"acl": {"deny": "all"}}})["pjsip.acl.deny"].lines == ("all",)


def test_override_in_general_leaves_peers_that_say_something_else_alone() -> None:
    strict = change({}, "strict", "chan_sip")
    assert {"sip.general.allowtransfer", "sip.peer.allowtransfer"} <= set(strict)
    changed = change({"sip": {"general": {"allowtransfer": "yes"}}}, "strict", "chan_sip")
    assert changed["sip.general.allowtransfer"].value == "yes"
    assert set(strict) - set(changed) == {"sip.peer.allowtransfer"}
    # in whatever order it is said
    both = change({"sip": {"peer": {"allowtransfer": "no"}, "general": {"allowtransfer": "yes"}}}, "strict", "chan_sip")
    assert (both["sip.general.allowtransfer"].value, both["sip.peer.allowtransfer"].value) == ("yes", "no")
    assert both["sip.peer.allowtransfer"].when == ()


def test_override_knows_an_option_by_its_other_names() -> None:
    changed = change({"sip": {"general": {"canreinvite": "nonat", "defaultexpirey": 200}}}, "strict", "chan_sip")
    assert changed["sip.general.directmedia"].value == "nonat"
    assert changed["sip.general.defaultexpiry"].value == "200"
    assert "sip.general.canreinvite" not in changed


def test_override_for_the_other_driver_says_nothing() -> None:
    assert change({"sip": {"general": {"allowguest": "yes"}}}) == change({})
    assert change({"pjsip": None, "sip": {"peer": None}}) == change({})


def test_override_of_tls_1_3_where_it_would_cost_the_transport() -> None:
    assert "Asterisk 16.28 does not know the value yet" in refusal({"pjsip": {"transport": {"method": "tlsv1_3"}}})
    changed = change({"pjsip": {"transport": {"method": "tlsv1_3"}}}, version=V22)
    assert changed["pjsip.transport.method"].value == "tlsv1_3"


@pytest.mark.parametrize(
    ("settings", "driver", "message"),
    [
        ([], "pjsip", "settings: '[]' cannot be used; a mapping is needed"),
        ({"pjsib": {}}, "pjsip", "one of sip, pjsip"),
        ({"pjsip": {"general": {}}}, "pjsip", "one of global, endpoint"),
        ({"sip": {"generall": {}}}, "pjsip", "one of general, peer"),
        ({"pjsip": {"endpoint": ["allow_transfer"]}}, "pjsip", "settings.pjsip.endpoint"),
        ({"pjsip": {"endpoint": {"allowtransfer": "no"}}}, "pjsip", "allow_transfer"),
        ({"pjsip": {"endpoint": {"send_aoc": "no"}}}, "pjsip", "18.16 and 20.1"),
        ({"pjsip": {"endpoint": {"direct_media": "nonat"}}}, "pjsip", "settings.pjsip.endpoint.direct_media: 'nonat'"),
        ({"pjsip": {"global": {"max_forwards": "lots"}}}, "pjsip", "a whole number"),
        ({"pjsip": {"endpoint": {"context": ["a", "b"]}}}, "pjsip", "one value is needed"),
        ({"pjsip": {"acl": {"permit": []}}}, "pjsip", "at least one value"),
        ({"pjsip": {"acl": {"permit": [""]}}}, "pjsip", "a value is needed"),
        ({"pjsip": {"acl": {"permit": ["1.2.3.4\ndeny=all"]}}}, "pjsip", "one line of text"),
        ({"pjsip": {"endpoint": {"type": "endpoint"}}}, "pjsip", "makes a section the one it is"),
        ({"pjsip": {"identify": {"match": "0.0.0.0/0"}}}, "pjsip", "makes a section the one it is"),
        ({"sip": {"general": {"allowguest": "nope"}}}, "chan_sip", "takes any other word for no"),
    ],
)
def test_override_refuses(settings: object, driver: str, message: str) -> None:
    assert message in refusal(settings, driver)


SECRETS = [
    ({"pjsip": {"auth": {"password": "hunter22"}}}, "pjsip"),
    ({"pjsip": {"auth": {"md5_cred": "hunter22"}}}, "pjsip"),
    ({"pjsip": {"transport": {"password": "hunter22"}}}, "pjsip"),
    ({"sip": {"peer": {"secret": "hunter22"}}}, "chan_sip"),
    ({"sip": {"general": {"register": "hunter22"}}}, "chan_sip"),
]


@pytest.mark.parametrize(("settings", "driver"), SECRETS)
def test_secret_is_refused_without_being_shown(settings: object, driver: str) -> None:
    message = refusal(settings, driver)
    assert "secret" in message
    assert "hunter22" not in message
    with pytest.raises(OptionError) as caught:
        catalogue.parse_exceptions([{"name": "1001", "settings": {"Secret": "hunter22"}}], driver, V16)
    assert "hunter22" not in str(caught.value)


# -- exceptions


def exceptions(settings: object, driver: str, version: tuple[int, int] = V16) -> dict[str, str | None]:
    (parsed,) = catalogue.parse_exceptions([{"name": "trunk-*", "settings": settings}], driver, version)
    return {
        f"{scope}.{option}": setting.value if setting else None for (scope, option), setting in parsed.settings.items()
    }


@pytest.mark.parametrize(
    ("given", "chan_sip", "pjsip"),
    [
        ({"allow_transfer": "yes"}, {"peer.allowtransfer": "yes"}, {"endpoint.allow_transfer": "yes"}),
        ({"AllowTransfer": True}, {"peer.allowtransfer": "yes"}, {"endpoint.allow_transfer": "yes"}),
        ({"allowtransfer": None}, {"peer.allowtransfer": None}, {"endpoint.allow_transfer": None}),
        ({"allow_transfer": None}, {"peer.allowtransfer": None}, {"endpoint.allow_transfer": None}),
        ({"canreinvite": "nonat"}, {"peer.directmedia": "nonat"}, {"endpoint.direct_media": "yes"}),
        ({"direct_media": "no"}, {"peer.directmedia": "no"}, {"endpoint.direct_media": "no"}),
        (
            {"nat": "no"},
            {"peer.nat": "no"},
            {"endpoint.force_rport": "no", "endpoint.rewrite_contact": "no", "endpoint.rtp_symmetric": "no"},
        ),
        (
            {"nat": "force_rport, comedia"},
            {"peer.nat": "force_rport,comedia"},
            {"endpoint.force_rport": "yes", "endpoint.rewrite_contact": "yes", "endpoint.rtp_symmetric": "yes"},
        ),
        ({"qualify": 4000}, {"peer.qualify": "4000"}, {"aor.qualify_frequency": "60"}),
        ({"qualify": "no"}, {"peer.qualify": "no"}, {"aor.qualify_frequency": "0"}),
        ({"qualifyfreq": 30}, {"peer.qualifyfreq": "30"}, {"aor.qualify_frequency": "30"}),
        ({"qualify_frequency": 30}, {"peer.qualify": "yes", "peer.qualifyfreq": "30"}, {"aor.qualify_frequency": "30"}),
        ({"qualify_frequency": 0}, {"peer.qualify": "no"}, {"aor.qualify_frequency": "0"}),
        ({"defaultexpiry": 600}, {}, {"aor.default_expiration": "600"}),
        ({"maximum_expiration": 7200}, {}, {"aor.maximum_expiration": "7200"}),
        ({"rewrite_contact": "no"}, {}, {"endpoint.rewrite_contact": "no"}),
        ({"call-limit": 2}, {"peer.call-limit": "2"}, {}),
        ({"promiscredir": "yes"}, {"peer.promiscredir": "yes"}, {"endpoint.redirect_method": "uri_core"}),
        ({"redirect_method": "uri_pjsip"}, {"peer.promiscredir": "yes"}, {"endpoint.redirect_method": "uri_pjsip"}),
        ({"allowoverlap": "dtmf"}, {"peer.allowoverlap": "dtmf"}, {"endpoint.allow_overlap": "yes"}),
        ({"context": "from-trunk"}, {"peer.context": "from-trunk"}, {"endpoint.context": "from-trunk"}),
    ],
)
def test_exception_reads_in_either_drivers_words(
    given: dict[str, object], chan_sip: dict[str, object], pjsip: dict[str, object]
) -> None:
    assert exceptions(given, "chan_sip") == chan_sip
    assert exceptions(given, "pjsip") == pjsip


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "1001"}, "exceptions: "),
        ([["1001"]], "a mapping is needed"),
        ([{"settings": {"allow_transfer": "yes"}}], "exceptions.name"),
        ([{"name": "", "settings": {"allow_transfer": "yes"}}], "a value is needed"),
        ([{"name": "a\nb", "settings": {"allow_transfer": "yes"}}], "one line of text"),
        ([{"name": "1001"}], "its settings are needed"),
        ([{"name": "1001", "setting": {}}], "name and settings would be right"),
        ([{"name": "1001", "settings": {"allow_transfr": "yes"}}], "allow_transfer or allowtransfer or"),
        ([{"name": "1001", "settings": {"allow_transfer": "nope"}}], "takes any other word for no"),
        ([{"name": "1001", "settings": {"user_agent": "x"}}], "single peer, endpoint or AOR"),
        ([{"name": "1001", "settings": {"useragent": "x"}}], "neither a peer"),
        ([{"name": "1001", "settings": {"send_aoc": "yes"}}], "18.16 and 20.1"),
        ([{"name": "1001", "settings": {"type": "aor"}}], "makes a section the one it is"),
    ],
)
def test_exception_refuses(value: object, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        catalogue.parse_exceptions(value, "pjsip", V16)
    assert message in str(caught.value)


def test_exception_bad_value_is_refused_in_the_other_drivers_words_too() -> None:
    for driver in options.DRIVERS:
        with pytest.raises(OptionError, match="takes any other word for no"):
            exceptions({"allow_transfer": "nope"}, driver)


def test_for_object_puts_the_last_exception_that_matches_on_top() -> None:
    wanted = catalogue.wanted("strict", "pjsip", V22)
    parsed = catalogue.parse_exceptions(
        [
            {"name": "trunk-*", "settings": {"allow_transfer": "yes", "rtp_timeout": None}},
            {"name": "trunk-b", "settings": {"allow_transfer": "no", "t38_udptl": "yes", "qualify": "no"}},
        ],
        "pjsip",
        V22,
    )

    def values(scope: str, name: str) -> dict[str, str]:
        return {each.option: each.value for each in catalogue.for_object(wanted, parsed, scope, name)}

    plain = values("endpoint", "1001")
    assert values("endpoint", "trunk-a") == {
        **{k: v for k, v in plain.items() if k != "rtp_timeout"},
        "allow_transfer": "yes",
    }
    assert values("endpoint", "trunk-b") == {
        **{k: v for k, v in plain.items() if k != "rtp_timeout"},
        "t38_udptl": "yes",
    }
    assert values("aor", "trunk-b")["qualify_frequency"] == "0"
    assert values("aor", "trunk-a") == values("aor", "1001")
    assert catalogue.parse_exceptions(None, "pjsip", V22) == []


def test_exception_is_held_back_by_no_condition() -> None:
    (parsed,) = catalogue.parse_exceptions([{"name": "1001", "settings": {"qualify": "yes"}}], "pjsip", V16)
    setting = parsed.settings["aor", "qualify_frequency"]
    assert setting is not None
    assert (setting.when, setting.profile) == ((), "own")


def test_equivalents_are_options_of_both_drivers() -> None:
    for option, there in catalogue.EQUIVALENTS.items():
        assert option in options.known("chan_sip", "peer", V16) | options.known("chan_sip", "general", V16)
        for scope, name in there:
            assert name in options.known("pjsip", scope, V16)


def test_page_is_what_the_catalogue_says() -> None:
    script = TOP / "docs/bin/asterisk_settings.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    page = (TOP / "docs/asterisk-settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]*\| `([^`]+)` \| (baseline|strict) ", page, re.MULTILINE)
    assert sorted(rows) == sorted((each.option, each.value, each.profile) for each in SETTINGS)
