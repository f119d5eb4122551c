# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, the reloads and the values read back, of Asterisk 16 (chan_sip and PJSIP) and 22 (PJSIP)."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import PJSIP_TRANSPORTS, Pbx

_PROGRAM = """
import dataclasses, json, sys
BASE = "ansible_collections.sipguard.pbx.plugins.module_utils."
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.cli import Cli
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.effective import Effective
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.reload import reload
from ansible_collections.sipguard.pbx.plugins.module_utils._netfilter.runner import HostRunner
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import SipguardError

cli = Cli(HostRunner())
effective = Effective(cli)
try:
    found = eval(sys.argv[1])
except SipguardError as error:
    found = {"error": type(error).__name__, "msg": str(error)}
print(json.dumps(found, default=lambda each: dataclasses.asdict(each) if dataclasses.is_dataclass(each) else sorted(each)))
"""

PHONE = """
[phone](!)
type=endpoint
context=phones
allow=!all,alaw
direct_media=no
[phone-aor](!)
type=aor
max_contacts=1
remove_existing=yes
[1001](phone)
auth=1001
aors=1001
[1001]
type=auth
auth_type=userpass
username=1001
password=jK4-first-phone
[1001](phone-aor)
"""
DIALPLAN = "[phones]\nexten => 600,1,Answer()\n same => n,Echo()\n"


def pjsip(more: str = "", agent: str = "one") -> str:
    return f"{PJSIP_TRANSPORTS}[global]\ntype=global\nuser_agent={agent}\n{PHONE}{more}"


def sip(more: str = "", agent: str = "one") -> str:
    return (
        "[general]\ncontext=nobody\nallowguest=no\nudpbindaddr=127.0.0.1:5060\ndirectmedia=no\nallow=!all,alaw\n"
        f"useragent={agent}\n[1001]\ntype=friend\nhost=dynamic\ncontext=phones\nsecret=jK4-first-phone\n{more}"
    )


def ask(pbx: Pbx, expression: str) -> Any:
    """What an expression over `cli`, `effective` and `reload` yields on the PBX."""
    return pbx.python(_PROGRAM, expression)


def reloaded(pbx: Pbx, *files: str, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    """The result of a reload, after which nothing of ours is left."""
    done: dict[str, Any] = ask(pbx, f"reload(cli, {files!r}, {secrets!r})")
    assert "error" not in done, done
    assert done["heard"]
    assert ".sipguard" not in pbx.check(["ls", "-A", "/var/log/asterisk"])
    assert ".sipguard" not in pbx.cli("logger show channels")
    return done


# -- command line


def test_nothing_runs(pbx: Pbx) -> None:
    down = pbx.run(["asterisk", "-rx", "core show version"])
    assert down.returncode == 1
    assert "Unable to connect to remote asterisk" in down.stderr
    assert ask(pbx, "cli.running()") is False
    assert ask(pbx, "cli.version()")["major"] == int(pbx.version)
    for expression in ("cli.channels()", "cli.identity()", "effective.pjsip_global()", "reload(cli, ['pjsip.conf'])"):
        assert ask(pbx, expression)["error"] == "NotRunning"
    assert ask(pbx, "cli.directories()['astlogdir']") == "/var/log/asterisk"


def test_an_unknown_command_has_status_0_and_is_noticed(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip()})
    unknown = pbx.run(["asterisk", "-rx", "sip nonsense"])
    assert (unknown.returncode, unknown.stderr) == (0, "")
    assert "No such command 'sip nonsense'" in unknown.stdout
    assert ask(pbx, "cli.command('sip nonsense')")["error"] == "NoSuchCommand"
    assert ask(pbx, "cli.version()")["major"] == int(pbx.version)


def test_a_restart_is_noticed_and_modules_are_known(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip(), "sip.conf": sip().replace("5060", "5070")})
    before = ask(pbx, "cli.identity()")
    assert before == ask(pbx, "cli.identity()")
    modules = ask(pbx, "cli.modules()")
    assert {"res_pjsip", "chan_pjsip"} <= set(modules)
    assert ("chan_sip" in modules) == (pbx.version == "16")
    pbx.restart()
    assert before != ask(pbx, "cli.identity()")


def test_quotes_in_a_command_are_taken_away_so_such_names_are_refused(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip('[a"b](phone)\n[x y](phone)\n')})
    assert "Unable to find object ab." in pbx.cli('pjsip show endpoint a"b')
    for name in ('a"b', "x y", "1001\ncore stop now", "1001; core stop now"):
        assert ask(pbx, f"effective.pjsip('endpoint', {name!r})")["error"] == "OptionError"
    # in a list they are harmless
    assert ask(pbx, "effective.missing('endpoint', ['a\"b', 'x y', '1001', 'ab'])") == ["ab"]
    assert pbx.running()


# -- PJSIP


def test_a_reload_takes_over_what_has_changed(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip()})
    pbx.write("pjsip.conf", pjsip("[1002](phone)\nallow_transfer=no\n", "two"))
    done = reloaded(pbx, "pjsip.conf")
    assert done["complaints"] == []
    assert ask(pbx, "effective.pjsip_global()['user_agent']") == "two"
    assert ask(pbx, "[effective.pjsip('endpoint', name)['allow_transfer'] for name in ('1001', '1002')]") == [
        "yes",
        "no",
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[broken\n", "parse error: no closing ']'"),
        ("[1003](nosuch)\n", "Inheritance requested, but category 'nosuch' does not exist"),
        ("#include missing.conf\n", "The file 'missing.conf' was listed as a #include but it does not exist"),
    ],
)
def test_an_unparsable_file_changes_nothing(pbx: Pbx, more: str, words: str) -> None:
    pbx.boot({"pjsip.conf": pjsip()})
    pbx.write("pjsip.conf", pjsip(more, "two"))
    done = reloaded(pbx, "pjsip.conf")
    assert any(words in line for line in done["refused"]), done
    assert any(
        "Contents of config file 'pjsip.conf' are invalid and cannot be parsed" in line for line in done["refused"]
    )
    assert "reloaded successfully" in pbx.cli("module reload res_pjsip.so")
    assert ask(pbx, "effective.pjsip_global()['user_agent']") == "one"
    assert pbx.sip(user="1001", password="jK4-first-phone").register().status == 200


@pytest.mark.parametrize(
    ("more", "words", "there"),
    [
        (
            "[1002](phone)\nnosuchoption=1\n",
            "Could not find option suitable for category '1002' named 'nosuchoption'",
            False,
        ),
        ("[1002](phone)\ndirect_media_method=bogus\n", "Error parsing direct_media_method=bogus", False),
        ("[1002](phone)\ndirect_media_method=update\n", "", True),
        # a word that is no boolean is a no, without a word
        ("[1002](phone)\nallow_transfer=perhaps\n", "", True),
    ],
)
def test_an_object_with_an_unknown_option_is_not_there(pbx: Pbx, more: str, words: str, there: bool) -> None:
    pbx.boot({"pjsip.conf": pjsip()})
    pbx.write("pjsip.conf", pjsip(more, "two"))
    done = reloaded(pbx, "pjsip.conf")
    assert (done["refused"] == []) is there
    assert all(any(part in line for line in done["complaints"]) for part in (words, "id '1002'") if words)
    # the rest of the file is taken over
    assert ask(pbx, "effective.pjsip_global()['user_agent']") == "two"
    assert ask(pbx, "effective.missing('endpoint', ['1001', '1002'])") == ([] if there else ["1002"])


def test_a_file_of_the_same_size_and_time_is_not_read_again(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip()})
    keep = "cd /etc/asterisk; cp -p pjsip.conf /tmp/old; sed -i s/user_agent=one/user_agent=six/ pjsip.conf; touch -r /tmp/old pjsip.conf"
    pbx.check(["sh", "-ec", f"{keep}; chown asterisk: pjsip.conf"])
    assert reloaded(pbx, "pjsip.conf")["complaints"] == []
    assert ask(pbx, "effective.pjsip_global()['user_agent']") == "one"
    pbx.check(["touch", "/etc/asterisk/pjsip.conf"])
    reloaded(pbx, "pjsip.conf")
    assert ask(pbx, "effective.pjsip_global()['user_agent']") == "six"


def test_no_secret_is_in_a_complaint(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip()})
    pbx.write("pjsip.conf", pjsip("[x]\ntype=auth\nusername=x\nauth_type=md5\nmd5_cred=not-32-characters\n"))
    done = reloaded(pbx, "pjsip.conf")
    assert any("id 'x'" in line for line in done["refused"])
    assert "not-32-characters" not in str(done)
    pbx.write("pjsip.conf", pjsip("[x]\ntype=aor\nmax_contacts=a-secret-elsewhere\n"))
    done = reloaded(pbx, "pjsip.conf", secrets=("a-secret-elsewhere",))
    assert any("max_contacts=***" in line for line in done["refused"])


@pytest.mark.parametrize("logger", ["hideconnect", "appendhostname"])
def test_a_host_with_other_logs_is_heard_as_well(pbx: Pbx, logger: str) -> None:
    files = {"pjsip.conf": pjsip()}
    if logger == "hideconnect":
        files["asterisk.conf"] = "[options]\nentityid=00:00:5e:00:53:01\nhideconnect=yes\n"
    else:
        files["logger.conf"] = "[general]\nappendhostname=yes\ndateformat=%s\n[logfiles]\nother => error\n"
    pbx.boot(files)
    pbx.write("pjsip.conf", pjsip("[broken\n"))
    assert any("parse error" in line for line in reloaded(pbx, "pjsip.conf")["refused"])
    pbx.write("pjsip.conf", pjsip())
    assert reloaded(pbx, "pjsip.conf")["complaints"] == []


def test_presence_of_hundreds(pbx: Pbx) -> None:
    names = [str(number) for number in range(2000, 2400)]
    pbx.boot({"pjsip.conf": pjsip("".join(f"[{name}](phone)\ncallerid=<{name}>\n" for name in names))})
    missing = ask(pbx, "effective.missing('endpoint', [str(number) for number in range(1999, 2401)])")
    assert missing == ["1999", "2400"]


def test_a_call_goes_on_through_reloads(pbx: Pbx) -> None:
    pbx.boot({"pjsip.conf": pjsip(), "extensions.conf": DIALPLAN})
    phone = pbx.sip(user="1001", password="jK4-first-phone")
    assert phone.invite("600").status == 200
    assert ask(pbx, "cli.channels()") == 1
    pbx.write("pjsip.conf", pjsip("[1002](phone)\n", "two"))
    reloaded(pbx, "pjsip.conf", "extensions.conf", "logger.conf")
    assert ask(pbx, "cli.channels()") == 1
    assert phone.bye().status == 200
    assert phone.register().status == 200


# -- other files


def test_the_other_files(pbx: Pbx) -> None:
    manager = "[general]\nenabled=yes\nbindaddr=127.0.0.1\n[spy]\nsecret=Hh2-manager\nread={}\n"
    pbx.boot(
        {
            "pjsip.conf": pjsip(),
            "manager.conf": manager.format("all"),
            "extensions.conf": DIALPLAN,
            "acl.conf": "[lan]\npermit=::1\n",
        }
    )
    pbx.cli("logger add channel others warning")
    pbx.write("manager.conf", manager.format("security"))
    pbx.write("extensions.conf", DIALPLAN.replace("600", "601"))
    pbx.write("logger.conf", "[general]\ndateformat=%F %T\n[logfiles]\nfull => notice,warning,error\nnew => security\n")
    done = reloaded(pbx, "extensions.conf", "manager.conf", "logger.conf", "acl.conf")
    assert done["commands"] == ["logger reload", "module reload acl", "manager reload", "dialplan reload"]
    assert done["complaints"] == []
    assert ask(pbx, "effective.manager_user('spy')['read']") == "security"
    assert "'601'" in pbx.cli("dialplan show phones")
    # a channel that somebody added by hand is gone
    assert set(ask(pbx, "effective.log_channels()")) == {"/var/log/asterisk/full", "/var/log/asterisk/new"}


def test_a_module_that_is_not_loaded(pbx22: Pbx) -> None:
    pbx22.boot({"pjsip.conf": pjsip()})
    done = reloaded(pbx22, "sip.conf")
    assert any("sip reload" in line for line in done["refused"])


# -- chan_sip


def test_chan_sip_has_reloaded_when_the_reload_returns(pbx16: Pbx) -> None:
    pbx16.boot({"sip.conf": sip()})
    many = "".join(
        f"[{number}]\ntype=friend\nhost=dynamic\ncontext=phones\nsecret=x{number}y\n" for number in range(2000, 4000)
    )
    pbx16.write("sip.conf", sip(many, "two"))
    assert reloaded(pbx16, "sip.conf")["complaints"] == []
    # the last of them is there now, without waiting
    assert "* Name       : 3999" in pbx16.cli("sip show peer 3999")
    assert ask(
        pbx16, "[effective.sip_general()['useragent'], effective.missing('peer', ['1001', '2000', '3999', '4000'])]"
    ) == [
        "two",
        ["4000"],
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[broken\n", "parse error: no closing ']'"),
        ("[1003](nosuch)\n", "Inheritance requested, but category 'nosuch' does not exist"),
        ("#include missing.conf\n", "The file 'missing.conf' was listed as a #include but it does not exist"),
    ],
)
def test_an_unparsable_sip_conf_changes_nothing(pbx16: Pbx, more: str, words: str) -> None:
    pbx16.boot({"sip.conf": sip()})
    pbx16.write("sip.conf", sip(more, "two"))
    done = reloaded(pbx16, "sip.conf")
    assert any(words in line for line in done["refused"])
    assert any("Contents of sip.conf are invalid and cannot be parsed" in line for line in done["refused"])
    assert ask(pbx16, "effective.sip_general()['useragent']") == "one"
    assert pbx16.sip(user="1001", password="jK4-first-phone").register().status == 200


def test_chan_sip_says_nothing_about_unknown_options(pbx16: Pbx) -> None:
    pbx16.boot({"sip.conf": sip()})
    pbx16.write("sip.conf", sip("nosuchoption=1\n", "two"))
    assert reloaded(pbx16, "sip.conf")["complaints"] == []
    assert ask(pbx16, "effective.sip_general()['useragent']") == "two"


def test_chan_sip_warns_about_some_values(pbx16: Pbx) -> None:
    pbx16.boot({"sip.conf": sip()})
    pbx16.write("sip.conf", sip(agent="two\nqualify=true"))
    done = reloaded(pbx16, "sip.conf")
    assert any("Qualification default should be" in line for line in done["complaints"])
    assert done["refused"] == []


def test_sip_reload_reads_a_file_of_the_same_size_and_time_as_well(pbx16: Pbx) -> None:
    pbx16.boot({"sip.conf": sip()})
    keep = "cd /etc/asterisk; cp -p sip.conf /tmp/old; sed -i s/useragent=one/useragent=six/ sip.conf; touch -r /tmp/old sip.conf"
    pbx16.check(["sh", "-ec", f"{keep}; chown asterisk: sip.conf"])
    reloaded(pbx16, "sip.conf")
    assert ask(pbx16, "effective.sip_general()['useragent']") == "six"


def test_a_call_of_chan_sip_goes_on_through_reloads(pbx16: Pbx) -> None:
    pbx16.boot({"sip.conf": sip(), "extensions.conf": DIALPLAN})
    phone = pbx16.sip(user="1001", password="jK4-first-phone")
    assert phone.invite("600").status == 200
    pbx16.write("sip.conf", sip(agent="two"))
    reloaded(pbx16, "sip.conf", "extensions.conf")
    assert ask(pbx16, "[cli.channels(), effective.sip_general()['useragent']]") == [1, "two"]
    assert phone.bye().status == 200
