# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX's own settings: what is asked for, checked and compared with what FreePBX has, written, read back and applied.

Sections are `sipsettings`, `chan_sip`, `advanced` and `firewall`, see freepbx_api.py. A key of `sipsettings` or `firewall` that is not
stored has the default of the module, and FreePBX uses it. What is not stored of `chan_sip` is not written to sip.conf, whatever the
page shows (sipsettings, functions.inc.php).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .._sip.errors import OptionError, SipguardError
from . import freepbx_transports
from .freepbx import FreePBX
from .freepbx_api import SECTIONS, Api, Settings
from .runner import Runner

__all__ = ["FIREWALL_DEFAULTS", "Applied", "apply", "diff_text", "restore"]

_YES_NO = ("yes", "no")
_CAPITAL = ("Yes", "No")
Kind = Any  # "text", "number", "list", "dict", or a tuple of the words that are possible

# Keys of the store, from sipsettings: Sipsettings.class.php, install.php and the pages' forms; their words as the page saves them.
_SIPSETTINGS: dict[str, Kind] = {
    "allowguest": _YES_NO,
    "allowanon": _CAPITAL,
    "rtpchecksums": _CAPITAL,
    "strictrtp": _CAPITAL,
    "rtpstart": "number",
    "rtpend": "number",
    "externip": "text",
    "stunaddr": "text",
    "localnets": "list",
    "binds": "dict",
    "pjsip_identifers_order": "list",
    "pjsip_allow_reload": _YES_NO,
    "pjsip_debug": _YES_NO,
    "pjsip_keep_alive_interval": "number",
    "pjsipcertid": "text",
    "method": ("default", "unspecified", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "sslv2", "sslv3", "sslv23"),
    "verify_client": _YES_NO,
    "verify_server": _YES_NO,
}
_ALLOW_RELOAD = "pjsip_allow_reload"
# One of these for every address of `binds`.
_PER_BIND = re.compile(r"(udp|tcp|tls|ws|wss)(port|extport|domain|extip|localnet)-[0-9A-Fa-f.:\[\]]{2,50}")

# Sipsettings.class.php, getChanSipDefaults() and enableTls(), without those that are only of the page.
_CHAN_SIP: dict[str, Kind] = {
    **dict.fromkeys(
        ("allowguest", "tcpenable", "tlsenable", "tlsdontverifyserver", "srvlookup", "callevents", "videosupport"),
        _YES_NO,
    ),
    **dict.fromkeys(("notifyringing", "notifyhold", "jbenable", "jbforce", "jblog", "g726nonstandard"), _YES_NO),
    **dict.fromkeys(
        ("rtptimeout", "rtpholdtimeout", "rtpkeepalive", "checkmwi", "registertimeout", "registerattempts"), "number"
    ),
    **dict.fromkeys(("minexpiry", "maxexpiry", "defaultexpiry", "maxcallbitrate", "externrefresh"), "number"),
    **dict.fromkeys(("bindport", "tlsbindport", "jbmaxsize", "jbresyncthreshold"), "number"),
    **dict.fromkeys(
        ("context", "bindaddr", "tlsbindaddr", "nat", "nat_mode", "canreinvite", "t38pt_udptl", "jbimpl"), "text"
    ),
    **dict.fromkeys(("tlsclientmethod", "csipcertid", "callerid", "externip_val", "externhost_val"), "text"),
}

_SWITCH = ("enabled", "disabled")
# firewall: Firewall.class.php, getAdvancedSettings(): what is possible, and what counts where nothing is stored.
_FIREWALL: dict[str, Kind] = {
    **dict.fromkeys(("safemode", "masq", "lefilter", "customrules", "rejectpackets", "id_service"), _SWITCH),
    "id_sync_fw": ("enabled", "disabled", "legacy"),
    "import_hosts": _SWITCH,
}
FIREWALL_DEFAULTS = {key: "disabled" if key in ("customrules", "rejectpackets") else "enabled" for key in _FIREWALL}

# What would show a secret in the result, or cut FreePBX off from its own database or manager.
_SECRET = re.compile(r"AMPDB|AMPMGR|ASTMANAGER|PASS|SECRET|TOKEN|CRED|HASH|API_?KEY", re.IGNORECASE)


@dataclass(frozen=True)
class Applied:
    """What came of it. ``before`` and ``after`` have the shape of the settings that were asked for; None is "not stored".

    ``transports`` are the settings that have changed and that Asterisk does not follow when they are applied.
    """

    changed: bool
    before: Settings
    after: Settings
    reloaded: bool
    transports: tuple[str, ...] = ()


def apply(
    freepbx: FreePBX,
    runner: Runner,
    settings: Mapping[str, Any],
    *,
    reload: bool,
    check: bool,
    before_reload: Callable[[], None] = lambda: None,
) -> Applied:
    """Make FreePBX's settings what ``settings`` says: section -> key -> value; None removes what is stored, so its default counts again.

    Raises OptionError for a section, key or value that FreePBX does not have, SipguardError when FreePBX fails or the values did not
    arrive; the earlier values are back then. ``before_reload`` is called where FreePBX is going to generate its files, and nothing has
    been changed if that fails.
    """
    wanted = _checked(settings)
    api = Api(freepbx, runner)
    try:
        state = _read(api, {**wanted, "sipsettings": {**wanted["sipsettings"], **_besides(wanted["sipsettings"])}})
    except SipguardError as error:
        raise SipguardError(f"{error}; nothing was changed") from None
    wanted["advanced"] = {
        key: _advanced(key, value, state["advanced"][key]) for key, value in wanted["advanced"].items()
    }
    before = {section: {key: _stored(section, state[section][key]) for key in keys} for section, keys in wanted.items()}
    changes: Settings = {
        section: {key: value for key, value in keys.items() if not _is(section, state[section][key], value)}
        for section, keys in wanted.items()
    }
    after = {section: {**before[section], **changes[section]} for section in wanted}
    differs = any(changes.values())
    pending = reload and state["need_reload"]
    reloads = reload and not check and (differs or pending)
    if reloads:
        before_reload()
    if not check and (differs or pending):
        _carry_out(api, changes, before, differs=differs, reload=reload)
    return Applied(
        differs or pending,
        _asked(before, settings),
        _asked(after, settings),
        reloads,
        tuple(f"FreePBX sipsettings.{key}" for key in _kept(changes["sipsettings"], state["sipsettings"])),
    )


def _besides(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is looked at as well, because it decides whether Asterisk follows a change of a transport."""
    return {_ALLOW_RELOAD: None} if freepbx_transports.keys(wanted) else {}


def _kept(changes: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Keys of a transport that have changed, unless Asterisk may reload transports."""
    found = freepbx_transports.keys(changes)
    allowed = changes.get(_ALLOW_RELOAD, state[_ALLOW_RELOAD]["value"]) if found else ""
    return [] if allowed == "yes" else found


def _read(api: Api, keys: Settings) -> dict[str, Any]:
    """What FreePBX has of these settings. Raises SipguardError."""
    state = api.read(keys)
    for key in keys.get("firewall", {}):
        found = state["firewall"][key]
        if found is None:
            raise OptionError("settings.firewall", key, "this FreePBX has no firewall module")
        if not found["stored"]:
            found["value"] = FIREWALL_DEFAULTS[key]
    return state


def _carry_out(api: Api, changes: Settings, before: Settings, *, differs: bool, reload: bool) -> None:
    """Write, read back by a process of its own, reload; on any doubt the earlier values again."""
    if not differs:
        api.reload()
        return
    try:
        api.write(changes)
        read = _read(api, changes)
        lost = [
            f"{section}.{key}"
            for section, keys in changes.items()
            for key, value in keys.items()
            if not _is(section, read[section][key], value)
        ]
        if lost:
            raise SipguardError(f"FreePBX did not take the value of {', '.join(lost)}")
        if reload:
            api.reload()
    except SipguardError as error:
        back = {section: {key: before[section][key] for key in keys} for section, keys in changes.items()}
        raise SipguardError(f"{error}; {_put_back(api, back)}") from None


def _put_back(api: Api, back: Settings) -> str:
    """The earlier values again, and a few words about them: a transaction does not cover every kind of table."""
    try:
        read = _read(api, back)
        if all(
            _stored(section, read[section][key]) == value
            for section, keys in back.items()
            for key, value in keys.items()
        ):
            return "nothing was changed"
        api.write(back)
    except SipguardError:
        return "and the earlier settings could not be put back"
    return "the earlier settings are back, to be applied with `fwconsole reload`"


def restore(freepbx: FreePBX, runner: Runner, before: Settings) -> bool:
    """Make FreePBX's settings what `apply` found `before`, also where an inventory may not ask for such a value; whether they differed.

    Each section is written by itself, and what has to be applied is. Raises SipguardError, after everything that could be done has been.
    """
    api = Api(freepbx, runner)
    state = api.read(before)
    problems = []
    written: Settings = {}
    for section, keys in before.items():
        # FreePBX ends at once when it is to write a setting that it has no more, and nothing else is written then.
        gone = [key for key in keys if state[section][key] is None]
        problems += [f"{section}.{key} is no setting of this FreePBX any more" for key in gone]
        values = {
            key: value
            for key, value in keys.items()
            if key not in gone and _stored(section, state[section][key]) != value
        }
        if values:
            try:
                api.write({section: values})
                written[section] = values
            except SipguardError as error:
                problems.append(f"{section}: {error}")
    if written:
        state = api.read(written)
        problems += [
            f"FreePBX did not take back the value of {section}.{key}"
            for section, keys in written.items()
            for key, value in keys.items()
            if _stored(section, state[section][key]) != value
        ]
    # Its firewall looks for itself what it is told to do. What else waits to be applied may be another's, unless settings are ours.
    pending = bool(state["need_reload"] and any(keys for section, keys in before.items() if section != "firewall"))
    if pending:
        try:
            api.reload()
        except SipguardError as error:
            problems.append(str(error))
    if problems:
        raise SipguardError(f"FreePBX's settings: {'; '.join(problems)}")
    return bool(written) or pending


def _asked(values: Settings, settings: Mapping[str, Any]) -> Settings:
    return {section: values[section] for section in SECTIONS if section in settings}


def diff_text(values: Settings) -> str:
    """Settings as lines, for a difference."""
    lines = [
        f"{section}.{key} = {json.dumps(value, ensure_ascii=True, sort_keys=True)}\n"
        for section, keys in values.items()
        for key, value in keys.items()
    ]
    return "".join(lines)


def _checked(settings: Mapping[str, Any]) -> Settings:
    """Every section, with values as FreePBX stores them. Advanced settings wait for what FreePBX knows of them."""
    for section, keys in settings.items():
        if section not in SECTIONS:
            raise OptionError("settings", section, f"sections are {', '.join(SECTIONS)}")
        if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys):
            raise OptionError(
                f"settings.{section}", "a value that is no dictionary", "names and their values are needed"
            )
    wanted: Settings = {section: dict(settings.get(section, {})) for section in SECTIONS}
    for section, known in (("sipsettings", _SIPSETTINGS), ("chan_sip", _CHAN_SIP), ("firewall", _FIREWALL)):
        for key, value in wanted[section].items():
            name = f"settings.{section}.{key}"
            kind = known.get(key)
            if section == "sipsettings" and _PER_BIND.fullmatch(key):
                kind = "number" if "port-" in key else "text"
            if kind is None:
                others = (
                    " (other options of chan_sip belong in sip_general_custom.conf)" if section == "chan_sip" else ""
                )
                raise OptionError(f"settings.{section}", key, f"names are {', '.join(sorted(known))}{others}")
            wanted[section][key] = None if value is None else _value(name, value, kind)
    for key in wanted["advanced"]:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,49}", key):
            raise OptionError("settings.advanced", key, "names are letters, digits and underscores")
        if _SECRET.search(key):
            raise OptionError("settings.advanced", key, "FreePBX's own credentials are not managed here")
    return wanted


def _value(name: str, value: Any, kind: Kind) -> Any:
    """As FreePBX stores it: text, or a list or dictionary of text. Raises OptionError."""
    if kind in ("list", "dict"):
        if not isinstance(value, list if kind == "list" else dict):
            raise OptionError(name, value, "a list is needed" if kind == "list" else "a dictionary is needed")
        return _texts(name, value)
    if isinstance(value, bool):
        words = kind if isinstance(kind, tuple) else _YES_NO
        meant = ("yes", "enabled") if value else ("no", "disabled")
        value = next((word for word in words if word.lower() in meant), str(value))
    text = _line(name, value)
    if isinstance(kind, tuple):
        found = next((word for word in kind if word.lower() == text.lower()), None)
        if found is None:
            raise OptionError(name, value, f"it is one of {', '.join(kind)}")
        return found
    if kind == "number" and not re.fullmatch(r"[0-9]{1,9}", text):
        raise OptionError(name, value, "a whole number is needed")
    return text


def _texts(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(name, each) for each in value]
    if isinstance(value, dict):
        return {_line(name, key): _texts(name, each) for key, each in value.items()}
    return _line(name, value)


def _line(name: str, value: Any) -> str:
    """One line of text: FreePBX writes the value into a configuration file as it is, where a second line would be one of its own."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise OptionError(name, value, "text or a whole number is needed")
    text = str(value)
    if re.search(r"[\x00-\x1f\x7f]", text) or (not text.isascii() and _surrogate(text)):
        raise OptionError(name, value, "one line of text without control characters is needed")
    return text


def _surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _advanced(key: str, value: Any, info: Mapping[str, Any] | None) -> Any:
    """What `set_conf_values` is to be given, from what FreePBX says of the setting. None is its default. Raises OptionError."""
    name = f"settings.advanced.{key}"
    if info is None:
        raise OptionError(
            "settings.advanced", key, "this FreePBX has no advanced setting of this name (`fwconsole setting --list`)"
        )
    kind = info["type"]
    if value is None:
        value = info["default"]
        if kind == "bool":
            return _true(value)
    if kind == "bool":
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in words:
            raise OptionError(name, value, "true or false is needed")
        return words[str(value).lower()]
    if kind == "textarea" and isinstance(value, str) and "\x00" not in value and not _surrogate(value):
        return value
    text = _line(name, value)
    if not text and not info["emptyok"]:
        raise OptionError(name, value, "it cannot be empty")
    options = info["options"]
    if kind == "select" and text not in options.split(","):
        raise OptionError(name, value, f"it is one of {', '.join(options.split(','))}")
    if kind == "int" and text:
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise OptionError(name, value, "a whole number is needed")
        lowest, dummy, highest = options.partition(",")
        if options and not int(lowest) <= int(text) <= int(highest):
            raise OptionError(name, value, f"a number from {lowest} to {highest} is needed")
    return text


def _true(value: Any) -> bool:
    """A bool of the table freepbx_settings, which holds 0 and 1."""
    return str(value).lower() in ("1", "true")


def _stored(section: str, read: Mapping[str, Any]) -> Any:
    """What a later run would have to be given to restore it."""
    if not read["stored"]:
        return None
    value = read["value"]
    if section == "advanced":
        return _true(value) if read["type"] == "bool" else "" if value is None else str(value)
    return value if isinstance(value, (list, dict)) else "" if value is None else str(value)


def _is(section: str, read: Mapping[str, Any], wanted: Any) -> bool:
    """Whether FreePBX has it already. Of a store's missing key its default counts, of chan_sip's nothing does."""
    if wanted is None:
        return not read["stored"]
    value = read["value"]
    if section == "advanced":
        return bool(_stored(section, read) == wanted)
    if isinstance(wanted, (list, dict)):
        return bool(value == wanted) or (not value and not wanted and isinstance(value, (list, dict)))
    return not isinstance(value, (list, dict, bool)) and value is not None and str(value) == wanted
