# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX's settings through real PHP, in a system that has FreePBX's files, classes and command, over a real database."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import freepbx
from tests.fixtures.freepbx import PASSWORDS
from tests.fixtures.freepbx.jail import Jail

WANTED: dict[str, Any] = {
    "sipsettings": {
        "allowguest": "no",
        "allowanon": "No",
        "pjsip_identifers_order": ["ip", "username"],
        "verify_server": True,
    },
    "chan_sip": {"allowguest": False, "maxexpiry": 600, "tlsenable": "no"},
    "advanced": {"SIPUSERAGENT": "PBX", "HTTPENABLED": "no", "RINGTIMER": 20},
}
BEFORE = {
    "sipsettings": {"allowguest": "yes", "allowanon": None, "pjsip_identifers_order": None, "verify_server": None},
    "chan_sip": {"allowguest": "yes", "maxexpiry": "3600", "tlsenable": None},
    "advanced": {"SIPUSERAGENT": "FPBX", "HTTPENABLED": True, "RINGTIMER": "15"},
}
AFTER = {
    # "No" is the default of allowanon, and what counts: nothing has to be stored.
    "sipsettings": {
        "allowguest": "no",
        "allowanon": None,
        "pjsip_identifers_order": ["ip", "username"],
        "verify_server": "yes",
    },
    "chan_sip": {"allowguest": "no", "maxexpiry": "600", "tlsenable": "no"},
    "advanced": {"SIPUSERAGENT": "PBX", "HTTPENABLED": False, "RINGTIMER": "20"},
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: PHP generates its files."""
    return Jail(tmp_path_factory.mktemp("freepbx") / "built").root


@pytest.fixture
def jail(built: Path, tmp_path: Path) -> Jail:
    """A FreePBX of the test's own."""
    made = Jail.__new__(Jail)
    made.root, made.php = shutil.copytree(built, tmp_path / "root", symlinks=True), True
    return made


@pytest.fixture(autouse=True)
def nothing_secret(jail: Jail, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a module says in any of these tests holds no password."""
    original = jail.run

    def run(*argv: str) -> Any:
        done = original(*argv)
        shown = [word for word in PASSWORDS if word in done.stdout + done.stderr]
        assert shown == []
        return done

    monkeypatch.setattr(jail, "run", run)


def refused(jail: Jail, settings: Any, **options: Any) -> str:
    """What a run says that fails; nothing is changed by it."""
    tables, files = jail.tables(), jail.files()
    result = jail.module({"settings": settings, **options})
    assert result.get("failed"), result
    assert (jail.tables(), jail.files()) == (tables, files)
    said = result["msg"]
    assert "\n" not in said
    return str(said)


def test_freepbx_is_found_with_its_version(jail: Jail) -> None:
    found = freepbx.detect(str(jail.root))
    assert found is not None
    assert found.version == "17.0.19.27"
    (jail.root / "var/www/html/admin/modules/framework/module.xml").unlink()
    again = freepbx.detect(str(jail.root))
    assert again is not None
    assert again.version is None


@pytest.mark.parametrize("missing", ["etc/freepbx.conf", "var/lib/asterisk/bin/fwconsole"])
def test_half_a_freepbx_is_none(jail: Jail, missing: str) -> None:
    (jail.root / missing).unlink()
    assert freepbx.detect(str(jail.root)) is None
    assert "FreePBX was not found" in jail.module({"settings": {}})["msg"]


def test_only_custom_files_may_be_edited(jail: Jail) -> None:
    found = freepbx.detect(str(jail.root))
    assert found is not None
    etc = jail.root / "etc/asterisk"
    allowed = {path.name for path in etc.iterdir() if found.may_edit(path.name)}
    assert allowed == {path.name for path in etc.iterdir() if "_custom" in path.name}
    assert "link to a file of a FreePBX module" in found.may_edit("sip.conf").why
    assert "at every reload" in found.may_edit("pjsip.endpoint.conf").why


def test_four_runs(jail: Jail) -> None:
    options = {"settings": WANTED}
    untouched, files = jail.tables(), jail.files()
    check = jail.module(options, check=True)
    assert (jail.tables(), jail.files()) == (untouched, files)
    real = jail.module(options)
    changed = jail.tables()
    for result in (check, real):
        assert (result["changed"], result["before"], result["after"]) == (True, BEFORE, AFTER)
        assert result["reloaded"] is False
    assert check["diff"] == real["diff"]
    assert 'chan_sip.maxexpiry = "600"\n' in real["diff"]["after"]
    for again in (jail.module(options, check=True), jail.module(options)):
        assert (again["changed"], again["diff"]) == (False, {"before": "", "after": ""})
        assert again["before"] == again["after"] == AFTER
    assert jail.tables() == changed
    assert jail.files() == files, "only a reload writes files"
    assert (jail.stored("allowguest"), jail.stored("allowanon"), jail.stored("verify_server")) == ("no", None, "yes")
    assert jail.stored("pjsip_identifers_order") == '["ip","username"]'
    assert (jail.chan_sip("allowguest"), jail.chan_sip("tlsenable")) == ("no", "no")
    assert [jail.advanced(key) for key in ("SIPUSERAGENT", "HTTPENABLED", "RINGTIMER")] == ["PBX", "0", "20"]
    assert jail.need_reload()


def test_what_is_not_named_stays(jail: Jail) -> None:
    before = jail.tables()
    jail.module({"settings": {"sipsettings": {"allowguest": "no"}}})
    after = jail.tables()
    assert [row for row in after["kvstore_Sipsettings"] if row[0] != "allowguest"] == [
        row for row in before["kvstore_Sipsettings"] if row[0] != "allowguest"
    ]
    assert (after["sipsettings"], after["freepbx_settings"]) == (before["sipsettings"], before["freepbx_settings"])


def test_before_restores_everything(jail: Jail) -> None:
    untouched = jail.tables()
    done = jail.module({"settings": WANTED})
    assert jail.tables() != untouched
    back = jail.module({"settings": done["before"]})
    assert back["changed"]
    restored = jail.tables()
    assert {**restored, "admin": []} == {**untouched, "admin": []}


def test_structures_arrive_and_come_back(jail: Jail) -> None:
    nets = [{"net": "192.0.2.0", "mask": "24"}, {"net": "198.51.100.0", "mask": "255.255.255.0"}]
    wanted = {"sipsettings": {"localnets": nets, "binds": {"udp": {"0.0.0.0": "on"}}, "udpport-0.0.0.0": 5060}}
    done = jail.module({"settings": wanted})
    assert json.loads(jail.stored("localnets") or "") == nets
    assert done["before"]["sipsettings"]["binds"] == {"udp": {"0.0.0.0": "on"}}
    assert not jail.module({"settings": wanted})["changed"]
    jail.module({"settings": done["before"]})
    assert jail.stored("localnets") is None


HOSTILE = [
    "'; DROP TABLE sipsettings; --",
    '"); system("id"); //',
    "$(id) `id` ${HOME} $GLOBALS[x] \\0 \\n %s %00",
    "Grüße 電話 \U0001f4de <b>&amp;</b>",
    "sipguard-answer:{}",
    " blanks around ",
    "other line ends \x85\u2028\u2029",
    "a" * 4000,
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_values_arrive_literally(jail: Jail, value: str) -> None:
    settings = {"sipsettings": {"externip": value}, "chan_sip": {"context": value}, "advanced": {"SIPUSERAGENT": value}}
    done = jail.module({"settings": settings})
    assert not done.get("failed"), done
    assert (jail.stored("externip"), jail.chan_sip("context"), jail.advanced("SIPUSERAGENT")) == (value, value, value)
    assert not jail.module({"settings": settings})["changed"]
    assert value not in jail.seen


def test_a_text_of_lines_arrives_where_lines_are_meant(jail: Jail) -> None:
    value = "first\nsecond\t'third'\r\n"
    assert jail.module({"settings": {"advanced": {"NOTES": value}}})["changed"]
    assert jail.advanced("NOTES") == value


BAD = [
    ({"kvstore": {}}, "sections are sipsettings, chan_sip, advanced, firewall"),
    ({"sipsettings": "allowguest"}, "names and their values"),
    ({"sipsettings": {"alowguest": "no"}}, "'alowguest' cannot be used"),
    ({"sipsettings": {"turnpassword": "x"}}, "'turnpassword' cannot be used"),
    ({"sipsettings": {"allowguest": "maybe"}}, "one of yes, no"),
    ({"sipsettings": {"rtpstart": "10000 "}}, "a whole number"),
    ({"sipsettings": {"externip": "192.0.2.1\n[evil]"}}, "one line of text"),
    ({"sipsettings": {"externip": "a\x00b"}}, "one line of text"),
    ({"sipsettings": {"localnets": "192.0.2.0/24"}}, "a list is needed"),
    ({"sipsettings": {"udpport-0.0.0.0; id": "5060"}}, "cannot be used"),
    ({"chan_sip": {"alwaysauthreject": "yes"}}, "sip_general_custom.conf"),
    ({"chan_sip": {"context": ["a"]}}, "text or a whole number"),
    ({"advanced": {"NOSUCHTHING": "1"}}, "no advanced setting of this name"),
    ({"advanced": {"A; rm -rf": "1"}}, "letters, digits and underscores"),
    ({"advanced": {"0": "1"}}, "letters, digits and underscores"),
    ({"advanced": {"AMPMGRPASS": "x"}}, "credentials are not managed"),
    ({"advanced": {"ASTSIPDRIVER": "chan_skinny"}}, "one of both, chan_sip, chan_pjsip"),
    ({"advanced": {"HTTPENABLED": "maybe"}}, "true or false"),
    ({"advanced": {"RINGTIMER": "121"}}, "from 0 to 120"),
    ({"advanced": {"RINGTIMER": ""}}, "cannot be empty"),
    ({"advanced": {"SIPUSERAGENT": "a\r\nb"}}, "one line of text"),
]


@pytest.mark.parametrize(("settings", "said"), BAD, ids=[said for dummy, said in BAD])
def test_bad_settings_are_refused(jail: Jail, settings: Any, said: str) -> None:
    # A good one beside it must not be written either.
    assert said in refused(jail, {"sipsettings": {"allowguest": "no"}, **settings})


def test_a_value_that_freepbx_does_not_take_is_put_back(jail: Jail) -> None:
    assert "did not take the value of advanced.AMPBIN" in refused_but_marked(jail, {"advanced": {"AMPBIN": "relative"}})
    with jail.database() as database:
        database.execute(
            "CREATE TRIGGER meddles AFTER INSERT ON sipsettings WHEN NEW.data = '600' BEGIN "
            "UPDATE sipsettings SET data = '601' WHERE keyword = NEW.keyword; END"
        )
    said = refused_but_marked(jail, {"sipsettings": {"allowguest": "no"}, "chan_sip": {"maxexpiry": "600"}})
    assert "did not take the value of chan_sip.maxexpiry; the earlier settings are back" in said


def refused_but_marked(jail: Jail, settings: Any) -> str:
    """As `refused`, but FreePBX may say that there is something to apply."""
    tables, files = jail.tables(), jail.files()
    result = jail.module({"settings": settings})
    assert result.get("failed"), result
    assert ({**jail.tables(), "admin": []}, jail.files()) == ({**tables, "admin": []}, files)
    return str(result["msg"])


def test_a_write_that_fails_half_way_changes_nothing(jail: Jail) -> None:
    with jail.database() as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON sipsettings BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    said = refused(jail, WANTED)
    assert (
        "FreePBX's database refused (SQLSTATE 23000)" in said or "FreePBX's database refused (SQLSTATE HY000)" in said
    )
    assert "nothing was changed" in said


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_locked_database_changes_nothing(jail: Jail, lock: str) -> None:
    """The first lock lets others read, the second does not."""
    tables = jail.tables()
    with jail.database() as database:
        database.execute(f"BEGIN {lock}")
        result = jail.module({"settings": WANTED})
        database.execute("ROLLBACK")
    assert "database refused (SQLSTATE HY000): it may be down, locked or full" in result["msg"]
    assert "nothing was changed" in result["msg"]
    assert jail.tables() == tables
    assert jail.module({"settings": WANTED})["changed"]


def test_a_database_that_is_down_is_said(jail: Jail) -> None:
    database = jail.root / "var/lib/asterisk/freepbx.sqlite"
    database.rename(database.with_suffix(".away"))
    said = jail.module({"settings": WANTED})["msg"]
    assert "FreePBX could not be started from /etc/freepbx.conf" in said
    assert "nothing was changed" in said
    assert not database.exists()


def test_a_damaged_bootstrap_is_said(jail: Jail) -> None:
    conf = jail.root / "etc/freepbx.conf"
    conf.write_text(conf.read_text() + "\nthis is no PHP $amp_conf['AMPDBPASS'];\n")
    assert "FreePBX could not be started" in refused(jail, WANTED)


def test_a_missing_module_is_said(jail: Jail) -> None:
    bootstrap = jail.root / "var/www/html/admin/bootstrap.php"
    bootstrap.write_text(bootstrap.read_text().replace("class Sipsettings extends", "class Gone extends"))
    assert "is its module sipsettings enabled?" in refused(jail, WANTED)


def test_php_missing_is_said(jail: Jail) -> None:
    jail.php = False
    assert "the command php was not found" in refused(jail, WANTED)


@pytest.mark.parametrize(
    "ends", ["exit 255", "kill -SEGV $$", "echo 'sipguard-answer:{'", "echo fixture-database-secret >&2; exit 1"]
)
def test_php_that_dies_is_said(jail: Jail, ends: str) -> None:
    jail.replace_php(f"#!/bin/sh\n{ends}\n")
    assert "PHP ended before FreePBX could answer" in refused(jail, WANTED)


def test_reload_applies_and_keeps_what_is_ours(jail: Jail) -> None:
    etc = jail.root / "etc/asterisk"
    custom = etc / "sip_general_custom.conf"
    custom.write_text("useragent = PBX\n")
    assert "[anonymous]" in (etc / "pjsip.endpoint.conf").read_text()
    done = jail.module({"settings": WANTED, "reload": True})
    assert (done["changed"], done["reloaded"]) == (True, True)
    assert "[anonymous]" not in (etc / "pjsip.endpoint.conf").read_text()
    assert "user_agent=PBX-17" in (etc / "pjsip.conf").read_text()
    assert "endpoint_identifier_order=ip,username\n" in (etc / "pjsip.conf").read_text()
    assert "allowguest=no\n" in (etc / "sip_general_additional.conf").read_text()
    assert custom.read_text() == "useragent = PBX\n"
    assert not jail.need_reload()
    again = jail.module({"settings": WANTED, "reload": True})
    assert (again["changed"], again["reloaded"]) == (False, False)


def test_reload_applies_what_still_waits(jail: Jail) -> None:
    jail.module({"settings": WANTED})
    assert jail.need_reload()
    check = jail.module({"settings": WANTED, "reload": True}, check=True)
    assert (check["changed"], check["reloaded"], jail.need_reload()) == (True, False, True)
    done = jail.module({"settings": WANTED, "reload": True})
    assert (done["changed"], done["reloaded"], jail.need_reload()) == (True, True, False)


def test_a_reload_that_fails_puts_the_settings_back(jail: Jail) -> None:
    with jail.database() as database:
        database.execute("UPDATE freepbx_settings SET value = 'false' WHERE keyword = 'PRE_RELOAD'")
    tables, files = jail.tables(), jail.files()
    result = jail.module({"settings": WANTED, "reload": True})
    assert "fwconsole reload did not apply the settings" in result["msg"]
    assert "the earlier settings are back" in result["msg"]
    assert {**jail.tables(), "admin": []} == {**tables, "admin": []}
    assert jail.files() == files


def test_a_replaced_link_is_put_back_by_a_reload(jail: Jail) -> None:
    """Why a link must not be edited: this is what becomes of the edit."""
    link = jail.root / "etc/asterisk/sip.conf"
    link.unlink()
    link.write_text("[general]\nallowguest=no\n")
    jail.module({"settings": WANTED, "reload": True})
    assert link.is_symlink()
    assert [path.read_text() for path in (link.parent / "backup").iterdir()] == ["[general]\nallowguest=no\n"]


def test_no_value_is_an_argument_or_in_the_environment(jail: Jail) -> None:
    marked = {"sipsettings": {"externip": "marked-value"}, "advanced": {"SIPUSERAGENT": "marked-agent"}}
    done = jail.module({"settings": marked, "reload": True})
    assert done["reloaded"]
    seen = jail.seen
    assert "getChanSipSettings" in seen, "the arguments were not recorded"
    assert [word for word in ("marked-value", "marked-agent", *PASSWORDS) if word in seen] == []


RESTORE = """\
import json, sys
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk import freepbx, freepbx_settings
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import HostRunner

print(freepbx_settings.restore(freepbx.detect(), HostRunner(), json.loads(sys.argv[1])))
"""


def test_values_that_nobody_may_ask_for_come_back(jail: Jail) -> None:
    """What pages have stored: a way back does not judge it."""
    with jail.database() as database:
        database.execute("UPDATE sipsettings SET data = 'on' WHERE keyword = 'allowguest'")
        database.execute("INSERT INTO sipsettings (keyword, data, seq, type) VALUES ('tlsbindport', '', 2, 1)")
        database.execute("UPDATE kvstore_Sipsettings SET val = 'on' WHERE key = 'allowguest'")
    untouched = jail.tables()
    wanted = {**WANTED, "chan_sip": {**WANTED["chan_sip"], "tlsbindport": 5061}}
    before = jail.module({"settings": wanted, "reload": True})["before"]
    assert (before["sipsettings"]["allowguest"], before["chan_sip"]["tlsbindport"]) == ("on", "")
    assert "cannot be used" in refused(jail, before)
    for said in ("True\n", "False\n"):
        done = jail.run(sys.executable, "-c", RESTORE, json.dumps(before))
        assert (done.stdout, done.stderr) == (said, "")
        assert {**jail.tables(), "admin": []} == {**untouched, "admin": []}
        assert not jail.need_reload()


# -- FreePBX's firewall


def test_firewall_settings_need_no_apply_config(jail: Jail) -> None:
    wanted = {"firewall": {"customrules": True, "safemode": "disabled", "import_hosts": "enabled"}}
    before = jail.tables()
    with jail.database() as connection:
        connection.execute("UPDATE admin SET value = 'false' WHERE variable = 'need_reload'")
    check = jail.module({"settings": wanted}, check=True)
    assert check["changed"]
    assert jail.firewall() is None
    real = jail.module({"settings": wanted})
    assert real["changed"]
    assert real["before"] == {"firewall": {"customrules": None, "safemode": None, "import_hosts": None}}
    # what is the default already is not written
    assert real["after"]["firewall"] == {"customrules": "enabled", "safemode": "disabled", "import_hosts": None}
    stored = jail.firewall()
    assert (stored["customrules"], stored["safemode"], stored["import_hosts"]) == ("enabled", "disabled", "enabled")
    assert not jail.need_reload()
    assert not jail.module({"settings": wanted}, check=True)["changed"]
    assert not jail.module({"settings": wanted})["changed"]
    assert jail.module({"settings": real["before"]})["changed"]
    assert set(jail.firewall()) == set(stored) - {"customrules", "safemode", "import_hosts"}
    assert jail.tables()["sipsettings"] == before["sipsettings"]


def test_firewall_settings_that_do_not_exist(jail: Jail) -> None:
    assert "names are" in refused(jail, {"firewall": {"status": True}})
    assert "one of enabled, disabled" in refused(jail, {"firewall": {"customrules": "on"}})
    (jail.root / "var/www/html/admin/modules/firewall/Firewall.class.php").unlink()
    assert "no firewall module" in refused(jail, {"firewall": {"customrules": "enabled"}})


def test_looking_at_the_firewall_stores_nothing(jail: Jail) -> None:
    assert not jail.module({"settings": {"firewall": {"customrules": "disabled"}}}, check=True)["changed"]
    assert jail.firewall() is None


# -- transports

PORT = {"sipsettings": {"udpport-0.0.0.0": 5070}}
BIND = "pjsip.transports.conf [0.0.0.0-udp] bind"
NOTE = "var/lib/sipguard/asterisk-restart"


def runs(jail: Jail, since: str = "yesterday") -> None:
    """An Asterisk answers; it is another one when it began at another time."""
    answers = f"""\
#!/bin/sh
case "$*" in
    *"core show version") echo "Asterisk 22.10.0 built by a test" ;;
    *"core show settings") echo "  Startup time:                {since}" ;;
esac
"""
    jail._script("asterisk", answers)


def test_a_changed_transport_waits_for_a_restart(jail: Jail) -> None:
    runs(jail)
    wanted = {"settings": PORT, "reload": True}
    assert jail.module(wanted, check=True)["restart_needed"] == []
    assert not (jail.root / NOTE).exists()
    done = jail.module(wanted)
    assert (done["changed"], done["reloaded"], done["restart_needed"]) == (True, True, [BIND])
    assert BIND in (jail.root / NOTE).read_text()
    again = jail.module(wanted)
    assert (again["changed"], again["restart_needed"]) == (False, [BIND])
    assert jail.module({"settings": {}}, check=True)["restart_needed"] == [BIND]
    runs(jail, since="today")
    assert jail.module(wanted)["restart_needed"] == []


def test_a_transport_that_is_not_applied_yet_will_wait(jail: Jail) -> None:
    runs(jail)
    keys = {"udpport-0.0.0.0": 5070, "verify_server": "yes", "rtpstart": 12000}
    waits = ["FreePBX sipsettings.udpport-0.0.0.0", "FreePBX sipsettings.verify_server"]
    assert jail.module({"settings": {"sipsettings": keys}})["restart_needed"] == waits
    # whoever has changed it, a page or an earlier run
    runs(jail, since="today")
    assert jail.module({"settings": PORT, "reload": True})["restart_needed"] == [BIND]


@pytest.mark.parametrize("reload", [True, False])
def test_a_transport_that_may_be_reloaded_waits_for_nothing(jail: Jail, reload: bool) -> None:
    runs(jail)
    wanted = {"sipsettings": {**PORT["sipsettings"], "pjsip_allow_reload": "yes"}}
    done = jail.module({"settings": wanted, "reload": reload})
    assert (done["changed"], done["restart_needed"]) == (True, [])
    wanted = {"sipsettings": {"udpport-0.0.0.0": 5080}}
    assert jail.module({"settings": wanted, "reload": reload})["restart_needed"] == []
    wanted = {"sipsettings": {"udpport-0.0.0.0": 5090, "pjsip_allow_reload": None}}
    assert len(jail.module({"settings": wanted, "reload": reload})["restart_needed"]) == 1


def test_tls_waits_where_there_is_a_transport_of_it(jail: Jail) -> None:
    runs(jail)
    other = {"method": "tlsv1_2", "externip": "192.0.2.1", "rtpstart": 12000}
    done = jail.module({"settings": {"sipsettings": other}, "reload": True})
    assert (done["changed"], done["restart_needed"]) == (True, [])
    # a new one is opened at once
    binds = {"udp": {"0.0.0.0": "on"}, "tls": {"0.0.0.0": "on"}}
    new = {"sipsettings": {"binds": binds, "tlsport-0.0.0.0": 5061}}
    assert jail.module({"settings": new, "reload": True})["restart_needed"] == []
    changed = {"sipsettings": {"method": "tlsv1_3", "binds": {"tls": {"0.0.0.0": "on"}}}}
    waits = ["pjsip.transports.conf [0.0.0.0-udp]", "pjsip.transports.conf [0.0.0.0-tls] method"]
    assert jail.module({"settings": changed, "reload": True})["restart_needed"] == waits


def test_nothing_waits_where_asterisk_does_not_run(jail: Jail) -> None:
    done = jail.module({"settings": PORT, "reload": True})
    assert (done["reloaded"], done["restart_needed"]) == (True, [])
    assert not (jail.root / NOTE).exists()


def test_settings_stay_where_a_note_cannot_be_written(jail: Jail) -> None:
    runs(jail)
    (jail.root / "var/lib/sipguard").write_text("no folder")
    done = jail.module({"settings": PORT, "reload": True})
    assert (done["changed"], done["restart_needed"], jail.stored("udpport-0.0.0.0")) == (True, [BIND], "5070")
    assert "could not be written down" in str(done["warnings"])
