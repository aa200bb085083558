"""The scope, receive and send of one request, on both loops."""

import asyncio
import contextvars
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import sniffio
import structlog
import trio
import trio.lowlevel
import trio.testing
from structlog.testing import capture_logs

from gateway.backends.asgi import AsgiBackend
from gateway.backends.asgi.scope import http_scope
from gateway.errors import BackendError, Cause, ClientGone, Phase, RequestError, ResponseAborted
from gateway.request import LARGE_PIECE, PIECE
from gateway.shutdown.notice import ShutdownNotice
from tests.gateway.backends.asgi_harness import (
    answering,
    both_loops,
    cancelled_before,
    handle,
    published,
    serving,
)
from tests.gateway.conftest import BytesBody, FailingBody, RecordingResponder, make_request
from tests.gateway.served import gateway_of, read_all, read_until, responses, run, until

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}


# --- scope


def test_scope_says_all_that_the_request_says() -> None:
    """ASGI-2, ASGI-6, ASGI-7."""
    request = make_request(
        b"/m/caf%C3%A9?a=%20b",
        method="POST",
        headers=[(b"host", b"example.com"), (b"x", b"1"), (b"x", b"2")],
        scheme="https",
        mount="/m",
    )
    scope = http_scope(request, {"db": 1}, {})
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/m/café",
        "raw_path": b"/m/caf%C3%A9",
        "query_string": b"a=%20b",
        "root_path": "/m",
        "headers": [(b"host", b"example.com"), (b"x", b"1"), (b"x", b"2")],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 80),
        "state": {"db": 1},
        "extensions": {},
    }


def test_scope_path_has_no_lone_surrogates() -> None:
    """ASGI-6: the path is text; bytes that are not UTF-8 become U+FFFD, raw_path keeps them."""
    scope = http_scope(make_request(b"/%ff/x", mount="/\udcff"), {}, {})
    assert (scope["path"], scope["root_path"]) == ("/\ufffd/x", "/\ufffd")
    assert scope["raw_path"] == b"/%ff/x"


@pytest.mark.parametrize(
    "target", [b"/admin/../open", b"/admin/%2E%2e/open", b"/admin%2f..%2fopen", b"/./open"]
)
def test_scope_has_no_dot_segments(target: bytes) -> None:
    """A framework that routes by raw_path (Sanic) sees the path that the routes have judged."""
    scope = http_scope(make_request(target), {}, {})
    assert (scope["path"], scope["raw_path"]) == ("/open", b"/open")


def test_scope_of_a_unix_socket() -> None:
    """ASGI-8: the server is [path, None]; a client without an address is None."""
    scope = http_scope(make_request(client=("", None), server=("/run/x.sock", None)), {}, {})
    assert scope["server"] == ("/run/x.sock", None)
    assert scope["client"] is None


def test_scope_state_is_a_shallow_copy() -> None:
    """ASGI-22."""
    state: dict[str, Any] = {"shared": []}
    scope = http_scope(make_request(), state, {})
    scope["state"]["own"] = 1
    scope["state"]["shared"].append(1)
    assert state == {"shared": [1]}


# --- receive


def reading(received: list[Any]) -> Any:
    """An application that reads the whole body, then answers."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            received.append(message)
            if not message.get("more_body"):
                break
        await send(START)
        await send(BODY)

    return app


def piece(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@both_loops
@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (BytesBody(), [piece(b"", False)]),
        (BytesBody(b"one"), [piece(b"one", False)]),
        (BytesBody(b"one", b"two", sized=False), [piece(b"one", True), piece(b"two", False)]),
        (
            BytesBody(b"one", b"two", sized=False, waits=True),
            [piece(b"one", True), piece(b"two", False)],
        ),
    ],
    ids=["none", "one piece", "two pieces", "two pieces that come late"],
)
def test_body_arrives_in_pieces(
    loop: str, body: BytesBody, messages: list[Any], recorder: RecordingResponder
) -> None:
    """ASGI-9: more_body is False on the last piece, however the body arrives."""
    received: list[Any] = []
    again = BytesBody(*body._pieces, sized=body.length is not None, waits=body._waits)
    handle(reading(received), make_request(body=again), recorder, loop=loop)
    assert received == messages
    assert recorder.body == b"ok"


def test_receive_gives_what_is_there_without_a_checkpoint(recorder: RecordingResponder) -> None:
    """ASGI-13: applications poll receive() in a cancelled scope."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with trio.testing.assert_no_checkpoints():
            messages.append(await receive())
        await send(START)
        await send(BODY)
        with trio.testing.assert_no_checkpoints():
            messages.append(await receive())

    messages: list[Any] = []
    handle(app, make_request(body=BytesBody(b"x")), recorder, loop="trio")
    assert [message["type"] for message in messages] == ["http.request", "http.disconnect"]


@both_loops
def test_a_body_that_is_here_is_taken_in_large_pieces(loop: str, recorder: RecordingResponder) -> None:
    class WholeBody(BytesBody):
        def read_nowait(self, most: int = PIECE) -> bytes | None:
            content, self._pieces = b"".join(self._pieces), []
            if len(content) > most:
                self._pieces.append(content[most:])
            return content[:most]

    received: list[Any] = []
    content = bytes(LARGE_PIECE + 1)
    handle(reading(received), make_request(body=WholeBody(content)), recorder, loop=loop)
    assert received == [piece(bytes(LARGE_PIECE), True), piece(b"\0", False)]


@both_loops
def test_polling_for_a_disconnect_does_not_lose_the_body(loop: str, recorder: RecordingResponder) -> None:
    """hypercorn#210: a receive() that is cancelled leaves its piece to the next one."""
    arrive = trio.Event()

    class LateBody(BytesBody):
        async def read(self) -> bytes:
            await arrive.wait()
            return await super().read()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            with anyio.CancelScope() as cancelled:
                cancelled.cancel()
                polled.append(await receive())
        await send(START)
        arrive.set()
        await reading(received)(scope, receive, lambda _: send({**BODY, "more_body": True}))
        await send({"type": "http.response.body"})

    polled: list[Any] = []
    received: list[Any] = []

    async def main() -> None:
        async with serving(app, loop=loop) as backend:
            await backend.handle(make_request(body=LateBody(b"x", sized=False, waits=True)), recorder)

    trio.run(main)
    assert polled == []
    assert b"".join(message["body"] for message in received) == b"x"


@both_loops
def test_receive_waits_until_the_client_leaves(loop: str, recorder: RecordingResponder) -> None:
    """ASGI-12; sends after it raise an OSError, which is not logged (ASGI-4)."""
    waiting = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        await send(START)
        await send({**BODY, "more_body": True})
        waiting.set()
        seen.append((await receive())["type"])
        await send(BODY)

    async def main() -> None:
        async with serving(app, loop=loop) as backend, trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                await waiting.wait()
                await trio.testing.wait_all_tasks_blocked()
                recorder.disconnect()

            with pytest.raises(ClientGone) as caught:
                await backend.handle(make_request(), recorder)
            assert caught.value.__cause__ is None

    seen: list[str] = []
    with capture_logs() as logs:
        trio.run(main)
    assert seen == ["http.disconnect"]
    assert [entry for entry in logs if entry["log_level"] != "debug"] == []


@both_loops
def test_receive_tells_at_once_that_the_client_has_left(loop: str, recorder: RecordingResponder) -> None:
    """ASGI-12, when it left before anybody asked."""
    recorder.disconnected = True

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([(await receive())["type"], (await receive())["type"]])

    seen: list[str] = []
    with pytest.raises(ClientGone):
        handle(app, make_request(), recorder, loop=loop)
    assert seen == ["http.request", "http.disconnect"]


@both_loops
def test_receive_waits_until_the_response_is_complete(loop: str, recorder: RecordingResponder) -> None:
    """ASGI-12: a task that listens for the disconnect ends with the response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            seen.append((await receive())["type"])

        await receive()
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.lowlevel.checkpoint()
            await send(START)
            await send(BODY)

    seen: list[str] = []
    handle(app, make_request(), recorder, loop=loop)
    assert seen == ["http.disconnect"]
    assert recorder.body == b"ok"


@both_loops
@pytest.mark.parametrize(
    "error", [RequestError(413, "too large", close=True), ClientGone("closed in the middle")], ids=repr
)
def test_a_body_that_breaks_off_is_a_disconnect(loop: str, error: Exception) -> None:
    """ASGI-9; what it means for the client is the front's, whatever the application answers."""
    recorder = RecordingResponder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["body"])
        seen.append((await receive())["type"])
        with pytest.raises(OSError, match="disconnected"):
            await send(START)

    seen: list[Any] = []
    assert isinstance(error, RequestError | ClientGone)
    with pytest.raises(type(error)) as caught:
        handle(app, make_request(body=FailingBody(b"one", error=error)), recorder, loop=loop)
    assert caught.value is error
    assert seen == [b"one", "http.disconnect"]
    assert not recorder.started


@both_loops
@pytest.mark.parametrize("pieces", [(), (b"one",)], ids=["at once", "after a piece"])
def test_a_body_that_is_wrong_when_it_is_looked_at(loop: str, pieces: tuple[bytes, ...]) -> None:
    """What has arrived is given to the application first."""
    error = RequestError(400, "bad chunk", close=True)

    class WrongBody(BytesBody):
        def read_nowait(self, _most: int = 0) -> bytes | None:
            if not self._pieces:
                raise error
            return super().read_nowait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.extend([await receive() for _ in range(len(pieces) + 1)])

    messages: list[Any] = []
    with pytest.raises(RequestError) as caught:
        handle(app, make_request(body=WrongBody(*pieces, sized=False)), RecordingResponder(), loop=loop)
    assert caught.value is error
    assert messages == [*(piece(each, True) for each in pieces), {"type": "http.disconnect"}]


@both_loops
def test_two_tasks_wait_for_the_body(loop: str, recorder: RecordingResponder) -> None:
    """One has the next piece, the other what comes then."""
    arrive = trio.Event()

    class LateBody(BytesBody):
        async def read(self) -> bytes:
            await arrive.wait()
            return await super().read()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def take() -> None:
            results.append((await receive())["body"])

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(take)
            await anyio.wait_all_tasks_blocked()
            arrive.set()
        await answering()(scope, receive, send)

    results: list[Any] = []
    body = LateBody(b"x", b"y", sized=False, waits=True)
    handle(app, make_request(body=body), recorder, loop=loop)
    assert results == [b"x", b"y"]


# --- send


@both_loops
def test_small_response_is_flushed_once(loop: str, recorder: RecordingResponder) -> None:
    """ASGI-10: the head leaves together with the first body message."""
    app = answering(b"hello", status=201, headers=[[b"x-a", b"1"], (b"x-a", b"2")], extra="ignored")
    handle(app, make_request(), recorder, loop=loop)
    assert recorder.status == 201
    assert recorder.headers == [(b"x-a", b"1"), (b"x-a", b"2")]
    assert (recorder.body, recorder.ended, recorder.flushes) == (b"hello", True, 1)


class Literal(bytes):
    """What a library makes of its own byte strings."""


@both_loops
def test_byte_strings_of_a_subclass_are_byte_strings(loop: str, recorder: RecordingResponder) -> None:
    app = answering(Literal(b"hello"), headers=[(Literal(b"x-a"), Literal(b"1"))])
    handle(app, make_request(), recorder, loop=loop)
    assert recorder.headers == [(b"x-a", b"1")]
    assert type(recorder.headers[0][0]) is bytes
    assert recorder.body == b"hello"


@both_loops
def test_each_piece_is_flushed(loop: str, recorder: RecordingResponder) -> None:
    """ASGI-11."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            flushed.append((recorder.body, recorder.unflushed))
        await send({"type": "http.response.body"})

    flushed: list[Any] = []
    handle(app, make_request(), recorder, loop=loop)
    assert flushed == [(b"0", False), (b"01", False), (b"012", False)]
    assert recorder.ended


@both_loops
@pytest.mark.parametrize("body", [bytearray(b"ok"), memoryview(b"ok")], ids=["bytearray", "memoryview"])
def test_bytes_like_bodies_are_taken(loop: str, body: Any, recorder: RecordingResponder) -> None:
    """Starlette passes memoryviews on."""
    handle(answering(body), make_request(), recorder, loop=loop)
    assert recorder.body == b"ok"


@both_loops
def test_messages_after_the_response_are_ignored(loop: str, recorder: RecordingResponder) -> None:
    """ASGI-11."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, BODY, BODY, START):
            await send(message)

    handle(app, make_request(), recorder, loop=loop)
    assert recorder.body == b"ok"


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([{"type": "http.response.trailers"}], RuntimeError),
        ([{"type": "http.response.push", "path": "/", "headers": []}], ValueError),
        ([{"type": "websocket.accept"}], ValueError),
        ([{}], KeyError),
        ([{"type": "http.response.start"}], ValueError),
        ([{"type": "http.response.start", "status": "200"}], TypeError),
        ([{"type": "http.response.start", "status": 103}], ValueError),
        ([{"type": "http.response.start", "status": 200, "headers": [("a", b"b")]}], TypeError),
        ([{"type": "http.response.start", "status": 200, "headers": [(b"a", "b")]}], TypeError),
        ([{"type": "http.response.start", "status": 200, "headers": [(b"abc",)]}], ValueError),
        ([{"type": "http.response.start", "status": 200, "headers": [(b"a\n", b"b")]}, BODY], ValueError),
        ([BODY], RuntimeError),
        ([START, START], RuntimeError),
        ([START, {**BODY, "more_body": True}, START], RuntimeError),
        ([START, {"type": "http.response.body", "body": "text"}], TypeError),
        ([START, {"type": "http.response.body", "body": None}], TypeError),
    ],
)
def test_rejects_wrong_messages(
    messages: list[Any], error: type[Exception], recorder: RecordingResponder
) -> None:
    """ASGI-3: unknown type, missing key, wrong Python type, wrong order."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except Exception as caught:
            raised.append(type(caught))

    raised: list[type[Exception]] = []
    asked_once = ("http.response.pathsend",)  # no file can have been lost
    with pytest.raises(BackendError):
        handle(app, make_request(), recorder, loop="trio", dropped_extensions=asked_once)
    assert raised == [error]


class FullResponder(RecordingResponder):
    """The client reads slowly: what is queued leaves when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.drained = trio.Event()

    def try_flush(self) -> bool:
        return self.drained.is_set() and super().try_flush()

    async def flush(self) -> None:
        await self.drained.wait()
        await super().flush()


@both_loops
@pytest.mark.parametrize("more", [True, False])
def test_send_waits_for_a_slow_client(loop: str, more: bool) -> None:
    """ASGI-11: awaiting send is the back-pressure."""
    responder = FullResponder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        steps.append("sending")
        await send({**BODY, "more_body": more})
        steps.append("sent")
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, loop=loop) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(), responder)
            await trio.testing.wait_all_tasks_blocked()
            assert steps == ["sending"]
            responder.drained.set()

    steps: list[str] = []
    trio.run(main)
    assert steps == ["sending", "sent"]
    assert (responder.body, responder.ended) == (b"ok", True)


class GoneResponder(RecordingResponder):
    """The client has reset the connection: the first flush finds out."""

    def try_flush(self) -> bool:
        raise ClientGone("reset")


@both_loops
def test_send_raises_an_oserror_when_the_client_is_gone(loop: str) -> None:
    """ASGI-4."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for _ in range(2):
            with pytest.raises(OSError, match="the client has disconnected"):
                await send({**BODY, "more_body": True})
        seen.append((await receive())["type"])

    seen: list[str] = []
    with capture_logs() as logs, pytest.raises(ClientGone, match="reset"):
        handle(app, make_request(), GoneResponder(), loop=loop)
    assert seen == ["http.disconnect"]
    assert logs == []


@both_loops
def test_a_client_that_is_gone_before_a_response_with_the_length_of_a_file(loop: str) -> None:
    """As before any other."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"x-sendfile", b"/f"), (b"content-length", b"9")]})
        with pytest.raises(OSError, match="the client has disconnected"):
            await send({"type": "http.response.body"})

    with capture_logs() as logs, pytest.raises(ClientGone, match="reset"):
        handle(app, make_request(), GoneResponder(), loop=loop)
    assert logs == []


def test_a_task_that_nobody_awaits_may_end_by_a_client_that_is_gone() -> None:
    """ASGI-4: it is no error for the log. a2wsgi sends in such a task."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        task = asyncio.create_task(send({**BODY, "more_body": True}))
        await asyncio.wait([task])
        del task
        gc.collect()

    with capture_logs() as logs, pytest.raises(ClientGone, match="reset"):
        handle(app, make_request(), GoneResponder(), loop="asyncio")
    assert logs == []


@both_loops
@pytest.mark.parametrize(("body", "cause"), [(b"too long", Cause.MALFORMED), (b"short", Cause.INCOMPLETE)])
def test_a_broken_content_length_aborts(
    loop: str, body: bytes, cause: Cause, recorder: RecordingResponder
) -> None:
    """Even if the application swallows the error."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-length", b"6")]})
        with pytest.raises(ResponseAborted):
            await send({"type": "http.response.body", "body": body})

    with pytest.raises(BackendError) as caught:
        handle(app, make_request(), recorder, loop=loop)
    assert (caught.value.cause, caught.value.phase) == (cause, Phase.BODY)


# --- how an application ends


@both_loops
@pytest.mark.parametrize("sent", [[], [START]], ids=["nothing", "only the start"])
@pytest.mark.parametrize(
    "error",
    [
        None,
        ValueError("bug"),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
        BaseExceptionGroup("both", [SystemExit(1), ValueError("bug")]),
    ],
    ids=repr,
)
def test_no_response_is_a_500(loop: str, sent: list[Any], error: BaseException | None) -> None:
    """ASGI-5, ASGI-10: the start is held, so a proper answer is still possible."""
    recorder = RecordingResponder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)
        if error is not None:
            raise error

    request = make_request(b"/x")
    with capture_logs() as logs, pytest.raises(BackendError) as caught:
        handle(app, request, recorder, loop=loop)
    assert caught.value.cause is Cause.FAILED
    assert not recorder.started
    if error is not None:
        (entry,) = logs
        assert entry["exc_info"] is error
        words = "\n".join(caught.value.last_words)
        assert "Traceback" in words
        assert type(error).__name__ in words
        assert (entry["event"], entry["request_id"], entry["path"]) == (
            "application failed",
            request.id,
            "/x",
        )


@both_loops
@pytest.mark.parametrize("error", [None, ValueError("bug")], ids=repr)
def test_half_a_response_is_aborted(loop: str, error: Exception | None) -> None:
    """ASGI-5: the client must see that it is cut short."""
    recorder = RecordingResponder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({**BODY, "more_body": True})
        if error is not None:
            raise error

    with capture_logs() as logs, pytest.raises(BackendError) as caught:
        handle(app, make_request(), recorder, loop=loop)
    assert (caught.value.cause, caught.value.phase) == (Cause.INCOMPLETE, Phase.BODY)
    assert caught.value.detail == (
        "the application returned before its response was complete"
        if error is None
        else "the application raised ValueError"
    )
    assert not recorder.ended
    assert [entry["exc_info"] for entry in logs] == ([] if error is None else [error])


@both_loops
def test_a_failure_after_the_response_is_only_logged(loop: str, recorder: RecordingResponder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(BODY)
        raise error

    error = ValueError("bug")
    with capture_logs() as logs:
        handle(app, make_request(), recorder, loop=loop)
    assert recorder.ended
    assert [entry["exc_info"] for entry in logs] == [error]


def test_an_application_that_cancels_itself_on_asyncio_has_failed(recorder: RecordingResponder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(BackendError):
        handle(app, make_request(), recorder, loop="asyncio")


@pytest.mark.parametrize("grouped", [False, True])
def test_a_cancelled_of_another_task_is_a_failure(grouped: bool, recorder: RecordingResponder) -> None:
    """Of a request whose client has left, while others wait for what it has come to: it ended the daemon."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cancelled = await cancelled_before()
        raise BaseExceptionGroup("both", [cancelled, ValueError("bug")]) if grouped else cancelled

    with capture_logs() as logs, pytest.raises(BackendError):
        handle(app, make_request(), recorder, loop="trio")
    assert [entry["event"] for entry in logs] == ["application failed"]


@both_loops
def test_requests_do_not_share_context_variables(loop: str) -> None:
    """One request's bytes never reach another: not by what an application set for itself either."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(user.get())
        user.set("alice")
        await send(START)
        await send({**BODY, "more_body": True})
        seen.append(user.get())
        await send(BODY)

    async def main() -> None:
        async with serving(app, loop=loop) as backend:
            for _ in range(2):
                await backend.handle(make_request(), RecordingResponder())
                await trio.lowlevel.checkpoint()  # `backend.Handler`: a call begins in a step of its own
            seen.append(user.get())

    seen: list[str] = []
    trio.run(main)
    assert seen == ["nobody", "alice", "nobody", "alice", "nobody"]


@both_loops
def test_context_variables_of_the_start_are_in_all_requests(loop: str) -> None:
    """From their first step on, in each task, and beside those of other applications."""
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    seen: list[str] = []

    def make() -> Any:
        mine = next(names)
        name.set(mine)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(f"{mine} {name.get()}")
            await anyio.lowlevel.checkpoint()
            seen.append(f"{mine} {name.get()}")
            await answering()(scope, receive, send)

        return app

    async def ask(*backends: AsgiBackend) -> None:
        for backend in backends:
            await backend.handle(make_request(), RecordingResponder())
            await trio.lowlevel.checkpoint()  # `backend.Handler`: a call begins in a step of its own

    async def main() -> None:
        async with (
            serving(make, loop=loop, factory=True) as first,
            serving(make, loop=loop, factory=True) as second,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(ask, first, second, first, first)
        assert name.get() == "nobody"

    names = iter(["shop", "blog"])
    trio.run(main)
    assert seen == [f"{each} {each}" for each in ("shop", "blog", "shop", "shop") for _ in range(2)]


def test_a_request_that_comes_while_another_is_answered_has_its_own_context_variables() -> None:
    """It is here when the one before ends, and its task need not wait for it."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    seen: list[str] = []

    async def main() -> None:
        asked, answered = trio.Event(), trio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(user.get())
            user.set(scope["path"])
            if scope["path"] == "/first":
                asked.set()
                await answered.wait()
            await trio.lowlevel.checkpoint()
            seen.append(user.get())
            await send(START)
            await send(BODY)

        settings = {"asgi": published(app), "loop": "trio", "lifespan": "off"}
        config = {"backends": {"app": settings}, "routes": [{"backend": "app"}]}
        async with gateway_of(config) as served, await served.connect() as client:
            await client.send_all(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
            await asked.wait()
            await client.send_all(b"GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.01)
            answered.set()
            assert len(responses(await read_all(client))) == 2

    run(main)
    assert seen == ["nobody", "/first", "nobody", "/second"]


@both_loops
def test_the_application_sees_its_own_loop(loop: str, recorder: RecordingResponder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(sniffio.current_async_library())
        await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop=loop) as backend:
            await backend.handle(make_request(), recorder)
            seen.append(sniffio.current_async_library())

    seen: list[str] = []
    trio.run(main)
    assert seen == [loop, "trio"]


@both_loops
def test_an_application_may_return_any_awaitable(loop: str, recorder: RecordingResponder) -> None:
    """ASGI-1: a callable that returns an awaitable."""

    class Awaitable:
        def __init__(self, *arguments: Any) -> None:
            self.arguments = arguments

        def __await__(self) -> Any:
            return answering()(*self.arguments).__await__()

    handle(Awaitable, make_request(), recorder, loop=loop)
    assert recorder.body == b"ok"


# --- several tasks of one application


def serving_app(app: Any, loop: str) -> Any:
    """A gateway with *app* as its only backend."""
    settings = {"asgi": published(app), "loop": loop, "lifespan": "off"}
    return gateway_of({"backends": {"app": settings}, "routes": [{"backend": "app"}]})


@asynccontextmanager
async def one_reads(receive: Any, received: list[Any]) -> AsyncIterator[None]:
    """Another task waits in *receive*, whose message is in *received* behind the block."""

    async def read() -> None:
        reads.set()
        received.append(await receive())

    reads = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await reads.wait()
        yield


@both_loops
def test_one_task_receives_while_another_waits_for_the_client_to_read(loop: str) -> None:
    size = 8 * 1024 * 1024

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with one_reads(receive, received):
            await send({**START, "headers": [(b"content-length", b"%d" % size)]})
            await send({**BODY, "body": bytes(size), "more_body": True})
        await send({**BODY, "body": b""})

    received: list[Any] = []

    async def main() -> None:
        async with serving_app(app, loop) as served, await served.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
            await client.receive_some(1)
            await client.send_all(b"in")
            await until(lambda: bool(received))
            await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert len(await read_all(client)) > 2 * size

    run(main)
    assert received == [piece(b"in", False), piece(b"", False)]


@both_loops
def test_a_receive_that_waits_at_the_end_of_the_response_is_told_of_it(loop: str) -> None:
    """ASGI-12: what is left of the body is not for the application; the connection goes on behind it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with one_reads(receive, received):
            await answering()(scope, receive, send)

    received: list[Any] = []

    async def main() -> None:
        async with serving_app(app, loop) as served, await served.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
            await read_until(client, b"ok")
            await client.send_all(b"inGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert (await read_all(client)).endswith(b"ok")

    run(main)
    assert received == [{"type": "http.disconnect"}, piece(b"", False)]


# --- turns and cancellation


@both_loops
def test_an_endless_response_lets_others_have_their_turn(loop: str) -> None:
    """A client that reads fast must not keep the worker to itself."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while scope["path"] != "/other" and not other_done:
            await send({**BODY, "more_body": True})
        await send(BODY)

    async def main() -> None:
        async with serving(app, loop=loop) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(b"/endless"), RecordingResponder())
            await trio.lowlevel.checkpoint()
            await backend.handle(make_request(b"/other"), RecordingResponder())
            other_done.append(True)

    other_done: list[bool] = []
    trio.run(main)
    assert other_done


@both_loops
@pytest.mark.parametrize("what", ["asks, the client has left", "asks", "sends"])
def test_who_goes_on_without_end_lets_others_have_their_turn(
    loop: str, what: str, recorder: RecordingResponder
) -> None:
    """After http.disconnect, and after the response."""
    recorder.disconnected = what == "asks, the client has left"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not recorder.disconnected or scope["path"] == "/other":
            await send(START)
            await send(BODY)
        begun.set()
        while not other.ended:
            await (send(BODY) if what == "sends" else receive())

    async def endless(backend: AsgiBackend) -> None:
        try:
            await backend.handle(make_request(b"/endless"), recorder)
        except ClientGone:
            assert recorder.disconnected

    async def main() -> None:
        async with serving(app, loop=loop) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(endless, backend)
            await begun.wait()
            await backend.handle(make_request(b"/other"), other)

    begun = trio.Event()
    other = RecordingResponder()
    trio.run(main)
    assert other.body == b"ok"


@both_loops
@pytest.mark.parametrize("who", ["client", "daemon"])
def test_who_asks_on_beside_a_send_that_waits_lets_others_have_their_turn(loop: str, who: str) -> None:
    """After http.disconnect in the middle of the response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/other":
            await answering()(scope, receive, send)
            return
        await send(START)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, {**BODY, "more_body": True})
            assert await receive() == piece(b"", False)
            while not other.ended:
                assert await receive() == {"type": "http.disconnect"}
                told.set()
        await send(BODY)

    async def ask(backend: AsgiBackend) -> None:
        with suppress(ClientGone):
            await backend.handle(make_request(), responder)

    async def main() -> None:
        async with serving(app, loop=loop, notice=notice) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(ask, backend)
            await trio.testing.wait_all_tasks_blocked()
            if who == "client":
                responder.disconnect()
            else:
                notice.hurry()
            await told.wait()
            await backend.handle(make_request(b"/other"), other)
            responder.drained.set()

    notice = ShutdownNotice()
    told = trio.Event()
    responder = FullResponder()
    other = RecordingResponder()
    trio.run(main)
    assert other.body == b"ok"


@both_loops
def test_cancelling_the_request_cancels_the_application(loop: str, recorder: RecordingResponder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async def main() -> None:
        async with serving(app, loop=loop) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(), recorder)
            await entered.wait()
            nursery.cancel_scope.cancel()
        assert nursery.cancel_scope.cancelled_caught

    entered = trio.Event()
    ended: list[bool] = []
    trio.run(main)
    assert ended == [True]


@both_loops
def test_what_fails_beside_a_cancelled_task_stays_with_the_request(
    loop: str, recorder: RecordingResponder
) -> None:
    """A nursery puts both into one group: the scope takes the one, the other must not go further up."""

    async def fail_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("in the cleanup")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            tasks.start_soon(fail_when_cancelled)
            entered.set()

    async def main() -> None:
        async with serving(app, loop=loop) as backend:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backend.handle, make_request(), recorder)
                await entered.wait()
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert nursery.cancel_scope.cancelled_caught

    entered = trio.Event()
    with capture_logs() as logs:
        trio.run(main)
    assert [entry["event"] for entry in logs] == ["application failed"]


@both_loops
@pytest.mark.parametrize("where", ["receive", "send"])
def test_cancelled_while_it_waits_for_the_client(loop: str, where: str) -> None:
    """The wait on the trio side ends too."""
    waits: list[str] = []

    class Body(BytesBody):
        async def read(self) -> bytes:
            waits.append("receive")
            try:
                await trio.sleep_forever()
            finally:
                waits.append("ended")

    class Responder(RecordingResponder):
        def try_flush(self) -> bool:
            return False

        async def flush(self) -> None:
            waits.append("send")
            try:
                await trio.sleep_forever()
            finally:
                waits.append("ended")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if where == "receive":
            await receive()
        await send(START)
        await send(BODY)

    async def main() -> None:
        async with serving(app, loop=loop) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(body=Body(b"x", waits=True)), Responder())
            await trio.testing.wait_all_tasks_blocked()
            assert waits == [where]
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert waits == [where, "ended"]


class LeavingResponder(RecordingResponder):
    """The client goes away while the body is on its way."""

    def try_flush(self) -> bool:
        return False

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        raise ClientGone("reset")


@both_loops
def test_what_could_not_be_sent_is_let_go(loop: str) -> None:
    """Not only when the garbage collector runs: clients that leave must not fill the memory."""

    class Marker:
        """Lives as long as the frame of the application."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        marker = Marker()
        markers.append(weakref.ref(marker))
        await send(START)
        await send(BODY)

    async def main() -> None:
        async with serving(app, loop=loop) as backend:
            try:
                await backend.handle(make_request(), LeavingResponder())
            except ClientGone:  # pytest.raises would keep it, and with it the frames it came through
                left.append(None)
            for _ in range(5):  # the asyncio task's own last steps
                await trio.lowlevel.checkpoint()
            left.extend(marker() for marker in markers)

    markers: list[weakref.ref[Marker]] = []
    left: list[Marker | None] = []
    # As the daemon does; structlog's own default renders tracebacks, which keeps their frames for a while.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    gc.disable()
    try:
        trio.run(main)
    finally:
        gc.enable()
        structlog.reset_defaults()
    assert left == [None, None]
