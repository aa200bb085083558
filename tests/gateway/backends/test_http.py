"""The HTTP backend through the whole gateway: what the upstream server gets."""

import re
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.backends.http import MAX_PASSES
from tests.gateway.served import Response, backend, gateway_of, read_all, read_until, response, run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def seen(
    data: bytes,
    *,
    end: bytes = b"\r\n\r\n",
    route: Mapping[str, Any] | None = None,
    top: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[bytes, dict[bytes, bytes]]:
    """Request line and fields that the upstream gets for *data* (which ends with *end*)."""
    received = b""

    async def behave(stream: trio.SocketStream) -> None:
        nonlocal received
        received = await read_until(stream, end)
        await stream.send_all(OK)

    async def main() -> None:
        async with backend(behave) as app:
            config = {
                "backends": {"app": {"http": f"http://{app.address}", **options}},
                "routes": [{"backend": "app", **(route or {})}],
                **(top or {}),
            }
            async with gateway_of(config) as served:
                assert response(await served.ask(data)).body == b"ok"
                address = app.address.encode()
        nonlocal received
        received = received.replace(address, b"UPSTREAM")
        # RFC 9110 7.6.3: a pseudonym of this start.
        received = re.sub(rb"(via: .*gateway)-[0-9a-f]{8}", rb"\1-ID", received)

    run(main)
    head, _, _ = received.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    fields: dict[bytes, bytes] = {}
    for each in lines:
        name, _, value = each.partition(b": ")
        assert name.lower() not in fields, f"{name!r} was sent twice"
        fields[name.lower()] = value
    return line, fields


def get(target: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"GET %b HTTP/1.1\r\nHost: a.example:81\r\n%bConnection: close\r\n\r\n" % (target, lines)


def test_fields_of_the_clients_connection_are_removed() -> None:
    """H-1, H-2."""
    _, fields = seen(
        get(
            b"/",
            b"Connection: x-one, X-Two",
            b"X-One: 1",
            b"X-Two: 2",
            b"Connection: x-three",
            b"X-Three: 3",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: close",
            b"Upgrade: h2c",
            b"TE: gzip",
            b"Proxy-Authorization: Basic x",
            b"X-Kept: 4",
        )
    )
    assert fields == {
        b"host": b"a.example:81",
        b"x-kept": b"4",
        b"x-forwarded-for": b"127.0.0.1",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"a.example:81",
        b"via": b"1.1 gateway-ID",
    }


@pytest.mark.parametrize("mark", [b"_", b"."])
def test_names_with_underscores_and_dots_are_not_passed_on(mark: bytes) -> None:
    """gunicorn#2799: for many servers they are twins of names with dashes, which only a proxy may set. Those
    with dots are for php (`php -S`).
    """
    lines = (b"X?Forwarded?For: 1.2.3.4", b"X-Kept?Not: 1", b"?: 2", b"X-Kept: 3")
    _, fields = seen(get(b"/", *(line.replace(b"?", mark) for line in lines)))
    assert fields[b"x-kept"] == b"3"
    assert [name for name in fields if mark in name] == []


def test_large_fields_are_not_kept_beyond_their_request() -> None:
    """What small heads become is remembered; what is dropped of a head makes it no smaller."""

    async def behave(stream: trio.SocketStream) -> None:
        for _ in range(50):
            await read_until(stream, b"\r\n\r\n")
            await stream.send_all(OK)

    async def main() -> None:
        async with backend(behave) as app:
            config = {"backends": {"app": {"http": f"http://{app.address}"}}, "routes": [{"backend": "app"}]}
            async with gateway_of(config) as served:
                tracemalloc.start()
                try:
                    for number in range(10, 60):
                        answer = await served.ask(get(b"/", b"X_Dropped: " + b"%d" % number * 20_000))
                        assert response(answer).status == 200
                    assert tracemalloc.get_traced_memory()[0] < 500_000  # all of them: 2 MB
                finally:
                    tracemalloc.stop()

    run(main)


def test_what_one_request_has_come_through_is_told_to_no_other() -> None:
    """Also where a rule of the route has taken from both what it was told by."""
    told: list[bytes] = []

    async def behave(stream: trio.SocketStream) -> None:
        for _ in range(2):
            head = await read_until(stream, b"\r\n\r\n")
            told.extend(line for line in head.split(b"\r\n") if line.startswith(b"x-forwarded-host"))
            await stream.send_all(OK)

    async def main() -> None:
        async with backend(behave) as app:
            config = {
                **STANDARD,
                "backends": {"app": {"http": f"http://{app.address}"}},
                "routes": [{"backend": "app", "headers": {"request": {"remove": ["forwarded"]}}}],
            }
            async with gateway_of(config) as served:
                for host in (b"one.example", b"two.example"):
                    asked = get(b"/", b"Forwarded: for=192.0.2.1;host=" + host)
                    assert response(await served.ask(asked)).status == 200

    run(main)
    assert told == [b"x-forwarded-host: one.example", b"x-forwarded-host: two.example"]


def test_trailers_are_asked_for_anew() -> None:
    """H-9, envoy#5541."""
    _, fields = seen(get(b"/", b"TE: trailers, gzip"))
    assert (fields[b"te"], fields[b"connection"]) == (b"trailers", b"te")


def test_trailers_of_a_request_are_passed_on() -> None:
    """H-9: in chunks, apart from the headers, without what may not be said there."""
    sent = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 3\r\nContent-Length: 9\r\n\r\n"
    )
    end = b"3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n"
    _, fields = seen(sent, end=end)
    assert (fields[b"trailer"], fields[b"transfer-encoding"]) == (b"X-Sum", b"chunked")
    assert b"x-sum" not in fields


def test_trailers_that_cannot_come_are_not_announced() -> None:
    """H-9: a body with a length has no room for them."""
    _, fields = seen(get(b"/", b"Trailer: X-Sum"))
    assert b"trailer" not in fields


def test_via_is_appended_in_order() -> None:
    """H-3."""
    _, fields = seen(get(b"/", b"Via: 1.0 one", b"Via: 2 two, 1.1 three"))
    assert fields[b"via"] == b"1.0 one, 2 two, 1.1 three, 1.1 gateway-ID"


def test_via_has_the_version_that_was_received() -> None:
    _, fields = seen(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    assert fields[b"via"] == b"1.0 gateway-ID"


def test_what_a_client_says_about_earlier_hops_is_not_believed() -> None:
    """FWD-7."""
    _, fields = seen(
        get(
            b"/",
            b"Forwarded: for=1.2.3.4",
            b"X-Forwarded-For: 1.2.3.4",
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Host: evil",
            b"X-Forwarded-Prefix: /evil",
        )
    )
    assert fields[b"x-forwarded-for"] == b"127.0.0.1"
    assert fields[b"x-forwarded-proto"] == b"http"
    assert fields[b"x-forwarded-host"] == b"a.example:81"
    assert b"forwarded" not in fields
    assert b"x-forwarded-prefix" not in fields


TRUSTING = {"trusted_proxies": "127.0.0.1"}
STANDARD = {"trusted_proxies": "127.0.0.1", "forwarded": "forwarded"}
CLIENT_FIELDS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
                 "x-forwarded-proto", "x-forwarded-user")  # fmt: skip


def told(
    *said: bytes, top: Mapping[str, Any], forwarded: str = "x-forwarded", **options: Any
) -> dict[str, str]:
    """What the upstream is told about the client, when the client says *said*."""
    _, fields = seen(get(b"/m/x", *said), top=top, forwarded=forwarded, **options)
    return {name: fields[name.encode()].decode() for name in CLIENT_FIELDS if name.encode() in fields}


CHAIN = (b"X-Forwarded-For: 192.0.2.66, 192.0.2.1", b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: https")


def test_what_a_trusted_proxy_says_is_passed_on() -> None:
    """FWD-5: it is added itself, on the right."""
    said = (*CHAIN, b"X-Forwarded-Host: public", b"X-Forwarded-Port: 444", b"X-Forwarded-Prefix: /p",
            b"X-Forwarded-User: me", b"Forwarded: for=6.6.6.6")  # fmt: skip
    assert told(*said, top=TRUSTING, route={"mount": "/m"}) == {
        "x-forwarded-for": "192.0.2.66, 192.0.2.1, 10.0.0.1, 127.0.0.1",
        "x-forwarded-host": "public",
        "x-forwarded-port": "444",
        "x-forwarded-prefix": "/p/m",
        "x-forwarded-proto": "https",
        "x-forwarded-user": "me",
    }


def test_trusted_proxy_that_says_little() -> None:
    assert told(top=TRUSTING)["x-forwarded-for"] == "127.0.0.1"
    assert told(b"X-Forwarded-Proto: https", top=TRUSTING) == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "a.example:81",
        "x-forwarded-proto": "https",
    }
    assert told(b"X-Forwarded-Proto: https", top=TRUSTING, forwarded="forwarded") == {
        "forwarded": 'for=127.0.0.1;host="a.example:81";proto=https'
    }


OWN = 'for=127.0.0.1;host="a.example:81";proto=http'


@pytest.mark.parametrize(
    ("top", "said", "expected"),
    [
        ({}, CHAIN, OWN),
        ({}, (b"Forwarded: for=1.2.3.4",), OWN),
        (STANDARD, (), OWN),
        (STANDARD, CHAIN, OWN),
        (
            STANDARD,
            (b"Forwarded: for=_x;by=_y;ext=1", b"Forwarded: for=10.0.0.1"),
            f"for=_x;by=_y;ext=1, for=10.0.0.1, {OWN}",
        ),
        # FWD-4: translated; the scheme belongs to the client
        (TRUSTING, CHAIN, f"for=192.0.2.66, for=192.0.2.1, for=10.0.0.1;proto=https, {OWN}"),
        (
            TRUSTING,
            (b"X-Forwarded-For: ::1", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: public"),
            f'for="[::1]";host=public;proto=https, {OWN}',
        ),
    ],
)
def test_forwarded_for_the_upstream(top: Mapping[str, Any], said: tuple[bytes, ...], expected: str) -> None:
    """FWD-1, FWD-3, FWD-4, FWD-7."""
    assert told(*said, top=top, forwarded="forwarded") == {"forwarded": expected}


def test_forwarded_becomes_x_forwarded() -> None:
    """FWD-4."""
    said = (
        b'Forwarded: for="[2001:db8::1]:5";proto=https;host=public, for=127.0.0.9',
        b"X-Forwarded-For: 6.6.6.6",
    )
    assert told(*said, top={**STANDARD, "trusted_proxies": "127.0.0.0/8"}) == {
        "x-forwarded-for": "2001:db8::1, 127.0.0.9, 127.0.0.1",
        "x-forwarded-host": "public",
        "x-forwarded-proto": "https",
    }


def test_both_kinds_and_none() -> None:
    both = told(*CHAIN, top=TRUSTING, forwarded="both")
    assert set(both) == {"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
    assert told(*CHAIN, b"X-Forwarded-User: me", b"X-Real-IP: 1", top=TRUSTING, forwarded="off") == {}


@pytest.mark.parametrize(("policy", "host"), [("preserve", b"a.example:81"), ("upstream", b"UPSTREAM")])
def test_host(policy: str, host: bytes) -> None:
    _, fields = seen(get(b"/"), host=policy)
    assert fields[b"host"] == host
    assert fields[b"x-forwarded-host"] == b"a.example:81"


def test_host_of_a_request_without_one_is_the_upstreams() -> None:
    """H1-5: HTTP/1.1 needs a Host."""
    _, fields = seen(b"GET / HTTP/1.0\r\n\r\n")
    assert fields[b"host"] == b"UPSTREAM"
    assert b"x-forwarded-host" not in fields


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (b"/a/b?c=d", b"GET /a/b?c=d HTTP/1.1"),
        (b"/a%2Fb//%7e/?", b"GET /a%2Fb//%7e/ HTTP/1.1"),
        (b"/%c3%a4?%20&+", b"GET /%c3%a4?%20&+ HTTP/1.1"),
        (b"http://other:80/x?y", b"GET /x?y HTTP/1.1"),
    ],
)
def test_target_is_passed_on_as_it_came(target: bytes, line: bytes) -> None:
    """H-6."""
    assert seen(get(target))[0] == line


def test_authority_of_an_absolute_target_becomes_the_host() -> None:
    """H1-6."""
    _, fields = seen(get(b"http://other:82/x"))
    assert fields[b"host"] == b"other:82"


def test_asterisk() -> None:
    line, _ = seen(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert line == b"OPTIONS * HTTP/1.1"


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (b"/m", b"GET / HTTP/1.1"),
        (b"/m/", b"GET / HTTP/1.1"),
        (b"/m?q", b"GET /?q HTTP/1.1"),
        (b"/m/x%2Fy?q", b"GET /x%2Fy?q HTTP/1.1"),
        (b"/m//x", b"GET //x HTTP/1.1"),
        (b"/%6d/x%20y", b"GET /x%20y HTTP/1.1"),
        (b"/%6D/%c3%a4", b"GET /%C3%A4 HTTP/1.1"),
        (b"/m/../m/x", b"GET /x HTTP/1.1"),
        (b"/./m/x", b"GET /x HTTP/1.1"),
        (b"/m/a/../b", b"GET /b HTTP/1.1"),
        (b"/m/%ff", b"GET /%ff HTTP/1.1"),
    ],
)
def test_mount_is_stripped(target: bytes, line: bytes) -> None:
    """Design section 4: however it is encoded; the upstream never sees another path than was matched."""
    found, fields = seen(get(target), route={"mount": "/m"})
    assert found == line
    assert fields[b"x-forwarded-prefix"] == b"/m"


def test_dot_segments_do_not_reach_the_upstream() -> None:
    """The path that the routes have judged is the path that is asked for."""
    line, _ = seen(get(b"/public/../private"))
    assert line == b"GET /private HTTP/1.1"


@pytest.mark.parametrize(
    ("data", "end", "field"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n", b"abc", (b"content-length", b"3")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", b"\r\n\r\n", (b"content-length", b"0")),
        (b"PUT / HTTP/1.1\r\nHost: a\r\n", b"\r\n\r\n", (b"content-length", b"0")),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
            b"3\r\nabc\r\n0\r\n\r\n",
            (b"transfer-encoding", b"chunked"),
        ),
    ],
)
def test_framing_of_the_body(data: bytes, end: bytes, field: tuple[bytes, bytes]) -> None:
    """H-8, H1-10."""
    body = b"" if end == b"\r\n\r\n" else end
    _, fields = seen(data + b"Connection: close\r\n\r\n" + body, end=end)
    assert field in fields.items()
    assert (b"content-length" in fields) != (b"transfer-encoding" in fields)


@pytest.mark.usefixtures("quick_sweeper")
@pytest.mark.parametrize("answer", [b"HTTP/1.1 100 Continue\r\n\r\n", b""])
def test_expectation_is_passed_on(answer: bytes) -> None:
    """H-10: the body follows the upstream's 100, or a while of silence; reading it tells the client."""

    async def behave(stream: trio.SocketStream) -> None:
        head = await read_until(stream, b"\r\n\r\n")
        assert b"\r\nexpect: 100-continue\r\n" in head
        await stream.send_all(answer)
        assert await stream.receive_some(100) == b"abc"
        await stream.send_all(OK)

    async def main() -> None:
        async with backend(behave) as app:
            config = {"backends": {"app": {"http": f"http://{app.address}"}}, "routes": [{"backend": "app"}]}
            async with gateway_of(config) as served, await served.connect() as client:
                await client.send_all(
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
                    b"Connection: close\r\n\r\n"
                )
                assert await read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                await client.send_all(b"abc")
                assert response(await read_all(client)).body == b"ok"

    run(main)


def test_refusal_of_an_expectation_reaches_a_client_that_sent_nothing() -> None:
    """H-10, haproxy#3316: the final status without 100, and the body is never asked for."""

    async def behave(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
        assert await stream.receive_some(100) == b""

    async def main() -> None:
        async with backend(behave) as app:
            config = {"backends": {"app": {"http": f"http://{app.address}"}}, "routes": [{"backend": "app"}]}
            async with gateway_of(config) as served:
                received = await served.ask(
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
                )
        found = response(received)
        assert (found.status, found.body, found.headers["connection"]) == (417, b"no", "close")

    run(main)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_expectation_without_meaning_is_not_passed_on(data: bytes) -> None:
    """H-10: without a body, or by HTTP/1.0."""
    _, fields = seen(data, end=b"abc" if data.endswith(b"abc") else b"\r\n\r\n")
    assert b"expect" not in fields


def test_a_client_cannot_take_content_type_from_the_server() -> None:
    """RFC 9110 7.6.1: it may not name fields that are for all recipients, or there would be two messages."""
    connection = b"Connection: close, content-type, content-encoding, x-hop\r\n"
    fields = b"Content-Type: text/x\r\nContent-Encoding: gzip\r\nX-Hop: 1\r\nContent-Length: 0\r\n"
    _, told = seen(b"POST / HTTP/1.1\r\nHost: a\r\n" + connection + fields + b"\r\n")
    assert (told[b"content-type"], told[b"content-encoding"]) == (b"text/x", b"gzip")
    assert b"x-hop" not in told


def passed_on(answer: bytes) -> Response:
    """What the client gets of the *answer* of an upstream."""
    found: list[Response] = []

    async def behave(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(answer)

    async def main() -> None:
        async with backend(behave) as app:
            config = {"backends": {"app": {"http": f"http://{app.address}"}}, "routes": [{"backend": "app"}]}
            async with gateway_of(config) as served:
                found.append(response(await served.ask(get(b"/"))))

    run(main)
    return found[0]


def test_fields_of_the_upstreams_connection_are_removed() -> None:
    """H-1 for responses: what its Connection names, too."""
    found = passed_on(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-hop, keep-alive\r\nKeep-Alive: timeout=1\r\n"
        b"Proxy-Connection: keep-alive\r\n"
        b"X-Hop: 1\r\nX-Kept: 2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: upstream\r\n\r\nok"
    )
    names = sorted(name.lower() for name in found.headers)
    assert names == ["connection", "content-length", "date", "server", "x-kept"]
    assert found.headers["date"].startswith("Thu, 01 Jan 1970")


def test_date_is_added_where_the_upstream_has_none() -> None:
    """RFC 9110 6.6.1."""
    assert len(passed_on(OK).headers.get_all("date", [])) == 1


def test_http_1_0_upstream_whose_body_ends_with_the_connection() -> None:
    """H1-3, H1-11: chunked for the client."""
    with capture_logs() as logs:
        found = passed_on(b"HTTP/1.0 200 OK\r\n\r\nto the end")
    assert (found.body, found.headers["transfer-encoding"]) == (b"to the end", "chunked")
    assert logs == []


# ---- loops


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_loop_is_ended(method: bytes) -> None:
    """H-4: the backend leads back to the gateway, which recognises its own name in Via."""
    passes = 0
    address: Any = None

    async def lead_back(stream: trio.SocketStream) -> None:
        nonlocal passes
        passes += 1
        head = await read_until(stream, b"\r\n\r\n")
        assert address is not None
        async with await trio.open_tcp_stream(*address) as again:
            await again.send_all(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await stream.send_all(await read_all(again))

    async def main() -> None:
        nonlocal address
        async with backend(lead_back) as app:
            config = {"backends": {"app": {"http": f"http://{app.address}"}}, "routes": [{"backend": "app"}]}
            async with gateway_of(config) as served:
                address = served.address
                found = response(await served.ask(get(b"/").replace(b"GET", method)))
        assert (found.status, passes) == (502, MAX_PASSES)
        assert "error=proxy_loop_detected" in found.headers["proxy-status"]
        assert b"leads back to this gateway" in found.body

    with capture_logs() as logs:
        run(main)
    assert [each["event"] for each in logs] == ["backend failed"]


def test_another_gateway_of_the_same_name_is_no_loop() -> None:
    """H-4: the name in Via has a part that no other gateway has."""
    _, fields = seen(get(b"/", b"Via: " + b", ".join([b"1.1 gateway-00000000", b"1.1 gateway"] * 9)))
    assert fields[b"via"].endswith(b", 1.1 gateway-ID")


def test_name_in_via() -> None:
    _, fields = seen(get(b"/"), top={"via": "edge.gateway"})
    assert fields[b"via"] == b"1.1 edge.gateway-ID"


# ---- Max-Forwards


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
def test_max_forwards_is_counted_down(method: bytes) -> None:
    """H-4."""
    line, fields = seen(get(b"/", b"Max-Forwards: 3").replace(b"GET", method))
    assert line.startswith(method)
    assert fields[b"max-forwards"] == b"2"


def test_max_forwards_means_nothing_for_other_methods() -> None:
    """RFC 9110 7.6.2."""
    for value in (b"0", b"x"):
        _, fields = seen(get(b"/", b"Max-Forwards: " + value))
        assert fields[b"max-forwards"] == value


def answered(data: bytes) -> Response:
    """The response to a request that must not reach the upstream."""
    found: list[Response] = []

    async def behave(stream: trio.SocketStream) -> None:
        raise AssertionError("the request was forwarded")

    async def main() -> None:
        async with backend(behave) as app:
            config = {"backends": {"app": {"http": f"http://{app.address}"}}, "routes": [{"backend": "app"}]}
            async with gateway_of(config) as served:
                found.append(response(await served.ask(data)))

    run(main)
    return found[0]


def test_last_recipient_of_options() -> None:
    """H-4."""
    found = answered(get(b"/", b"Max-Forwards: 0").replace(b"GET", b"OPTIONS"))
    assert (found.status, found.headers["content-length"], found.body) == (200, "0", b"")


def test_last_recipient_of_trace() -> None:
    """H-4; RFC 9110 9.3.8: what was received, without what is secret."""
    said = (b"Max-Forwards: 0", b"Cookie: a=b", b"Authorization: Basic x", b"Via: 1.1 b", b"X-A: 1")
    found = answered(get(b"/x?y", *said).replace(b"GET", b"TRACE"))
    assert (found.status, found.headers["content-type"]) == (200, "message/http")
    assert found.body == (
        b"TRACE /x?y HTTP/1.1\r\nhost: a.example:81\r\nmax-forwards: 0\r\nvia: 1.1 b\r\nx-a: 1\r\n"
        b"connection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    "fields", [(b"Max-Forwards: x",), (b"Max-Forwards: -1",), (b"Max-Forwards: 1", b"Max-Forwards: 1"),
               (b"Max-Forwards:",), (b"Max-Forwards: 99999999999",)]
)  # fmt: skip
def test_malformed_max_forwards(fields: tuple[bytes, ...]) -> None:
    """RFC 9110 7.6.2: 1*DIGIT."""
    assert answered(get(b"/", *fields).replace(b"GET", b"OPTIONS")).status == 400
