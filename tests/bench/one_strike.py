# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the published SIPban, written by us from its description: one strike, and a rule for each ban by way of a shell.

It is kinder to that program than it need be: it counts ChallengeResponseFailed, which the published one does not know, and it is given
nothing to do besides. Runs on the PBX; its argument is the user of the manager interface, and it reads that user's secret from its input.
"""

from __future__ import annotations

import os
import re
import socket
import sys

CHAIN = "sipban-udp"
STRIKE = re.compile(
    r"Event: (?:InvalidAccountID|InvalidPassword|ChallengeResponseFailed)\r\n.*^RemoteAddress: IPV4/UDP/([0-9.]+)/",
    re.DOTALL | re.MULTILINE,
)


def main() -> None:
    """Listen until Asterisk hangs up."""
    link = socket.create_connection(("127.0.0.1", 5038))
    login = f"Action: Login\r\nUsername: {sys.argv[1]}\r\nSecret: {sys.stdin.readline().strip()}\r\nEvents: security\r\n\r\n"
    link.sendall(login.encode())
    banned = set()
    buffer = ""
    while True:
        data = link.recv(65536)
        if not data:
            return
        *blocks, buffer = (buffer + data.decode("utf-8", "replace")).split("\r\n\r\n")
        for block in blocks:
            found = STRIKE.search(block)
            if found and found[1] not in banned:
                banned.add(found[1])
                os.system(f"iptables -A {CHAIN} -s {found[1]} -j DROP")  # as published


if __name__ == "__main__":
    main()
