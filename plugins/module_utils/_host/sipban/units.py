# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs and units with which sipband runs, as text."""

from __future__ import annotations

import ipaddress

from .settings import RUN, STATE, USER

__all__ = ["CONTROLLER", "KNOWN_SERVICE", "KNOWN_TIMER", "PROGRAM", "SERVICE", "programs", "units"]

PROGRAM = "/usr/local/sbin/sipband"
CONTROLLER = "/usr/local/sbin/sipbanctl"
_COMMAND = "/usr/local/sbin/sipguard"
_UNITS = "/etc/systemd/system"
SERVICE = f"{_UNITS}/sipband.service"
KNOWN_SERVICE = f"{_UNITS}/sipguard-known.service"
KNOWN_TIMER = f"{_UNITS}/sipguard-known.timer"

_SCRIPT = """\
#!/usr/bin/python3 -I
# Written by sipguard.pbx. Changes made here are overwritten.
import sys

sys.dont_write_bytecode = True
sys.path.append("/usr/local/lib")
from sipguard._host.sipban.{module} import main

sys.exit(main())
"""
_HEAD = """\
# Written by sipguard.pbx. Changes made here are overwritten; use 'systemctl edit' for additions.
"""
# Only the kernel's own bookkeeping needs a right: sets, conntrack and NFLOG are CAP_NET_ADMIN. Asterisk is asked once, by root, who is
# registered: sipband itself can read security events and nothing else of it.
_SERVICE_TEXT = """\
{head}[Unit]
Description=Bans who guesses at Asterisk's passwords (sipband of sipguard.pbx)
Documentation=https://github.com/sipguard/pbx
After=sipguard-restore.service network.target asterisk.service freepbx.service

[Service]
Type=notify
NotifyAccess=main
User={user}
Group={user}
# Which code it runs; another one is a reason to start anew.
Environment=SIPGUARD_VERSION={version}
ExecStartPre=-+{command} known learn
ExecStart={program}
Restart=always
RestartSec=1
RestartPreventExitStatus=78
TimeoutStartSec=60
TimeoutStopSec=15
WatchdogSec=30
# The kernel keeps the bans while it is away, but what Asterisk says then is lost: so it comes back at once.
OOMScoreAdjust=-500
MemoryHigh=96M
MemoryMax=192M
TasksMax=32
LimitNOFILE=1024
LimitCORE=0
UMask=0077
StateDirectory={state}
StateDirectoryMode=0700
RuntimeDirectory={run}
RuntimeDirectoryMode=0755
AmbientCapabilities=CAP_NET_ADMIN
CapabilityBoundingSet=CAP_NET_ADMIN
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectProc=invisible
{sealed}{reach}
[Install]
WantedBy=multi-user.target
"""
# What systemd does with a filter of system calls. In a container without CAP_SYS_ADMIN newer ones (262; 252 not yet) then refuse to
# start any service that has a user and a capability.
_SEALED = """\
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
# It talks to Asterisk on this host, unless its bans go to a fleet. Where AMI listens to one address only, that is who it comes from.
_ALONE = """\
IPAddressDeny=any
IPAddressAllow=localhost{own}
"""
_KNOWN_SERVICE_TEXT = f"""\
{_HEAD}[Unit]
Description=Makes registered telephones known to the SIP firewall (sipguard.pbx)
Documentation=https://github.com/sipguard/pbx
After=sipguard-restore.service asterisk.service freepbx.service

[Service]
Type=oneshot
ExecStart={_COMMAND} known learn
TimeoutStartSec=60
# To reach Asterisk's console, which belongs to its own user.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_DAC_OVERRIDE
NoNewPrivileges=yes
ProtectHome=yes
PrivateTmp=yes
"""
_KNOWN_TIMER_TEXT = f"""\
{_HEAD}[Unit]
Description=Makes registered telephones known to the SIP firewall, from time to time (sipguard.pbx)
Documentation=https://github.com/sipguard/pbx

[Timer]
OnBootSec=2min
OnUnitActiveSec=10min
AccuracySec=1min

[Install]
WantedBy=timers.target
"""


def programs() -> dict[str, str]:
    """Path -> text, to be executable by everybody; what they may do is for the socket and the unit to say."""
    return {PROGRAM: _SCRIPT.format(module="daemon"), CONTROLLER: _SCRIPT.format(module="client")}


def units(version: str, *, alone: bool, known: bool, sealed: bool, ami_host: str = "127.0.0.1") -> dict[str, str]:
    """Path -> text. ``alone``: it needs nobody but this host, and AMI at ``ami_host``; ``known``: registered telephones are looked up.

    ``sealed``: whether this host's systemd can keep it from all system calls but those it needs.
    """
    own = "" if ipaddress.ip_address(ami_host).is_loopback else f" {ami_host}"
    service = _SERVICE_TEXT.format(
        head=_HEAD,
        user=USER,
        version=version,
        command=_COMMAND,
        program=PROGRAM,
        state=STATE.rpartition("/")[2],
        run=RUN.rpartition("/")[2],
        reach=_ALONE.format(own=own) if alone else "",
        sealed=_SEALED if sealed else "",
    )
    if not known:
        service = "".join(line for line in service.splitlines(keepends=True) if not line.startswith("ExecStartPre="))
    return {SERVICE: service, **({KNOWN_SERVICE: _KNOWN_SERVICE_TEXT, KNOWN_TIMER: _KNOWN_TIMER_TEXT} if known else {})}
