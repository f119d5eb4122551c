# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds as an inventory names them, in the form that sipguard_feeds and sip_feed want."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.feed import APIBAN, KINDS, URL

_SHORT = [kind for kind in KINDS if kind != URL]


def feed_options(feeds: str | Sequence[object], **defaults: Any) -> list[dict[str, Any]]:
    """Each feed as a dictionary. A short form is a kind that is also the name; a text with commas is a list of these.

    ``defaults`` hold for what a feed does not say.
    """
    found = []
    for feed in [word.strip() for word in feeds.split(",")] if isinstance(feeds, str) else feeds:
        if isinstance(feed, str) and feed in _SHORT:
            found.append({**defaults, "name": feed, "kind": feed})
        elif isinstance(feed, Mapping):
            found.append({**defaults, **feed})
        else:
            short = ", ".join(_SHORT)
            raise AnsibleFilterError(
                f"pbx_blocklists_feeds: {feed!r} cannot be used; one of {short}, or a dictionary with name and kind, would be right"
            )
    return found


def feed_keys(feeds: Sequence[Mapping[str, Any]], keys: Mapping[str, str], apiban_key: str = "") -> dict[str, str]:
    """The key of each feed that has one: its own, else that for all of APIBAN's kind."""
    found = {}
    for feed in feeds:
        name = str(feed.get("name"))
        if name in keys:
            found[name] = keys[name]
        elif feed.get("kind") == APIBAN and apiban_key:
            found[name] = apiban_key
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {function.__name__: function for function in (feed_options, feed_keys)}
