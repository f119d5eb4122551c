# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that are guessed soon, and names that are guessed at once. No secret, and nothing made from one, ever leaves this file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..tree import Place, fold
from . import objects
from .context import Context, Section, loopback
from .finding import CRITICAL, HIGH, INFO, LOW, MEDIUM, Findings, kind

__all__ = ["Secret", "causes", "check", "is_freepbx_own"]

WEAK = kind(
    "weak-secret",
    HIGH,
    "A secret that will be guessed",
    "Scanners try names with the secrets that people choose, thousands a minute; a registration found that way dials out within the hour.",
    "Use a random secret of at least 16 characters, another for each phone.",
)
SHARED = kind(
    "shared-secret",
    MEDIUM,
    "Endpoints have the same secret",
    "Whoever takes it from one phone has all of them.",
    "Give each endpoint a random secret of its own.",
)
HASHED = kind(
    "secret-hashed",
    INFO,
    "Secrets that cannot be judged",
    "md5secret, md5_cred and password_digest hold a digest; whether the secret behind it is weak cannot be seen.",
    "Make sure that they come from random secrets.",
)
MANAGER = kind(
    "manager-weak-secret",
    HIGH,
    "An AMI or ARI user with a secret that will be guessed",
    "Whoever has an AMI or ARI user makes calls and, with most rights, runs programs on the host.",
    "Use a random secret of at least 20 characters.",
)
VOICEMAIL = kind(
    "voicemail-default-password",
    MEDIUM,
    "A mailbox with a password that everybody tries first",
    "Mailboxes are opened from outside, and from there calls and call-backs are made.",
    "Use a random number of at least 6 digits. A leading - in voicemail.conf forbids the user to change it.",
)
NAMES = kind(
    "guessable-name",
    LOW,
    "Endpoints whose names every scanner tries",
    "Scanners begin with 100 to 999 and words such as admin or test. A name that nobody guesses is half of the defence.",
    "Name endpoints apart from extensions, for instance by the phone's MAC address.",
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMMON = _words(
    """
    password passw0rd p4ssw0rd password1 password123 passwd secret secret123 asterisk freepbx trixbox elastix
    issabel vicidial pbx sip voip phone telephone letmein welcome changeme change_me changethis default admin
    administrator root toor user guest test test123 testtest tester qwerty qwerty123 qwertyuiop asdf asdfgh
    asdfghjkl zxcvbn abc123 abcd1234 a1b2c3d4 1q2w3e 1q2w3e4r 1q2w3e4r5t 1qaz2wsx q1w2e3r4 iloveyou monkey
    dragon master superman batman football baseball sunshine princess login access amp111 amp109 eventum
    mysecret mypassword yourpassword unsecurepassword supersecret topsecret god love sex money temp temp123
    operator manager cisco polycom grandstream yealink snom linksys office company server system support service
    internet digium sangoma 3cx fanvil mitel avaya fpbxfirewall*secret
    """
)
# secrets and words of Asterisk's sample files and of its documentation
_PLACEHOLDERS = _words(
    """
    mysecret mysecretpassword verysecret supersecret unsecurepassword blah blahblah secret5 secretpassword
    insertsecret yourpassword your_password your_secret yoursecret password_here insert_password replace_me
    replaceme changeme xxx xxxx xxxxxx xxxxxxxx foobar foo bar peekaboo topsecret welcome 6001 6002 mypassword
    cisco123 testing 1234password somepassword
    """
)
_NAMES = _words(
    """
    admin test user phone sip voip guest demo office fax operator reception asterisk pbx trunk default support
    info
    """
)
# words that people begin a secret with, in German and English
_BASES = _words(
    """
    passwort password kennwort passwd pass secret geheim geheimnis schluessel schlüssel key zugang anmeldung benutzer
    nutzer gast telefon telephone phone handy mobil mobile anlage telefonanlage vermittlung zentrale durchwahl nebenstelle
    extension buero büro office firma company empfang reception werkstatt lager verkauf sales support service technik
    chef boss buchhaltung sekretariat praxis kanzlei hotel schule school server netzwerk network internet computer rechner
    router system start neu test demo hallo hello willkommen welcome danke bitte schatz liebe love baby sonne sunshine
    stern mond blume flower engel angel teufel hund katze pferd tiger loewe drache dragon adler eagle monkey
    fussball fußball football soccer bayern borussia schalke ferrari porsche mercedes batman superman pokemon
    sommer summer winter fruehling frühling spring herbst autumn fall januar january februar february maerz märz march
    april mai may juni june juli july august september oktober october november dezember december
    montag monday dienstag tuesday mittwoch wednesday donnerstag thursday freitag friday samstag saturday sonntag sunday
    deutschland germany oesterreich österreich austria schweiz berlin hamburg muenchen münchen koeln köln frankfurt
    stuttgart wien vienna zuerich zürich london michael thomas andreas stefan peter martin daniel sandra anna maria
    admin root user guest login access master change changeme letmein asterisk freepbx trixbox pbx sip voip trunk
    cisco polycom grandstream yealink snom digium sangoma mitel avaya fanvil qwertz qwerty
    """
)
_LONGEST = max(map(len, _BASES))
_LEET = str.maketrans("@4031$5789!", "aaoeisstbgi")
_LEET_L = str.maketrans("@4031$5789!", "aaoelsstbgl")
# rows, columns and zigzags of the keyboard, in German and English
_KEYBOARD = (
    "qwertyuiop",
    "qwertzuiopü",
    "asdfghjklöä",
    "zxcvbnm",
    "yxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1qay2wsx3edc4rfv5tgb6zhn7ujm8ik9ol0p",
    "qazwsxedcrfvtgbyhnujmikolp",
    "qaywsxedcrfvtgbzhnujmikolp",
    "1q2w3e4r5t6y7u8i9o0p",
    "1q2w3e4r5t6z7u8i9o0p",
    "q1w2e3r4t5y6u7i8o9p0",
    "q1w2e3r4t5z6u7i8o9p0",
    "!@#$%^&*()",
    '!"§$%&/()=',
)
# FreePBX's firewall logs in to the AMI with these on every host; its install.php puts them back (firewall 17.0.1.13).
_FREEPBX_OWN = ("firewall", "fpbxfirewall*secret")
# as many guesses as six characters that nobody can guess
_ENOUGH = 6.0
_SEQUENCES = (
    "01234567890123456789",
    "98765432109876543210",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
)


def _runs() -> dict[str, float]:
    """Every part of a sequence (three characters) or of a row of keys (four), forwards and backwards, and what it is worth."""
    made: dict[str, float] = {}
    for rows, least, worth in ((_KEYBOARD, 4, 1.5), (_SEQUENCES, 3, 1.0)):
        for row in (*rows, *(each[::-1] for each in rows)):
            for begin in range(len(row)):
                for end in range(begin + least, len(row) + 1):
                    made[row[begin:end]] = worth
    return made


_RUNS = _runs()


@dataclass(frozen=True)
class Secret:
    """A secret with whose it is. ``names``: what it must not hold. Its representation never shows it."""

    subject: str
    place: Place
    names: tuple[str, ...]
    value: str

    def __repr__(self) -> str:
        return f"Secret(of {self.subject!r} at {self.place})"


def check(context: Context, findings: Findings) -> None:
    secrets = list(_endpoints(context, findings))
    holders: dict[str, list[Secret]] = {}
    for secret in secrets:
        for cause in causes(secret, context):
            findings.add(WEAK, secret.subject, secret.place, detail=cause)
        if secret.value:
            holders.setdefault(secret.value, []).append(secret)
    for group in holders.values():
        subjects = {each.subject for each in group}
        if len(subjects) > 1:
            for each in group:
                findings.add(SHARED, each.subject, each.place)
    _managers(context, findings)
    _voicemail(context, findings)
    _guessable(context, findings)


def causes(secret: Secret, context: Context) -> Iterator[str]:
    """Why a secret is weak, in words that tell no more than that: the worst reason alone."""
    value = secret.value
    low = value.lower()
    if not value.strip():
        yield "it is empty"
    elif low in _PLACEHOLDERS or re.fullmatch(r"<[^>]*>|\$\{.*\}|\{\{.*\}\}|(.)\1*", low):
        yield "it is a placeholder, or one character again and again"
    elif any(_holds(value, name, context.min_secret_length) for name in secret.names if name):
        yield "it is, or holds, its own name"
    elif low in _COMMON or low in context.common_secrets or re.sub(r"[\d!.@#$_-]{1,6}$", "", low) in _COMMON:
        yield "it is in a list of common secrets"
    elif len(value) >= 3 and any(low in sequence for sequence in _SEQUENCES):
        yield "it is a sequence"
    elif len(value) < context.min_secret_length:
        yield f"it has fewer than {context.min_secret_length} characters"
    elif len(set(value)) < 5 or (_classes(value) < 2 and (value.isdigit() or len(value) < 20)):
        yield "it has too few kinds of characters"
    elif _effort(low) < _ENOUGH:
        yield "it is made of common words, years, repetitions or rows of the keyboard"


def is_freepbx_own(context: Context, user: Section) -> bool:
    """Whether an AMI user is the one of FreePBX's firewall, whose secret is everywhere the same and nobody's to choose."""
    return context.freepbx and (user.name, user.value("secret")) == _FREEPBX_OWN


def _holds(value: str, name: str, least: int) -> bool:
    """Whether a name is what a secret is made of; a long random one may hold three digits by chance."""
    low, name = value.lower(), name.lower()
    return low == name or (len(name) > 2 and name in low and len(low) - len(name) < least)


def _effort(low: str) -> float:
    """How many characters that nobody can guess a secret is worth, at the least.

    A word, a row of keys and a year are worth about one, what has been there before less.
    """
    low = low[:128]
    readings = (low, low.translate(_LEET), low.translate(_LEET_L))
    best = [0.0] + [float(len(low))] * len(low)
    for at in range(len(low)):
        here = best[at]
        single = 0.5 if not low[at].isalnum() or (at and low[at] == low[at - 1]) else 1.0
        best[at + 1] = min(best[at + 1], here + single)
        for length in range(3, min(len(low) - at, 36) + 1):
            piece = low[at : at + length]
            cost = None
            if piece in low[:at]:
                cost = 0.5
            elif length <= _LONGEST and any(each[at : at + length] in _BASES for each in readings):
                cost = 1.5
            elif piece in _RUNS:
                cost = _RUNS[piece]
            elif length == 4 and re.fullmatch(r"(?:19|20)\d\d", piece):
                cost = 1.0
            if cost is not None:
                best[at + length] = min(best[at + length], here + cost)
    return best[-1]


def _classes(value: str) -> int:
    return sum(bool(re.search(each, value)) for each in (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^a-zA-Z0-9]"))


def _endpoints(context: Context, findings: Findings) -> Iterator[Secret]:
    """The secrets that phones say to us. Those that we say to a provider are the provider's choice."""
    if context.chan_sip:
        for peer in objects.sip_peers(context):
            if peer.value("md5secret"):
                findings.add(HASHED, peer.name, peer.where("md5secret"))
            elif peer.value("secret") and objects.sip_is_open(peer):
                names = (peer.name, *_own_names(peer, "defaultuser", "username", "mailbox"))
                yield Secret(peer.name, peer.where("secret"), names, peer.value("secret"))
    if context.pjsip:
        yield from _pjsip(context, findings)
    if context.iax:
        for user in context.sections("iax.conf"):
            if fold(user.value("type")) in ("user", "friend") and user.value("secret"):
                # several are separated by semicolons or commas
                for value in re.split(r"[;,]", user.value("secret")):
                    yield Secret(user.name, user.where("secret"), (user.name,), value)
    if not context.version or context.version[0] < 21:
        for user in context.sections("users.conf"):
            if fold(user.name) != "general" and user.value("secret"):
                yield Secret(user.name, user.where("secret"), (user.name,), user.value("secret"))


def _own_names(section: Section, *options: str) -> tuple[str, ...]:
    return tuple(section.value(option).partition("@")[0] for option in options if section.value(option))


def _pjsip(context: Context, findings: Findings) -> Iterator[Secret]:
    made = objects.pjsip(context)
    used: dict[str, list[str]] = {}
    for name, auths in made.inbound_auths.items():
        for auth in auths:
            used.setdefault(auth.name, []).append(name)
    outbound = {
        name.strip()
        for kinds in ("endpoint", "registration")
        for each in made.of(kinds)
        for variable in each.all("outbound_auth")
        for name in variable.value.split(",")
    }
    for auth in made.of("auth"):
        if auth.name in outbound and auth.name not in used:
            continue
        hashed = auth.last("md5_cred", "password_digest")
        if hashed is not None:
            findings.add(HASHED, auth.name, hashed.place)
        elif fold(auth.value("auth_type", default="userpass")) in ("userpass", "md5", "digest"):
            holders = used.get(auth.name, [])
            names = (auth.name, auth.value("username"), *holders[:8])
            yield Secret(auth.name, auth.where("password"), names, auth.value("password"))


def _managers(context: Context, findings: Findings) -> None:
    """AMI and ARI users. With a loopback address alone somebody has to be on the host already."""
    settings = context.first("manager.conf")
    if settings.true("enabled"):
        exposed = not loopback(settings.value("bindaddr", default="0.0.0.0"))
        for user in context.sections("manager.conf"):
            # of FreePBX's own the ACL is looked at instead, in freepbx.py
            if fold(user.name) != "general" and user.last("secret") and not is_freepbx_own(context, user):
                secret = Secret(user.name, user.where("secret"), (user.name,), user.value("secret"))
                for cause in causes(secret, context):
                    findings.add(
                        MANAGER,
                        f"manager user {user.name}",
                        secret.place,
                        detail=cause,
                        severity=CRITICAL if exposed else HIGH,
                    )
    if not context.first("ari.conf").true("enabled", True) or not context.first("http.conf").true("enabled"):
        return
    exposed = not loopback(context.first("http.conf").value("bindaddr"))
    for user in context.sections("ari.conf"):
        if fold(user.value("type")) != "user":
            continue
        if fold(user.value("password_format", default="plain")) == "crypt":
            findings.add(HASHED, f"ARI user {user.name}", user.where("password"))
            continue
        secret = Secret(user.name, user.where("password"), (user.name,), user.value("password"))
        for cause in causes(secret, context):
            findings.add(
                MANAGER, f"ARI user {user.name}", secret.place, detail=cause, severity=CRITICAL if exposed else HIGH
            )


def _voicemail(context: Context, findings: Findings) -> None:
    for section in context.sections("voicemail.conf"):
        if fold(section.name) in ("general", "zonemessages"):
            continue
        for variables in section.options.values():
            for variable in variables:
                box, alias, dummy = variable.name.partition("@")
                if (
                    alias
                    or not re.fullmatch(r"[\w.+*#-]+", box)
                    or ("," not in variable.value and not variable.value[:1].isdigit())
                ):
                    continue  # an alias, or an option
                password = variable.value.partition(",")[0].strip().removeprefix("-")
                digits = password or "0000"
                if password == box:
                    cause = "it is the mailbox's own number"
                elif len(digits) < 4 or not password:
                    cause = "it is empty, or very short"
                elif len(set(digits)) == 1 or any(digits in each for each in _SEQUENCES) or digits == "4242":
                    cause = "it is a sequence, one digit again and again, or that of the sample file"
                else:
                    continue
                findings.add(VOICEMAIL, f"{box}@{section.name}", variable.place, detail=cause)


def _guessable(context: Context, findings: Findings) -> None:
    named: list[Section] = []
    if context.chan_sip:
        named += [each for each in objects.sip_peers(context) if objects.sip_is_open(each)]
    if context.pjsip:
        made = objects.pjsip(context)
        named += [each for each in made.phones() if made.inbound_auths.get(each.name)]
    for each in named:
        if re.fullmatch(r"[0-9]{1,3}", each.name) or each.name.lower() in _NAMES:
            findings.add(NAMES, each.name, each.place)
