# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations for the audit's tests: a well-kept one, and what turns it into a guilty one."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.context import Context
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.finding import Finding
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.run import run
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import ConfigDirectory

GOOD = "hV7-pQ2m_Xw9zRt4LbK"
OTHER = "Nc4-yT8d_Qe1vMj6SgF"
THIRD = "Zk5-uB3f_Wa7cPh2DxJ"

# Asterisk 22 with PJSIP as an expert keeps it.
KEPT = {
    "asterisk.conf": "[options]\nrunuser=root-less\nlive_dangerously=no\nexecincludes=no\n",
    "modules.conf": "[modules]\nautoload=yes\nnoload => chan_iax2.so\nnoload => chan_motif.so\n",
    "logger.conf": "[general]\n[logfiles]\nmessages => notice,warning,error\nsecurity => security\n",
    "rtp.conf": "[general]\nrtpstart=10000\nrtpend=20000\nstrictrtp=yes\n",
    "http.conf": "[general]\nenabled=no\n",
    "manager.conf": f"""\
[general]
enabled=yes
bindaddr=127.0.0.1
allowmultiplelogin=no
[reader]
secret={THIRD}
deny=0.0.0.0/0.0.0.0
permit=127.0.0.1/255.255.255.255
read=security
""",
    "pjsip.conf": f"""\
[global]
type=global
user_agent=PBX
[udp]
type=transport
protocol=udp
bind=0.0.0.0:5060
[tls]
type=transport
protocol=tls
bind=0.0.0.0:5061
method=tlsv1_2
verify_server=yes
[phone](!)
type=endpoint
context=phones
deny=0.0.0.0/0.0.0.0
permit=192.0.2.0/24
[desk-a7](phone)
auth=desk-a7
aors=desk-a7
[desk-a7]
type=auth
auth_type=userpass
username=desk-a7
password={GOOD}
[desk-a7]
type=aor
max_contacts=1
[desk-b9](phone)
auth=desk-b9
aors=desk-b9
[desk-b9]
type=auth
auth_type=userpass
username=desk-b9
password={OTHER}
[desk-b9]
type=aor
max_contacts=1
[carrier]
type=endpoint
context=from-carrier
identify_by=ip
aors=carrier
[carrier]
type=aor
contact=sip:198.51.100.5
[carrier]
type=identify
endpoint=carrier
match=198.51.100.5
""",
    "extensions.conf": """\
[general]
[default]
exten => _X.,1,Hangup(21)
[from-carrier]
exten => 30123456,1,Dial(PJSIP/desk-a7,30)
[phones]
exten => 11,1,Dial(PJSIP/desk-a7,30)
exten => 12,1,Dial(PJSIP/desk-b9,30)
exten => _00X.,1,Hangup(21)
exten => _0ZXXXXXXXX,1,Authenticate(770341)
 same => n,Set(TIMEOUT(absolute)=3600)
 same => n,Dial(PJSIP/${EXTEN}@carrier,60)
""",
}

# Asterisk 20 with chan_sip, as well kept as that can be.
SIP_KEPT = {
    "sip.conf": f"""\
[general]
context=nowhere
allowguest=no
alwaysauthreject=yes
auth_options_requests=yes
useragent=PBX
sdpsession=PBX
udpbindaddr=0.0.0.0:5060
nat=force_rport,comedia
[desk-a7]
type=friend
host=dynamic
context=phones
secret={GOOD}
deny=0.0.0.0/0.0.0.0
permit=192.0.2.0/24
qualify=yes
[carrier]
type=peer
host=198.51.100.5
insecure=port,invite
context=from-carrier
""",
    "extensions.conf": """\
[nowhere]
exten => _X.,1,Hangup(21)
[from-carrier]
exten => 30123456,1,Dial(SIP/desk-a7,30)
[phones]
exten => 11,1,Dial(SIP/desk-a7,30)
exten => _0ZXXXXXXXX,1,Gosub(sipguard-outbound,s,1)
 same => n,Dial(SIP/${EXTEN}@carrier,60,L(3600000))
""",
}
_PRIVATE = ("rtp.conf", "logger.conf", "modules.conf", "asterisk.conf")
SIP_KEPT.update({name: KEPT[name] for name in _PRIVATE})

TODAY = datetime.date(2026, 3, 1)


def write(directory: Path, files: dict[str, str], mode: int = 0o640) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o750)
    for name, text in files.items():
        path = directory / name
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        path.chmod(mode)
    return directory


def audit(directory: Path, files: dict[str, str], **options: Any) -> list[Finding]:
    """The findings of a configuration, of Asterisk 22 on a fixed day unless it is said otherwise."""
    options = {"version": (22, 10), "today": TODAY, **options}
    return run(Context(ConfigDirectory(str(write(directory, files))), **options))


def ids(findings: list[Finding]) -> set[str]:
    return {each.id for each in findings}


def one(findings: list[Finding], name: str) -> Finding:
    found = [each for each in findings if each.id == name]
    assert len(found) == 1, [each.id for each in findings]
    return found[0]


def changed(files: dict[str, str], name: str, old: str, new: str) -> dict[str, str]:
    """The same files with one thing changed."""
    assert old in files[name], old
    return {**files, name: files[name].replace(old, new, 1)}


def added(files: dict[str, str], **texts: str) -> dict[str, str]:
    """The same files with lines at the end of some of them (``pjsip`` for pjsip.conf)."""
    made = dict(files)
    for stem, text in texts.items():
        made[f"{stem}.conf"] = made.get(f"{stem}.conf", "") + text
    return made
