# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports: for people, for programs, for pipelines; waivers; and that no secret is in any of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit import report
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.context import Context, read_common
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.finding import Finding, show
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.run import kinds
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.secrets import Secret
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import ConfigDirectory, Place
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from tests.unit.plugins.module_utils._asterisk.audit.configurations import KEPT, SIP_KEPT, added, audit
from tests.unit.repository.checkout import TOP


def finding(severity: str = "high", name: str = "weak-secret", subjects: tuple[str, ...] = ("100",)) -> Finding:
    places = tuple(f"pjsip.conf:{number}" for number in range(1, len(subjects) + 1))
    return Finding(name, severity, "A secret", "It matters. " * 20, "Do something. " * 20, subjects, places)


def test_table_is_sorted_and_fits() -> None:
    found = [
        finding("low"),
        finding("critical", "zebra"),
        finding("critical", "ape"),
        finding(subjects=tuple("x" * 80 + str(n) for n in range(40))),
    ]
    lines = report.table(found).split("\n")
    heads = [line.split()[:2] for line in lines if line[:1].isupper()]
    assert heads == [["CRITICAL", "ape"], ["CRITICAL", "zebra"], ["HIGH", "weak-secret"], ["LOW", "weak-secret"]]
    assert max(map(len, lines)) <= 120
    assert lines[-2:] == ["2 critical, 1 high, 1 low", ""]
    assert "and 35 more" in " ".join(report.table(found).split())


def test_table_of_nothing() -> None:
    assert report.table([]) == "nothing was found\n"


def test_dict_shows_some_and_counts_all() -> None:
    (value,) = report.as_dict([finding(subjects=tuple(map(str, range(500))))])
    assert (len(value["subjects"]), len(value["places"]), value["count"]) == (20, 20, 500)
    assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("severity", "at", "fails"),
    [
        ("critical", "high", True),
        ("high", "high", True),
        ("medium", "high", False),
        ("medium", "medium", True),
        ("info", "info", True),
        ("info", "low", False),
    ],
)
def test_fails_at(severity: str, at: str, fails: bool) -> None:
    assert report.fails([finding(severity)], at) is fails
    assert report.fails([], at) is False


def test_waived_subjects_leave_the_others() -> None:
    waivers = report.parse_waivers([{"waive": "weak-secret:lab-*", "reason": "no trunk there"}])
    found = report.waive([finding(subjects=("lab-1", "200", "lab-2"))], waivers)
    assert [(each.waived, each.subjects, each.places) for each in found] == [
        ("", ("200",), ("pjsip.conf:2",)),
        ("no trunk there", ("lab-1", "lab-2"), ("pjsip.conf:1", "pjsip.conf:3")),
    ]
    assert report.fails(found, "high")
    assert not report.fails(found[1:], "info")
    assert "WAIVED    weak-secret" in report.table(found)
    assert "no trunk there" in report.table(found)
    assert [each["waived"] for each in report.as_dict(found)] == ["", "no trunk there"]


def test_waiver_of_a_whole_id() -> None:
    waivers = report.parse_waivers([{"waive": "weak-secret", "reason": "lab"}])
    assert not report.fails(report.waive([finding(subjects=("a", "b"))], waivers), "info")


@pytest.mark.parametrize(
    "entry",
    [
        {"waive": "weak-secret"},
        {"waive": "weak-secret", "reason": "  "},
        {"waive": "weak-secrets", "reason": "x"},
        "weak-secret",
        {"reason": "x"},
        {"waive": "weak-secret", "reason": "x", "until": 1},
        {"waive": 5, "reason": "x"},
    ],
)
def test_waiver_without_a_reason_or_a_finding_is_refused(entry: object) -> None:
    with pytest.raises(OptionError, match="waive"):
        report.parse_waivers([entry])


def test_unknown_severity_is_refused() -> None:
    with pytest.raises(OptionError, match="fail_at"):
        report.fails([], "severe")


@pytest.mark.parametrize("length", [0, -1, 129])
def test_minimum_length_out_of_range_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(OptionError, match="min_secret_length"):
        Context(ConfigDirectory(str(tmp_path)), min_secret_length=length)


def test_common_secrets_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"Hunter2\n\n caf\xe9 \r\n")
    assert read_common(str(path)) == {"hunter2", "caf\N{REPLACEMENT CHARACTER}"}
    with pytest.raises(OptionError, match="common_secrets"):
        read_common(str(tmp_path / "none"))


def test_names_are_shown_harmlessly(tmp_path: Path) -> None:
    assert show("a\x1b[31m\n\u202eb") == "a\\x1b[31m\\n\\u202eb"
    assert len(show("\udcff" * 500)) == 80
    hostile = "ev\x1b[2Jil\u202e"
    found = audit(tmp_path, added(KEPT, pjsip=f"[{hostile}]\ntype=endpoint\n"))
    for text in (report.table(found), json.dumps(report.as_dict(found), ensure_ascii=False)):
        assert text.isascii()
        assert "\x1b" not in text
        assert "ev\\" in text


def test_nothing_secret_is_in_any_output(tmp_path: Path) -> None:
    """A unique secret wherever one can stand, weak ones among them; and values where none belongs."""
    secrets: list[str] = []

    def secret(form: str = "Sq{:03d}zT") -> str:
        secrets.append(form.format(len(secrets)))
        return secrets[-1]

    files = added(
        SIP_KEPT,
        sip=f"[u1]\ntype=friend\nhost=dynamic\nsecret={secret()}\nremotesecret={secret()}\nnat={secret()}, x\n"
        f"qualify={secret()}\ncallerid={secret()}\n"
        f"[u2]\ntype=friend\nhost=dynamic\nsecret=u2{secret()}\n[u3]\ntype=friend\nhost=dynamic\n"
        f"md5secret={secret()}\nallowguest={secret()}\npermit={secret()}\n"
        f"[general]\nregister => me:{secret()}@provider.example\ncontactdeny={secret()}\n#{secret()}\n{secret()}\n"
        f"[u4](\n",
        pjsip=KEPT["pjsip.conf"]
        + "".join(
            f"[p{n}]\ntype=auth\nauth_type=userpass\nusername=p{n}\npassword={value}\n[p{n}](phone)\nauth=p{n}\n"
            f"set_var=X={secret()}\ndirect_media={secret()}\n"
            for n, value in enumerate((secret(), secret(), f"p2{secret()}", secret("{0}{0}{0}{0}")))
        )
        + f"[p9]\ntype=auth\nusername=p9\nmd5_cred={secret()}\npassword_digest={secret()}\n[p10]\n"
        f"type={secret()}\n[t]\ntype=transport\nprotocol=tls\nmethod={secret()}\ncipher=RC4:{secret()}\n"
        f"cert_file={secret()}\n"
        + f"[r]\n{secret()}=\nPass {secret()} = 1\ntype=registration\nclient_uri=sip:me:{secret()}@x.example\nserver_uri={secret()}\n"
        f"#include {secret()}.conf\n",
        pjsip_wizard=f"[w1]\ntype=wizard\naccepts_auth=yes\ninbound_auth/username=w1\n"
        f"inbound_auth/password={secret()}\nsends_auth=yes\noutbound_auth/password={secret()}\n"
        f"remote_hosts={secret()}\n",
        iax=f"[i1]\ntype=friend\nsecret={secret()}\ncontext=phones\n[general]\n"
        f"register => me:{secret()}@x.example\ncalltokenoptional={secret()}\n",
        users=f"[general]\nvmsecret={secret()}\n[6001]\nhassip=yes\nsecret={secret()}\n",
        manager=f"[general]\nenabled=yes\nwebenabled=yes\n[admin]\nsecret={secret()}\nwrite=all,{secret()}\n"
        f"permit={secret()}\n",
        ari=f"[general]\nenabled=yes\nallowed_origins=*,{secret()}\n[app]\ntype=user\npassword={secret()}\n"
        f"[app2]\ntype=user\npassword={secret()}\npassword_format=crypt\n",
        http=f"[general]\nenabled=yes\nbindaddr=0.0.0.0\ntlsenable=yes\ntlsprivatekey={secret()}\n",
        voicemail=f"[general]\nimappassword={secret()}\n[default]\n"
        f"200 => {secret('83{:03d}')},Anna {secret()},a@x.example\n201 => {secret('86{:03d}')},Bert\n"
        f"202 => 4444,{secret()}\n",
        extensions=f"[globals]\nPIN={secret()}\nTRUNK=PJSIP/{secret()}\n[phones](+)\n"
        f"exten => _{secret('77{:03d}')}X.,1,Dial(PJSIP/${{EXTEN:2}}@carrier,60,tT)\n"
        f"exten => _9X.,1,Authenticate({secret('86{:03d}')})\n same => n,System(echo {secret()} ${{EXTEN}})\n"
        f" same => n,DISA(no-password,{secret()})\n"
        f"exten => {secret('*5{:03d}')},1,Dial(IAX2/me:{secret()}@peer/${{EXTEN}})\n"
        f"exten => _.,1,Goto({secret()},${{EXTEN}},1)\ninclude => {secret()}\nswitch => IAX2/me:{secret()}@x/y\n"
        f"exten => _X.,1,Set(CURL={secret()})\n"
        f" same => n,Dial(${{TRUNK}}/${{EXTEN}}{secret()}@carrier,60,{secret()})\n",
        extconfig=f"[settings]\nsippeers => odbc,{secret()}\n",
        sorcery=f"[res_pjsip]\nendpoint=realtime,{secret()}\n",
        logger=f"[logfiles]\nx => {secret()}\n",
        rtp=f"[general]\nrtpstart={secret()}\nturnpassword={secret()}\n",
        asterisk=f"[options]\nrunuser={secret()}\nexecincludes=yes\n",
        modules=f"load => {secret()}\n",
    )
    files["pjsip.conf"] += f"#exec /bin/fetch {secret()}\n"
    assert len(secrets) > 60
    for drivers, loose in ((("chan_sip", "pjsip"), False), (("pjsip",), True)):
        found = audit(tmp_path, files, version=(20, 9), drivers=drivers, freepbx=loose)
        assert len(found) > 15
        waived = report.waive(found, report.parse_waivers([{"waive": "*", "reason": "test"}]))
        for text in (
            report.table(found),
            json.dumps(report.as_dict(found)),
            repr(found),
            report.table(waived),
            repr(waived),
        ):
            assert [each for each in secrets if each in text] == []


def test_context_and_secrets_do_not_show_themselves(tmp_path: Path) -> None:
    (tmp_path / "pjsip.conf").write_text("[a]\ntype=auth\npassword=HvQ77zz\n", encoding="ascii")
    context = Context(ConfigDirectory(str(tmp_path)), common_secrets=frozenset({"HvQ77zz"}))
    context.sections("pjsip.conf")
    assert "HvQ77zz" not in repr(context) + repr(Secret("a", Place("pjsip.conf", 3), ("a",), "HvQ77zz"))


def test_page_of_the_findings_is_current_and_names_each() -> None:
    done = subprocess.run(
        [sys.executable, str(TOP / "docs/bin/audit_findings.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    page = (TOP / "docs/audit-findings.md").read_text(encoding="utf-8")
    assert [each.id for each in kinds() if f"| `{each.id}` |" not in page] == []
