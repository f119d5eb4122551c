# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import yaml

from ansible_collections.sipguard.pbx.plugins.modules import sip_host_info, sipguard_host
from tests.unit.plugins.hosts import BareHost


def test_sip_host_info_returns_what_it_documents(host: BareHost) -> None:
    result = host.run_module("sip_host_info", {})
    documented = yaml.safe_load(sip_host_info.RETURN)
    assert result.keys() - {"invocation"} == documented.keys() | {"changed"}
    kinds = {"str": str, "list": list, "bool": bool}
    assert all(isinstance(result[name], kinds[part["type"]]) for name, part in documented.items())
    assert result["changed"] is False
    assert host.refused == []


def test_sip_host_info_takes_no_options(host: BareHost) -> None:
    assert "Unsupported parameters" in host.run_module("sip_host_info", {"state": "present"})["msg"]


def test_sipguard_host_says_in_check_mode_what_it_would_do(host: BareHost) -> None:
    result = host.run_module("sipguard_host", {}, check=True)
    documented = yaml.safe_load(sipguard_host.RETURN).keys()
    assert result.keys() - {"invocation"} == documented | {"changed", "diff"}
    assert re.fullmatch("[0-9a-f]{12}", result["version"])
    assert f"/usr/local/lib/sipguard ({result['version']})\n" in result["diff"]["after"]
    assert result["changed"] is (result["diff"]["before"] != result["diff"]["after"])
    assert (host.read, host.refused) == ([], [])


def test_sipguard_host_refuses_an_unknown_state(host: BareHost) -> None:
    assert "present, absent" in host.run_module("sipguard_host", {"state": "latest"})["msg"]
