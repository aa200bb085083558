"""Copies of requests for a second backend, and weighted shares."""

import os
import re
import resource
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
import trio

from gateway.filters.split import Split
from gateway.request import Request, Responder, respond
from gateway.template import Template
from tests.gateway.conftest import RecordingResponder, make_request
from tests.gateway.served import Answering, backend, descriptors, gateway_of, read_until, response, run, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


def answering(body: bytes, seen: list[bytes], end: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def behave(stream: trio.SocketStream) -> None:
        seen.append(await read_until(stream, end))
        await stream.send_all(OK + body)

    return behave


def mirrored(first: str, second: str, **mirror: Any) -> dict[str, Any]:
    return {
        "backends": {"one": {"http": f"http://{first}"}, "two": {"http": f"http://{second}"}},
        "routes": [{"backend": "one", "mirror": {"backend": "two", **mirror} if mirror else "two"}],
    }


def test_both_get_the_request_and_one_answers() -> None:
    async def main() -> None:
        one: list[bytes] = []
        two: list[bytes] = []
        async with (
            backend(answering(b"1!", one, b"\r\n\r\n")) as first,
            backend(answering(b"2!", two, b"\r\n\r\n")) as second,
            gateway_of(mirrored(first.address, second.address)) as served,
        ):
            got = response(await served.ask(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
            assert got.body == b"1!"
            await until(lambda: bool(two))
            assert one[0].startswith(b"GET /a HTTP/1.1\r\n")
            assert two[0].startswith(b"GET /a HTTP/1.1\r\n")

    run(main)


def test_both_get_the_body() -> None:
    """Also one of unknown length that is larger than memory."""
    body = b"x" * 300_000 + b"END"
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    async def main() -> None:
        before = descriptors()
        one: list[bytes] = []
        two: list[bytes] = []
        async with (
            backend(answering(b"1!", one, b"END")) as first,
            backend(answering(b"2!", two, b"END")) as second,
            gateway_of(mirrored(first.address, second.address, memory="64KiB")) as served,
        ):
            head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            assert response(await served.ask(head + chunk)).body == b"1!"
            await until(lambda: bool(two))
            assert one[0].endswith(b"\r\n\r\n" + body)
            assert two[0].endswith(b"\r\n\r\n" + body)
        await until(lambda: descriptors() <= before)

    run(main)


def test_client_does_not_wait_for_the_copy() -> None:
    async def main() -> None:
        hold = trio.Event()

        async def never(stream: trio.SocketStream) -> None:
            await hold.wait()

        async with (
            backend(answering(b"1!", [], b"\r\n\r\n")) as first,
            backend(never) as second,
            gateway_of(mirrored(first.address, second.address)) as served,
        ):
            for _ in range(3):
                got = response(await served.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
                assert got.body == b"1!"
            hold.set()

    run(main)


@contextmanager
def one_descriptor_left() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 4, before[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_copy_without_a_descriptor_for_it_is_nobodys_failure() -> None:
    """EMFILE: the stored body can be opened once."""

    async def main() -> None:
        config = {
            "backends": {"two": {"http": "http://127.0.0.1:1"}},
            "routes": [{"respond": {"body": "1!"}, "mirror": {"backend": "two", "memory": 0}}],
        }
        with structlog.testing.capture_logs() as logged:
            async with gateway_of(config) as served, await served.connect() as client:
                await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
                await until(lambda: bool(served.open))
                with one_descriptor_left():
                    await client.send_all(b"body")
                    assert (await read_until(client, b"1!")).startswith(b"HTTP/1.1 200 ")
        assert [line["event"] for line in logged if line["log_level"] == "warning"] == [
            "request not mirrored"
        ]

    run(main)


def test_copies_redirect_nowhere(tmp_path: Path) -> None:
    """RFC 3875 6.2.2: what a copy is redirected to would be asked of the routes, and be copied again."""
    program = tmp_path / "second"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/ran\nprintf 'Location: /again\\n\\n'\n")
    program.chmod(0o755)

    async def main() -> None:
        seen: list[bytes] = []
        async with backend(answering(b"1!", seen, b"\r\n\r\n")) as first:
            config = {
                "backends": {"one": {"http": f"http://{first.address}"}, "two": {"cgi": str(program)}},
                "routes": [{"backend": "one", "mirror": "two"}],
            }
            with structlog.testing.capture_logs() as logged:
                async with gateway_of(config) as served:
                    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                    assert response(await served.ask(request)).body == b"1!"
                    await until(lambda: any(line["event"] == "mirrored request failed" for line in logged))
        assert len(seen) == 1
        assert (tmp_path / "ran").read_text() == "\n"

    run(main)


def test_copy_that_fails_is_nobodys_failure() -> None:
    async def main() -> None:
        async def dies(stream: trio.SocketStream) -> None: ...

        async with (
            backend(answering(b"1!", [], b"\r\n\r\n")) as first,
            backend(dies) as second,
            gateway_of(mirrored(first.address, second.address)) as served,
        ):
            got = response(await served.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
            assert (got.status, got.body) == (200, b"1!")
            await until(lambda: second.connections == 1 and second.open == 0)

    run(main)


def test_shares() -> None:
    config = {
        "backends": {"blue": {"http": "http://127.0.0.1:1"}, "green": {"http": "http://127.0.0.1:1"}},
        "routes": [{"backend": {"blue": 1, "green": 1}, "split_by": "{header.x-key}"}],
    }

    async def main() -> None:
        async with gateway_of(config) as served:
            got = response(await served.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
            assert got.status == 502
            assert re.search('next-hop="(blue|green)"', got.headers["proxy-status"])

    run(main)


def named(name: str) -> Answering:
    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], f"{name} {request.backend}".encode())

    return Answering(answer)


def chosen(split: Split, key: str = "") -> str:
    recorder = RecordingResponder()
    trio.run(split.handle, make_request(headers=[(b"x-key", key.encode())]), recorder)
    handler, backend_name = recorder.body.decode().split()
    assert handler == backend_name  # for the logs
    return handler


def test_shares_are_as_weights_say() -> None:
    split = Split({"a": named("a"), "b": named("b")}, {"a": 9, "b": 1}, key=Template.parse("{header.x-key}"))
    counts = Counter(chosen(split, str(number)) for number in range(1000))
    assert 50 <= counts["b"] <= 150  # of a hash, so it is the same each time


def test_same_key_stays() -> None:
    split = Split({"a": named("a"), "b": named("b")}, {"a": 1, "b": 1}, key=Template.parse("{header.x-key}"))
    assert len({chosen(split, "ann") for _ in range(20)}) == 1


def test_chance_decides_without_a_key() -> None:
    split = Split({"a": named("a"), "b": named("b")}, {"a": 1, "b": 1})
    assert {chosen(split) for _ in range(100)} == {"a", "b"}
