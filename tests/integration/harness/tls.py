# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first message of a TLS connection, as the library that most telephones have writes it."""

from __future__ import annotations

import ssl

from .sip import Request

__all__ = ["client_hello"]


def client_hello(server_name: str | None = None) -> Request:
    """A ClientHello with that server name, or without any; its token is the random number in it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=server_name).do_handshake()
    except ssl.SSLWantReadError:
        wire = outgoing.read()
        # record header, message header, version, random (RFC 8446 sections 5.1 and 4.1.2)
        return Request(wire[11:43], wire)
    raise AssertionError("the handshake was over before it began")
