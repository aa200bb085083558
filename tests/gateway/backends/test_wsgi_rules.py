"""Rules WSGI-1 to WSGI-19 (PEP 3333) over real sockets, by HTTP/1.1 and by HTTP/2.

What only one side of the conversation can see is in test_wsgi.py.
"""

import io
import sys
import threading
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
import trio
from structlog.testing import capture_logs

from tests.gateway.backends.test_wsgi import TEXT, Closing, Environ, StartResponse, returning
from tests.gateway.backends.wsgi_clients import VERSIONS, AnyClient, Seen, ask, entered
from tests.gateway.backends.wsgi_harness import hello, wait_for
from tests.gateway.conftest import make_intake

pytestmark = pytest.mark.parametrize("version", VERSIONS)

WITHIN = 60
"""Seconds for what has to happen."""


def talk(app: Any, version: str, conversation: Callable[[AnyClient], Any], **options: Any) -> Any:
    """*conversation* with a client of *app*."""

    async def main() -> Any:
        with trio.fail_after(WITHIN):
            async with entered(app, version, **options) as application, application.client() as client:
                return await conversation(client)

    return trio.run(main)


# --- the environ


def test_environ(version: str) -> None:
    """WSGI-1, WSGI-2, WSGI-3, WSGI-4: of a builtin dict that the application may change."""
    seen: Environ = {}

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.update(environ, type=type(environ))
        environ.clear()
        return hello(environ, start_response)

    answer = ask(app, version, "GET", "/m/a%20b%C3%A9?x=%20", ("X-Latin", "é"), mount="/m")
    assert answer.status == 200
    assert seen["type"] is dict
    assert (seen["REQUEST_METHOD"], seen["SCRIPT_NAME"], seen["QUERY_STRING"]) == ("GET", "/m", "x=%20")
    assert seen["PATH_INFO"] == "/a bÃ©"
    assert seen["SERVER_PROTOCOL"] == {"1.1": "HTTP/1.1", "2": "HTTP/2.0"}[version]
    assert seen["SERVER_NAME"] == "example.com"
    assert seen["SERVER_PORT"].isdecimal()
    assert seen["HTTP_X_LATIN"] == "é"
    for name, value in seen.items():
        if name.isupper():
            assert type(value) is str
            value.encode("latin-1")
    assert seen["wsgi.version"] == (1, 0)
    assert seen["wsgi.url_scheme"] == "http"
    assert (seen["wsgi.multithread"], seen["wsgi.multiprocess"], seen["wsgi.run_once"]) == (
        True,
        False,
        False,
    )
    own = {name for name in seen if not name.isupper() and not name.startswith("wsgi.")} - {"type"}
    assert own == {"gw.client_disconnected"}


def test_path_info_may_be_empty(version: str) -> None:
    """WSGI-2."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)
        return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()]

    assert ask(app, version, "GET", "/m", mount="/m").body == b"/m|"


@pytest.mark.parametrize("leaves", [True, False])
def test_application_learns_that_its_client_has_left(version: str, leaves: bool) -> None:
    """WSGI-4: waitress#308."""
    entered_, disconnected, go_on = threading.Event(), threading.Event(), threading.Event()
    answers: list[bool] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        client_disconnected = environ["gw.client_disconnected"]
        answers.append(client_disconnected())
        entered_.set()
        if leaves:
            while not client_disconnected():
                go_on.wait(0.01)
            disconnected.set()
        answers.append(client_disconnected())
        return hello(environ, start_response)

    async def conversation(client: AnyClient) -> None:
        await client.open("GET", "/", [], b"", sized=True)
        await wait_for(entered_)
        if leaves:
            client.leave()
            await wait_for(disconnected)
        else:
            assert (await client.seen()).body == b"Hello, world!"

    talk(app, version, conversation)
    assert answers == [False, leaves]


# --- the request


def reading(environ: Environ, start_response: StartResponse) -> list[bytes]:
    """Reads its input in every way, and a whole past its end."""
    body = environ["wsgi.input"]
    found = [body.read(3), body.readline(), body.readline(2), body.readlines(1), *body]
    rest = [body.read(), body.read(5), body.readline(), body.readlines()]
    start_response("200 OK", TEXT)
    return [repr([found, rest]).encode()]


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("mode", ["spool", "stream"])
def test_input(version: str, sized: bool, mode: Any) -> None:
    """WSGI-5, WSGI-16: with a length, and decoded from chunks or frames without one."""

    async def main() -> Seen:
        async with entered(reading, version, intake=make_intake(mode)) as application:
            return await application.ask("POST", "/", body=b"abcdef\nghij\nkl\nm", sized=sized)

    found = [[b"abc", b"def\n", b"gh", [b"ij\n"], b"kl\n", b"m"], [b"", b"", b"", []]]
    assert trio.run(main).body == repr(found).encode()


def test_streamed_input_arrives_while_it_is_sent(version: str) -> None:
    """WSGI-5, hypercorn#176: nothing of it is gathered first."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        while word := environ["wsgi.input"].readline():
            yield b"<" + word.strip() + b">"

    async def conversation(client: AnyClient) -> Seen:
        await client.open("POST", "/", [], None, sized=False)
        for word in (b"one", b"two", b"three"):
            await client.send(word + b"\n", end=False)
            await client.until(b"<" + word + b">")
        await client.send(b"", end=True)
        return await client.seen()

    seen = talk(app, version, conversation, intake=make_intake("stream"))
    assert (seen.body, seen.complete) == (b"<one><two><three>", True)


def test_continue_is_sent_at_the_first_read(version: str) -> None:
    """WSGI-17: not before, and the response is the application's alone."""
    entered_, go_on = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        entered_.set()
        assert go_on.wait(WITHIN)
        body = environ["wsgi.input"].read()
        start_response("200 OK", TEXT)
        return [body]

    async def conversation(client: AnyClient) -> Seen:
        headers = [("Content-Length", "3"), ("Expect", "100-continue")]
        await client.open("PUT", "/", headers, None, sized=True)
        await wait_for(entered_)
        go_on.set()
        await client.until_informed()
        await client.send(b"abc", end=True)
        return await client.seen()

    seen = talk(app, version, conversation)
    assert (seen.informed, seen.status, seen.body) == ([100], 200, b"abc")


def test_no_continue_without_a_read(version: str) -> None:
    """WSGI-17."""

    async def conversation(client: AnyClient) -> Seen:
        headers = [("Content-Length", "3"), ("Expect", "100-continue")]
        await client.open("PUT", "/", headers, None, sized=True)
        return await client.seen()

    seen = talk(hello, version, conversation)
    assert (seen.informed, seen.status, seen.body) == ([], 200, b"Hello, world!")


def test_errors(version: str) -> None:
    """WSGI-6: any text."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        environ["wsgi.errors"].write("snow: ☃\n")
        environ["wsgi.errors"].writelines(["two\n"])
        environ["wsgi.errors"].flush()
        return hello(environ, start_response)

    with capture_logs() as logs:
        assert ask(app, version).status == 200
    assert [entry["text"] for entry in logs] == ["snow: ☃", "two"]


# --- start_response


def test_start_response_transmits_nothing(version: str) -> None:
    """WSGI-7: neither does an empty block: what fails after both is a plain 500."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("X-Mine", "1")])
        yield b""
        raise LookupError

    with capture_logs():
        seen = ask(app, version)
    assert (seen.status, seen.header("x-mine")) == (500, None)


@pytest.mark.parametrize("result", [[], [b""], (), iter([b"", b""])])
def test_exhausted_iterable_sends_the_head(version: str, result: Any) -> None:
    """WSGI-7."""
    seen = ask(returning(result, ("X-Mine", "1")), version)
    assert (seen.status, seen.header("x-mine"), seen.body, seen.complete) == (200, "1", b"", True)


def test_start_response_twice(version: str) -> None:
    """WSGI-8: fatal without exc_info."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)
        start_response("204 No Content", [])
        return [b"x"]

    with capture_logs():
        assert ask(app, version).status == 500


def test_exc_info_replaces_the_head(version: str) -> None:
    """WSGI-8: as long as nothing was sent."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [*TEXT, ("X-Old", "1")])
        try:
            int("no")
        except ValueError:
            start_response("503 Busy", TEXT, sys.exc_info())
        return [b"busy"]

    seen = ask(app, version)
    assert (seen.status, seen.header("x-old"), seen.body) == (503, None, b"busy")


def test_exc_info_after_the_head_cuts_the_response(version: str) -> None:
    """WSGI-8, WSGI-19."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"begun"
        try:
            int("no")
        except ValueError:
            start_response("500 No", TEXT, sys.exc_info())
        yield b"never"

    with capture_logs() as logs:
        seen = ask(app, version)
    assert (seen.status, seen.body, seen.complete) == (200, b"begun", False)
    assert isinstance(logs[0]["exc_info"], ValueError)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200", TEXT),
        ("200 O\nK", TEXT),
        ("99 Less", TEXT),
        (200, TEXT),
        ("200 OK", tuple(TEXT)),
        ("200 OK", [["X-A", "b"]]),
        ("200 OK", [("X-A", b"b")]),
        ("200 OK", [("X-A", "b\r\nX-B: c")]),
        ("200 OK", [("X A", "b")]),
        ("200 OK", [("Connection", "close")]),
        ("200 OK", [("Transfer-Encoding", "chunked")]),
    ],
)
def test_bad_heads_fail_where_they_are_given(version: str, status: Any, headers: Any) -> None:
    """WSGI-9: so the application may still say something better."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        try:
            start_response(status, headers)
        except (TypeError, ValueError) as error:
            start_response("200 OK", TEXT)
            return [type(error).__name__.encode()]
        return [b"taken"]

    assert ask(app, version).body in (b"TypeError", b"ValueError")


def test_start_response_in_the_first_iteration(version: str) -> None:
    """WSGI-10."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        yield b""
        start_response("201 Made", TEXT)
        yield b"late"

    seen = ask(app, version)
    assert (seen.status, seen.body) == (201, b"late")


# --- the body


def test_each_block_is_sent_before_the_next_is_asked_for(version: str) -> None:
    """WSGI-11: none is delayed, whatever its size."""
    received = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        for number in range(3):
            yield b"<%d>" % number
            assert received.wait(WITHIN)
            received.clear()

    async def conversation(client: AnyClient) -> Seen:
        await client.open("GET", "/", [], b"", sized=True)
        for number in range(3):
            await client.until(b"<%d>" % number)
            received.set()
        return await client.seen()

    seen = talk(app, version, conversation)
    assert (seen.body, seen.complete) == (b"<0><1><2>", True)


def test_a_slow_client_holds_the_application(version: str) -> None:
    """WSGI-11: back-pressure, hypercorn#176: what nobody takes is not made."""
    result = Closing(*[b"x" * 64 * 1024] * 1000)
    stopped = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield from result
        stopped.set()

    async def conversation(client: AnyClient) -> int:
        await client.open("GET", "/", [], b"", sized=True)
        await client.until(b"xx")
        last = -1
        while last != result.taken:  # until it goes no further
            last = result.taken
            await trio.to_thread.run_sync(stopped.wait, 0.2)
        client.leave()
        return last

    assert talk(app, version, conversation) < 1000


def test_write(version: str) -> None:
    """WSGI-12: before what is returned, and on its way when it returns."""
    received = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"written ")
        assert received.wait(WITHIN)
        write(b"")
        return [b"and ", b"returned"]

    async def conversation(client: AnyClient) -> Seen:
        await client.open("GET", "/", [], b"", sized=True)
        await client.until(b"written ")
        received.set()
        return await client.seen()

    seen = talk(app, version, conversation)
    assert (seen.body, seen.complete) == (b"written and returned", True)


@pytest.mark.parametrize("failure", [None, LookupError()])
def test_close_is_called(version: str, failure: Exception | None) -> None:
    """WSGI-13."""
    result = Closing(b"x", failure=failure)
    with capture_logs():
        assert ask(returning(result), version).complete is (failure is None)
    assert result.closed.is_set()


def test_close_is_called_when_the_client_has_left(version: str) -> None:
    """WSGI-13."""
    result = Closing(*[b"x" * 64 * 1024] * 10_000)

    async def conversation(client: AnyClient) -> None:
        await client.open("GET", "/", [], b"", sized=True)
        await client.until(b"xx")
        client.leave()
        await wait_for(result.closed)

    with capture_logs() as logs:
        talk(returning(result), version, conversation)
    assert result.taken < 10_000
    assert not [entry for entry in logs if entry["log_level"] == "error"]


def test_too_much(version: str) -> None:
    """WSGI-14: cut to what was promised, and not asked further."""
    result = Closing(b"12", b"345", b"never")
    with capture_logs() as logs:
        seen = ask(returning(result, ("Content-Length", "4")), version)
    assert (seen.body, seen.header("content-length"), seen.complete) == (b"1234", "4", True)
    assert (result.taken, result.closed.is_set()) == (2, True)
    assert "longer" in logs[0]["event"]


def test_too_little(version: str) -> None:
    """WSGI-14: the client can tell."""
    with capture_logs() as logs:
        seen = ask(returning(iter([b"12", b"34"]), ("Content-Length", "9")), version)
    assert (seen.body, seen.complete) == (b"1234", False)
    assert any("shorter" in entry["event"] for entry in logs)


@pytest.mark.parametrize("result", [[b"12345"], (b"12345",), [b"123", b"45"]])
def test_length_of_what_is_known(version: str, result: Any) -> None:
    """WSGI-15."""
    seen = ask(returning(result), version)
    assert (seen.header("content-length"), seen.body) == ("5", b"12345")


def test_date_and_server(version: str) -> None:
    """WSGI-16: added where they are missing, the application's own are left."""
    seen = ask(hello, version)
    assert parsedate_to_datetime(seen.header("date") or "").year > 2000
    assert seen.header("server") == "gateway"
    theirs = ("Date", "Tue, 15 Nov 1994 08:12:31 GMT"), ("Server", "mine")
    seen = ask(returning([b"x"], *theirs), version)
    assert (seen.header("date"), seen.header("server")) == (theirs[0][1], "mine")


@pytest.mark.parametrize("wrapper", ["wsgi", "wsgiref"])
@pytest.mark.parametrize("kind", ["file", "part", "memory", "length", "shrunk"])
def test_file_wrapper(version: str, wrapper: str, kind: str, tmp_path: Path) -> None:
    """WSGI-18: by the kernel or not, the same as iteration; wsgiref's wrapper is nothing but that."""
    content = bytes(range(256)) * 4096
    path = tmp_path / "file"
    path.write_bytes(content)
    closed = threading.Event()

    class File(io.FileIO):
        def close(self) -> None:
            super().close()
            closed.set()

    def app(environ: Environ, start_response: StartResponse) -> Any:
        make = environ["wsgi.file_wrapper"] if wrapper == "wsgi" else FileWrapper
        file: Any = io.BytesIO(content) if kind == "memory" else File(path)
        if kind == "part":
            file.seek(1000)
        length = {"length": 5000, "shrunk": len(content) + 7}.get(kind)
        start_response("200 OK", TEXT if length is None else [*TEXT, ("Content-Length", str(length))])
        return make(file, 8192)

    with capture_logs():
        seen = ask(app, version)
    expected = {"part": content[1000:], "length": content[:5000]}.get(kind, content)
    assert seen.body == expected
    assert seen.complete is (kind != "shrunk")
    assert kind == "memory" or closed.is_set()


@pytest.mark.parametrize("kind", ["whole", "rest", "length", "written", "HEAD", "304"])
def test_file_wrapper_has_a_length(version: str, kind: str, tmp_path: Path) -> None:
    """WSGI-15, WSGI-18: that of a file is known, and so is how long the download will take."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    def app(environ: Environ, start_response: StartResponse) -> Any:
        file = path.open("rb")
        if kind == "rest":
            file.seek(4)
        headers = [("Content-Type", "text/plain")]
        if kind == "length":
            headers.append(("Content-Length", "5"))
        write = start_response("304 Not Modified" if kind == "304" else "200 OK", headers)
        if kind == "written":
            write(b"before ")
        return environ["wsgi.file_wrapper"](file)

    served: list[tuple[str | None, bytes]] = []
    for _ in range(2):  # what is kept of the first response is right for the second
        seen = ask(app, version, "HEAD" if kind == "HEAD" else "GET")
        served.append((seen.header("content-length"), seen.body))
    expected = {
        "rest": ("6", b"456789"),
        "length": ("5", b"01234"),
        "written": (None, b"before 0123456789"),
        "HEAD": ("10", b""),
        "304": (None, b""),
    }
    assert served == [expected.get(kind, ("10", b"0123456789"))] * 2


def test_failure(version: str) -> None:
    """WSGI-19: logged, and a 500 that tells nothing."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("X-Mine", "1")])
        raise LookupError("secret")

    with capture_logs() as logs:
        seen = ask(app, version)
    assert (seen.status, seen.header("x-mine")) == (500, None)
    assert b"secret" not in seen.body
    assert seen.header("x-request-id") == logs[0]["request_id"]


# --- wsgiref.validate has no complaint


def generating(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b""
    yield b"one"
    yield b"two"


def writing(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", TEXT)(b"written")
    return [b"returned"]


def replacing(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", TEXT)
    try:
        int("no")
    except ValueError:
        start_response("500 No", TEXT, sys.exc_info())
    return [b"sorry"]


def with_body(environ: Environ, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"]
    found = [body.read(1), body.readline(), *body.readlines(), *body]
    environ["wsgi.errors"].flush()
    start_response("200 OK", [*TEXT, ("Content-Length", "7")])
    return [b"".join(found)]


def with_status(status: str, *headers: tuple[str, str]) -> Any:
    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response(status, list(headers))
        return []

    return app


def with_file(environ: Environ, start_response: StartResponse) -> Any:
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](open(__file__, "rb"))


@pytest.mark.parametrize(
    ("method", "app", "sized"),
    [
        ("GET", returning([b"x"]), True),
        ("GET", returning((b"x", b"y")), True),
        ("GET", returning([]), True),
        ("GET", generating, True),
        ("HEAD", generating, True),
        ("HEAD", returning([b"x"], ("Content-Length", "1")), True),
        ("GET", writing, True),
        ("GET", replacing, True),
        ("POST", with_body, True),
        ("POST", with_body, False),
        ("GET", with_status("204 No Content"), True),
        ("GET", with_status("304 Not Modified", ("ETag", '"x"')), True),
        ("GET", with_status("302 Found", ("Location", "/x"), ("Content-Type", "text/plain")), True),
        ("GET", with_file, True),
    ],
)
@pytest.mark.filterwarnings("error")
def test_validator(version: str, method: str, app: Any, sized: bool) -> None:
    """WSGI-1 to WSGI-16, as far as one that sits between both sides can see: every kind of response."""
    body = b"ab\ncd\nx" if app is with_body else b""
    with capture_logs() as logs:
        seen = ask(validator(app), version, method, "/p?q=1", body=body, sized=sized)
    assert logs == []
    assert seen.complete
    if app is with_body:
        assert seen.body == body
