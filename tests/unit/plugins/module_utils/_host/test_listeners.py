# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens to what, on this machine."""

from __future__ import annotations

import socket

from ansible_collections.sipguard.pbx.plugins.module_utils._host.listeners import listeners


def test_who_listens_is_seen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_INET6) as tcp:
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("::1", 0))
        ports = {udp.getsockname()[1], tcp.getsockname()[1]}
        assert listeners(ports) == {f"udp {udp.getsockname()[1]}"}
        tcp.listen()
        assert listeners(ports) == {f"udp {udp.getsockname()[1]}", f"tcp {tcp.getsockname()[1]}"}
    assert listeners(ports) == set()
