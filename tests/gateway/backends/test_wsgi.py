"""The WSGI backend: rules WSGI-1 to WSGI-19 (PEP 3333), its threads, and what cancels a call."""

import ctypes
import gzip
import io
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any
from wsgiref.validate import validator

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.backends.wsgi import WsgiBackend
from gateway.backends.wsgi.call import AHEAD_BYTES, ApplicationCall
from gateway.backends.wsgi.threads import WorkerThreads
from gateway.errors import BackendError, Cause, ClientGone, Phase, RequestError, StartError
from gateway.net.pump import Pump
from gateway.request import PIECE, Body
from gateway.slots import Slots
from tests.gateway.backends.wsgi_harness import (
    backend_of,
    connected,
    exchange,
    handle,
    hello,
    make_backend,
    serving,
    wait_for,
)
from tests.gateway.conftest import BytesBody, FailingBody, RecordingResponder, make_intake, make_request
from tests.gateway.freed import freed_without_the_collector
from tests.gateway.served import pumping, read_all

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], None]]

STREAM = make_intake("stream")
TEXT = [("Content-Type", "text/plain")]


def environ_seen(request_body: Body | None = None, /, **options: Any) -> Environ:
    """The environ that an application is called with."""
    seen: Environ = {}

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.update(environ)
        seen["type"] = type(environ)
        seen["body"] = environ["wsgi.input"].read()
        return hello(environ, start_response)

    request = make_request(b"/m/x?q", mount="/m", method="POST", body=request_body or BytesBody())
    handle(app, request, RecordingResponder(), **options)
    return seen


class Closing:
    """An iterable that knows whether it was closed."""

    def __init__(self, *blocks: bytes, failure: BaseException | None = None) -> None:
        self._blocks = iter(blocks)
        self._failure = failure
        self.taken = 0
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks, None)
        if block is None:
            if self._failure is not None:
                raise self._failure
            raise StopIteration
        self.taken += 1
        return block

    def close(self) -> None:
        self.closed.set()


def returning(result: Any, *headers: tuple[str, str]) -> Any:
    """An application that returns *result* after a 200."""

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [*TEXT, *headers])
        return result

    return app


# --- threads


def test_calls_of_one_turn_begin_together() -> None:
    """A thread that begins in the middle of a turn would take the interpreter from it again and again."""
    begun: list[str] = []

    class Waiting:
        """Implements `threads.Call`."""

        def __init__(self) -> None:
            self.called = threading.Event()

        def run(self) -> None:
            begun.append("call")
            self.called.set()

        def fail(self, error: BaseException) -> None:
            raise error

        def deliver(self) -> None:
            pass

    async def main() -> None:
        threads = WorkerThreads("admin", 1)
        threads.start(Pump())
        await trio.testing.wait_all_tasks_blocked()
        calls = [Waiting() for _ in range(3)]
        for call in calls:
            threads.submit(call)
        assert not calls[0].called.wait(0.01)
        begun.append("turn over")
        await trio.testing.wait_all_tasks_blocked()
        for call in calls:
            await trio.to_thread.run_sync(call.called.wait)
        last = Waiting()
        threads.submit(last)
        await threads.stop(1.0)
        assert last.called.is_set()

    trio.run(main)
    assert begun == ["turn over", "call", "call", "call", "call"]


def test_what_is_posted_meanwhile_waits_for_its_turn() -> None:
    """An application that posts as fast as it is answered does not keep the loop to itself."""
    turns: list[str] = []

    class Endless:
        """Implements `threads.Call`: each delivery is followed by another one."""

        def run(self) -> None:
            pass

        def fail(self, error: BaseException) -> None:
            raise error

        def deliver(self) -> None:
            turns.append("delivered")
            if turns.count("delivered") < 20:
                threads.post(self)

    threads = WorkerThreads("admin", 1)

    async def main() -> None:
        async with pumping() as pump:
            threads.start(pump)
            threads.post(Endless())
            while turns.count("delivered") < 20:
                await trio.lowlevel.checkpoint()
                turns.append("loop")
            await threads.stop(1.0)

    trio.run(main)
    assert turns[turns.index("delivered") :].count("loop") >= 18


def test_what_is_thrown_into_a_thread_too_late_ends_neither_it_nor_its_requests() -> None:
    """By a time limit for the request before (PyThreadState_SetAsyncExc): the next one was never answered."""

    class TooLate(Exception):
        pass

    async def main() -> None:
        with trio.fail_after(30):
            async with serving(hello, threads=1) as backend:
                await backend.handle(make_request(), RecordingResponder())
                ident = backend._threads.ident(0)
                assert ident is not None
                throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
                assert throw(ctypes.c_ulong(ident), ctypes.py_object(TooLate)) == 1
                # Where the gateway is compiled it is the application that raises it.
                with suppress(BackendError):
                    await backend.handle(make_request(), RecordingResponder())
                await backend.handle(make_request(), responder := RecordingResponder())
                assert responder.status == 200

    trio.run(main)


def test_what_is_thrown_into_a_thread_as_it_tells_of_another_one_does_not_end_it() -> None:
    """The thread was gone for good, and the request was never answered."""

    class TooLate(Exception):
        pass

    class Unlucky:
        def __init__(self) -> None:
            self.told = 0
            self.delivered = trio.Event()

        def run(self) -> None:
            raise TooLate

        def fail(self, error: BaseException) -> None:
            assert isinstance(error, TooLate)
            self.told += 1
            if self.told == 1:
                raise TooLate
            threads.post(self)

        def deliver(self) -> None:
            self.delivered.set()

    async def main() -> None:
        async with pumping() as pump:
            threads.start(pump)
            with trio.fail_after(10):
                for _ in range(2):
                    unlucky = Unlucky()
                    threads.submit(unlucky)
                    await unlucky.delivered.wait()
            await threads.stop(1.0)

    threads = WorkerThreads("app", 1)
    trio.run(main)


def test_what_is_thrown_into_a_thread_as_it_answers_does_not_keep_the_answer() -> None:
    """It waited for the next of some other request."""

    class TooLate(Exception):
        pass

    def throw(frame: FrameType, _event: str, _argument: object) -> None:
        if frame.f_code.co_name == "ring":
            sys.settrace(None)
            raise TooLate

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        sys.settrace(throw)
        return hello(environ, start_response)

    async def main() -> None:
        with trio.fail_after(10):
            async with serving(app, threads=1) as backend:
                await backend.handle(make_request(), responder := RecordingResponder())
                assert responder.status == 200

    trio.run(main)


# --- the environ


def test_environ_is_complete() -> None:
    """WSGI-1, WSGI-2, WSGI-3."""
    environ = environ_seen()
    assert environ["type"] is dict
    assert environ["REQUEST_METHOD"] == "POST"
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/m", "/x", "q")
    assert environ["SERVER_NAME"] == "example.com"
    assert environ["SERVER_PORT"] == "80"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert all(type(value) is str for name, value in environ.items() if name.isupper())


def test_one_thread_and_many_processes() -> None:
    """WSGI-3."""
    environ = environ_seen(threads=1, multiprocess=True)
    assert environ["wsgi.multithread"] is False
    assert environ["wsgi.multiprocess"] is True


# --- the request body


@pytest.mark.parametrize("waits", [False, True])
def test_input_ends_with_the_body(waits: bool) -> None:
    """WSGI-5, WSGI-17: whether the body is here with the head or has to be waited for."""
    seen: list[object] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        body = environ["wsgi.input"]
        seen.extend([body.read(3), body.readline(), body.readline(2), body.readlines(1), list(body)])
        seen.extend([body.read(), body.read(5), body.readline(), body.readlines()])
        return hello(environ, start_response)

    body = BytesBody(b"abcd", b"ef\ngh", b"ij\nkl\n", b"m\nn", waits=waits)
    handle(app, make_request(method="POST", body=body), RecordingResponder())
    assert seen == [b"abc", b"def\n", b"gh", [b"ij\n"], [b"kl\n", b"m\n", b"n"], b"", b"", b"", []]


def test_input_is_read_only_when_the_application_reads() -> None:
    """WSGI-5, WSGI-17: what has not arrived is not asked for, so 100 Continue waits for the first read."""
    body = BytesBody(b"abc", waits=True)
    handle(hello, make_request(method="POST", body=body), RecordingResponder())
    assert body.read_nowait() is None


def test_large_body_that_is_here_goes_along_in_part() -> None:
    """WSGI-5: the rest follows when it is read."""
    pieces = [bytes([number]) * 40_000 for number in range(10)]
    environ = environ_seen(BytesBody(*pieces))
    assert environ["body"] == b"".join(pieces)
    assert environ["CONTENT_LENGTH"] == "400000"


class QuickBody(BytesBody):
    """A body whose client is quicker than the application."""

    def __init__(self, *pieces: bytes, error: RequestError | None = None) -> None:
        super().__init__(*pieces, waits=True)
        self.reads = 0
        self._error = error

    def read_nowait(self, most: int = PIECE) -> bytes | None:
        if self._waits:
            return None
        if self._error is not None:
            raise self._error
        return b"".join(self._pieces.pop(0) for _ in range(min(len(self._pieces), most // PIECE)))

    async def read(self) -> bytes:
        self._waits = False
        self.reads += 1
        return await super().read()


@pytest.mark.parametrize("size", [-1, 100_000])
def test_a_large_body_comes_to_the_thread_in_large_pieces(size: int) -> None:
    """Each piece is a way to the thread and back."""
    content = [bytes([number]) * PIECE for number in range(20)]
    read: list[bytes] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        read.extend(iter(lambda: environ["wsgi.input"].read(size), b""))
        return hello(environ, start_response)

    body = QuickBody(*content)
    handle(app, make_request(method="POST", body=body), RecordingResponder())
    assert b"".join(read) == b"".join(content)
    assert body.reads == 4 + 1


def test_input_reads_on_behind_a_line() -> None:
    pieces = BytesBody(b"a\nb", b"c", b"d", waits=True)
    seen: list[bytes] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        body = environ["wsgi.input"]
        seen.extend([body.readline(), body.read(), body.read()])
        return hello(environ, start_response)

    handle(app, make_request(method="POST", body=pieces), RecordingResponder())
    assert seen == [b"a\n", b"bcd", b""]


def test_what_is_wrong_behind_the_first_piece_is_told() -> None:
    """WSGI-5: at once, or to whoever reads on."""
    body = QuickBody(b"abc", error=RequestError(413, "the body is too large"))
    with pytest.raises(RequestError) as caught:
        environ_seen(body)
    assert caught.value.status == 413


@pytest.mark.parametrize("waits", [False, True])
def test_body_of_unknown_length_is_spooled(waits: bool) -> None:
    """CGI-5, CGI-27: the length is exact, so no framework takes the body for empty."""
    environ = environ_seen(BytesBody(b"abc", b"de", sized=False, waits=waits))
    assert (environ["CONTENT_LENGTH"], environ["body"]) == ("5", b"abcde")


def test_body_beyond_memory_is_spooled_to_a_file() -> None:
    """CGI-27."""
    environ = environ_seen(
        BytesBody(b"a" * 50_000, b"b" * 50_000, sized=False), intake=make_intake(spool_memory=1000)
    )
    assert (environ["CONTENT_LENGTH"], environ["body"]) == ("100000", b"a" * 50_000 + b"b" * 50_000)


@pytest.mark.parametrize("memory", [1000, 1_000_000])
def test_stored_body_can_be_read_again(memory: int) -> None:
    """As behind waitress; Zope does so after a conflict, and for WebDAV."""
    content = bytes(range(256)) * 1000
    seen: list[object] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        body = environ["wsgi.input"]
        seen.extend([body.tell(), body.read(3), body.tell(), body.read() == content[3:], body.read()])
        seen.extend([body.seek(0), body.read() == content, body.seek(-2, 2), body.read(), body.seekable()])
        return hello(environ, start_response)

    body = BytesBody(content[:50_000], content[50_000:], sized=False)
    intake = make_intake(spool_memory=memory)
    handle(app, make_request(method="POST", body=body), RecordingResponder(), intake=intake)
    size = len(content)
    assert seen == [0, content[:3], 3, True, b"", 0, True, size - 2, content[-2:], True]


@pytest.mark.parametrize("waits", [False, True])
def test_body_of_unknown_length_is_streamed(waits: bool) -> None:
    """WSGI-5, WSGI-16: no CONTENT_LENGTH, but an end."""
    environ = environ_seen(BytesBody(b"abc", b"de", sized=False, waits=waits), intake=STREAM)
    assert "CONTENT_LENGTH" not in environ
    assert environ["wsgi.input_terminated"] is True
    assert environ["body"] == b"abcde"


def test_streamed_body_is_bounded() -> None:
    """413 beyond max_body, which the application sees as an OSError."""
    body = BytesBody(b"abc", b"de", sized=False, waits=True)
    with pytest.raises(RequestError) as caught:
        environ_seen(body, intake=make_intake("stream", max_body=4))
    assert caught.value.status == 413


def test_body_of_unknown_length_is_rejected() -> None:
    """CGI-27: 411 Length Required."""
    with pytest.raises(RequestError) as caught:
        environ_seen(BytesBody(b"abc", sized=False), intake=make_intake("reject"))
    assert caught.value.status == 411


def test_failing_body_is_answered_with_its_own_status() -> None:
    """WSGI-5: what the application does not handle becomes the front's 413, and no traceback."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        environ["wsgi.input"].read()
        return hello(environ, start_response)

    body = FailingBody(b"abc", error=RequestError(413, "the body is too large"))
    with capture_logs() as logs, pytest.raises(RequestError) as caught:
        handle(
            app,
            make_request(method="POST", body=body),
            RecordingResponder(),
            intake=STREAM,
        )
    assert caught.value.status == 413
    assert logs == []


def test_application_may_answer_a_failing_body_itself() -> None:
    """WSGI-5."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            start_response("400 Bad", TEXT)
            return [str(error).encode()]
        return []

    body = FailingBody(b"abc", error=RequestError(413, "the body is too large"))
    recorder = RecordingResponder()
    handle(app, make_request(method="POST", body=body), recorder, intake=STREAM)
    assert (recorder.status, recorder.body) == (400, b"the body is too large")


def test_client_that_leaves_while_it_sends() -> None:
    """WSGI-13: the application gets an OSError, close() and the front its ClientGone."""
    errors: list[Exception] = []
    result = Closing(b"x")

    def app(environ: Environ, start_response: StartResponse) -> Any:
        try:
            environ["wsgi.input"].read()
        except ConnectionError as error:
            errors.append(error)
        start_response("200 OK", TEXT)
        return result

    body = FailingBody(b"abc", error=ClientGone("the client reset the connection"))
    with pytest.raises(ClientGone):
        handle(
            app,
            make_request(method="POST", body=body),
            RecordingResponder(),
            intake=STREAM,
        )
    assert len(errors) == 1
    assert result.closed.is_set()


def test_body_is_gone_after_the_response() -> None:
    """WSGI-5: close() may not read what the connection needs for the next request."""
    errors: list[Exception] = []

    class ReadingInClose(Closing):
        def close(self) -> None:
            try:
                environ_of_call["wsgi.input"].read()
            except ConnectionError as error:
                errors.append(error)
            super().close()

    environ_of_call: Environ = {}

    def app(environ: Environ, start_response: StartResponse) -> Any:
        environ_of_call.update(environ)
        start_response("200 OK", TEXT)
        return ReadingInClose(b"x")

    body = BytesBody(b"abc", waits=True)
    handle(app, make_request(method="POST", body=body), RecordingResponder())
    assert len(errors) == 1


# --- wsgi.errors


def test_errors_go_to_the_log() -> None:
    """WSGI-6."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        errors = environ["wsgi.errors"]
        errors.write("first\nsecond\n")
        errors.writelines(["third\n", "\n", "fóurth — ☃"])
        errors.flush()
        print("fifth", file=errors)
        return hello(environ, start_response)

    with capture_logs() as logs:
        handle(app, make_request(), RecordingResponder())
    assert [entry["text"] for entry in logs] == ["first", "second", "third", "fóurth — ☃", "fifth"]
    assert {entry["backend"] for entry in logs} == {"admin"}


# --- start_response


def test_head_waits_for_the_first_bytes() -> None:
    """WSGI-7, WSGI-10: nothing is sent by start_response, nor for an empty block."""
    recorder = RecordingResponder()
    reached, go_on = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b""
        reached.set()
        go_on.wait(10)
        yield b"x"

    async def main() -> None:
        async with serving(app) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(), recorder)
            await wait_for(reached)
            assert not recorder.started
            go_on.set()

    trio.run(main)
    assert (recorder.status, recorder.reason, recorder.body) == (200, b"OK", b"x")


@pytest.mark.parametrize("result", [[], [b""], (), iter(()), iter([b"", b""])])
def test_head_alone(result: Any) -> None:
    """WSGI-7: an exhausted iterable sends the head."""
    recorder = RecordingResponder()
    handle(returning(result), make_request(), recorder)
    assert (recorder.status, recorder.ended, recorder.body) == (200, True, b"")


def test_headers_keep_order_and_duplicates() -> None:
    """WSGI-9."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("299 So So", [("X-A", "1"), ("Set-Cookie", "a"), ("x-a", "é"), ("Set-Cookie", "b")])
        return [b"x"]

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert (recorder.status, recorder.reason) == (299, b"So So")
    assert recorder.headers == [
        (b"x-a", b"1"),
        (b"set-cookie", b"a"),
        (b"x-a", b"\xe9"),
        (b"set-cookie", b"b"),
    ]


def test_mistakes_are_raised_where_start_response_is_called() -> None:
    """WSGI-9: so that the application may still answer; each kind has a row in test_wsgi_head."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        with pytest.raises(ValueError, match="control character"):
            start_response("200 OK", [("X-A", "b\r\nSet-Cookie: c")])
        return hello(environ, start_response)

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert recorder.body == b"Hello, world!"


def test_second_start_response_without_exc_info_is_fatal() -> None:
    """WSGI-8."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)
        start_response("200 OK", TEXT)
        return []

    with capture_logs() as logs, pytest.raises(BackendError):
        handle(app, make_request(), RecordingResponder())
    assert "called again" in str(logs[0]["exc_info"])


@pytest.mark.parametrize("named", [False, True])
def test_exc_info_replaces_a_head_that_was_not_sent(named: bool) -> None:
    """WSGI-8. Arguments are by position in PEP 3333; other servers take them by its names, too."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "99")])
        try:
            int("no")
        except ValueError:
            if named:
                start_response("500 Sorry", TEXT, exc_info=sys.exc_info())
            else:
                start_response("500 Sorry", TEXT, sys.exc_info())
        return [b"sorry"]

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert (recorder.status, recorder.body) == (500, b"sorry")
    assert recorder.header(b"content-length") is None


@pytest.mark.parametrize("failure", [LookupError("no"), None])
def test_exc_info_is_raised_again_after_the_head_was_sent(failure: Exception | None) -> None:
    """WSGI-8."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"x"
        exc_info = (type(failure), failure, None) if failure else (None, None, None)
        start_response("500 Sorry", TEXT, exc_info)

    recorder = RecordingResponder()
    with capture_logs() as logs, pytest.raises(BackendError, match="raised"):
        handle(app, make_request(), recorder)
    assert type(logs[0]["exc_info"]) is (LookupError if failure else RuntimeError)
    assert recorder.body == b"x"
    assert not recorder.ended


def test_body_without_start_response() -> None:
    """WSGI-10: it may come late, but not after the body."""
    with capture_logs() as logs, pytest.raises(BackendError):
        handle(lambda environ, start_response: [b"x"], make_request(), RecordingResponder())
    assert "did not call start_response" in str(logs[0]["exc_info"])


# --- the body of the response


class SlowResponder(RecordingResponder):
    """Its flush waits until the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = trio.Event(), trio.Event()

    async def flush(self) -> None:
        self.reached.set()
        await self.go_on.wait()
        await super().flush()


def test_blocks_are_asked_for_while_those_before_are_being_sent() -> None:
    """WSGI-11: some may be on their way while the next is made; a slow client stops the application."""
    block = bytes(AHEAD_BYTES // 2)
    third_made = threading.Event()
    made: list[int] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        for number in range(9):
            made.append(number)
            if number == 2:
                third_made.set()
            yield block

    async def main() -> None:
        recorder = SlowResponder()
        async with serving(app) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(), recorder)
            await recorder.reached.wait()
            await wait_for(third_made)
            assert len(recorder.body) in {len(block), 2 * len(block)}
            # Two are on their way, the third waits: there is no fourth.
            assert made == [0, 1, 2]
            recorder.go_on.set()
        assert len(recorder.body) == 9 * len(block)
        assert len(made) == 9

    trio.run(main)


def test_written_data_comes_before_returned_data() -> None:
    """WSGI-12."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        for number in range(3):
            write(b"%d" % number)
        write(b"")
        return [b"3", b"4"]

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert recorder.body == b"01234"
    assert recorder.ended


def test_blocks_of_a_list_are_one_message() -> None:
    """WSGI-15: its length is known before anything is sent."""
    recorder = RecordingResponder()
    handle(returning([b"a", b"", b"b"]), make_request(), recorder)
    assert (recorder.pieces, recorder.flushes) == ([b"ab"], 1)


@pytest.mark.parametrize("result", [["text"], [b"a", "text"], iter(["text"]), 7, None])
def test_body_that_is_not_bytes(result: Any) -> None:
    """WSGI-19."""
    with capture_logs() as logs, pytest.raises(BackendError):
        handle(returning(result), make_request(), RecordingResponder())
    assert type(logs[0]["exc_info"]) is TypeError


@pytest.mark.parametrize(
    "result", [Closing(b"x"), Closing(), Closing(b"x", b"y"), Closing(b"x", failure=ValueError("no"))]
)
def test_close_is_called(result: Closing) -> None:
    """WSGI-13: after the last block, or the error."""
    with capture_logs():
        try:
            handle(returning(result), make_request(), RecordingResponder())
        except BackendError:
            assert result.taken == 1
    assert result.closed.is_set()


def test_failing_close_is_logged() -> None:
    """WSGI-13: the response has been given by then."""

    class Failing(Closing):
        def close(self) -> None:
            raise ValueError("no")

    recorder = RecordingResponder()
    with capture_logs() as logs:
        handle(returning(Failing(b"x")), make_request(), recorder)
    assert recorder.ended
    assert logs[0]["event"] == "application failed in close()"


def test_a_close_that_cannot_be_looked_up_costs_no_thread() -> None:
    """As that of a wrapper which looks up names in a way of its own."""

    class Passing(list[bytes]):
        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    async def main() -> None:
        async with serving(returning(Passing([b"x"])), threads=1) as backend:
            for recorder in recorders:
                with trio.fail_after(30):
                    await backend.handle(make_request(), recorder)

    recorders = [RecordingResponder(), RecordingResponder()]
    with capture_logs() as logs:
        trio.run(main)
    assert all(recorder.ended for recorder in recorders)
    assert [entry["event"] for entry in logs] == 2 * ["application failed in close()"]


@pytest.mark.parametrize("make", [list, iter])
def test_more_than_content_length_is_cut(make: Callable[[list[bytes]], Any]) -> None:
    """WSGI-14: never more than promised."""
    recorder = RecordingResponder()
    with capture_logs() as logs:
        handle(returning(make([b"abc", b"def"]), ("Content-Length", "5")), make_request(), recorder)
    assert recorder.body == b"abcde"
    assert recorder.ended
    assert logs[0]["event"] == "the response is longer than its Content-Length"


def test_iteration_stops_at_content_length() -> None:
    """WSGI-14."""
    result = Closing(b"ab", b"c", b"never asked for")
    recorder = RecordingResponder()
    handle(returning(result, ("Content-Length", "3")), make_request(), recorder)
    assert (recorder.body, result.taken) == (b"abc", 2)
    assert result.closed.is_set()


def test_write_beyond_content_length_is_ignored() -> None:
    """WSGI-14."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "1")])
        write(b"a")
        write(b"b")
        return [b"c"]

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert recorder.body == b"a"


@pytest.mark.parametrize("result", [[b"ab"], [], iter([b"a", b"b"])])
def test_less_than_content_length_aborts(result: Any) -> None:
    """WSGI-14: the client must see that something is missing, and so must the log."""
    with capture_logs() as logs, pytest.raises(BackendError) as caught:
        handle(returning(result, ("Content-Length", "5")), make_request(), RecordingResponder())
    assert (caught.value.cause, caught.value.phase) == (Cause.INCOMPLETE, Phase.BODY)
    assert logs[0]["event"] == "the response is shorter than its Content-Length"


@pytest.mark.parametrize("result", [[], iter(()), [b"abcde"]])
def test_head_request_may_promise_what_it_does_not_send(result: Any) -> None:
    """CGI-38, WSGI-14."""
    recorder = RecordingResponder(method="HEAD")
    with capture_logs() as logs:
        handle(returning(result, ("Content-Length", "5")), make_request(method="HEAD"), recorder)
    assert (recorder.header(b"content-length"), recorder.body, recorder.ended) == (b"5", b"", True)
    assert logs == []


# --- files


def test_real_file_is_sent_as_a_file(tmp_path: Path) -> None:
    """WSGI-18: from where it stands, and closed afterwards."""
    (tmp_path / "file").write_bytes(b"0123456789")
    file = (tmp_path / "file").open("rb")
    file.read(3)

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](file)

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert (recorder.files, recorder.body) == ([(3, 7)], b"3456789")
    assert recorder.ended
    assert file.closed


def test_file_is_sent_up_to_content_length(tmp_path: Path) -> None:
    """WSGI-14, WSGI-18: what was written before counts."""
    (tmp_path / "file").write_bytes(b"0123456789")

    def app(environ: Environ, start_response: StartResponse) -> Any:
        write = start_response("206 Partial Content", [("Content-Length", "5")])
        write(b"a")
        return environ["wsgi.file_wrapper"]((tmp_path / "file").open("rb", buffering=0), 4)

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert (recorder.files, recorder.body) == ([(0, 4)], b"a0123")


def _pipe() -> Any:
    reader, writer = map(io.FileIO, os.pipe(), "rw")
    with writer:
        writer.write(b"content")
    return io.BufferedReader(reader)


def _compressed() -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the wrapper
    with gzip.open(file, "wb") as writer:
        writer.write(b"content")
    file.seek(0)
    wrapped = gzip.GzipFile(fileobj=file, mode="rb")
    wrapped.myfileobj = file  # type: ignore[assignment]  # closed with it
    return wrapped


class _Hidden(io.BufferedReader):
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).lower()


class _Cut(io.FileIO):
    def readinto(self, buffer: Any, /) -> int | None:
        return super().readinto(memoryview(buffer)[: 7 - self.tell()])


def _descriptor(content: bytes) -> int:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(content)
        file.seek(0)
        return os.dup(file.fileno())


@pytest.mark.parametrize(
    "make",
    [
        lambda: io.BytesIO(b"content"),
        _pipe,
        _compressed,
        lambda: _Hidden(io.FileIO(_descriptor(b"CONTENT"))),
        lambda: io.BufferedReader(_Cut(_descriptor(b"content and more"))),
    ],
)
def test_what_is_no_plain_file_is_iterated(make: Callable[[], Any]) -> None:
    """WSGI-18: a descriptor does not mean that its bytes are the content."""
    file = make()

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](file, 3)

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert (recorder.files, recorder.body) == ([], b"content")
    assert file.closed


@pytest.mark.parametrize("name", ["/proc/version", "/sys/devices/system/cpu/online"])
def test_file_of_the_kernel_is_iterated(name: str) -> None:
    """WSGI-18: it says that it is regular, and empty or larger than it is."""

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](open(name, "rb"))

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert (recorder.files, recorder.body) == ([], Path(name).read_bytes())


def test_file_without_close() -> None:
    """WSGI-18: the wrapper has close() only if the file has it."""

    class Reader:
        def __init__(self) -> None:
            self.read = io.BytesIO(b"content").read

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", TEXT)
        wrapper = environ["wsgi.file_wrapper"](Reader())
        assert not hasattr(wrapper, "close")
        return wrapper

    recorder = RecordingResponder()
    handle(app, make_request(), recorder)
    assert recorder.body == b"content"


# --- failures


@pytest.mark.parametrize("failure", [ZeroDivisionError("no"), SystemExit(1)])
def test_uncaught_exception_is_a_500(failure: BaseException) -> None:
    """WSGI-19: logged with its traceback; what it says is not for the client."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        raise failure

    with capture_logs() as logs, pytest.raises(BackendError) as caught:
        handle(app, make_request(b"/x"), RecordingResponder())
    assert (caught.value.cause, caught.value.phase) == (Cause.FAILED, Phase.RUN)
    assert "no" not in caught.value.detail.split()
    assert logs[0]["exc_info"] is failure
    assert (logs[0]["event"], logs[0]["method"], logs[0]["path"]) == ("application failed", "GET", "/x")


def test_uncaught_exception_within_the_body_aborts() -> None:
    """WSGI-19: what was yielded before it is sent, and the end is not."""
    recorder = RecordingResponder()
    with capture_logs(), pytest.raises(BackendError, match="raised ValueError") as caught:
        handle(returning(Closing(b"x", failure=ValueError("no"))), make_request(), recorder)
    assert (caught.value.cause, caught.value.phase) == (Cause.INCOMPLETE, Phase.BODY)
    assert recorder.body == b"x"
    assert not recorder.ended
    assert recorder.flushes == 1


def test_a_thread_survives_its_application() -> None:
    """WSGI-19: the one thread answers the next request."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/exit":
            sys.exit("no")
        return hello(environ, start_response)

    async def main() -> None:
        recorder = RecordingResponder()
        async with serving(app, threads=1) as backend:
            with pytest.raises(BackendError):
                await backend.handle(make_request(b"/exit"), RecordingResponder())
            await backend.handle(make_request(), recorder)
        assert recorder.body == b"Hello, world!"

    with capture_logs():
        trio.run(main)


LARGE = bytes(AHEAD_BYTES)
"""A block after which the application waits for the client."""


class GoneResponder(RecordingResponder):
    """Its client leaves after the first block."""

    async def flush(self) -> None:
        await super().flush()
        raise ClientGone("the client reset the connection")


def test_client_that_leaves_while_it_receives() -> None:
    """WSGI-13: the application is not asked for more than it had begun, and its iterable is closed."""
    result = Closing(*[LARGE] * 9)
    with capture_logs() as logs, pytest.raises(ClientGone):
        handle(returning(result), make_request(), GoneResponder())
    assert result.closed.is_set()
    assert result.taken == 2
    assert logs == []


def test_write_to_a_client_that_left_raises() -> None:
    """WSGI-12, WSGI-13."""
    errors: list[Exception] = []
    ended = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(LARGE)
        try:
            write(b"y")
        except ConnectionError as error:
            errors.append(error)
        ended.set()
        return [b"more"]

    async def main() -> None:
        async with serving(app) as backend:
            with pytest.raises(ClientGone):
                await backend.handle(make_request(), GoneResponder())
            await wait_for(ended)

    with capture_logs() as logs:
        trio.run(main)
    assert len(errors) == 1
    assert logs == []  # Above all, no thread that still waits for room.


# --- cancellation


def test_cancelled_call_is_closed_by_its_thread() -> None:
    """WSGI-13: cancelling does not wait for the thread; its next block finds nobody."""
    entered, go_on = threading.Event(), threading.Event()
    closed = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        try:
            entered.set()
            go_on.wait(10)
            yield b"x"
            raise AssertionError("asked for more")
        finally:
            closed.set()

    recorder = RecordingResponder()

    async def main() -> None:
        async with serving(app) as backend:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(backend.handle, make_request(), recorder)
                    await wait_for(entered)
                    scope.cancel()
            assert scope.cancelled_caught
            assert not closed.is_set()
            go_on.set()
            await wait_for(closed)

    with capture_logs() as logs:
        trio.run(main)
    assert not recorder.started
    assert logs == []


def test_call_cancelled_while_its_client_is_slow() -> None:
    """WSGI-13: the thread that waits for room is let go."""
    result = Closing(*[LARGE] * 9)

    async def main() -> None:
        recorder = SlowResponder()
        async with serving(returning(result)) as backend:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(backend.handle, make_request(), recorder)
                    await recorder.reached.wait()
                    scope.cancel()
            await wait_for(result.closed)

    trio.run(main)
    assert result.taken == 2


def test_call_cancelled_while_its_body_is_late() -> None:
    """WSGI-13: the thread that waits for input is let go."""
    waiting = trio.Event()
    closed = threading.Event()

    class LateBody(BytesBody):
        def read_nowait(self, _most: int = 0) -> bytes | None:
            return None

        async def read(self) -> bytes:
            waiting.set()
            await trio.sleep_forever()
            raise AssertionError

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        try:
            environ["wsgi.input"].read(1)
        except ConnectionError:
            closed.set()
        return []

    async def main() -> None:
        async with serving(app) as backend:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    request = make_request(method="POST", body=LateBody(b"x"))
                    nursery.start_soon(backend.handle, request, RecordingResponder())
                    await waiting.wait()
                    scope.cancel()
            await wait_for(closed)

    with capture_logs():
        trio.run(main)


def test_call_cancelled_before_a_thread_was_free_is_not_made() -> None:
    """WSGI-13: nobody wants the answer any more."""
    entered, go_on = threading.Event(), threading.Event()
    paths: list[str] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        paths.append(environ["PATH_INFO"])
        entered.set()
        go_on.wait(10)
        return hello(environ, start_response)

    async def main() -> None:
        async with serving(app, threads=1) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(b"/first"), RecordingResponder())
            await wait_for(entered)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as cancelled:
                    cancelled.start_soon(backend.handle, make_request(b"/second"), RecordingResponder())
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            nursery.start_soon(backend.handle, make_request(b"/third"), RecordingResponder())
            go_on.set()

    with freed_without_the_collector(ApplicationCall):
        trio.run(main)
    assert paths == ["/first", "/third"]


def test_call_whose_client_has_left_in_the_middle_of_the_body_is_not_made() -> None:
    async def main() -> None:
        async with connected(unasked) as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbody")
            await client.send_eof()
            assert await read_all(client) == b""

    def unasked(environ: Environ, start_response: StartResponse) -> list[bytes]:
        raise AssertionError

    with freed_without_the_collector(ApplicationCall):
        trio.run(main)


# --- threads


def test_all_threads_work_at_the_same_time() -> None:
    """WSGI-3: calls that block do not wait for each other."""
    barrier = threading.Barrier(5)

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        barrier.wait(10)
        return hello(environ, start_response)

    recorders = [RecordingResponder() for _ in range(20)]

    async def main() -> None:
        async with serving(app, threads=5) as backend, trio.open_nursery() as nursery:
            for recorder in recorders:
                nursery.start_soon(backend.handle, make_request(), recorder)

    trio.run(main)
    assert all(recorder.body == b"Hello, world!" for recorder in recorders)


def test_many_requests_are_each_answered_with_their_own() -> None:
    """No answer is lost or exchanged when threads and tasks overlap."""

    def app(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", TEXT)
        path = environ["PATH_INFO"].encode()
        return [path] if path.endswith(b"0") else iter([path[:2], path[2:]])

    wrong: list[bytes] = []

    async def ask(backend: WsgiBackend, client: int) -> None:
        for number in range(30):
            recorder = RecordingResponder()
            path = b"/%d/%d" % (client, number)
            await backend.handle(make_request(path), recorder)
            if recorder.body != path or not recorder.ended:
                wrong.append(path)

    async def main() -> None:
        async with serving(app, threads=4) as backend, trio.open_nursery() as nursery:
            for client in range(50):
                nursery.start_soon(ask, backend, client)

    trio.run(main)
    assert wrong == []


class Holding:
    """An application whose calls stay in their thread until they are let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.paths: list[str] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        self.paths.append(environ["PATH_INFO"])
        self.entered.release()
        assert self.go_on.wait(60)
        return hello(environ, start_response)

    async def wait_until_entered(self) -> None:
        assert await trio.to_thread.run_sync(self.entered.acquire, True, 60)


def bounded(limit: int, *, queue: int, queue_time: float = 60.0) -> Slots:
    return Slots(limit, queue=queue, queue_time=queue_time, backend="admin", running="requests run")


def test_requests_beyond_the_queue_are_refused() -> None:
    """503 with Retry-After, at once; those in the queue are answered in turn."""
    app = Holding()

    class Broken(BytesBody):
        def read_nowait(self, _most: int = 0) -> bytes:
            raise RequestError(400, "broken")

    async def main() -> None:
        async with serving(app, threads=1, slots=bounded(1, queue=1, queue_time=7)) as backend:
            async with trio.open_nursery() as nursery:
                recorders = [RecordingResponder(), RecordingResponder()]
                nursery.start_soon(backend.handle, make_request(b"/runs"), recorders[0])
                await app.wait_until_entered()
                nursery.start_soon(backend.handle, make_request(b"/waits"), recorders[1])
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(BackendError) as caught:
                    await backend.handle(make_request(b"/refused"), RecordingResponder())
                app.go_on.set()
            assert (caught.value.cause, caught.value.retry_after) == (Cause.OVERLOADED, 7)
            assert [recorder.body for recorder in recorders] == [b"Hello, world!"] * 2
            # Every way out gives the place back.
            with pytest.raises(RequestError):
                await backend.handle(make_request(method="POST", body=Broken(b"x")), RecordingResponder())
            await backend.handle(make_request(b"/last"), RecordingResponder())

    trio.run(main)
    assert app.paths == ["/runs", "/waits", "/last"]


def test_a_thread_is_taken_until_the_application_returns() -> None:
    """A request whose client has left still has its thread: the next one waits, or is refused."""
    app = Holding()

    async def main() -> None:
        async with serving(app, threads=1, slots=bounded(1, queue=0)) as backend:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backend.handle, make_request(b"/left"), RecordingResponder())
                await app.wait_until_entered()
                nursery.cancel_scope.cancel()
            with pytest.raises(BackendError, match="0 requests wait already"):
                await backend.handle(make_request(b"/refused"), RecordingResponder())
            app.go_on.set()
            with trio.fail_after(60):
                while True:
                    try:
                        await backend.handle(make_request(b"/next"), RecordingResponder())
                    except BackendError:
                        await trio.lowlevel.checkpoint()
                    else:
                        break

    with capture_logs():
        trio.run(main)
    assert app.paths == ["/left", "/next"]


# --- calls that are stuck


def stuck_entries(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if "stuck" in entry["event"]]


async def until(condition: Callable[[], Any]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.lowlevel.checkpoint()


def test_a_stuck_call_is_told_about_once_and_when_it_ends() -> None:
    """With the stack of its thread: where it hangs."""
    app = Holding()

    async def main() -> None:
        async with serving(app, threads=2, stuck_after=0.2) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(b"/slow"), RecordingResponder())
            await until(lambda: stuck_entries(logs))
            looks = trio.current_time() + 0.3
            await until(lambda: trio.current_time() > looks)
            app.go_on.set()
            await until(lambda: len(stuck_entries(logs)) > 1)

    with capture_logs() as logs:
        trio.run(main)
    told, ended = stuck_entries(logs)
    assert told["event"] == "application call is stuck"
    assert (told["backend"], told["method"], told["path"]) == ("admin", "GET", "/slow")
    assert (told["threads_busy"], told["seconds"] >= 0.2) == (1, True)
    assert told["stack"].index("self.go_on.wait(60)") < told["stack"].rindex("threading.py")
    assert ended["event"] == "application call that was stuck has ended"
    assert (ended["request_id"], ended["seconds"] > told["seconds"]) == (told["request_id"], True)


@pytest.mark.parametrize("waits_for", ["to send", "to take"])
def test_a_slow_client_makes_no_call_stuck(waits_for: str) -> None:
    entered, ended = threading.Event(), threading.Event()
    go_on = trio.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        entered.set()
        environ["wsgi.input"].read()
        yield b"x" * 100_000
        yield b"x" * 100_000
        yield b"x" * 100_000

    class LateBody(BytesBody):
        async def read(self) -> bytes:
            if waits_for == "to send":
                await go_on.wait()
            return await super().read()

    class SlowTaker(RecordingResponder):
        async def flush(self) -> None:
            if waits_for == "to take":
                await go_on.wait()
            await super().flush()

    async def main() -> None:
        body = LateBody(b"x", waits=True)

        async def request() -> None:
            await backend.handle(make_request(method="POST", body=body), SlowTaker())
            ended.set()

        async with serving(app, stuck_after=0.04) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(request)
            await wait_for(entered)
            # The watch looks each 10 ms: it has looked many times when as many have passed.
            due = trio.current_time() + 0.5
            await until(lambda: trio.current_time() > due)
            assert not ended.is_set()
            go_on.set()

    with capture_logs() as logs:
        trio.run(main)
    assert ended.is_set()
    assert logs == []


def test_threads_end_with_the_backend() -> None:
    """Nothing outlives run()."""
    handle(hello, make_request(), RecordingResponder(), threads=3)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wsgi admin")]


def test_application_that_hangs_does_not_keep_the_backend(autojump_clock: trio.testing.MockClock) -> None:
    """Stopping waits for a grace, says what is still running, and goes on."""
    entered, go_on = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        entered.set()
        go_on.wait(10)
        return hello(environ, start_response)

    async def main() -> None:
        async with serving(app, threads=1) as backend:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(backend.handle, make_request(), RecordingResponder())
                    while not entered.is_set():
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

    with capture_logs() as logs:
        trio.run(main, clock=autojump_clock)
    assert logs == [
        {
            "event": "application calls are still running",
            "backend": "admin",
            "calls": 1,
            "log_level": "warning",
        }
    ]
    hanging = [thread for thread in threading.enumerate() if thread.name.startswith("wsgi admin")]
    assert len(hanging) == 1
    assert hanging[0].daemon
    # Its posts after the loop has ended go nowhere, quietly.
    go_on.set()
    hanging[0].join(10)
    assert not hanging[0].is_alive()


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


# --- loading


def start_failure(**options: Any) -> StartError:
    async def starting() -> None:
        await backend_of(pump=Pump(), **options).run()

    with pytest.raises(StartError) as caught:
        trio.run(starting)
    return caught.value


def start_error(**options: Any) -> str:
    return str(start_failure(**options))


def test_application_is_loaded_from_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`directory` goes in front of the search path; the attribute may be dotted, or a factory."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "loaded_wsgi_app.py").write_text(
        "class App:\n"
        "    @staticmethod\n"
        "    def make():\n"
        "        from tests.gateway.backends.wsgi_harness import hello\n"
        "        return hello\n"
    )
    recorder = RecordingResponder()

    async def main() -> None:
        async with pumping() as pump, trio.open_nursery() as nursery:
            backend = backend_of("loaded_wsgi_app:App.make", pump, directory=tmp_path, factory=True)
            await nursery.start(backend.run)
            await backend.handle(make_request(), recorder)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert recorder.body == b"Hello, world!"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module_here:app", "there is no module 'no_such_module_here'"),
        ("os.no_such:app", "there is no module 'os.no_such'"),
        ("os:no_such_attribute", "'os' has no attribute 'no_such_attribute'"),
        ("os:sep", "not callable, but a str"),
        ("os", "expected 'module:attribute'"),
        (":app", "expected 'module:attribute'"),
    ],
)
def test_application_that_does_not_exist(target: str, message: str) -> None:
    """A user's mistake is one message without a traceback."""
    with capture_logs() as logs:
        assert message in start_error(target=target)
    assert logs == []


@pytest.mark.parametrize(
    ("source", "factory"),
    [
        ("raise ValueError('no')", False),
        ("import no_such_module", False),
        ("def app(): raise ValueError", True),
    ],
)
def test_application_whose_code_fails(
    source: str, factory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traceback is for the log, for it is the application's."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"failing_wsgi_app_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    failure = start_failure(target=f"{name}:app", directory=tmp_path, factory=factory)
    assert "failed" in str(failure)
    assert failure.log_fields()["exception"].startswith("Traceback")


@pytest.mark.parametrize("factory", [3, lambda: 3])
def test_factory_that_makes_no_application(factory: Any) -> None:
    async def main() -> None:
        await make_backend(factory, Pump(), factory=True).run()

    with pytest.raises(StartError, match="int"):
        trio.run(main)


# --- behind the real front


def test_validator_has_no_complaint() -> None:
    """WSGI-1 to WSGI-16: wsgiref.validate checks both sides, with its warnings as errors."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read(3) + environ["wsgi.input"].readline()
        environ["wsgi.errors"].flush()
        start_response("200 OK", [*TEXT, ("Content-Length", "10")])
        return [environ["REQUEST_METHOD"].encode(), b" ", body]

    head = b"POST /m/x?q=1 HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n"
    with capture_logs() as logs:
        sized = exchange(validator(app), head + b"content-length: 5\r\n\r\nabcde", mount="/m")
        chunked = exchange(
            validator(app), head + b"transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", mount="/m"
        )
    assert logs == []
    for answer in (sized, chunked):
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nPOST abcde")
        assert b"content-length: 10\r\n" in answer


def test_continue_is_sent_at_the_first_read() -> None:
    """WSGI-17: and not before."""
    entered, go_on = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        entered.set()
        go_on.wait(10)
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    async def main() -> None:
        async with connected(app) as client:
            await client.send_all(
                b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n"
            )
            await wait_for(entered)
            with trio.move_on_after(0):
                raise AssertionError(f"sent too early: {await client.receive_some()!r}")
            go_on.set()
            assert await client.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send_all(b"abc")
            answer = await client.receive_some()
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"\r\n\r\nabc")

    trio.run(main)


@pytest.mark.parametrize(
    ("framing", "sent", "error"),
    [
        (b"Content-Length: 9", b"begun", "ClientDisconnected"),
        (b"Transfer-Encoding: chunked", b"5\r\nbegun\r\nno size\r\n", "BodyFailed"),
    ],
    ids=["the client left", "malformed"],
)
def test_what_came_before_a_body_broke_off_is_the_application_s(
    framing: bytes, sent: bytes, error: str
) -> None:
    """Uploads that are resumed (tus) keep it. It was lost where the end was here, too."""
    entered, go_on, left = threading.Event(), threading.Event(), threading.Event()
    got: list[bytes | str] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        entered.set()
        go_on.wait(20)
        body = environ["wsgi.input"]
        got.append(body.read1(100))
        for _ in range(2):
            try:
                got.append(body.read1(100))
            except OSError as broken:
                got.append(type(broken).__name__)
        left.set()
        return hello(environ, start_response)

    async def main() -> None:
        async with connected(app, intake=STREAM) as client:
            await client.send_all(b"PUT / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
            await wait_for(entered)
            await client.send_all(sent)
            await client.send_eof()
            go_on.set()
            await wait_for(left)

    trio.run(main)
    assert got == [b"begun", error, error]


def test_client_that_disconnects_ends_the_call() -> None:
    """WSGI-13: a reset while the application streams reaches it through its next block."""
    result = Closing(*[b"x" * 100_000] * 10_000)

    async def main() -> None:
        async with connected(returning(result)) as client:
            await client.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await client.receive_some(1)
            await client.aclose()
            await wait_for(result.closed)

    trio.run(main)
    assert result.taken < 10_000


def test_failure_is_answered_by_the_front() -> None:
    """WSGI-19."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        raise ZeroDivisionError("secret")

    with capture_logs():
        answer = exchange(app, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
