# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._sip.errors import OptionError
from ansible_collections.sipguard.pbx.plugins.module_utils._sip.methods import METHODS, parse_method


@pytest.mark.parametrize("method", METHODS)
def test_parse_method_takes_any_case(method: str) -> None:
    assert {parse_method(text, "methods") for text in (method, method.lower(), f" {method.title()} ")} == {method}


def test_no_method_is_named_twice_or_begins_like_another() -> None:
    """They are recognised by how a request begins."""
    assert len(set(METHODS)) == len(METHODS) == 14
    assert [one for one in METHODS for other in METHODS if one != other and one.startswith(other)] == []


@pytest.mark.parametrize(
    "name", ["REGISTRE", "GET", "", " ", "REGISTER INVITE", "INVITE\nBYE", "any", 5, None, ["REGISTER"]]
)
def test_parse_method_refuses(name: object) -> None:
    with pytest.raises(OptionError, match="a method of SIP would be right: REGISTER, INVITE, ") as error:
        parse_method(name, "methods")
    assert (error.value.option, error.value.value) == ("methods", name)
