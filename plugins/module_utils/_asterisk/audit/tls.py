# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS: versions, verification, ciphers, keys and certificates."""

from __future__ import annotations

import os
import re
import stat

from ..tree import Place, Variable, fold
from . import objects
from .context import Context, Section
from .finding import HIGH, INFO, LOW, MEDIUM, Findings, kind

__all__ = ["check"]

VERSION = kind(
    "tls-version",
    MEDIUM,
    "TLS older than 1.2",
    "SSL 2, SSL 3, TLS 1.0 and 1.1 are broken or withdrawn (RFC 6176, RFC 7568, RFC 8996). Without a method the library chooses, and "
    "an old one chooses TLS 1.0.",
    "PJSIP: method=tlsv1_2 or tlsv1_3. chan_sip: tlsclientmethod=tlsv1_2, tlsdisablev1=yes, tlsdisablev11=yes.",
)
UNVERIFIED = kind(
    "tls-server-unverified",
    MEDIUM,
    "The provider's certificate is not verified",
    "Whoever is on the way can be the provider: he hears the calls and gets the credentials.",
    "PJSIP: verify_server=yes with ca_list_file or ca_list_path. chan_sip: tlsdontverifyserver=no with tlscafile.",
)
CLIENT = kind(
    "tls-client-certificate",
    MEDIUM,
    "Client certificates that are asked for and not verified",
    "require_client_cert without verify_client=yes takes any certificate, also one that a stranger made himself.",
    "Set verify_client=yes with ca_list_file of your own authority.",
)
CIPHER = kind(
    "tls-cipher-weak",
    MEDIUM,
    "Weak ciphers are allowed",
    "NULL and anonymous ciphers protect nothing; export, RC4, DES, 3DES and MD5 ones are broken.",
    "Leave the list out, or name strong ciphers only, such as ECDHE-RSA-AES256-GCM-SHA384.",
)
KEY = kind(
    "tls-key-readable",
    HIGH,
    "A private key that everybody on the host may read",
    "Whoever has it can be this server, and reads recorded traffic that was encrypted without forward secrecy.",
    "chmod 0640, owner root, group of Asterisk; then have a new key made.",
)
MISSING = kind(
    "tls-file-missing",
    MEDIUM,
    "A certificate or key that is not there",
    "The transport does not start without it, and phones fall back or stay away.",
    "Put the file there, or correct the name.",
)
NO_MEDIA = kind(
    "media-clear-text",
    INFO,
    "Calls over TLS with voice in clear text",
    "TLS hides who calls; without SRTP everybody on the way hears what is said.",
    "Set media_encryption=sdes, or dtls for WebRTC, on endpoints that use a TLS transport.",
)

_OLD = {"sslv2", "sslv3", "tlsv1", "tlsv1_1"}
_OPEN = {"", "default", "unspecified", "sslv23"}
_WEAK = re.compile(
    r"(?:^|[^a-z])(?:e?null|anull|adh|aecdh|exp(?:ort)?\d*|rc4|des|3des|md5|low|all)(?:$|[^a-z0-9])", re.IGNORECASE
)
_FILES = ("cert_file", "priv_key_file", "ca_list_file", "tlscertfile", "tlsprivatekey", "tlscafile")


def check(context: Context, findings: Findings) -> None:
    if context.chan_sip:
        general = context.first("sip.conf")
        if general.true("tlsenable"):
            _chan_sip(general, findings)
            _files(context, general, "sip.conf", findings)
    if context.pjsip:
        made = objects.pjsip(context)
        encrypted = {each.name for each in made.of("transport") if fold(each.value("protocol")) in ("tls", "wss")}
        outgoing = _outgoing(made)
        for each in made.of("transport"):
            if fold(each.value("protocol")) == "tls":
                _transport(each, outgoing, findings)
                _files(context, each, each.name, findings)
        for endpoint in made.of("endpoint"):
            if (
                endpoint.value("transport") in encrypted
                and fold(endpoint.value("media_encryption", default="no")) == "no"
            ):
                findings.add(NO_MEDIA, endpoint.name, endpoint.where("media_encryption"))
    for name in ("http.conf", "manager.conf"):
        general = context.first(name)
        if general.true("tlsenable"):
            _files(context, general, name, findings)
            _ciphers(general, name, findings)


def _chan_sip(general: Section, findings: Findings) -> None:
    for option in ("tlsclientmethod", "tlsservermethod"):
        if fold(general.value(option)) in _OLD:
            findings.add(
                VERSION,
                option,
                general.where(option),
                severity=HIGH if "ssl" in general.value(option).lower() else MEDIUM,
            )
    if general.true("tlsdontverifyserver"):
        findings.add(UNVERIFIED, "chan_sip", general.where("tlsdontverifyserver"))
    _ciphers(general, "chan_sip", findings)


def _transport(transport: Section, outgoing: bool, findings: Findings) -> None:
    method = fold(transport.value("method"))
    if method in _OLD:
        findings.add(VERSION, transport.name, transport.where("method"), severity=HIGH if "ssl" in method else MEDIUM)
    elif method in _OPEN:
        findings.add(VERSION, transport.name, transport.where("method"), severity=LOW, detail="the library chooses")
    if not transport.true("verify_server"):
        findings.add(
            UNVERIFIED,
            transport.name,
            transport.where("verify_server"),
            severity=MEDIUM if outgoing else LOW,
            detail="" if outgoing else "nothing here names a provider over TLS",
        )
    if transport.true("require_client_cert") and not transport.true("verify_client"):
        findings.add(CLIENT, transport.name, transport.where("require_client_cert"))
    _ciphers(transport, transport.name, findings)


def _outgoing(made: objects.Pjsip) -> bool:
    """Whether anything is sent to a fixed address over TLS."""
    targets = [
        variable.value
        for kind_ in ("registration", "aor")
        for each in made.of(kind_)
        for variable in each.all("server_uri", "contact")
    ]
    return any("transport=tls" in each.lower() or each.lower().startswith("sips:") for each in targets)


def _ciphers(section: Section, subject: str, findings: Findings) -> None:
    for variable in section.all("cipher", "tlscipher"):
        # what is taken out with ! or - is not allowed
        allowed = " ".join(word for word in re.split(r"[\s:,]+", variable.value) if word[:1] not in ("!", "-"))
        if _WEAK.search(allowed):
            findings.add(CIPHER, subject, variable.place)


def _files(context: Context, section: Section, subject: str, findings: Findings) -> None:
    for option in _FILES:
        variable = section.last(option)
        if variable is not None and variable.value:
            _file(context, option, variable, subject, findings)


def _file(context: Context, option: str, variable: Variable, subject: str, findings: Findings) -> None:
    place: Place = variable.place
    path = context.full(variable.value)
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return  # a pipe would be waited for
        with open(path, "rb") as handle:
            private = b"PRIVATE KEY-----" in handle.read(65536)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        findings.add(MISSING, f"{subject}, {option}", place)
        return
    except OSError:
        return  # it is there; nothing more can be said
    if private and mode & 0o007:
        findings.add(KEY, f"{subject}, {option}", place)
