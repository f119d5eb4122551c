# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bans shared by two PBXs through the local API of a real CrowdSec 1.4.6."""

from __future__ import annotations

import datetime
import ipaddress
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .harness import eventually
from .lapi import Lapi, Member

X, X_NET = "198.51.100.7", "198.51.100.7/32"
REACHED = "CrowdSec http://127.0.0.1:8080 reached"

# One request to the LAPI, without our client: prints the status and the JSON of the answer.
_REQUEST = """
import http.client, json, sys
method, path, headers, body = json.loads(sys.argv[1])
connection = http.client.HTTPConnection('127.0.0.1', 8080, timeout=10)
connection.request(method, path, None if body is None else json.dumps(body), {'User-Agent': 'x/1', **headers})
answer = connection.getresponse()
print(json.dumps([answer.status, json.loads(answer.read())]))
"""


@pytest.fixture(scope="module")
def container(clean_machine: None) -> Iterator[Lapi]:
    with Lapi() as made:
        yield made


@pytest.fixture
def lapi(container: Lapi) -> Lapi:
    """A LAPI with nothing in it, at work."""
    container.reset()
    container.start()
    return container


def both(lapi: Lapi) -> tuple[Member, Member]:
    one, two = lapi.member("pbx1"), lapi.member("pbx2")
    assert one.reached()
    assert two.reached()
    return one, two


def request(lapi: Lapi, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    status, found = json.loads(lapi.check(["python3", "-c", _REQUEST, json.dumps([method, path, headers, body])]))
    return status, found


def token(lapi: Lapi, machine: str) -> str:
    mine = {"machine_id": machine, "password": f"password-of-{machine}"}
    return str(request(lapi, "POST", "/v1/watchers/login", mine)[1]["token"])


def looks(lapi: Lapi, more: int) -> bool:
    """Whether so many more looks at the stream come, of whomever."""
    until = lapi.log().count("GET /v1/decisions/stream") + more
    return eventually(lambda: lapi.log().count("GET /v1/decisions/stream") >= until, pause=0.1)


def test_a_ban_arrives_at_the_other_with_its_time_and_not_back(lapi: Lapi) -> None:
    one, two = both(lapi)
    one.publish(X, reason="InvalidPassword 5 times in 60 s")
    assert eventually(lambda: bool(two.bans), pause=0.01)
    network, seconds, comment = two.bans[0]
    assert (network, comment) == (X_NET, "fleet: pbx1")
    assert 3590 <= seconds <= 3600
    (found,) = lapi.decisions()
    assert (found["value"], found["origin"], found["scenario"]) == (X, "crowdsec", "sipguard/sipban/pbx1")
    assert X in lapi.cscli("decisions", "list")  # without --all; for that the origin has to be one it knows
    assert (found["message"], found["machine"]) == ("pbx1: InvalidPassword 5 times in 60 s", "pbx1")
    assert looks(lapi, 6)
    assert one.bans == []
    assert len(two.bans) == 1
    assert (one.lines, two.lines) == ([REACHED], [REACHED])


@pytest.mark.parametrize("what", ["2001:db8::7/128", "2001:db8:7::/48", "203.0.113.0/24"])
def test_both_families_and_networks(lapi: Lapi, what: str) -> None:
    one, two = both(lapi)
    one.publish(what)
    assert eventually(lambda: [each[0] for each in two.bans] == [what], pause=0.01)
    one.withdraw(what)
    assert eventually(lambda: two.unbans == [what], pause=0.01)
    assert lapi.decisions() == []


def test_an_unban_arrives_and_takes_nothing_of_others(lapi: Lapi) -> None:
    one, two = both(lapi)
    one.publish(X, "203.0.113.9")
    assert eventually(lambda: len(two.bans) == 2, pause=0.01)
    two.publish("203.0.113.9", seconds=600)
    assert eventually(lambda: two.status()["sent"] == 1, pause=0.05)
    one.withdraw(X, "203.0.113.9")
    assert eventually(lambda: two.unbans == [X_NET], pause=0.01)
    assert looks(lapi, 6)
    assert two.unbans == [X_NET]
    assert [(each["value"], each["scenario"]) for each in lapi.decisions()] == [("203.0.113.9", "sipguard/sipban/pbx2")]


def test_the_same_address_banned_by_both_does_not_grow(lapi: Lapi) -> None:
    one, two = both(lapi)
    one.publish(X, seconds=900)
    two.publish(X, seconds=900)
    assert eventually(lambda: one.status()["sent"] + two.status()["sent"] == 2, pause=0.05)
    assert looks(lapi, 12)
    assert len(lapi.decisions()) == 2
    assert (one.status()["sent"], two.status()["sent"]) == (1, 1)
    told = [*one.bans, *two.bans]
    assert len(told) <= 2
    assert all(seconds <= 900 for dummy, seconds, dummy in told)


def test_what_the_administrator_does_by_cscli_arrives(lapi: Lapi) -> None:
    one, two = both(lapi)
    lapi.cscli("decisions", "add", "--ip", X, "--duration", "2h")
    assert eventually(lambda: bool(one.bans and two.bans), pause=0.01)
    network, seconds, comment = one.bans[0]
    assert network == X_NET
    assert 7190 <= seconds <= 7200
    assert comment == "cscli: manual 'ban' from 'cscli'"
    lapi.cscli("decisions", "delete", "--ip", X)
    assert eventually(lambda: one.unbans == two.unbans == [X_NET], pause=0.01)


def test_a_lapi_that_is_killed_and_started_again(lapi: Lapi) -> None:
    one, two = both(lapi)
    one.publish("203.0.113.1")
    assert eventually(lambda: len(two.bans) == 1, pause=0.01)
    lapi.kill()
    assert eventually(lambda: len(one.lines) == len(two.lines) == 2, pause=0.01)
    started = time.monotonic()
    assert one.publish(X, seconds=600)["queued"] == 1
    assert time.monotonic() - started < 0.5
    one.publish("203.0.113.2", seconds=2)
    assert not eventually(lambda: bool(one.status()["reachable"]), seconds=3, pause=0.1)
    lapi.start()
    assert eventually(lambda: len(two.bans) == 2, pause=0.01)
    network, seconds, dummy = two.bans[1]
    assert network == X_NET
    assert 570 <= seconds <= 598  # what was left of it
    assert one.status()["expired"] == 1
    assert one.reached()
    assert two.reached()
    away = "CrowdSec http://127.0.0.1:8080 does not answer (Connection refused); bans stay on this PBX until it does"
    assert one.lines == two.lines == [REACHED, away, REACHED]


def test_what_was_deleted_while_it_could_not_be_heard(lapi: Lapi) -> None:
    one, two = both(lapi)
    one.publish(X)
    assert eventually(lambda: len(two.bans) == 1, pause=0.01)
    two.close()
    again = lapi.member("pbx2")
    assert eventually(lambda: len(again.bans) == 1, pause=0.01)
    lapi.kill()
    assert eventually(lambda: len(again.lines) == 2, pause=0.01)
    lapi.start()
    lapi.cscli("decisions", "delete", "--ip", X)
    assert eventually(lambda: again.unbans == [X_NET], pause=0.01)
    assert len(again.bans) == 1


def test_a_wrong_password_is_one_clear_line(lapi: Lapi) -> None:
    lapi.cscli("decisions", "add", "--ip", X)
    pbx = lapi.member("pbx1", password="topsecret")
    pbx.publish("203.0.113.1")
    assert eventually(lambda: lapi.log().count("/v1/watchers/login") >= 3, pause=0.1)
    assert pbx.lines == [
        "CrowdSec http://127.0.0.1:8080 refuses machine pbx1 or its password (see cscli machines list)"
    ]
    assert [each[0] for each in pbx.bans] == [X_NET]
    assert "topsecret" not in lapi.check(["ps", "-ewwo", "args"])
    assert "topsecret" not in lapi.log()


def test_a_machine_that_nobody_knows_is_the_same(lapi: Lapi) -> None:
    pbx = lapi.member("pbx3", key="key-of-pbx1")
    assert eventually(lambda: bool(pbx.lines), pause=0.01)
    assert "refuses machine pbx3 or its password" in pbx.lines[0]


def test_a_wrong_key_is_one_clear_line(lapi: Lapi) -> None:
    pbx = lapi.member("pbx1", key="topsecret")
    pbx.publish(X)
    assert eventually(lambda: len(lapi.decisions()) == 1, pause=0.1)
    assert looks(lapi, 2)
    assert pbx.lines == ["CrowdSec http://127.0.0.1:8080 refuses the key of the bouncer (see cscli bouncers list)"]


def test_a_wave_of_bans(lapi: Lapi) -> None:
    one, two = both(lapi)
    first = ipaddress.ip_address("198.18.0.0")
    one.publish(*(str(first + number) for number in range(5000)))
    # 4 s; some may come only with the next look at everything
    assert eventually(lambda: len(two.bans) == 5000, seconds=60, pause=0.05)
    assert len({each[0] for each in two.bans}) == 5000


def test_https(container: Lapi) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lapi.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    container.reset(tls=(made.public_bytes(serialization.Encoding.PEM) + private).decode())
    container.start()
    secure = {"url": "https://127.0.0.1:8080", "ca_file": "/run/lapi/tls.pem"}
    one, two = container.member("pbx1", **secure), container.member("pbx2", **secure)
    one.publish(X)
    assert eventually(lambda: bool(two.bans), pause=0.01)
    stranger = container.member("pbx2", url="https://127.0.0.1:8080")
    assert eventually(lambda: bool(stranger.lines), pause=0.01)
    assert "does not answer (self-signed certificate)" in stranger.lines[0]
    plain = container.member("pbx2")
    assert eventually(lambda: bool(plain.lines), pause=0.01)
    assert plain.lines[0].startswith("CrowdSec http://127.0.0.1:8080 answers 400")


def test_nothing_leaves_for_the_central_api(lapi: Lapi) -> None:
    one, two = both(lapi)
    one.publish(X)
    assert eventually(lambda: bool(two.bans), pause=0.01)
    assert "Communication with CrowdSec Central API disabled" in lapi.log()
    # no way out in any case, and nobody who tries: not one socket but on loopback, nor a query for a name
    assert lapi.check(["sh", "-c", "ls /sys/class/net"]).split() == ["lo"]
    sockets = lapi.check(["ss", "-Hanute"]).splitlines()
    assert sockets
    assert all(line.split()[4].startswith(("127.0.0.1:", "[::1]:", "[::ffff:127.0.0.1]:")) for line in sockets), sockets


# -- what crowdsec.py and tests/unit/.../lapi_peer.py take for granted


@pytest.mark.parametrize(
    "name",
    [
        "scenario",
        "scenario_hash",
        "scenario_version",
        "message",
        "events_count",
        "start_at",
        "stop_at",
        "capacity",
        "leakspeed",
        "simulated",
        "events",
        "source",
    ],
)
def test_what_an_alert_must_have(container: Lapi, name: str) -> None:
    if not container.running():
        container.reset()
        container.start()
    at = "2026-01-02T03:04:05Z"
    alert: dict[str, object] = dict.fromkeys(("scenario", "scenario_hash", "scenario_version", "message"), "")
    alert |= {"start_at": at, "stop_at": at, "events_count": 1, "events": [], "capacity": 0, "leakspeed": "0"}
    alert |= {"simulated": False, "source": {"scope": "Ip", "value": X}}
    mine = f"Bearer {token(container, 'pbx1')}"
    assert request(container, "POST", "/v1/alerts", [alert], Authorization=mine)[0] == 201
    del alert[name]
    status, found = request(container, "POST", "/v1/alerts", [alert], Authorization=mine)
    assert (status, found["message"]) == (500, f"validation failure list:\n0.{name} in body is required")


def test_what_the_stream_tells(lapi: Lapi) -> None:
    one = lapi.member("pbx1")
    one.publish(X)
    assert eventually(lambda: one.status()["sent"] == 1, pause=0.05)
    key = {"X-Api-Key": "key-of-pbx2"}
    full = "/v1/decisions/stream?startup=true"
    status, found = request(lapi, "GET", full, **key)
    assert status == 200
    assert found["deleted"] is None
    assert found["new"][0].keys() == {"id", "duration", "origin", "scenario", "scope", "type", "value"}
    # anybody may delete anything, filters that are not known are refused
    mine = {"Authorization": f"Bearer {token(lapi, 'pbx2')}"}
    path = f"/v1/decisions?value={X}"
    assert request(lapi, "DELETE", f"{path}&scope=Ip", **mine)[0] == 500
    assert request(lapi, "DELETE", f"{path}&scenario=sipguard/sipban/pbx2", **mine) == (200, {"nbDeleted": "0"})
    assert request(lapi, "DELETE", f"{path}&scenario=sipguard/sipban/pbx1", **mine) == (200, {"nbDeleted": "1"})
    # what has ended is told with a time below 0, more than once, and in the full picture
    for query in ("/v1/decisions/stream", "/v1/decisions/stream", full):
        found = request(lapi, "GET", query, **key)[1]
        assert found["new"] is None
        assert found["deleted"][0]["value"] == X
        assert found["deleted"][0]["duration"].startswith("-")
    # a wrong key is 403, a wrong or missing login 401
    assert request(lapi, "GET", full, **{"X-Api-Key": "x"})[0] == 403
    assert request(lapi, "POST", "/v1/alerts", [])[0] == 401


def test_only_the_longest_decision_for_an_address_is_told(lapi: Lapi) -> None:
    key = {"X-Api-Key": "key-of-pbx2"}
    for duration in ("2h", "1h", "3h"):
        lapi.cscli("decisions", "add", "--ip", X, "--duration", duration)
    found = request(lapi, "GET", "/v1/decisions/stream?startup=true", **key)[1]["new"]
    assert [each["id"] for each in found] == [3]
    # 1.4.6: one of an origin that was asked for is hidden by a longer one of another
    one = lapi.member("pbx1")
    one.publish(X)
    assert eventually(lambda: one.status()["sent"] == 1, pause=0.05)
    found = request(lapi, "GET", "/v1/decisions/stream?startup=true&origins=crowdsec", **key)[1]["new"]
    assert found is None
