# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every finding: a guilty configuration that has it, and an innocent twin that has not."""

from __future__ import annotations

import datetime
import json
import os
import random
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit import host, report
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.context import Context
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.finding import Findings
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.run import kinds, run
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.audit.secrets import Secret, causes
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.dialplan_guard import Guard, render
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.dialplan_numbers import RISKY
from ansible_collections.sipguard.pbx.plugins.module_utils._asterisk.tree import ConfigDirectory, Place
from tests.unit.plugins.module_utils._asterisk.audit.configurations import (
    GOOD,
    KEPT,
    OTHER,
    SIP_KEPT,
    THIRD,
    added,
    audit,
    changed,
    ids,
    one,
    write,
)

SIP = {"version": (20, 9), "drivers": ("chan_sip",)}
IAX = changed(KEPT, "modules.conf", "noload => chan_iax2.so\n", "")
NONE: dict[str, Any] = {}
WIZARD = "[wiz]\ntype=wizard\naccepts_registrations=yes\naccepts_auth=yes\ninbound_auth/username=wiz\n"


def pjsip(text: str) -> dict[str, str]:
    return added(KEPT, pjsip=text)


def general(text: str) -> dict[str, str]:
    return changed(SIP_KEPT, "sip.conf", "[general]\n", f"[general]\n{text}\n")


def stranger(text: str, host: str = "dynamic", more: str = "") -> dict[str, str]:
    """A line in [general], and a peer that need not be asked for its secret."""
    return added(general(text), sip=f"[desk-c3]\ntype=friend\nhost={host}\nsecret={OTHER}\n{more}")


def incoming(text: str) -> dict[str, str]:
    return changed(KEPT, "extensions.conf", "[from-carrier]\n", f"[from-carrier]\n{text}\n")


def peer(text: str) -> dict[str, str]:
    return added(SIP_KEPT, sip=f"[desk-c3]\n{text}\n")


def dialplan(text: str) -> dict[str, str]:
    return changed(KEPT, "extensions.conf", "[phones]\n", f"[phones]\n{text}\n")


def plan(text: str) -> dict[str, str]:
    return {**KEPT, "extensions.conf": text}


def manager(old: str, new: str) -> dict[str, str]:
    return changed(KEPT, "manager.conf", old, new)


def auth(password: str, more: str = "") -> dict[str, str]:
    return pjsip(
        f"[desk-c3](phone)\nauth=desk-c3\n[desk-c3]\ntype=auth\nauth_type=userpass\nusername=desk-c3\npassword={password}\n{more}"
    )


ANON = "[anonymous]\ntype=endpoint\ncontext=default\n"
WIDE = "identify_by=ip\ncontext=nowhere\n[wide]\ntype=identify\nendpoint=wide\n"
HTTP = "[general]\nenabled=yes\nbindaddr=0.0.0.0\n"
LOCAL_HTTP = "[general]\nenabled=yes\nbindaddr=127.0.0.1\n"
ARI = f"[general]\nenabled=yes\n[app]\ntype=user\npassword={OTHER}x\n"
OUT = "Dial(PJSIP/${FILTER(0-9,${EXTEN})}@carrier,60,L(3600000))"
CARIBBEAN = "\n".join(
    f"exten => _{prefix[1:]}XXXXXXX,1,Hangup" for prefixes, dummy in RISKY for prefix in prefixes if prefix[1] == "1"
)
LIMITED = " same => n,Dial(PJSIP/${EXTEN}@carrier,60,L(3600000))"

# id, severity, subject, guilty files, innocent twin, options of the audit
CASES: list[tuple[str, str, str, dict[str, str], dict[str, str], dict[str, Any]]] = [
    (
        "guest-access",
        "high",
        "chan_sip",
        changed(SIP_KEPT, "sip.conf", "allowguest=no", "allowguest=yes"),
        SIP_KEPT,
        SIP,
    ),
    (
        "guest-access",
        "high",
        "chan_sip",
        changed(SIP_KEPT, "sip.conf", "allowguest=no\n", ""),
        general("allowguest=nope"),
        SIP,
    ),
    (
        "username-enumeration",
        "high",
        "chan_sip",
        changed(SIP_KEPT, "sip.conf", "alwaysauthreject=yes", "alwaysauthreject=no"),
        SIP_KEPT,
        SIP,
    ),
    ("autocreate-peer", "critical", "chan_sip", general("autocreatepeer=yes"), general("autocreatepeer=no"), SIP),
    (
        "autocreate-peer",
        "critical",
        "chan_sip",
        general("autocreatepeer=persist"),
        general("autocreatepeer=maybe"),
        SIP,
    ),
    (
        "insecure-peer",
        "high",
        "desk-c3",
        peer(f"type=friend\nhost=dynamic\nsecret={OTHER}\ninsecure=port,invite"),
        peer("type=peer\nhost=198.51.100.9\ninsecure=port,invite"),
        SIP,
    ),
    *[
        (
            "insecure-for-all",
            "critical",
            "desk-c3",
            stranger(f"insecure={guilty}"),
            stranger(f"insecure={innocent}"),
            SIP,
        )
        for guilty, innocent in (
            ("invite", "port"),
            ("port,invite", "no"),
            ("Invite", "very"),
            ("invite,port", "port, invite"),
        )
    ],
    (
        "insecure-for-all",
        "critical",
        "desk-c3",
        stranger("insecure=invite"),
        stranger("insecure=invite", more="insecure=no\n"),
        SIP,
    ),
    # a friend with a fixed address is found by its name too; worse if it gets out
    (
        "insecure-for-all",
        "high",
        "desk-c3",
        stranger("insecure=invite", "192.0.2.9", "context=nowhere\n"),
        stranger("insecure=invite", "192.0.2.9", "context=nowhere\ninsecure=port\n"),
        SIP,
    ),
    (
        "insecure-for-all",
        "critical",
        "desk-c3",
        added(
            stranger("insecure=invite", "192.0.2.9", "context=open\n"),
            extensions="[open]\nexten => _0ZXXXXXXXX,1,Dial(SIP/${EXTEN}@198.51.100.5)\n",
        ),
        changed(stranger("insecure=invite", "192.0.2.9"), "sip.conf", "type=friend\nhost=192", "type=peer\nhost=192"),
        SIP,
    ),
    (
        "peer-without-secret",
        "high",
        "desk-c3",
        peer("type=friend\nhost=dynamic"),
        peer(f"type=friend\nhost=dynamic\nsecret={OTHER}"),
        SIP,
    ),
    (
        "peer-without-secret",
        "high",
        "desk-c3",
        peer("type=peer\nhost=dynamic\nsecret="),
        peer("type=user\ndeny=0.0.0.0/0.0.0.0\npermit=192.0.2.7"),
        SIP,
    ),
    (
        "options-answered",
        "low",
        "chan_sip",
        changed(SIP_KEPT, "sip.conf", "auth_options_requests=yes\n", ""),
        SIP_KEPT,
        SIP,
    ),
    (
        "anonymous-endpoint",
        "high",
        "anonymous",
        pjsip(ANON),
        added(pjsip(ANON), modules="noload => res_pjsip_endpoint_identifier_anonymous.so\n"),
        NONE,
    ),
    (
        "anonymous-endpoint",
        "high",
        "anonymous@example.org",
        pjsip(ANON.replace("anonymous", "anonymous@example.org")),
        pjsip(
            ANON.replace("[anonymous]", "[anonym-desk]") + f"auth=x9\n[x9]\ntype=auth\nusername=x9\npassword={THIRD}y\n"
        ),
        NONE,
    ),
    # what endpoint_identifier_order leaves out is asked last, and so does not help
    (
        "anonymous-endpoint",
        "high",
        "anonymous",
        changed(
            pjsip(ANON), "pjsip.conf", "user_agent=PBX\n", "user_agent=PBX\nendpoint_identifier_order=ip,username\n"
        ),
        KEPT,
        NONE,
    ),
    (
        "identify-wide",
        "critical",
        "wide",
        pjsip(f"[wide]\ntype=endpoint\n{WIDE}match=0.0.0.0/0\n"),
        pjsip(f"[wide]\ntype=endpoint\n{WIDE}match=203.0.113.0/24\n"),
        NONE,
    ),
    (
        "identify-wide",
        "critical",
        "wide",
        pjsip(f"[wide]\ntype=endpoint\n{WIDE}match=::/0\n"),
        pjsip(f"[wide]\ntype=endpoint\n{WIDE}match=10.0.0.0/8\n"),
        NONE,
    ),
    (
        "identify-wide",
        "high",
        "wide",
        pjsip(f"[wide]\ntype=endpoint\n{WIDE}match=192.0.2.5,200.0.0.0/255.0.0.0\n"),
        pjsip(f"[wide]\ntype=endpoint\nauth=desk-a7\n{WIDE}match=200.0.0.0/8\n"),
        NONE,
    ),
    ("endpoint-without-auth", "high", "carrier", changed(KEPT, "pjsip.conf", "identify_by=ip\n", ""), KEPT, NONE),
    (
        "endpoint-without-auth",
        "high",
        "carrier",
        changed(KEPT, "pjsip.conf", "identify_by=ip\n", "identify_by=ip, username\n"),
        changed(KEPT, "pjsip.conf", "identify_by=ip\n", "identify_by=ip, header\n"),
        NONE,
    ),
    (
        "endpoint-without-auth",
        "high",
        "wiz",
        {**KEPT, "pjsip_wizard.conf": "[wiz]\ntype=wizard\nremote_hosts=203.0.113.9\nendpoint/context=default\n"},
        {
            **KEPT,
            "pjsip_wizard.conf": "[wiz]\ntype=wizard\nremote_hosts=203.0.113.9\nendpoint/identify_by=ip\nendpoint/context=default\n",
        },
        NONE,
    ),
    (
        "options-unauthenticated",
        "medium",
        "desk-a7",
        changed(KEPT, "pjsip.conf", "[desk-a7](phone)\n", "[desk-a7](phone)\nallow_unauthenticated_options=yes\n"),
        changed(KEPT, "pjsip.conf", "[desk-a7](phone)\n", "[desk-a7](phone)\nallow_unauthenticated_options=no\n"),
        NONE,
    ),
    (
        "iax-without-secret",
        "high",
        "guest",
        added(IAX, iax="[guest]\ntype=user\ncontext=default\n"),
        added(IAX, iax="[guest]\ntype=user\nauth=rsa\ninkeys=k\ncontext=default\n"),
        NONE,
    ),
    (
        "iax-without-secret",
        "high",
        "guest",
        added(IAX, iax="[guest]\ntype=user\n"),
        added(KEPT, iax="[guest]\ntype=user\n"),
        NONE,
    ),
    (
        "iax-call-token",
        "medium",
        "calltokenoptional",
        added(IAX, iax="[general]\ncalltokenoptional=0.0.0.0/0.0.0.0\n"),
        added(IAX, iax="[general]\ncalltokenoptional=203.0.113.9/32\n"),
        NONE,
    ),
    (
        "iax-call-token",
        "medium",
        "old",
        added(IAX, iax=f"[old]\ntype=friend\nsecret={THIRD}\nrequirecalltoken=no\n"),
        added(IAX, iax=f"[old]\ntype=friend\nsecret={THIRD}\nrequirecalltoken=yes\n"),
        NONE,
    ),
    # secrets
    *[
        ("weak-secret", "high", "desk-c3", auth(weak), auth(THIRD + "q"), NONE)
        for weak in (
            "",
            "desk-c3",
            "desk-c3-2024xyz",
            "password",
            "Password2024!",
            "changeme",
            "mysecret",
            "aaaaaaaaaaaaaaaa",
            "1234567890",
            "0123456789012",
            "q8Zr",
            "84629174650283",
            "Sommer2024!!",
            "Telefon2024!",
            "P@ssw0rd2024!",
            "Admin123456!",
            "qwertz123456!",
            "1qaz2wsx3edc4rfv",
            "abcabcabcabcA1",
            "sipsipsipsip1!",
            "W1nter-2023-S0mmer",
        )
    ],
    (
        "weak-secret",
        "high",
        "desk-c3",
        peer("type=friend\nhost=dynamic\nsecret=desk-c3"),
        peer("type=peer\nhost=198.51.100.8\nsecret=desk-c3"),
        SIP,
    ),
    (
        "weak-secret",
        "high",
        "wiz-iauth",
        {
            **KEPT,
            "pjsip_wizard.conf": WIZARD + "inbound_auth/password=4711\n",
        },
        {
            **KEPT,
            "pjsip_wizard.conf": WIZARD + f"inbound_auth/password={THIRD}q\n",
        },
        NONE,
    ),
    (
        "weak-secret",
        "high",
        "phone",
        added(IAX, iax="[phone]\ntype=friend\nsecret=1234\n"),
        added(IAX, iax=f"[phone]\ntype=friend\nsecret={THIRD}q\n"),
        NONE,
    ),
    ("weak-secret", "high", "desk-c3", auth("Kd93-fjQ1x"), auth("Kd93-fjQ1x-7"), NONE),
    ("weak-secret", "high", "desk-c3", auth("Kd93-fjQ1x-7"), auth("Kd93-fjQ1x-7-Bv20"), {"min_secret_length": 16}),
    (
        "weak-secret",
        "high",
        "desk-c3",
        auth("correct-horse-9-Battery"),
        auth("correct-horse-8-Battery"),
        {"common_secrets": frozenset({"correct-horse-9-battery"})},
    ),
    ("shared-secret", "medium", "desk-a7, desk-c3", auth(GOOD), auth(THIRD + "q"), NONE),
    (
        "secret-hashed",
        "info",
        "desk-c3",
        auth("", "auth_type=md5\nmd5_cred=d41d8cd98f00b204e9800998ecf8427e\n"),
        auth(THIRD + "q"),
        NONE,
    ),
    ("manager-weak-secret", "high", "manager user reader", manager(f"secret={THIRD}", "secret=amp111"), KEPT, NONE),
    (
        "manager-weak-secret",
        "critical",
        "ARI user app",
        {**KEPT, "http.conf": HTTP, "ari.conf": ARI.replace(OTHER + "x", "app")},
        {**KEPT, "http.conf": HTTP, "ari.conf": ARI},
        NONE,
    ),
    *[
        (
            "voicemail-default-password",
            "medium",
            "200@default",
            {**KEPT, "voicemail.conf": f"[general]\n[default]\n200 => {weak},Anna\n"},
            {**KEPT, "voicemail.conf": "[general]\nmaxlogins=3\n[default]\n200 => -739204,Anna\n"},
            NONE,
        )
        for weak in ("200", "", "12", "-1234", "4444")
    ],
    (
        "guessable-name",
        "low",
        "104",
        pjsip(f"[104](phone)\nauth=104\n[104]\ntype=auth\nusername=104\npassword={THIRD}q\n"),
        auth(THIRD + "q"),
        NONE,
    ),
    # the manager, ARI, HTTP
    (
        "manager-exposed",
        "medium",
        "manager",
        manager("bindaddr=127.0.0.1\n", "bindaddr=0.0.0.0\n"),
        manager("bindaddr=127.0.0.1\n", "bindaddr=::1\n"),
        NONE,
    ),
    (
        "manager-exposed",
        "high",
        "manager",
        changed(manager("bindaddr=127.0.0.1\n", ""), "manager.conf", "deny=0.0.0.0/0.0.0.0\n", ""),
        manager("enabled=yes", "enabled=no"),
        NONE,
    ),
    (
        "manager-clear-text",
        "medium",
        "manager",
        manager("bindaddr=127.0.0.1\n", "bindaddr=192.0.2.1\n"),
        manager("bindaddr=127.0.0.1\n", "bindaddr=127.0.0.1\ntlsenable=yes\n"),
        NONE,
    ),
    ("manager-user-without-acl", "low", "reader", manager("deny=0.0.0.0/0.0.0.0\n", ""), KEPT, NONE),
    *[
        (
            "manager-command-rights",
            "low",
            "reader",
            manager("read=security", f"write=log,{right}"),
            manager("read=security", "write=log,reporting"),
            NONE,
        )
        for right in ("system", "command", "originate", "config", "all")
    ],
    (
        "manager-web",
        "medium",
        "manager",
        {**manager("enabled=yes\n", "enabled=yes\nwebenabled=yes\n"), "http.conf": HTTP},
        {**manager("enabled=yes\n", "enabled=yes\nwebenabled=yes\n"), "http.conf": LOCAL_HTTP},
        NONE,
    ),
    ("manager-multiple-logins", "info", "manager", manager("allowmultiplelogin=no\n", ""), KEPT, NONE),
    (
        "http-exposed",
        "medium",
        "http",
        {**KEPT, "http.conf": HTTP},
        {**KEPT, "http.conf": "[general]\nenabled=yes\n"},
        NONE,
    ),
    (
        "http-clear-text",
        "low",
        "http",
        {**KEPT, "http.conf": HTTP},
        {**KEPT, "http.conf": LOCAL_HTTP + "tlsenable=yes\ntlsbindaddr=0.0.0.0:8089\n"},
        NONE,
    ),
    (
        "ari-user-writes",
        "medium",
        "app",
        {**KEPT, "http.conf": HTTP, "ari.conf": ARI},
        {**KEPT, "http.conf": HTTP, "ari.conf": ARI + "read_only=yes\n"},
        NONE,
    ),
    (
        "ari-any-origin",
        "medium",
        "ari",
        {**KEPT, "http.conf": HTTP, "ari.conf": ARI.replace("enabled=yes", "allowed_origins=*")},
        {**KEPT, "http.conf": HTTP, "ari.conf": ARI.replace("enabled=yes", "allowed_origins=https://pbx.example.org")},
        NONE,
    ),
    # TLS
    (
        "tls-version",
        "medium",
        "tls",
        changed(KEPT, "pjsip.conf", "tlsv1_2", "tlsv1"),
        changed(KEPT, "pjsip.conf", "tlsv1_2", "tlsv1_3"),
        NONE,
    ),
    ("tls-version", "low", "tls", changed(KEPT, "pjsip.conf", "method=tlsv1_2\n", ""), KEPT, NONE),
    (
        "tls-version",
        "high",
        "tlsclientmethod",
        general("tlsenable=yes\ntlsclientmethod=sslv3"),
        general("tlsenable=no\ntlsclientmethod=sslv3"),
        SIP,
    ),
    ("tls-server-unverified", "low", "tls", changed(KEPT, "pjsip.conf", "verify_server=yes\n", ""), KEPT, NONE),
    (
        "tls-server-unverified",
        "medium",
        "tls",
        changed(
            changed(KEPT, "pjsip.conf", "verify_server=yes\n", "verify_server=no\n"),
            "pjsip.conf",
            "contact=sip:198.51.100.5",
            "contact=sip:198.51.100.5;transport=tls".replace(";", "\\;"),
        ),
        KEPT,
        NONE,
    ),
    (
        "tls-server-unverified",
        "medium",
        "chan_sip",
        general("tlsenable=yes\ntlsdontverifyserver=yes"),
        general("tlsenable=yes\ntlsdontverifyserver=no"),
        SIP,
    ),
    (
        "tls-client-certificate",
        "medium",
        "tls",
        changed(KEPT, "pjsip.conf", "verify_server=yes\n", "verify_server=yes\nrequire_client_cert=yes\n"),
        changed(
            KEPT, "pjsip.conf", "verify_server=yes\n", "verify_server=yes\nrequire_client_cert=yes\nverify_client=yes\n"
        ),
        NONE,
    ),
    *[
        (
            "tls-cipher-weak",
            "medium",
            "tls",
            changed(KEPT, "pjsip.conf", "verify_server=yes\n", f"verify_server=yes\ncipher={weak}\n"),
            changed(
                KEPT,
                "pjsip.conf",
                "verify_server=yes\n",
                "verify_server=yes\ncipher=ECDHE-RSA-AES256-GCM-SHA384:!aNULL:!MD5\n",
            ),
            NONE,
        )
        for weak in ("ALL", "RC4-SHA", "AES128-SHA,NULL-MD5", "DES-CBC3-SHA")
    ],
    (
        "tls-file-missing",
        "medium",
        "tls, cert_file",
        changed(KEPT, "pjsip.conf", "verify_server=yes\n", "verify_server=yes\ncert_file=keys/none.pem\n"),
        changed(KEPT, "pjsip.conf", "verify_server=yes\n", "verify_server=yes\ncert_file=rtp.conf\n"),
        NONE,
    ),
    (
        "media-clear-text",
        "info",
        "desk-a7",
        changed(KEPT, "pjsip.conf", "[desk-a7](phone)\n", "[desk-a7](phone)\ntransport=tls\n"),
        changed(KEPT, "pjsip.conf", "[desk-a7](phone)\n", "[desk-a7](phone)\ntransport=tls\nmedia_encryption=sdes\n"),
        NONE,
    ),
    # the dialplan
    (
        "guest-can-dial-out",
        "critical",
        "default",
        added(
            pjsip(ANON),
            extensions="[default](+)\ninclude => loose\n[loose]\nexten => _X.,1,Authenticate(770341)\n"
            f"exten => _9X.,1,Goto(trunk,${{EXTEN}},1)\n[trunk]\nexten => _9X.,1,{OUT}\n",
        ),
        added(pjsip(ANON), extensions=f"[loose]\nexten => _9X.,1,{OUT}\n"),
        NONE,
    ),
    (
        "guest-can-dial-out",
        "critical",
        "nowhere",
        changed(
            changed(SIP_KEPT, "sip.conf", "allowguest=no", "allowguest=yes"),
            "extensions.conf",
            "[nowhere]\n",
            "[nowhere]\nexten => s,1,WaitExten()\ninclude => open\n[open]\nexten => _XXXXXXXXX,1,Dial(SIP/carrier/${EXTEN})\n",
        ),
        changed(SIP_KEPT, "sip.conf", "allowguest=no", "allowguest=yes"),
        SIP,
    ),
    (
        "guest-can-dial-out",
        "high",
        "default",
        added(
            pjsip(ANON),
            extensions="[default](+)\nexten => _9X.,1,GotoIf($[${ODBC_MAY(${EXTEN})}]?no)\n"
            " same => n,Dial(PJSIP/${FILTER(0-9,${EXTEN})}@carrier)\n same => n(no),Hangup()\n",
        ),
        added(pjsip(ANON), extensions="[default](+)\nexten => 12,1,Dial(PJSIP/desk-a7)\n"),
        NONE,
    ),
    (
        "default-context-dials-out",
        "medium",
        "phones2",
        changed(SIP_KEPT, "sip.conf", "context=nowhere", "context=phones2")
        | {
            "extensions.conf": SIP_KEPT["extensions.conf"]
            + "[phones2]\nexten => _XXXXXXXXX,1,Dial(SIP/carrier/${EXTEN},60,L(1000))\n"
        },
        SIP_KEPT,
        SIP,
    ),
    *[
        (
            "pstn-without-pin",
            "medium",
            "phones",
            dialplan(f"exten => {pattern},1,{OUT}"),
            dialplan(f"exten => {pattern},1,Authenticate(770341)\n same => n,{OUT}"),
            NONE,
        )
        for pattern in ("_X.", "_9X.", "_0.", "_9NXXXXXXXXX", "_[0-9].")
    ],
    (
        "pstn-without-pin",
        "medium",
        "phones",
        dialplan(f"exten => _9X.,1,{OUT}"),
        dialplan("exten => _7741X.,1,Dial(PJSIP/${EXTEN:4}@carrier,60,L(1000))"),
        NONE,
    ),
    (
        "pstn-without-pin",
        "medium",
        "phones",
        dialplan(
            "exten => _9X.,1,Goto(away,${EXTEN},1)\n[away]\nexten => _9X.,1,Dial(PJSIP/${EXTEN:1}@carrier)\n[rest]"
        ),
        dialplan("exten => _9X.,1,Gosub(sipguard-check,s,1)\n same => n,Dial(PJSIP/${EXTEN:1}@carrier)"),
        NONE,
    ),
    (
        "international-unrestricted",
        "high",
        "phones",
        dialplan(f"exten => _00Z.,1,{OUT}"),
        dialplan(f"exten => _0ZX.,1,{OUT}"),
        NONE,
    ),
    ("international-unrestricted", "high", "phones", dialplan(f"exten => _+X.,1,{OUT}"), KEPT, NONE),
    (
        "international-unrestricted",
        "high",
        "phones",
        dialplan(f"exten => _011X.,1,{OUT}"),
        dialplan(f"exten => _X.,1,{OUT}\nexten => _+X.,1,Hangup\nexten => _011X.,1,Hangup"),
        NONE,
    ),
    # the number stands in an address
    *[
        (
            "international-unrestricted",
            "high",
            "phones",
            dialplan(f"exten => _00Z.,1,Dial({guilty})"),
            dialplan(innocent),
            NONE,
        )
        for guilty, innocent in (
            (
                "PJSIP/carrier/sip:${EXTEN}@198.51.100.7",
                "exten => _00Z.,1,Dial(PJSIP/carrier/sip:0301234567@198.51.100.7)",
            ),
            (
                "PJSIP/carrier/SIPS:${EXTEN}@198.51.100.7",
                "exten => _0Z.,1,Dial(PJSIP/carrier/sip:${EXTEN}@198.51.100.7)",
            ),
            ("PJSIP/desk-a7/sip:${EXTEN}@sip.example.org", "exten => _00Z.,1,Dial(PJSIP/desk-a7/sip:desk@192.0.2.8)"),
            ("PJSIP/nobody/sip:${EXTEN}@198.51.100.5", "exten => _00Z.,1,Dial(PJSIP/desk-a7)"),
            ("SIP/user:x@carrier.example/${EXTEN}", "exten => _00Z.,1,Dial(SIP/user:x@carrier.example/0301234567)"),
            ("SIP/${EXTEN}@198.51.100.5:5060", "exten => _00Z.,1,Dial(SIP/0301234567@198.51.100.5:5060)"),
        )
    ],
    (
        "international-unrestricted",
        "low",
        "phones",
        dialplan("exten => _00Z.,1,Dial(${IF($[1=1]?PJSIP/${EXTEN}@carrier:PJSIP/desk-a7)})"),
        dialplan("exten => _00Z.,1,Dial(${IF($[1=1]?PJSIP/desk-b9:PJSIP/desk-a7)})"),
        NONE,
    ),
    (
        "international-unrestricted",
        "low",
        "phones",
        dialplan("exten => _00Z.,1,Dial(PJSIP/desk-a7/sip:${EXTEN}@10.0.0.8)"),
        dialplan("exten => _00Z.,1,Dial(PJSIP/desk-a7/sip:100@10.0.0.8)"),
        NONE,
    ),
    *[
        ("password-in-dialplan", "medium", "phones", dialplan(guilty), dialplan(innocent), NONE)
        for guilty, innocent in (
            (
                "exten => 5,1,Dial(SIP/user:geheim99@carrier.example/${ARG1})",
                "exten => 5,1,Dial(SIP/user@carrier.example)",
            ),
            (
                "exten => 5,1,Dial(IAX2/u:geheim99@h/${EXTEN})",
                "exten => 5,1,Dial(IAX2/u:${DB(trunk/secret)}@h/${EXTEN})",
            ),
            (
                "exten => 5,1,ExecIf($[1]?Dial(SIP/u:geheim99@h/5))",
                "exten => 5,1,Dial(PJSIP/carrier/sip:5@198.51.100.5:5060)",
            ),
            ("exten => 5,1,Dial(PJSIP/carrier/sip:u:geheim99@h)", "exten => 5,1,Dial(SIP/desk-a7:5060/u@h)"),
        )
    ],
    # callers from outside
    *[
        ("trunk-reaches-trunk", severity, "from-carrier", incoming(guilty), incoming(innocent), NONE)
        for severity, guilty, innocent in (
            ("high", "include => loose\n[loose]\nexten => _0X.,1,Dial(PJSIP/${EXTEN}@carrier)", "include => phones"),
            (
                "high",
                "exten => _X.,1,Goto(loose,${EXTEN},1)\n[loose]\nexten => _0X.,1,Dial(PJSIP/${EXTEN}@carrier)",
                "exten => 301,1,Goto(loose,0301234567,1)\n[loose]\nexten => _0X.,1,Dial(PJSIP/${EXTEN}@carrier)",
            ),
            (
                "high",
                "exten => 301,1,Read(dest,dial,20)\n same => n,Dial(PJSIP/${dest}@carrier)",
                "exten => 301,1,Read(pin,dial,20)\n same => n,GotoIf($[${pin} = 770341]?ok)\n same => n,Hangup\n"
                " same => n(ok),Dial(PJSIP/${DB(mobile/301)}@carrier)",
            ),
            (
                "high",
                "exten => 301,1,Read(dest,dial,20)\n same => n,Set(num=${FILTER(0-9,${dest})})\n same => n,Dial(PJSIP/${num}@carrier)",
                "exten => 301,1,Read(choice,menu,1)\n same => n,Goto(menu,${choice},1)\n[menu]\nexten => 1,1,Dial(PJSIP/desk-a7)",
            ),
            (
                "high",
                "exten => 301,1,Read(dest,dial,20)\n same => n,Goto(loose,${dest},1)\n"
                "[loose]\nexten => _0X.,1,Dial(PJSIP/${EXTEN}@carrier)",
                "exten => 301,1,Authenticate(770341)\n same => n,Read(dest,dial,20)\n same => n,Dial(PJSIP/${dest}@carrier)",
            ),
            (
                "high",
                "exten => _X.,1,Gosub(away,s,1(${EXTEN}))\n[away]\nexten => s,1,Dial(PJSIP/${ARG1}@carrier)",
                "exten => _X.,1,Gosub(away,s,1(0301234567))\n[away]\nexten => s,1,Dial(PJSIP/${ARG1}@carrier)",
            ),
            (
                "medium",
                "exten => _X.,1,AGI(ask)\n same => n,Dial(PJSIP/${EXTEN}@carrier)",
                "exten => _X.,1,Dial(PJSIP/${DB(forward/${EXTEN})}@carrier)",
            ),
            (
                "high",
                "exten => 301,1,DISA(no-password,loose)\n[loose]\nexten => _0X.,1,Dial(PJSIP/${EXTEN}@carrier)",
                "exten => 301,1,DISA(88213,loose)\n[loose]\nexten => _0X.,1,Dial(PJSIP/${EXTEN}@carrier)",
            ),
            (
                "high",
                "exten => _X.,1,Dial(Local/${EXTEN}@a/n)\n[a]\nexten => _0X.,1,Dial(PJSIP/${EXTEN}@carrier)",
                "exten => _X.,1,Dial(Local/0301234567@a/n)\n[a]\nexten => _0X.,1,Dial(PJSIP/${EXTEN}@carrier)",
            ),
            ("high", "exten => _X.,1,Dial(PJSIP/${EXTEN}@carrier)", "exten => _X.,1,Dial(PJSIP/0301234567@carrier)"),
        )
    ],
    # North America's numbers reach the Caribbean
    *[
        ("risky-numbers-unrestricted", "medium", "phones", dialplan(guilty), dialplan(innocent), NONE)
        for guilty, innocent in (
            (f"exten => _1NXXNXXXXXX,1,{OUT}", f"exten => _1NXXNXXXXXX,1,{OUT}\n{CARIBBEAN}"),
            (f"exten => _NXXNXXXXXX,1,{OUT}", f"exten => _0NXXXXXXXX,1,{OUT}"),
            ("exten => _NXXNXXXXXX,1,Dial(PJSIP/+1${EXTEN}@carrier)", f"exten => _1212NXXXXXX,1,{OUT}"),
            ("exten => _91NXXNXXXXXX,1,Dial(PJSIP/${EXTEN:1}@carrier)", f"exten => _0[2-9]X.,1,{OUT}"),
            (
                f"exten => _1NXXNXXXXXX,1,{OUT}\nexten => _9NXXNXXXXXX,1,{OUT}",
                f"exten => _00X.,1,Hangup\nexten => _+X.,1,Hangup\nexten => _011X.,1,Hangup\nexten => _X.,1,{OUT}",
            ),
            (f"exten => _0053X.,1,{OUT}", f"exten => _0041X.,1,{OUT}"),
        )
    ],
    (
        "pstn-without-pin",
        "low",
        "phones",
        dialplan(f"exten => _0[2-8]XXXXXXXXX,1,{OUT}"),
        dialplan(f"exten => _0[2-8]XXXXXXXXX,1,Authenticate(770341)\n same => n,{OUT}"),
        NONE,
    ),
    # each of these takes one thing away from the case before
    *[
        ("pstn-without-pin", "medium", "phones", dialplan(text), KEPT, NONE)
        for text in (
            "exten => _0[2-8]XXXXXXXXX,1,Dial(PJSIP/${EXTEN}@carrier)",
            f"exten => _0[1-9]XXXXXXXXX,1,{OUT}",
            f"exten => _0[2-8]XXXXXXXXX,1,{OUT}\nexten => _118XX,1,{OUT}\nexten => _0137XXXXXXX,1,{OUT}\nexten => _09X.,1,{OUT}",
        )
    ],
    (
        "no-call-limit",
        "medium",
        "phones",
        changed(KEPT, "extensions.conf", " same => n,Set(TIMEOUT(absolute)=3600)\n", ""),
        KEPT,
        NONE,
    ),
    (
        "no-call-limit",
        "medium",
        "phones",
        dialplan("exten => _0ZXXXXXX,1,Authenticate(77)\n same => n,Dial(PJSIP/${EXTEN}@carrier,60,r)"),
        dialplan("exten => _0ZXXXXXX,1,Authenticate(77)\n same => n,Dial(PJSIP/${EXTEN}@carrier,60,rS(3600))"),
        NONE,
    ),
    ("catch-all-pattern", "low", "phones", dialplan("exten => _.,1,Hangup"), dialplan("exten => _X.,1,Hangup"), NONE),
    (
        "dialplan-shell-injection",
        "high",
        "phones",
        dialplan("exten => _X.,1,System(/bin/log ${EXTEN})"),
        dialplan("exten => _X.,1,System(/bin/log ${FILTER(0-9,${EXTEN})})"),
        NONE,
    ),
    (
        "dialplan-shell-injection",
        "high",
        "phones",
        dialplan("exten => 5,1,Set(x=${SHELL(who ${CALLERID(name)})})"),
        dialplan("exten => 5,1,System(/bin/log)"),
        NONE,
    ),
    (
        "dialplan-injection",
        "medium",
        "phones",
        dialplan("exten => _1X!,1,Dial(PJSIP/${EXTEN})"),
        dialplan("exten => _1X,1,Dial(PJSIP/${EXTEN})"),
        NONE,
    ),
    (
        "disa-without-password",
        "high",
        "phones",
        dialplan("exten => 7,1,DISA(no-password,nowhere)"),
        dialplan("exten => 7,1,DISA(88213,nowhere)"),
        NONE,
    ),
    (
        "transfer-from-outside",
        "medium",
        "phones",
        changed(KEPT, "extensions.conf", "@carrier,60)", "@carrier,60,t)"),
        changed(KEPT, "extensions.conf", "@carrier,60)", "@carrier,60,TS(3))"),
        NONE,
    ),
    (
        "transfer-from-outside",
        "medium",
        "from-carrier",
        changed(KEPT, "extensions.conf", "PJSIP/desk-a7,30)", "PJSIP/desk-a7,30,TM(t))"),
        changed(KEPT, "extensions.conf", "PJSIP/desk-a7,30)", "PJSIP/desk-a7,30,tM(T))"),
        NONE,
    ),
    ("dialplan-elsewhere", "info", "phones", dialplan("switch => Realtime/@"), KEPT, NONE),
    # the network
    (
        "driver-port-clash",
        "high",
        "udp, udp",
        {**SIP_KEPT, "pjsip.conf": KEPT["pjsip.conf"]},
        {**changed(SIP_KEPT, "sip.conf", ":5060", ":5070"), "pjsip.conf": KEPT["pjsip.conf"]},
        {"version": (20, 9)},
    ),
    *[
        ("transport-port-clash", "medium", subject, pjsip(guilty), pjsip(innocent), NONE)
        for subject, guilty, innocent in (
            (
                "two, udp",
                "[two]\ntype=transport\nprotocol=udp\nbind=0.0.0.0\n",
                "[two]\ntype=transport\nprotocol=tcp\nbind=0.0.0.0\n",
            ),
            (
                "two, udp",
                "[two]\ntype=transport\nbind=0.0.0.0:5060\n",
                "[two]\ntype=transport\nbind=0.0.0.0:5062\n",
            ),
            (
                "two, tls",
                "[two]\ntype=transport\nprotocol=tls\nbind=0.0.0.0\nmethod=tlsv1_2\nverify_server=yes\n",
                "[two]\ntype=transport\nprotocol=udp\nbind=[::]:5060\n",
            ),
        )
    ],
    ("chan-sip-in-use", "medium", "chan_sip", SIP_KEPT, SIP_KEPT, {"version": (20, 9)}),
    (
        "sip-port-in-rtp-range",
        "medium",
        "udp, udp",
        changed(KEPT, "pjsip.conf", "0.0.0.0:5060", "[::]:12000"),
        KEPT,
        NONE,
    ),
    (
        "sip-port-in-rtp-range",
        "medium",
        "udp, udp",
        changed(KEPT, "pjsip.conf", "0.0.0.0:5060", "0.0.0.0:4569"),
        {
            **changed(KEPT, "pjsip.conf", "0.0.0.0:5060", "0.0.0.0:4569"),
            "udptl.conf": "[general]\nudptlstart=4700\nudptlend=4800\n",
        },
        NONE,
    ),
    ("sip-port-in-rtp-range", "medium", "udp, udp, tls, tls", {**KEPT, "rtp.conf": "[general]\n"}, KEPT, NONE),
    ("rtp-range-wide", "low", "rtp.conf", changed(KEPT, "rtp.conf", "rtpend=20000", "rtpend=65000"), KEPT, NONE),
    ("rtp-range-inverted", "high", "rtp.conf", changed(KEPT, "rtp.conf", "rtpend=20000", "rtpend=9000"), KEPT, NONE),
    (
        "strictrtp-off",
        "medium",
        "rtp.conf",
        changed(KEPT, "rtp.conf", "strictrtp=yes", "strictrtp=no"),
        changed(KEPT, "rtp.conf", "strictrtp=yes", "strictrtp=seqno"),
        NONE,
    ),
    ("version-disclosed", "low", "user_agent", changed(KEPT, "pjsip.conf", "user_agent=PBX\n", ""), KEPT, NONE),
    (
        "version-disclosed",
        "low",
        "useragent, sdpsession",
        changed(changed(SIP_KEPT, "sip.conf", "useragent=PBX\n", ""), "sip.conf", "sdpsession=PBX\n", ""),
        SIP_KEPT,
        SIP,
    ),
    (
        "endpoint-without-acl",
        "info",
        "desk-a7, desk-b9",
        changed(KEPT, "pjsip.conf", "deny=0.0.0.0/0.0.0.0\n", ""),
        added(
            changed(KEPT, "pjsip.conf", "deny=0.0.0.0/0.0.0.0\npermit=192.0.2.0/24\n", ""),
            pjsip="[a]\ntype=acl\ndeny=0.0.0.0/0\npermit=192.0.2.0/24\n",
        ),
        NONE,
    ),
    (
        "endpoint-without-acl",
        "info",
        "desk-c3",
        peer(f"type=friend\nhost=dynamic\nsecret={OTHER}"),
        peer(f"type=friend\nhost=dynamic\nsecret={OTHER}\ncontactdeny=0.0.0.0/0"),
        SIP,
    ),
    ("promiscuous-redirect", "medium", "chan_sip", general("promiscredir=yes"), general("promiscredir=no"), SIP),
    # mistakes
    (
        "list-with-space",
        "medium",
        "general, nat",
        changed(SIP_KEPT, "sip.conf", "force_rport,comedia", "force_rport, comedia"),
        SIP_KEPT,
        SIP,
    ),
    (
        "list-with-space",
        "medium",
        "carrier, insecure",
        changed(SIP_KEPT, "sip.conf", "port,invite", "port, invite"),
        SIP_KEPT,
        SIP,
    ),
    ("nat-yes", "low", "general", changed(SIP_KEPT, "sip.conf", "nat=force_rport,comedia", "nat=yes"), SIP_KEPT, SIP),
    (
        "qualify-word",
        "medium",
        "desk-a7",
        changed(SIP_KEPT, "sip.conf", "qualify=yes", "qualify=true"),
        changed(SIP_KEPT, "sip.conf", "qualify=yes", "qualify=2000"),
        SIP,
    ),
    (
        "boolean-word",
        "medium",
        "general, allowguest",
        changed(SIP_KEPT, "sip.conf", "allowguest=no", "allowguest=nope"),
        changed(SIP_KEPT, "sip.conf", "allowguest=no", "allowguest=OFF"),
        SIP,
    ),
    (
        "boolean-word",
        "medium",
        "desk-a7, direct_media",
        changed(KEPT, "pjsip.conf", "[desk-a7](phone)\n", "[desk-a7](phone)\ndirect_media=never\n"),
        changed(KEPT, "pjsip.conf", "[desk-a7](phone)\n", "[desk-a7](phone)\ndirect_media=0\n"),
        NONE,
    ),
    (
        "unknown-type",
        "high",
        "desk-c3",
        pjsip("[desk-c3]\ntype=Endpoint\n"),
        pjsip(f"[desk-c3]\nTYPE=auth\nusername=c3\npassword={THIRD}q\n"),
        NONE,
    ),
    (
        "section-space",
        "high",
        "desk-c3",
        pjsip("[desk-c3] (phone)\ntype=endpoint\nidentify_by=ip\n"),
        pjsip("[desk-c3](phone)  ; (phone)\nidentify_by=ip\n"),
        NONE,
    ),
    (
        "second-general",
        "medium",
        "sip.conf",
        added(SIP_KEPT, sip="[general]\nallowguest=no\n"),
        added(SIP_KEPT, sip="[general](+)\nallowguest=no\n"),
        SIP,
    ),
    (
        "unknown-option",
        "high",
        "desk-a7, allowguest",
        changed(KEPT, "pjsip.conf", "[desk-a7](phone)\n", "[desk-a7](phone)\nallowguest=no\n"),
        changed(KEPT, "pjsip.conf", "[desk-a7](phone)\n", "[desk-a7](phone)\n@mine=1\nAllow_Transfer=no\n"),
        NONE,
    ),
    ("duplicate-object", "high", "desk-a7, aor", pjsip("[desk-a7]\ntype=aor\nmax_contacts=2\n"), KEPT, NONE),
    (
        "missing-object",
        "medium",
        "desk-a7, auth",
        changed(KEPT, "pjsip.conf", "auth=desk-a7\n", "auth=desk-a7,desk-a8\n"),
        {
            **changed(KEPT, "pjsip.conf", "auth=desk-a7\n", "auth=desk-a7,desk-a8\n"),
            "sorcery.conf": "[res_pjsip]\nauth=realtime,ps_auths\n",
        },
        NONE,
    ),
    (
        "missing-object",
        "medium",
        "desk-a7, aors",
        changed(KEPT, "pjsip.conf", "aors=desk-a7\n", "aors=desk-a9\n"),
        changed(KEPT, "pjsip.conf", "aors=desk-a7\n", "aors=desk-a7, desk-b9\n"),
        NONE,
    ),
    (
        "acl-order",
        "medium",
        "desk-a7",
        changed(
            SIP_KEPT,
            "sip.conf",
            "deny=0.0.0.0/0.0.0.0\npermit=192.0.2.0/24\n",
            "permit=192.0.2.0/24\ndeny=0.0.0.0/0.0.0.0\n",
        ),
        SIP_KEPT,
        SIP,
    ),
    (
        "acl-order",
        "medium",
        "desk-c3",
        pjsip("[desk-c3]\ntype=endpoint\nauth=desk-a7\npermit=192.0.2.0/24\n"),
        pjsip("[desk-c3]\ntype=endpoint\nauth=desk-a7\ndeny=0.0.0.0/0\npermit=192.0.2.0/24\ndeny=192.0.2.9\n"),
        NONE,
    ),
    (
        "misspelt-option",
        "medium",
        "desk-c3, contact_deny",
        peer(f"type=friend\nhost=dynamic\nsecret={OTHER}\ncontact_deny=0.0.0.0/0"),
        peer(f"type=friend\nhost=dynamic\nsecret={OTHER}\ncontactdeny=0.0.0.0/0\nmy_own_word=1"),
        SIP,
    ),
    ("misspelt-option", "medium", "general, allowguests", general("allowguests=no"), SIP_KEPT, SIP),
    ("insecure-very", "medium", "carrier", changed(SIP_KEPT, "sip.conf", "port,invite", "very"), SIP_KEPT, SIP),
    ("file-refused", "high", "pjsip.conf", pjsip("#include nothing.conf\n"), pjsip("#tryinclude nothing.conf\n"), NONE),
    ("file-refused", "high", "pjsip.conf", pjsip("[desk-c3](nosuch)\n"), KEPT, NONE),
    ("line-ignored", "low", "pjsip.conf", pjsip("no sign here\n"), pjsip("; no sign here\n"), NONE),
    # what cannot be seen
    (
        "realtime",
        "info",
        "ps_endpoints",
        {**KEPT, "extconfig.conf": "[settings]\nps_endpoints => odbc,asterisk\n"},
        {**KEPT, "extconfig.conf": "[settings]\n"},
        NONE,
    ),
    (
        "realtime",
        "info",
        "res_pjsip, endpoint",
        {**KEPT, "sorcery.conf": "[res_pjsip]\nendpoint=realtime,ps_endpoints\n"},
        {**KEPT, "sorcery.conf": "[res_pjsip]\nendpoint=config,pjsip.conf,criteria=type=endpoint\n"},
        NONE,
    ),
    (
        "exec-in-configuration",
        "low",
        "pjsip.conf",
        {**pjsip("#exec /bin/true\n"), "asterisk.conf": "[options]\nexecincludes=yes\nrunuser=asterisk\n"},
        pjsip("#exec /bin/true\n"),
        NONE,
    ),
    (
        "log-without-attacks",
        "medium",
        "logger.conf",
        changed(KEPT, "logger.conf", "messages =>", "console =>"),
        changed(KEPT, "logger.conf", "notice,warning,error", "[json]notice,warning"),
        NONE,
    ),
    (
        "security-log-missing",
        "low",
        "logger.conf",
        changed(KEPT, "logger.conf", "security => security\n", "syslog.local0 => security\n"),
        changed(KEPT, "logger.conf", "security => security\n", "full => *\n"),
        NONE,
    ),
    # the host
    ("runs-as-root", "high", "asterisk.conf", changed(KEPT, "asterisk.conf", "root-less", "root"), KEPT, NONE),
    ("runs-as-root", "low", "asterisk.conf", changed(KEPT, "asterisk.conf", "runuser=root-less\n", ""), KEPT, NONE),
    (
        "live-dangerously",
        "high",
        "asterisk.conf",
        changed(KEPT, "asterisk.conf", "live_dangerously=no", "live_dangerously=yes"),
        KEPT,
        NONE,
    ),
    (
        "exec-includes",
        "medium",
        "asterisk.conf",
        changed(KEPT, "asterisk.conf", "execincludes=no", "execincludes=yes"),
        KEPT,
        NONE,
    ),
    (
        "needless-module",
        "info",
        "chan_motif",
        changed({**KEPT, "motif.conf": "[general]\n"}, "modules.conf", "noload => chan_motif.so\n", ""),
        {**KEPT, "motif.conf": "[general]\n"},
        NONE,
    ),
]
# what is told by something else than the files: tests of their own
ALONE = {
    "tls-key-readable",
    "world-readable",
    "world-writable",
    "foreign-owner",
    "end-of-life",
    # test_freepbx.py
    *(each.id for each in kinds() if each.id.startswith("freepbx-")),
}


@pytest.mark.parametrize(
    ("name", "severity", "subject", "guilty", "innocent", "options"),
    CASES,
    ids=[f"{case[0]}-{number}" for number, case in enumerate(CASES)],
)
def test_finding_of_the_guilty_and_not_of_the_innocent(
    tmp_path: Path,
    name: str,
    severity: str,
    subject: str,
    guilty: dict[str, str],
    innocent: dict[str, str],
    options: dict[str, Any],
) -> None:
    found = one(audit(tmp_path / "guilty", guilty, **options), name)
    assert (found.severity, found.subject) == (severity, subject)
    assert found.places
    for place in found.places:
        file, dummy, line = place.partition(":")
        if line.isdigit() and file in guilty:
            assert 1 <= int(line) <= guilty[file].count("\n") + 1
    if innocent != guilty:
        assert name not in ids(audit(tmp_path / "innocent", innocent, **options))


def test_every_kind_has_a_case() -> None:
    assert {case[0] for case in CASES} | ALONE == {each.id for each in kinds()}


@pytest.mark.parametrize("files", [KEPT, SIP_KEPT], ids=["pjsip", "chan_sip"])
def test_well_kept_configuration_is_quiet(tmp_path: Path, files: dict[str, str]) -> None:
    options: dict[str, Any] = SIP if "sip.conf" in files else NONE
    found = audit(tmp_path, files, **options)
    loud = {each.id for each in found if each.severity not in ("low", "info")}
    assert loud == ({"chan-sip-in-use"} if options else set())
    assert not options or ids(found) - {"end-of-life"} == {"chan-sip-in-use"}
    assert options or found == []


def test_place_is_the_line_that_says_it(tmp_path: Path) -> None:
    files = changed(KEPT, "pjsip.conf", "identify_by=ip\n", "identify_by=username\n")
    line = files["pjsip.conf"].split("\n").index("identify_by=username") + 1
    assert one(audit(tmp_path, files), "endpoint-without-auth").places == (f"pjsip.conf:{line}",)


def test_secret_in_an_included_file_is_found_there(tmp_path: Path) -> None:
    files = {**pjsip('#include "more.conf"\n'), "more.conf": "[m1]\ntype=auth\nusername=m1\npassword=1234\n"}
    assert one(audit(tmp_path, files), "weak-secret").places == ("more.conf:4",)


def test_secret_of_a_provider_is_not_judged(tmp_path: Path) -> None:
    files = pjsip(
        "[out]\ntype=auth\nusername=out\npassword=1234\n[reg]\ntype=registration\noutbound_auth=out\nserver_uri=sip:x.example\nclient_uri=sip:y@x.example\n"
    )
    assert "weak-secret" not in ids(audit(tmp_path, files))


def test_template_is_no_endpoint(tmp_path: Path) -> None:
    assert "endpoint-without-auth" not in ids(audit(tmp_path, pjsip("[open](!)\ntype=endpoint\n")))
    assert "endpoint-without-auth" in ids(audit(tmp_path, pjsip("[open](!)\ntype=endpoint\n[c3](open)\n")))


def test_private_key_for_all_is_told(tmp_path: Path) -> None:
    files = changed(KEPT, "pjsip.conf", "verify_server=yes\n", "verify_server=yes\npriv_key_file=key.pem\n")
    key = write(tmp_path, files) / "key.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----\n", encoding="ascii")
    key.chmod(0o644)
    assert one(audit(tmp_path, files), "tls-key-readable").subject == "tls, priv_key_file"
    key.chmod(0o640)
    assert "tls-key-readable" not in ids(audit(tmp_path, files))


def test_modes_of_files_and_of_their_directory(tmp_path: Path) -> None:
    write(tmp_path, KEPT, mode=0o644)
    closed = run(Context(ConfigDirectory(str(tmp_path)), version=(22, 10)))
    assert not {"world-readable", "world-writable"} & ids(closed)
    tmp_path.chmod(0o755)
    found = one(run(Context(ConfigDirectory(str(tmp_path)), version=(22, 10))), "world-readable")
    assert set(found.subjects) == {"pjsip.conf", "manager.conf", "extensions.conf"}
    (tmp_path / "rtp.conf").chmod(0o646)
    assert one(run(Context(ConfigDirectory(str(tmp_path)), version=(22, 10))), "world-writable").subject == "rtp.conf"


def test_owner_is_told(tmp_path: Path) -> None:
    write(tmp_path, KEPT)
    assert "foreign-owner" not in ids(audit(tmp_path, KEPT))
    if os.geteuid() == 0:
        os.chown(tmp_path / "rtp.conf", 4711, -1)
    context = Context(ConfigDirectory(str(tmp_path)))
    context.tree("rtp.conf")
    findings = Findings()
    host.check_files(context, findings)
    assert [each.subject for each in findings.all()] == (["rtp.conf"] if os.geteuid() == 0 else [])


@pytest.mark.parametrize(
    ("version", "day", "severity"),
    [
        ((16, 28), "2023-10-09", "medium"),
        ((16, 28), "2023-10-08", "info"),
        ((18, 26), "2025-10-20", "medium"),
        ((20, 9), "2026-10-18", ""),
        ((20, 9), "2026-10-19", "info"),
        ((22, 10), "2028-01-01", ""),
        ((11, 0), "2026-01-01", "medium"),
        ((99, 0), "2026-01-01", ""),
        (None, "2026-01-01", ""),
    ],
)
def test_end_of_life(tmp_path: Path, version: tuple[int, int] | None, day: str, severity: str) -> None:
    found = audit(tmp_path, {}, version=version, today=datetime.date.fromisoformat(day))
    assert [each.severity for each in found if each.id == "end-of-life"] == [severity] * bool(severity)


def test_dialplan_of_freepbx_is_never_sure(tmp_path: Path) -> None:
    files = dialplan(f"exten => _X.,1,{OUT}")
    assert one(audit(tmp_path, files), "pstn-without-pin").severity == "medium"
    assert one(audit(tmp_path, files, freepbx=True), "pstn-without-pin").severity == "low"


def test_chan_sip_is_not_looked_at_in_a_version_without_it(tmp_path: Path) -> None:
    files = {**KEPT, "sip.conf": "[general]\n"}
    assert "guest-access" in ids(audit(tmp_path, files, version=(20, 9)))
    assert "guest-access" not in ids(audit(tmp_path, files, version=(22, 10)))
    assert "guest-access" not in ids(audit(tmp_path, added(files, modules="noload => chan_sip.so\n"), version=(20, 9)))


def test_guard_of_this_collection_is_a_guard(tmp_path: Path) -> None:
    guard = Guard(country="de", trunk="PJSIP/{number}@carrier", contexts=("phones",))
    files = {**KEPT, "sipguard.conf": render(guard, "sipguard.conf")}
    files["extensions.conf"] = KEPT["extensions.conf"].partition("[phones]")[0] + "#include sipguard.conf\n"
    found = audit(tmp_path, files)
    assert [each.id for each in found if each.severity not in ("low", "info")] == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hV7-101-pQ2m_Xw9zRt", ""),
        ("101-pQ2m_Xw9z", "its own name"),
        ("pbx938475", "common"),
        ("pbx93f8d4u7m5q9", ""),
        ("pbx938475120385", ""),
        ("Summer", "fewer than 12"),
        ("qwertyuiop", "common"),
        ("asdfghjklzxc", "sequence"),
        ("abababababababAB", "kinds"),
        ("correct horse battery staple", ""),
        ("correcthorse", "kinds"),
        ("${SECRET}", "placeholder"),
        ("<password>", "placeholder"),
        ("p\xe4ssw\xf6rter-\u4e2d\u6587", ""),
    ],
)
def test_cause_of_a_weak_secret_is_the_worst_alone(tmp_path: Path, value: str, expected: str) -> None:
    secret = Secret("101", Place("pjsip.conf", 1), ("101",), value)
    found = list(causes(secret, Context(ConfigDirectory(str(tmp_path)))))
    assert len(found) == bool(expected)
    assert not expected or expected in found[0]
    assert not any(value in each for each in found)


SHAPES = {
    "hexadecimal": (string.hexdigits[:16], 20, 0),
    "letters and digits": (string.ascii_letters + string.digits, 16, 0),
    "short": (string.ascii_letters + string.digits + "!#%+-_", 12, 0),
    "base32": ("abcdefghijklmnopqrstuvwxyz234567", 24, 0),
    "groups": (string.ascii_letters + string.digits, 16, 4),
    "small letters": (string.ascii_lowercase, 24, 6),
}


@given(seed=st.integers(min_value=0, max_value=2**64), shape=st.sampled_from(sorted(SHAPES)))
@settings(max_examples=60)
def test_random_secret_is_none_that_is_guessed(seed: int, shape: str) -> None:
    signs, length, group = SHAPES[shape]
    # what matters is only that the characters are spread as a generator's are
    made = "".join(random.Random(seed).choices(signs, k=length))
    value = "-".join(made[at : at + group] for at in range(0, length, group)) if group else made
    if len(set(value)) < 5:
        return
    secret = Secret("desk", Place("pjsip.conf", 1), (), value)
    assert list(causes(secret, Context(ConfigDirectory("/none")))) == []


@pytest.mark.parametrize(
    "value",
    [
        "pT4v-Zq81-mWx6-Hn30",
        "correct horse battery staple",
        "Gabel-Wolke-Ziegel-Kaktus",
        "tiger flower summer server",
        "lampe.fjord.quark.pinsel",
    ],
)
def test_secret_of_random_characters_or_of_four_words_is_none_that_is_guessed(value: str) -> None:
    secret = Secret("desk", Place("pjsip.conf", 1), (), value)
    assert list(causes(secret, Context(ConfigDirectory("/none")))) == []


def test_insecure_of_general_is_told_where_it_stands(tmp_path: Path) -> None:
    files = stranger("insecure=port,invite")
    found = one(audit(tmp_path, files, **SIP), "insecure-for-all")
    assert found.places == (f"sip.conf:{files['sip.conf'].split(chr(10)).index('insecure=port,invite') + 1}",)
    # the peer of the provider has a line of its own, and desk-a7 an access list
    assert found.subjects == ("desk-c3",)


def test_password_in_the_dialplan_is_never_shown(tmp_path: Path) -> None:
    found = audit(tmp_path, dialplan("exten => _9.,1,Dial(SIP/user:geheim99@carrier.example/${EXTEN:1})"))
    assert {"password-in-dialplan", "pstn-without-pin"} <= ids(found)
    assert "geheim99" not in report.table(found) + json.dumps(report.as_dict(found))


@pytest.mark.parametrize(("host", "expected"), [("10.0.0.5", False), ("203.0.113.5", True), ("sip.example.org", True)])
def test_gateway_in_the_own_network_is_nobody_from_outside(tmp_path: Path, host: str, expected: bool) -> None:
    files = added(
        SIP_KEPT,
        sip=f"[gate]\ntype=peer\nhost={host}\ncontext=gate\n",
        extensions="[gate]\nexten => _0X.,1,Dial(SIP/carrier/${EXTEN})\n",
    )
    assert ("trunk-reaches-trunk" in ids(audit(tmp_path, files, **SIP))) is expected


def test_pipe_in_the_place_of_a_key_is_not_waited_for(tmp_path: Path) -> None:
    files = changed(KEPT, "pjsip.conf", "verify_server=yes\n", "verify_server=yes\npriv_key_file=pipe\n")
    os.mkfifo(write(tmp_path, files) / "pipe", 0o644)
    assert not {"tls-key-readable", "tls-file-missing"} & ids(audit(tmp_path, files))
