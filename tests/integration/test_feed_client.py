# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds fetched from a real server, which is as good or as bad as the world's, over real connections."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.feed import Feed, read_feed
from ansible_collections.sipguard.pbx.plugins.module_utils._host.feeds.protocols import (
    MAX_BATCHES,
    FeedError,
    Fetched,
    Memory,
    fetch,
)
from tests.integration.harness.feed_server import Apiban, Authority, FeedServer, Page, Proxy, voipbl
from tests.integration.harness.netns import Namespace, in_namespace

KEY = "s3cret/Key+of=ours"
ADDRESSES = [str(ipaddress.ip_address(0xC6336400 + number)) for number in range(200)]
LIST = "\n".join([*ADDRESSES, ""])


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of whoever runs the tests have no part in them."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as made:
        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def feed(url: str, kind: str = "url", **options: Any) -> Feed:
    return read_feed({"name": "ours", "kind": kind, "url": url, "allow_http": True, "timeout": 30, **options})


def fetch_page(server: FeedServer, page: Page, kind: str = "url", **options: Any) -> Fetched:
    server.serve("/list", page)
    return fetch(feed(server.url("/list"), kind, **options), "", Memory())


def entries(fetched: Fetched) -> list[str]:
    return [line for line in fetched.lines if line and not line.startswith("#")]


def everything_shown(error: BaseException) -> str:
    """The texts of an error and of all behind it, hidden or not."""
    text = "".join(traceback.format_exception(error))
    todo: list[BaseException | None] = [error]
    while todo:
        if (one := todo.pop()) is not None:
            text += f"{one} {one!r} {one.args}"
            todo += [one.__cause__, one.__context__]
    return text


# Lists


@pytest.mark.parametrize("kind", ["url", "blocklist_de"])
def test_list_is_fetched(server: FeedServer, kind: str) -> None:
    fetched = fetch_page(server, Page(LIST), kind)
    assert entries(fetched) == ADDRESSES
    assert (fetched.unchanged, fetched.additive, fetched.notes) == (False, False, [])
    asked = server.requests[0].headers
    assert asked["user-agent"] == "sipguard"
    assert asked["accept-encoding"] == "gzip"
    assert "authorization" not in asked


def test_voipbl_is_fetched(server: FeedServer) -> None:
    fetched = fetch_page(server, Page(voipbl(ADDRESSES)), "voipbl")
    assert entries(fetched) == ADDRESSES
    assert fetched.notes == []


def test_large_list_comes_whole(server: FeedServer) -> None:
    many = [f"{ipaddress.ip_address(0x5DB80000 + number)}/32" for number in range(100_000)]
    fetched = fetch_page(server, Page(voipbl(many)), "voipbl")
    assert entries(fetched) == many


@pytest.mark.parametrize(
    ("said", "right"),
    [(200, True), (199, True), (202, True), (198, False), (203, False), (100_000, False), (0, False)],
)
def test_voipbl_count_may_differ_by_one_per_cent(server: FeedServer, said: int, right: bool) -> None:
    page = Page(voipbl(ADDRESSES, said))
    if right:
        assert entries(fetch_page(server, page, "voipbl")) == ADDRESSES
        return
    with pytest.raises(FeedError, match=f"says {said} entries, and 200 came: it is not whole") as caught:
        fetch_page(server, page, "voipbl")
    assert caught.value.temporary


def test_voipbl_without_a_count_is_noted(server: FeedServer) -> None:
    fetched = fetch_page(server, Page(LIST), "voipbl")
    assert entries(fetched) == ADDRESSES
    assert fetched.notes == ["it does not begin with a count, so nothing tells whether all of it came"]


def test_count_in_another_list_means_nothing(server: FeedServer) -> None:
    assert entries(fetch_page(server, Page(voipbl(ADDRESSES, 5)))) == ADDRESSES


def test_junk_comes_as_lines_for_others_to_judge(server: FeedServer) -> None:
    """Each on its own line, cut nowhere but at the ends of lines, and nothing of it is run, resolved or followed."""
    junk = [
        "010.1.1.1",
        "evil.example.org",
        "$(reboot)",
        "a\x0bb\x0cc\x85d\u2028e",
        "\x1b[2J",
        "x" * 10_000,
        "\0",
        "1.2.3.4\tx",
    ]
    fetched = fetch_page(server, Page("\ufeff" + "\r\n".join(["192.0.2.1", *junk, "192.0.2.2"])))
    assert fetched.lines == ["192.0.2.1", *junk, "192.0.2.2"]


def test_bytes_that_are_no_text_break_nothing(server: FeedServer) -> None:
    fetched = fetch_page(server, Page(b"192.0.2.1\n\xff\xfe\n192.0.2.2\n".decode("utf-8", "surrogateescape")))
    assert fetched.lines == ["192.0.2.1", "\ufffd\ufffd", "192.0.2.2"]


# Conditional requests


def test_unchanged_list_is_not_sent_again(server: FeedServer) -> None:
    server.serve("/list", Page(LIST))
    ours = feed(server.url("/list"))
    first = fetch(ours, "", Memory())
    second = fetch(ours, "", Memory.parse(json.loads(json.dumps(first.memory.render()))))
    assert (second.unchanged, second.lines, second.memory) == (True, [], first.memory)
    assert server.requests[1].headers["if-none-match"] == first.memory.etag != ""
    assert server.requests[1].headers["if-modified-since"] == first.memory.modified != ""
    server.serve("/list", Page("192.0.2.1\n"))
    third = fetch(ours, "", second.memory)
    assert third.lines == ["192.0.2.1"]
    assert third.memory != first.memory


def test_memory_of_another_address_is_not_used(server: FeedServer) -> None:
    """Both have the same date, and so would the second be taken for unchanged."""
    server.serve("/list", Page(LIST))
    server.serve("/other", Page("192.0.2.1\n"))
    first = fetch(feed(server.url("/list")), "", Memory())
    assert fetch(feed(server.url("/other")), "", first.memory).lines == ["192.0.2.1"]


def test_server_without_validators_is_asked_without(server: FeedServer) -> None:
    server.serve("/list", Page(LIST, validators=False))
    ours = feed(server.url("/list"))
    again = fetch(ours, "", fetch(ours, "", Memory()).memory)
    assert entries(again) == ADDRESSES
    assert not {"if-none-match", "if-modified-since"} & set(server.requests[1].headers)


def test_304_that_nobody_asked_for_is_an_error(server: FeedServer) -> None:
    with pytest.raises(FeedError, match="status 304"):
        fetch_page(server, Page(status=304))


def test_hostile_etag_is_not_remembered(server: FeedServer) -> None:
    fetched = fetch_page(server, Page(LIST, etag='"' + "x" * 5000 + '"'))
    assert fetched.memory.etag == ""
    assert entries(fetched) == ADDRESSES


# What can go wrong


@pytest.mark.parametrize(
    ("page", "said", "temporary"),
    [
        (Page(LIST, behaviour="cut"), "cut short", True),
        (Page(LIST, behaviour="chunks cut"), "cut short", True),
        (Page(LIST, behaviour="packed cut"), "cut short", True),
        (Page(LIST, behaviour="reset"), "broken off", True),
        (Page(LIST, behaviour="reset half-way"), "broken off|cut short", True),
        (Page(LIST, behaviour="no http"), "not that of a web server", True),
        (Page(LIST, behaviour="endless"), "longer than 1048576 bytes", False),
        (Page(LIST, behaviour="bomb"), "longer than 1048576 bytes", False),
        (Page("192.0.2.1\n" * 104858), "longer than 1048576 bytes", False),
        (Page("<html>Bad gateway</html>", 502), "status 502", True),
        (Page("<html>Bad gateway</html>", 502, behaviour="endless"), "status 502", True),
        (Page("", 503, {"Retry-After": "300"}), "status 503", True),
        (Page("192.0.2.1\n", 429), "status 429", True),
        (Page("192.0.2.1\n", 404), "status 404", False),
        (Page("192.0.2.1\n", 403), "status 403", False),
        (Page("192.0.2.1\n", 206), "status 206", False),
        (Page("", 204), "status 204", False),
        (Page("<!DOCTYPE html><html>192.0.2.1</html>"), "a web page", True),
        (Page("\n \n<html>log in</html>", headers={"Content-Type": "text/plain"}), "a web page", True),
        (Page(""), "empty", True),
        (Page(" \r\n\n"), "empty", True),
        (Page(LIST, headers={"Content-Encoding": "br"}), "packed in a way", True),
        (Page(LIST, headers={"Content-Encoding": "gzip"}), "cut short", True),
        (Page(LIST, 302, {"Location": "/list"}), "in circles", True),
        (Page(LIST, 302, {"Location": "file:///etc/shadow"}), "away from https", False),
        (Page(LIST, 302, {"Location": "ftp://127.0.0.1/list"}), "away from https", False),
        (Page(LIST, 302, {"Location": "http://[::1/list"}), "no address", True),
        (Page(LIST, 302, {"Location": "http://user@127.0.0.1/list"}), "no address", True),
        (Page(LIST, 302, {"Location": "http://127.0.0.1:99999/list"}), "no address", True),
        (Page(LIST, 302), "status 302", False),
    ],
)
def test_bad_answer_is_an_error_that_says_why(server: FeedServer, page: Page, said: str, temporary: bool) -> None:
    with pytest.raises(FeedError, match=said) as caught:
        fetch_page(server, page, max_size=1048576)
    assert str(caught.value).startswith(f"the feed ours ({server.url('/list')}) could not be fetched: ")
    assert caught.value.temporary is temporary
    assert caught.value.retry_after == (300 if "Retry-After" in page.headers else 0)


@pytest.mark.parametrize("behaviour", ["", "packed twice", "unsized", "drip", "drip head"])
def test_odd_but_whole_answer_is_good(server: FeedServer, behaviour: str) -> None:
    fetched = fetch_page(server, Page("192.0.2.1\n192.0.2.2\n", behaviour=behaviour))
    assert fetched.lines == ["192.0.2.1", "192.0.2.2"]


def test_list_of_the_permitted_size_is_good(server: FeedServer) -> None:
    assert len(fetch_page(server, Page("192.0.2.1\n" * 102 + "#..."), max_size=1024).lines) == 103


@pytest.mark.parametrize("behaviour", ["drip", "drip head", "silent"])
def test_time_is_for_the_whole_transfer(server: FeedServer, behaviour: str) -> None:
    """At a byte every 20 ms no single read takes long, and the whole would be good after some 4 s."""
    with pytest.raises(FeedError, match="it took too long") as caught:
        fetch_page(server, Page("192.0.2.1\n" * 20, behaviour=behaviour), timeout=1)
    assert caught.value.temporary


def test_nobody_there_is_temporary(server: FeedServer) -> None:
    url = server.url("/list")
    server.close()
    with pytest.raises(FeedError, match="does not accept connections") as caught:
        fetch(feed(url), "", Memory())
    assert caught.value.temporary


def test_unknown_name_is_temporary() -> None:
    """As when a host boots before its network is there."""
    with pytest.raises(FeedError, match="is not known") as caught:
        fetch(feed("https://feeds.invalid./list"), "", Memory())
    assert caught.value.temporary


# TLS


@pytest.mark.parametrize("behaviour", ["", "unsized"])
def test_https_with_an_authority_of_ones_own(authority: Authority, behaviour: str) -> None:
    pages = {"/list": Page(LIST, behaviour=behaviour)}
    with FeedServer(pages, context=authority.context("localhost", "127.0.0.1")) as server:
        for name in ("localhost", "127.0.0.1"):
            ours = feed(server.url("/list", name), ca_file=str(authority.file), allow_http=False)
            assert entries(fetch(ours, "", Memory())) == ADDRESSES


@pytest.mark.parametrize(
    ("names", "days", "self_signed", "ours", "said"),
    [
        (["127.0.0.1"], -1, False, True, "certificate is not good: certificate has expired"),
        (["127.0.0.1"], 1, True, True, "certificate is not good: self.signed certificate"),
        (["192.0.2.1"], 1, False, True, "certificate is not good: IP address mismatch"),
        (["feeds.example.org"], 1, False, True, "certificate is not good: IP address mismatch"),
        (["127.0.0.1"], 1, False, False, "certificate is not good: unable to get local issuer certificate"),
    ],
)
def test_bad_certificate_is_refused(
    authority: Authority, names: list[str], days: int, self_signed: bool, ours: bool, said: str
) -> None:
    with FeedServer(
        {"/list": Page(LIST)}, context=authority.context(*names, days=days, self_signed=self_signed)
    ) as server:
        with pytest.raises(FeedError, match=said) as caught:
            fetch(feed(server.url("/list"), ca_file=str(authority.file) if ours else ""), "", Memory())
        assert not caught.value.temporary
        assert server.requests == []


def test_authority_of_ones_own_is_the_only_one(authority: Authority, tmp_path: Path) -> None:
    """Another's certificates are no good, whoever else trusts them."""
    context = Authority(tmp_path).context("127.0.0.1")
    with (
        FeedServer({"/list": Page(LIST)}, context=context) as server,
        pytest.raises(FeedError, match="certificate is not good"),
    ):
        fetch(feed(server.url("/list"), ca_file=str(authority.file)), "", Memory())


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_bad_file_of_certificates_is_named(server: FeedServer, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FeedError, match=f"the file of certificates {path} cannot be read") as caught:
        fetch_page(server, Page(LIST), ca_file=str(path))
    assert not caught.value.temporary


def test_connection_cut_by_somebody_on_the_way_is_noticed(authority: Authority) -> None:
    """Without a length the end of the connection is that of the list; only a proper end of TLS is one."""
    pages = {"/list": Page(LIST, behaviour="unsized cut")}
    context = authority.context("127.0.0.1")
    with FeedServer(pages, context=context) as server, pytest.raises(FeedError, match="cut short"):
        fetch(feed(server.url("/list"), ca_file=str(authority.file)), "", Memory())


def test_https_to_a_server_without_tls_is_an_error(server: FeedServer) -> None:
    with pytest.raises(FeedError, match=r"TLS failed|cut short|broken off"):
        fetch(feed(server.url("/list").replace("http:", "https:")), "", Memory())


# Redirects


def test_redirect_is_followed(server: FeedServer) -> None:
    server.serve("/new", Page(LIST))
    assert entries(fetch_page(server, Page(status=301, headers={"Location": "new"}))) == ADDRESSES
    with FeedServer({"/there": Page("192.0.2.1\n")}) as other:
        moved = Page(status=308, headers={"Location": other.url("/there")})
        assert fetch_page(server, moved).lines == ["192.0.2.1"]


def test_redirect_from_https_to_http_is_refused(authority: Authority, server: FeedServer) -> None:
    server.serve("/list", Page(LIST))
    pages = {"/list": Page(status=302, headers={"Location": server.url("/list")})}
    context = authority.context("127.0.0.1")
    with FeedServer(pages, context=context) as secure, pytest.raises(FeedError, match="away from https") as caught:
        fetch(feed(secure.url("/list"), ca_file=str(authority.file)), "", Memory())
    assert not caught.value.temporary
    assert server.requests == []


# The key


def apiban(server: FeedServer, api: int, **options: Any) -> Feed:
    return feed(server.url("/api/"), "apiban", api=api, **options)


def key_path(api: int, cursor: str = "100") -> str:
    return "/api/get" if api == 2 else f"/api/{quote(KEY, safe='')}/banned/{cursor}"


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def api(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_key_goes_where_its_version_has_it(api: int) -> None:
    with FeedServer(apiban=Apiban(KEY, ADDRESSES)) as server:
        fetched = fetch(apiban(server, api, dataset="all"), KEY, Memory())
        first = server.requests[0]
    assert fetched.lines == ADDRESSES
    if api == 1:
        assert (first.method, first.path, first.body) == ("GET", key_path(1), "")
        assert "authorization" not in first.headers
    else:
        assert (first.method, first.path) == ("POST", "/api/get")
        assert json.loads(first.body) == {"set": "all", "id": "100"}
        assert first.headers["authorization"] == f"Bearer {KEY}"
        assert first.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_key_is_not_sent_to_another_server(server: FeedServer, api: int, status: int) -> None:
    with FeedServer(apiban=Apiban(KEY, ADDRESSES)) as other:
        for target in (other.url(key_path(api)), other.url(key_path(api)).removeprefix("http:")):
            server.serve(key_path(api), Page(status=status, headers={"Location": target}))
            with pytest.raises(FeedError, match=r"must not get the key|lose the question") as caught:
                fetch(apiban(server, api), KEY, Memory())
            assert not caught.value.temporary
        assert other.requests == []


def test_key_stays_with_the_same_server(server: FeedServer, api: int) -> None:
    """A redirect within it is followed, and the key is there."""
    answer = json.dumps({"ipaddress": ["no new bans"], "ID": "none"})
    server.serve(key_path(api), Page(status=308, headers={"Location": "/moved"}))
    server.serve("/moved", Page(answer, validators=False))
    assert fetch(apiban(server, api), KEY, Memory()).unchanged
    if api == 2:
        assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"
        assert json.loads(server.requests[1].body) == {"set": "sip", "id": "100"}


@pytest.mark.parametrize("status", [301, 302, 303])
def test_question_that_a_redirect_would_lose_is_not_asked_again(server: FeedServer, status: int) -> None:
    server.serve(key_path(2), Page(status=status, headers={"Location": "/moved"}))
    with pytest.raises(FeedError, match="lose the question"):
        fetch(apiban(server, 2), KEY, Memory())
    assert len(server.requests) == 1


@pytest.mark.parametrize(("port", "right"), [(443, True), (8443, False)])
def test_key_follows_to_the_https_of_the_same_server_only(
    authority: Authority, api: int, port: int, right: bool
) -> None:
    context = authority.context("127.0.0.1")
    host = Namespace("feeds")
    try:
        host.ip(["link set lo up"])
        with (
            FeedServer(host=host, port=80) as plain,
            FeedServer(apiban=Apiban(KEY), host=host, port=port, context=context) as secure,
        ):
            target = secure.url(key_path(api)).replace(":443/", "/")
            plain.serve(key_path(api), Page(status=308, headers={"Location": target}))
            ours = feed("http://127.0.0.1/api/", "apiban", api=api, ca_file=str(authority.file))
            if right:
                assert in_namespace(host.name, lambda: fetch(ours, KEY, Memory())).unchanged
            else:
                with pytest.raises(FeedError, match="must not get the key"):
                    in_namespace(host.name, lambda: fetch(ours, KEY, Memory()))
            assert len(secure.requests) == right
    finally:
        host.close()


def echo(text: str) -> dict[str, str]:
    return {
        "Location": f"http://{text}.example.org/{text}",
        "Retry-After": text,
        "WWW-Authenticate": text,
        "ETag": text,
    }


@pytest.mark.parametrize(
    "page",
    [
        Page(KEY, 500, echo("KEY")),
        Page(KEY, 403, echo("KEY")),
        Page(KEY, 429, echo("KEY")),
        Page(KEY, 302, echo("KEY")),
        Page(json.dumps({"ipaddress": KEY, "ID": KEY})),
        Page(json.dumps({"ipaddress": [KEY], "ID": {"KEY": KEY}}), 400),
        Page(KEY, behaviour="cut"),
        Page(KEY, behaviour="reset"),
        Page(KEY, behaviour="no http"),
        Page(KEY * 100_000),
        Page(KEY, headers={"Content-Encoding": KEY}),
    ],
)
def test_key_is_in_no_error(server: FeedServer, api: int, page: Page) -> None:
    """Not even where the server says it, or the libraries put the address into their own errors."""
    page.headers = {name: value.replace("KEY", quote(KEY, safe="")) for name, value in page.headers.items()}
    server.serve(key_path(api), page)
    with pytest.raises(FeedError) as caught:
        fetch(apiban(server, api), KEY, Memory())
    shown = everything_shown(caught.value)
    assert KEY not in shown
    assert quote(KEY, safe="") not in shown
    assert server.requests != []


@pytest.mark.parametrize("key", ["", "has blank", "line\r\nX: y", "nul\0", "ümlaut", "x" * 257])
def test_impossible_key_is_refused_before_anything_is_sent(api: int, key: str) -> None:
    with FeedServer(apiban=Apiban(key, ADDRESSES)) as server:
        with pytest.raises(FeedError, match="pbx_blocklists_apiban_key") as caught:
            fetch(apiban(server, api), key, Memory())
        assert not caught.value.temporary
        assert key == "" or key not in everything_shown(caught.value)
        assert server.requests == []


def test_other_kinds_get_no_key(server: FeedServer) -> None:
    server.serve("/list", Page(LIST))
    fetch(feed(server.url("/list")), KEY, Memory())
    assert KEY not in repr(server.requests)


# APIBAN


def test_batches_are_fetched_oldest_first_and_remembered(api: int) -> None:
    many = [str(ipaddress.ip_address(0x5DB80000 + number)) for number in range(600)]
    site = Apiban(KEY, many[:])
    with FeedServer(apiban=site) as server:
        ours = apiban(server, api)
        first = fetch(ours, KEY, Memory())
        assert first.lines == many
        assert (first.unchanged, first.additive, first.notes) == (False, True, [])
        assert len(server.requests) == 4  # 250, 250, 100, and no more
        second = fetch(ours, KEY, first.memory)
        assert (second.unchanged, second.additive, second.lines) == (True, True, [])
        assert second.memory == first.memory
        assert len(server.requests) == 5
        site.addresses.append("192.0.2.1")
        third = fetch(ours, KEY, Memory.parse(json.loads(json.dumps(second.memory.render()))))
        assert third.lines == ["192.0.2.1"]
        assert third.memory.cursor == "701"


def test_nothing_at_all_is_unchanged(api: int) -> None:
    with FeedServer(apiban=Apiban(KEY)) as server:
        fetched = fetch(apiban(server, api), KEY, Memory())
    assert (fetched.unchanged, fetched.lines, fetched.notes) == (True, [], [])


def test_a_run_takes_so_many_batches_and_the_next_goes_on(api: int) -> None:
    """However long it goes on: this server never comes to an end."""
    with FeedServer(apiban=Apiban(KEY, paging="endless")) as server:
        ours = apiban(server, api)
        first = fetch(ours, KEY, Memory())
        assert len(server.requests) == len(first.lines) == MAX_BATCHES == 24
        assert first.notes == ["stopped after batch 24, the next run goes on"]
        second = fetch(ours, KEY, first.memory)
        assert len(server.requests) == 48
        assert not set(first.lines) & set(second.lines)


def test_first_run_into_the_limit_keeps_what_came(api: int) -> None:
    """11 requests in two minutes are what is documented, and a first run needs more."""
    many = [str(ipaddress.ip_address(0x5DB80000 + number)) for number in range(3000)]
    site = Apiban(KEY, many, allowed=11)
    with FeedServer(apiban=site) as server:
        ours = apiban(server, api)
        first = fetch(ours, KEY, Memory())
        assert first.lines == many[: 11 * 250]
        assert first.notes == [
            "stopped after batch 11, the next run goes on: too many requests; the next one may be in 120 s"
        ]
        site.allowed = None
        assert fetch(ours, KEY, first.memory).lines == many[11 * 250 :]


def test_key_that_is_revoked_meanwhile_is_an_error(server: FeedServer, api: int) -> None:
    if api == 1:
        server.serve(key_path(1), Page(json.dumps({"ipaddress": ADDRESSES, "ID": "300"}), validators=False))
        server.serve(key_path(1, "300"), Page("{}", 403))
    else:
        server.serve(key_path(2), Page("{}", 403))
    with pytest.raises(FeedError, match="key is not accepted"):
        fetch(apiban(server, api), KEY, Memory())


@pytest.mark.parametrize(("header", "seconds"), [("", 120), ("7", 7), ("soon", 120), ("-1", 120), ("999999999", 86400)])
def test_too_many_requests_says_when_to_come_back(api: int, header: str, seconds: int) -> None:
    said = f"the next one may be in {seconds} s"
    site = Apiban(KEY, ADDRESSES, allowed=0, retry_after=header)
    with FeedServer(apiban=site) as server, pytest.raises(FeedError, match=said) as caught:
        fetch(apiban(server, api), KEY, Memory())
    assert (caught.value.temporary, caught.value.retry_after) == (True, seconds)


def test_wrong_key_is_permanent_and_says_where_it_is_set(api: int) -> None:
    with FeedServer(apiban=Apiban("another", ADDRESSES)) as server:
        with pytest.raises(
            FeedError, match=r"the feed ours .*key is not accepted; look at pbx_blocklists_apiban_key"
        ) as caught:
            fetch(apiban(server, api), KEY, Memory())
        assert len(server.requests) == 1
    assert (caught.value.temporary, caught.value.retry_after) == (False, 0)


def test_same_page_again_and_again_is_an_error(api: int) -> None:
    with FeedServer(apiban=Apiban(KEY, ADDRESSES, paging="same")) as server:
        with pytest.raises(FeedError, match="in circles") as caught:
            fetch(apiban(server, api), KEY, Memory())
        assert len(server.requests) == 1
    assert caught.value.temporary


def test_pages_in_a_circle_are_left(api: int) -> None:
    with FeedServer(apiban=Apiban(KEY, [*ADDRESSES, *ADDRESSES], paging="circle")) as server:
        fetched = fetch(apiban(server, api), KEY, Memory())
        assert len(server.requests) == 2
    assert fetched.lines == [*ADDRESSES, *ADDRESSES][:250]
    assert fetched.notes == ["stopped after batch 1, the next run goes on: its pages go in circles"]


def test_what_is_no_text_is_left_out_and_noted(api: int) -> None:
    strange = [None, 1, 1.5, True, ["192.0.2.7"], {"ip": "192.0.2.8"}, "192.0.2.1", "; reboot", "192.0.2.2"]
    with FeedServer(apiban=Apiban(KEY, strange)) as server:
        fetched = fetch(apiban(server, api), KEY, Memory())
    assert fetched.lines == ["192.0.2.1", "; reboot", "192.0.2.2"]
    assert fetched.notes == ["left out what was no text: 6"]


@pytest.mark.parametrize(
    ("answer", "status", "said", "temporary"),
    [
        ([], 200, "not one of APIBAN", True),
        ("text", 200, "not one of APIBAN", True),
        ("", 200, "not one of APIBAN", True),
        ("null", 200, "not one of APIBAN", True),
        ("<html>log in</html>", 200, "not one of APIBAN", True),
        ("[" * 100_000, 200, "not one of APIBAN", True),
        ('{"ID": ' + "9" * 100_000 + ', "ipaddress": []}', 200, "not one of APIBAN", True),
        ({}, 200, "not one of APIBAN", True),
        ({"ipaddress": "192.0.2.1", "ID": "101"}, 200, "not one of APIBAN", True),
        ({"ipaddress": {"192.0.2.1": 1}, "ID": "101"}, 200, "not one of APIBAN", True),
        ({"ipaddress": ["192.0.2.1"]}, 200, "not one of APIBAN", True),
        ({"ipaddress": ["192.0.2.1"], "ID": None}, 200, "not one of APIBAN", True),
        ({"ipaddress": ["192.0.2.1"], "ID": True}, 200, "not one of APIBAN", True),
        ({"ipaddress": ["192.0.2.1"], "ID": ""}, 200, "not one of APIBAN", True),
        ({"ipaddress": ["192.0.2.1"], "ID": "../check/192.0.2.1"}, 200, "not one of APIBAN", True),
        ({"ipaddress": ["192.0.2.1"], "ID": "101\r\nX: y"}, 200, "not one of APIBAN", True),
        ({"ipaddress": ["192.0.2.1" * 30_000], "ID": "101"}, 200, "longer than 262144 bytes", False),
        ({"ipaddress": "none", "ID": "unauthorized"}, 200, "key is not accepted", False),
        ("<html>forbidden</html>", 403, "key is not accepted", False),
        ({"ipaddress": ["rate limit exceeded"], "ID": "none"}, 200, "too many requests", True),
        ({"ipaddress": ["bad request"], "ID": "none"}, 400, "status 400", False),
        ({"ipaddress": ["192.0.2.1"], "ID": "101"}, 404, "status 404", False),
        ({"ipaddress": ["no new bans"], "ID": "none"}, 500, "status 500", True),
        ("<html>Bad gateway</html>", 502, "status 502", True),
    ],
)
def test_answer_that_is_none_is_an_error(api: int, answer: Any, status: int, said: str, temporary: bool) -> None:
    site = Apiban(KEY, answer=answer, status=status)
    with FeedServer(apiban=site) as server, pytest.raises(FeedError, match=said) as caught:
        fetch(apiban(server, api), KEY, Memory())
    assert caught.value.temporary is temporary


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"ipaddress": ["no new bans"], "ID": "none"}, 400),
        ({"ipaddress": ["no new bans"], "ID": "none"}, 404),
        ({"ipaddress": "no new bans", "ID": "none"}, 200),
        ({"ipaddress": [], "ID": "none"}, 200),
    ],
)
def test_end_of_the_list_in_all_its_forms(api: int, answer: Any, status: int) -> None:
    with FeedServer(apiban=Apiban(KEY, answer=answer, status=status)) as server:
        assert fetch(apiban(server, api), KEY, Memory()).unchanged


def test_number_for_an_id_is_taken(server: FeedServer) -> None:
    server.serve(key_path(1), Page(json.dumps({"ipaddress": ["192.0.2.1"], "ID": 170}), validators=False))
    server.serve(key_path(1, "170"), Page(json.dumps({"ipaddress": ["no new bans"], "ID": "none"}), 400))
    fetched = fetch(apiban(server, 1), KEY, Memory())
    assert (fetched.lines, fetched.memory.cursor) == (["192.0.2.1"], "170")


def test_cursor_of_another_data_set_is_not_used(api: int) -> None:
    with FeedServer(apiban=Apiban(KEY, ADDRESSES)) as server:
        first = fetch(apiban(server, api, dataset="sip"), KEY, Memory())
        assert fetch(apiban(server, api, dataset="http"), KEY, first.memory).lines == ADDRESSES


# Proxies


def test_proxy_of_the_feed_is_used(server: FeedServer, authority: Authority) -> None:
    server.serve("/list", Page(LIST))
    with Proxy() as proxy, FeedServer({"/list": Page(LIST)}, context=authority.context("127.0.0.1")) as secure:
        assert entries(fetch(feed(server.url("/list"), proxy=proxy.url), "", Memory())) == ADDRESSES
        ours = feed(secure.url("/list"), proxy=proxy.url, ca_file=str(authority.file))
        assert entries(fetch(ours, "", Memory())) == ADDRESSES
        assert [(request.method, request.path) for request in proxy.requests] == [
            ("GET", server.url("/list")),
            ("CONNECT", f"127.0.0.1:{secure.port}"),
        ]


@pytest.mark.parametrize(("option", "exempt", "used"), [("", "", True), ("", "127.0.0.1", False), ("none", "", False)])
def test_proxy_of_the_environment(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, option: str, exempt: str, used: bool
) -> None:
    with Proxy() as proxy, FeedServer({"/list": Page(LIST)}, context=authority.context("127.0.0.1")) as secure:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", exempt)
        ours = feed(secure.url("/list"), proxy=option, ca_file=str(authority.file))
        assert entries(fetch(ours, "", Memory())) == ADDRESSES
        assert bool(proxy.requests) is used


def test_proxy_sees_no_key(authority: Authority, api: int) -> None:
    context = authority.context("127.0.0.1")
    with Proxy() as proxy, FeedServer(apiban=Apiban(KEY, ADDRESSES), context=context) as secure:
        ours = apiban(secure, api, proxy=proxy.url, ca_file=str(authority.file))
        assert fetch(ours, KEY, Memory()).lines == ADDRESSES
        assert len(proxy.requests) == 2
        assert KEY not in repr(proxy.requests)
        assert quote(KEY, safe="") not in repr(proxy.requests)


def test_certificates_count_behind_a_proxy_too(authority: Authority) -> None:
    context = authority.context("127.0.0.1", days=-1)
    with Proxy() as proxy, FeedServer({"/list": Page(LIST)}, context=context) as secure:
        with pytest.raises(FeedError, match="certificate has expired"):
            fetch(feed(secure.url("/list"), proxy=proxy.url, ca_file=str(authority.file)), "", Memory())
        assert secure.requests == []


def test_proxy_that_refuses_is_named_without_its_words_or_password(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(407, "\x1b[31mgive me hunter2") as proxy, FeedServer(context=authority.context("127.0.0.1")) as secure:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//me:hunter2@"))
        with pytest.raises(FeedError, match="the proxy refused with status 407") as caught:
            fetch(feed(secure.url("/list")), "", Memory())
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
        assert "hunter2" not in everything_shown(caught.value)
        assert secure.requests == []


def test_proxy_that_is_gone_is_temporary(server: FeedServer) -> None:
    with Proxy() as proxy:
        url = proxy.url
    with pytest.raises(FeedError, match="the server, or the proxy, does not accept connections") as caught:
        fetch_page(server, Page(LIST), proxy=url)
    assert caught.value.temporary
    assert server.requests == []


def test_nonsense_in_the_environment_is_an_error(server: FeedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http:/proxy:hunter2")
    with pytest.raises(FeedError, match="of the proxy, cannot be used") as caught:
        fetch_page(server, Page(LIST))
    assert "hunter2" not in everything_shown(caught.value)


# The server as others use it


def test_server_in_a_namespace() -> None:
    host = Namespace("feeds")
    try:
        host.ip(["link set lo up"])
        with FeedServer({"/list": Page(LIST)}, host=host) as server:
            ours = feed(server.url("/list"))
            assert entries(in_namespace(host.name, lambda: fetch(ours, "", Memory()))) == ADDRESSES
            with pytest.raises(FeedError, match="does not accept connections"):
                fetch(ours, "", Memory())
    finally:
        host.close()


@pytest.mark.parametrize("form", ["directory", "file"])
def test_server_as_a_program(tmp_path: Path, authority: Authority, form: str) -> None:
    what = tmp_path / "what"
    if form == "directory":
        what.mkdir()
        (what / "list").write_text(LIST)
    else:
        what.write_text(
            json.dumps({"pages": {"/list": {"body": LIST}}, "apiban": {"key": KEY, "addresses": ADDRESSES}})
        )
    log = tmp_path / "log"
    certificate, key = authority.files("127.0.0.1")
    argv = [sys.executable, "-m", "tests.integration.harness.feed_server", str(what), "--log", str(log)]
    argv += ["--certificate", str(certificate), "--key", str(key)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"https://127.0.0.1:{int(server.stdout.readline())}"
        ours = feed(f"{url}/list", ca_file=str(authority.file))
        assert entries(fetch(ours, "", Memory())) == ADDRESSES
        if form == "file":
            theirs = feed(f"{url}/api/", "apiban", ca_file=str(authority.file))
            assert fetch(theirs, KEY, Memory()).lines == ADDRESSES
        server.communicate()
    assert server.returncode == 0
    requests = [json.loads(line) for line in log.read_text().splitlines()]
    assert [request["path"] for request in requests] == ["/list", "/api/get", "/api/get"][: 3 if form == "file" else 1]
    assert requests[0]["headers"]["user-agent"] == "sipguard"
