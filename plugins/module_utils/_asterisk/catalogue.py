# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is set in sip.conf and pjsip.conf: the catalogue of a profile, changed by the inventory's settings and exceptions."""

from __future__ import annotations

__all__ = [
    "CONDITIONS",
    "EQUIVALENTS",
    "PROFILES",
    "SETTINGS",
    "ObjectException",
    "Satisfied",
    "Setting",
    "check_settings",
    "equivalents",
    "for_object",
    "override",
    "parse_exceptions",
    "wanted",
]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from .._sip.errors import OptionError
from . import options
from .settings import CONDITIONS, PROFILES, SETTINGS, Satisfied, Setting
from .settings._setting import line, shown

OWN = "own"  # the profile of a setting that the inventory gives
_WHY = "as the inventory says"
_KEYS = {"sip": "chan_sip", "pjsip": "pjsip"}
_OBJECTS = {"chan_sip": ("peer",), "pjsip": ("endpoint", "aor")}  # what an exception can be about

# Passwords belong into the configuration of the one object, not into a list of settings, a diff or a log.
# fmt: off
_SECRETS = frozenset((
    "auth", "md5_cred", "md5secret", "mwi", "oauth_clientid", "oauth_secret", "password", "password_digest",
    "refresh_token", "register", "remotesecret", "secret",
))
# fmt: on
# What makes an object the one it is; the same value for all of them is a mistake.
# fmt: off
_IDENTITY = frozenset((
    "aors", "bind", "callbackextension", "callerid", "cid_number", "contact", "defaultip", "defaultuser",
    "endpoint", "from_user", "fromuser", "fullname", "host", "mailbox", "mailboxes", "match", "match_header",
    "match_request_uri", "outbound_auth", "port", "protocol", "regexten", "username",
))
# fmt: on

# Values that older versions take for an error, and discard the whole object for. 16.28 does so, 22 does not.
_NEW_VALUES = {("transport", "method", "tlsv1_3"): (20, 0)}

# An option of chan_sip, and where PJSIP has the same: (scope, option).
EQUIVALENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "accountcode": (("endpoint", "accountcode"),),
    "allowoverlap": (("endpoint", "allow_overlap"),),
    "allowsubscribe": (("endpoint", "allow_subscribe"),),
    "allowtransfer": (("endpoint", "allow_transfer"),),
    "callgroup": (("endpoint", "call_group"),),
    "defaultexpiry": (("aor", "default_expiration"),),
    "directmedia": (("endpoint", "direct_media"),),
    "icesupport": (("endpoint", "ice_support"),),
    "maxexpiry": (("aor", "maximum_expiration"),),
    "minexpiry": (("aor", "minimum_expiration"),),
    "nat": (("endpoint", "force_rport"), ("endpoint", "rewrite_contact"), ("endpoint", "rtp_symmetric")),
    "pickupgroup": (("endpoint", "pickup_group"),),
    "promiscredir": (("endpoint", "redirect_method"),),
    "qualify": (("aor", "qualify_frequency"),),
    "qualifyfreq": (("aor", "qualify_frequency"),),
    "rtpholdtimeout": (("endpoint", "rtp_timeout_hold"),),
    "rtpkeepalive": (("endpoint", "rtp_keepalive"),),
    "rtptimeout": (("endpoint", "rtp_timeout"),),
    "sdpowner": (("endpoint", "sdp_owner"),),
    "sdpsession": (("endpoint", "sdp_session"),),
    "subscribecontext": (("endpoint", "subscribe_context"),),
    "trustrpid": (("endpoint", "trust_id_inbound"),),
    "usereqphone": (("endpoint", "user_eq_phone"),),
}


def wanted(
    profile: str, driver: str, version: tuple[int, int], host: options.Documented | None = None
) -> list[Setting]:
    """The settings of a profile that this driver of this version knows; none for chan_sip where there is none.

    :param host: what options.documented has read on the host.
    :raises OptionError: there is no such profile.
    """
    if profile not in PROFILES:
        raise OptionError("profile", shown(profile), f"one of {', '.join(PROFILES)} would be right")
    return [
        setting
        for setting in SETTINGS
        if setting.driver == driver
        and (profile == "strict" or setting.profile == "baseline")
        and (setting.kind == "guests" or setting.option in options.known(driver, setting.scope, version, host))
    ]


def check_settings(settings: object) -> dict[str, dict[str, dict[str, object]]]:
    """The option `settings` as {"sip" or "pjsip": {scope: {option: value}}}, empty parts left out.

    :raises OptionError: it has another shape.
    """
    checked: dict[str, dict[str, dict[str, object]]] = {}
    for key, part in _mapping(settings, "settings").items():
        if key not in _KEYS:
            raise OptionError("settings", shown(key), f"one of {', '.join(_KEYS)} would be right")
        scopes = options.SCOPES[_KEYS[key]]
        for scope, values in _mapping(part, f"settings.{key}").items():
            if scope not in scopes:
                raise OptionError(f"settings.{key}", shown(scope), f"one of {', '.join(scopes)} would be right")
            given = _mapping(values, f"settings.{key}.{scope}")
            if given:
                checked.setdefault(key, {})[scope] = given
    return checked


def override(
    settings: object,
    profile: Sequence[Setting],
    driver: str,
    version: tuple[int, int],
    host: options.Documented | None = None,
) -> list[Setting]:
    """The settings of a profile, as `wanted` gives them, changed to what the inventory's `settings` say for that driver.

    A value takes the place of the profile's, and nothing else is good enough then; the conditions of the catalogue still
    hold. None drops the setting. What is said for [general] of sip.conf leaves peers that say something else alone, unless
    it is said for `peer` too.

    :raises OptionError: an option is unknown to this version, or its value would be misunderstood.
    """
    result = {(setting.scope, setting.option): setting for setting in profile}
    key = "sip" if driver == "chan_sip" else "pjsip"
    # [general] first: what is said for peers is the last word about them.
    given = check_settings(settings).get(key, {})
    for scope in options.SCOPES[driver]:
        for name, value in given.get(scope, {}).items():
            where = f"settings.{key}.{scope}"
            option = _option(name, driver, scope, version, host, where)
            if option in _SECRETS or option == "type" or (option in _IDENTITY and scope not in ("general", "global")):
                _refuse(option, where)
            if driver == "chan_sip" and scope == "general":
                result.pop(("peer", option), None)
            if value is None:
                result.pop((scope, option), None)
            else:
                own = _own(driver, scope, option, value, f"{where}.{option}")
                if version < _NEW_VALUES.get((scope, option, own.value), version):
                    dotted = ".".join(str(part) for part in version)
                    raise OptionError(
                        f"{where}.{option}", shown(value), f"Asterisk {dotted} does not know the value yet"
                    )
                result[scope, option] = own
    return list(result.values())


def _option(
    name: object,
    driver: str,
    scope: str,
    version: tuple[int, int],
    host: options.Documented | None,
    where: str,
) -> str:
    """The catalogue's name of an option."""
    if isinstance(name, str) and driver == "pjsip" and scope == "endpoint" and name.strip().lower() == "guests":
        return "guests"
    checked = options.check(name, driver, scope, version, host, where)
    return _canonical(checked, driver)


def _canonical(option: str, driver: str) -> str:
    for setting in SETTINGS:
        if setting.driver == driver and option in setting.aliases:
            return setting.option
    return option


def _own(driver: str, scope: str, option: str, value: object, where: str, *, always: bool = False) -> Setting:
    """A setting the inventory gives. With `always` no condition holds it back."""
    setting = _template(driver, scope, option)
    read = setting.read(value, where)
    when = () if always else tuple(word for word in setting.when if word != "own_line")
    return replace(
        setting,
        value=",".join(read),
        values=read if setting.kind == "list" else (),
        profile=OWN,
        why=_WHY,
        source="",
        satisfied_by=Satisfied(),
        when=when,
    )


def _template(driver: str, scope: str, option: str) -> Setting:
    """The catalogue's setting of an option, or one made of what is known about it."""
    for setting in SETTINGS:
        if (setting.driver, setting.scope, setting.option) == (driver, scope, option):
            return setting
    for setting in SETTINGS:
        # chan_sip reads some options of [general] in the same way in a peer.
        if driver == "chan_sip" == setting.driver and setting.option == option:
            return replace(setting, id=f"sip.{scope}.{option}", scope=scope, when=())
    key = "sip" if driver == "chan_sip" else "pjsip"
    return Setting(
        f"{key}.{scope}.{option}",
        f"{key}.conf",
        scope,
        option,
        "",
        "",
        "",
        kind=options.option(option, driver, scope).kind,
        until=options.NO_CHAN_SIP if driver == "chan_sip" else None,
        reload="restart" if scope in ("transport", "system") else "module",
    )


def _refuse(option: str, where: str) -> None:
    """Raises OptionError, never with the value."""
    if option in _SECRETS:
        raise OptionError(where, option, "it holds or names a secret, which belongs into the configuration itself")
    raise OptionError(where, option, "it makes a section the one it is, and cannot be the same for many")


def _mapping(value: object, where: str) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise OptionError(where, shown(value), "a mapping is needed")
    return {str(key): each for key, each in value.items()}


# -- exceptions


@dataclass(frozen=True)
class ObjectException:
    """What is different for the objects of a name, or of a pattern such as trunk-*.

    `settings` are those of one driver: {(scope, option): the setting, or None where the object is left as it is}.
    """

    name: str
    settings: Mapping[tuple[str, str], Setting | None]

    def matches(self, name: str) -> bool:
        """Whether it is about that peer, endpoint or AOR."""
        return fnmatchcase(name, self.name)


def parse_exceptions(
    exceptions: object, driver: str, version: tuple[int, int], host: options.Documented | None = None
) -> list[ObjectException]:
    """The option `exceptions`, a list of {name, settings: {option: value}}, as it reads for that driver.

    Names of the other driver's options count as their equivalents; those that have none say nothing here.

    :raises OptionError: neither driver knows an option, or its value would be misunderstood.
    """
    if exceptions is not None and not isinstance(exceptions, (list, tuple)):
        raise OptionError("exceptions", shown(exceptions), "a list is needed")
    parsed = []
    for entry in exceptions or ():
        given = _mapping(entry, "exceptions")
        name = line(given.get("name"), "exceptions.name", empty=False)
        extra = sorted(set(given) - {"name", "settings"})
        if extra:
            raise OptionError("exceptions", shown(extra[0]), "name and settings would be right")
        where = f"exceptions.{name}"
        values = _mapping(given.get("settings"), where)
        if not values:
            raise OptionError("exceptions", shown(name), "its settings are needed, an option and its value each")
        found: dict[tuple[str, str], Setting | None] = {}
        for option, value in values.items():
            found.update(_exception(option, value, driver, version, host, where))
        parsed.append(ObjectException(name, found))
    return parsed


def _exception(
    name: str,
    value: object,
    driver: str,
    version: tuple[int, int],
    host: options.Documented | None,
    where: str,
) -> dict[tuple[str, str], Setting | None]:
    low = name.strip().lower()
    if low in _SECRETS or low == "type":
        _refuse(low, where)
    other = "pjsip" if driver == "chan_sip" else "chan_sip"
    here = [scope for scope in _OBJECTS[driver] if low in options.known(driver, scope, version, host)]
    if here:
        targets = [(here[0], _canonical(low, driver), value)]
    elif options.anywhere(low, other, _OBJECTS[other]) or (
        other == "chan_sip" and _canonical(low, other) in EQUIVALENTS
    ):
        targets = equivalents(low, value, driver)
    elif driver == "chan_sip" and _canonical(low, driver) in EQUIVALENTS:
        # PJSIP has it for single AORs, chan_sip only for all peers
        equivalents(low, value, other)
        targets = []
    else:
        # what this driver has nowhere, or not yet, or not for a single object
        for scope in _OBJECTS[driver]:
            if options.anywhere(low, driver, (scope,)):
                options.check(low, driver, scope, version, host, where)
        if options.anywhere(low, driver, options.SCOPES[driver]):
            raise OptionError(where, shown(name), "it cannot be said for a single peer, endpoint or AOR")
        raise _unknown(name, where)
    return {
        (scope, option): None if each is None else _own(driver, scope, option, each, f"{where}.{name}", always=True)
        for scope, option, each in targets
        if scope in _OBJECTS[driver] and option in options.known(driver, scope, version, host)
    }


def _unknown(name: str, where: str) -> OptionError:
    import difflib

    names: set[str] = set()
    for driver, scopes in _OBJECTS.items():
        for scope in scopes:
            names |= options.known(driver, scope, (20, 0))
    near = difflib.get_close_matches(name.lower(), sorted(names), n=3)
    hint = f"; {' or '.join(near)} may be meant" if near else ""
    return OptionError(where, shown(name), f"neither a peer of chan_sip nor an endpoint or AOR of PJSIP has it{hint}")


def equivalents(option: str, value: object, driver: str) -> list[tuple[str, str, object]]:
    """An option of the other driver as `driver` says it: (scope, option, value) each, empty where it has none.

    None, which leaves an option as it is, stays None. A value that the other driver would misunderstand raises OptionError.
    """
    if driver == "pjsip":
        option = _canonical(option, "chan_sip")
        told = None if value is None else _template("chan_sip", "peer", option).check(value, option)
        return [(scope, name, _to_pjsip(option, name, told)) for scope, name in EQUIVALENTS.get(option, ())]
    found: list[tuple[str, str, object]] = []
    for name, there in EQUIVALENTS.items():
        if len(there) == 1 and there[0][1] == option:
            told = None if value is None else _template("pjsip", *there[0]).check(value, option)
            said = _to_chan_sip(name, told)
            if said is not None or value is None:
                found.append(("peer", name, said))
    return found


def _to_pjsip(option: str, name: str, value: str | None) -> str | None:
    """A value of chan_sip, already checked, in PJSIP's words."""
    if value is None:
        return None
    if option == "qualify":
        return "0" if value == "no" else "60"  # how often chan_sip asks; its own number is how long it waits
    if option == "nat":
        word = "comedia" if name == "rtp_symmetric" else "force_rport"
        return "yes" if {word, f"auto_{word}"} & set(value.split(",")) else "no"
    if option == "promiscredir":
        return "uri_core" if value == "yes" else "user"
    if option in ("allowoverlap", "directmedia"):
        return "no" if value == "no" else "yes"
    return value


def _to_chan_sip(option: str, value: str | None) -> str | None:
    """A value of PJSIP, already checked, in chan_sip's words; None where it has none."""
    if value is None:
        return None
    if option == "qualify":
        return "no" if value == "0" else "yes"
    if option == "qualifyfreq":
        return None if value == "0" else value
    if option == "promiscredir":
        return "no" if value == "user" else "yes"
    return value


def for_object(
    settings: Iterable[Setting], exceptions: Iterable[ObjectException], scope: str, name: str
) -> list[Setting]:
    """The settings of a peer, endpoint or AOR of that name. Where several exceptions match, the last says it."""
    result = {setting.option: setting for setting in settings if setting.scope == scope}
    for exception in exceptions:
        if exception.matches(name):
            for (where, option), setting in exception.settings.items():
                if where == scope and setting is None:
                    result.pop(option, None)
                elif where == scope and setting is not None:
                    result[option] = setting
    return list(result.values())
