# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbering plans, as far as toll fraud needs them, and the one form in which a number is judged.

That form is `+` with the country code for whoever has one, the digits alone for short and local numbers, and service codes as they are.
Prefixes are written in it too; in those of the plans X and N stand for digits, as in Asterisk's patterns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._sip.errors import OptionError

__all__ = ["COUNTRIES", "EMERGENCY", "RISKY", "Country", "canonical_prefix"]


@dataclass(frozen=True)
class Country:
    """``full``: a number this long (digits) that begins with no prefix at all is read as one with its country code, or as a national
    one without its zero. A premium number is as long; local numbers are shorter.

    ``emergency`` comes before whatever the phones' contexts hold, ``advice`` does not: it passes like an emergency number, but an extension
    of the house may have its digits. An entry that ends with $ is the whole number, others are its first digits.
    """

    code: str
    international: tuple[str, ...]
    trunk: str
    full: int
    emergency: tuple[str, ...]
    premium: tuple[str, ...]
    codes: tuple[str, ...]
    source: str
    advice: tuple[str, ...] = ()


# Wherever the PBX stands: telephones and callers travel. 112 is that of mobile phones (3GPP TS 22.101 section 10).
EMERGENCY = ("112", "911", "110", "999", "144")

# ``premium``: charged above the ordinary rate, directory enquiries among it. ``codes``: another carrier, or a feature of the line.
COUNTRIES = {
    "de": Country(
        code="49",
        international=("00",),
        trunk="0",
        full=10,
        emergency=("110", "112"),
        premium=("+49900", "+49137", "+49190", "+4912", "118", "+49118"),
        codes=("+4910",),
        source="Bundesnetzagentur, Nummernraum fuer das oeffentliche Telefonnetz (118, 0137, 012, 0190, 0900, 010)",
    ),
    "at": Country(
        code="43",
        international=("00",),
        trunk="0",
        full=9,
        emergency=("112", "122", "128", "133", "140", "144"),
        advice=("141",),
        premium=("+43900", "+43901", "+43930", "+43931", "+43939", "118", "+43118"),
        codes=("10", "+4310"),
        source="RTR, Kommunikationsparameter-, Entgelt- und Mehrwertdiensteverordnung (KEM-V 2009)",
    ),
    "ch": Country(
        code="41",
        international=("00",),
        trunk="0",
        full=9,
        emergency=("112", "117", "118", "144", "145", "1414", "1415"),
        premium=("+41900", "+41901", "+41906", "18", "+4118"),
        codes=("10", "+4110"),
        source="BAKOM, Nummerierungsplan E.164 (0900, 0901, 0906, 18xx, 107xx)",
    ),
    "gb": Country(
        code="44",
        international=("00",),
        trunk="0",
        full=9,
        emergency=("112", "999"),
        advice=("101", "111"),
        # 118 is Reading as well: with seven digits behind it
        premium=(
            "+449",
            "+44871",
            "+44872",
            "+44873",
            "+4470",
            "118",
            *(f"+44118{'X' * more}$" for more in range(3, 7)),
        ),
        codes=("12", "13", "14", "15", "16", "17"),
        source="Ofcom, National Telephone Numbering Plan (09, 087, 070, 118, 1xx and 1xxx)",
    ),
    "us": Country(
        code="1",
        international=("011", "01"),
        trunk="1",
        full=11,
        emergency=("911", "988"),
        advice=("933",),
        # with the area code, without it, and as a long-distance number without it
        premium=(
            "+1900",
            "+1NXX976",
            "976",
            "+1976",
            "+1NXX5551212",
            "5551212",
            "+15551212",
            "+1411",
            "411",
            "0",
        ),
        codes=(),
        source="NANPA (900, 976, N11, 555-1212, carrier access 101XXXX)",
    ),
}

# Abroad, and known for fraud. An entry is the prefixes and who says so.
RISKY = (
    (
        (
            "+1242",
            "+1246",
            "+1264",
            "+1268",
            "+1284",
            "+1345",
            "+1441",
            "+1473",
            "+1649",
            "+1658",
            "+1664",
            "+1721",
            "+1758",
            "+1767",
            "+1784",
            "+1809",
            "+1829",
            "+1849",
            "+1868",
            "+1869",
            "+1876",
        ),
        "NANPA: area codes of the Caribbean and of Bermuda, dialled like a national number from the USA and Canada",
    ),
    (
        ("+870", "+878", "+881", "+882", "+883", "+888", "+979"),
        "ITU-T, list of E.164 assigned country codes: satellite, international networks, international premium rate",
    ),
    (
        ("+220", "+224", "+232", "+236", "+239", "+248", "+252", "+377", "+960", "+994"),
        "TransNexus, Carriers Block International Calls to Stop Traffic Pumping Fraud (2014)",
    ),
    (("+53",), "iconectiv, most advertised destinations of revenue share fraud (2021)"),
)


def canonical_prefix(option: str, text: str, country: Country) -> str:
    """A prefix as an administrator writes it ("0900", "+44", "0044", "118", "*21*") in the form in which numbers are judged.

    Raises OptionError.
    """
    digits = re.sub(r"[ ().-]", "", text)
    if not re.fullmatch(r"\+[1-9][0-9]{0,17}|[0-9]{1,20}|[*#][0-9*#]{0,19}", digits):
        raise OptionError(option, text, "the first digits of a number are expected, such as '+44', '0900' or '118'")
    if digits[0] in "+*#":
        return digits
    for prefix in country.international:
        if digits.startswith(prefix):
            rest = digits[len(prefix) :]
            if not rest or rest[0] == "0":
                raise OptionError(option, text, "a country code is expected after the international prefix")
            return f"+{rest}"
    if country.code == country.trunk == "1":  # NANP: the country code is the trunk prefix
        if digits[0] == "1":
            return f"+{digits}"
        return digits if digits[0] == "0" or digits[1:] == "11" else f"+1{digits}"
    if digits.startswith(country.trunk):
        return f"+{country.code}{digits[len(country.trunk) :]}"
    return digits
