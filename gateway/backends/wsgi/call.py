"""One call of a WSGI application: what its thread does, and the state that both threads share.

The conversation is by state, not by messages: the thread sets fields and posts the call; the trio task
looks at all fields each time it is woken. A field is written by one side and taken by the other::

    thread ─► status, headers, blocks, whole, file, finished, failed, wants_body, left ─► trio task
    thread ◄─ pieces, body_error, sent, over                                     ◄─ trio task

Back-pressure: blocks may be on their way while the application makes the next (PEP 3333, "Buffering and
Streaming": they are sent at once, by another thread), but not more than :data:`AHEAD_BYTES`, so that a block
does not cost a change of threads each. ``over`` says that nobody is listening any more; the thread learns it
as :class:`ClientDisconnected` at its next write or read.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, TypeAlias
from wsgiref.types import WSGIApplication

from trio.lowlevel import Abort, RaiseCancelT, Task, reschedule

from gateway.backends.disconnect import BodyFailed, ClientDisconnected
from gateway.backends.wsgi.head import parse_headers, parse_status
from gateway.backends.wsgi.streams import FileWrapper
from gateway.backends.wsgi.threads import WorkerThreads
from gateway.errors import RequestError
from gateway.logger import get_logger
from gateway.net.resumption import Parking, current_task, resume
from gateway.protocols.events import Headers
from gateway.protocols.reasons import BODILESS
from gateway.references import with_own_length
from gateway.request import Request, Responder
from gateway.runtime.forked import end_child
from gateway.stacks import name_of, traceback_of

log = get_logger()

AHEAD_BYTES: Final = 256 * 1024
"""Bytes of the response that the application may be ahead of the client: the next block waits."""

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


class ApplicationCall:
    """One request in one thread. Implements `threads.Call`."""

    # Class attributes are the values at first: a small request sets only a few of them.

    status = 0
    """0 until start_response was called."""
    reason = b""
    headers: Headers
    blocks: "deque[bytes] | None" = None
    """Parts of the body to be sent."""
    whole = b""
    """The whole body instead, if it came in one block."""
    sent = 0
    """Bytes of blocks that have been flushed."""
    file: tuple[int, int, int] | None = None
    """(descriptor, offset, count) of a file to be sent as the rest of the body."""
    finished = False
    """Set after the last block."""
    short = False
    """Set before ``finished`` if Content-Length promised more."""
    failed = False
    """Set instead of ``finished`` if the application raised an exception."""
    last_words: "list[str] | None" = None
    """The end of its traceback, if the response has not begun; set before, and ..."""
    raised = ""
    """... its name."""
    wants_body = False
    pieces: list[bytes]
    """Of the request body; ``b""`` is its end."""
    body_error: RequestError | None = None
    """What comes behind them, for good."""
    over = False
    waits_for_client = False
    """Whether the thread waits for the client: to send more of the body, or to take more of the response."""
    left = True
    """Whether no thread has it: not yet, or not any more."""

    _begun = False
    _left: int | None = None
    """Bytes of the body that Content-Length still promises."""
    _room: "threading.Lock | None" = None
    """Released when blocks, or a file, have been flushed; None until there is a second one."""
    _made = 0
    """Bytes of blocks posted before."""
    _body_answer: "threading.Lock | None" = None
    _task: Task | None = None
    _posted = False
    _on_left: Callable[[], None] | None = None

    def __init__(
        self,
        application: WSGIApplication,
        request: Request,
        responder: Responder,
        threads: WorkerThreads,
        backend: str,
    ) -> None:
        self.environ: dict[str, Any] = {}
        self.application = application
        self._request = request
        self._responder = responder
        self._threads = threads
        self._backend = backend

    # --- the trio side

    async def submitted(self) -> None:
        """Have a thread run the call, and wait for its first post."""
        self._task = current_task()
        self.left = False
        self._threads.submit(self)
        await Parking(self._abort)

    async def posted(self) -> None:
        """Wait for the next post."""
        if not self._posted:
            self._task = current_task()
            await Parking(self._abort)
        self._posted = False

    def deliver(self) -> None:
        """Wake the task, or make its next wait a short one."""
        if self._on_left is not None:
            self._look_whether_left()
        task = self._task
        if task is not None:
            self._task = None
            if self.finished:
                resume(task)
            else:
                # Blocks gather until its turn. At once, each would be sent alone, and the thread post the
                # next meanwhile.
                reschedule(task)
        else:
            self._posted = True

    def take_blocks(self) -> bytes:
        """All blocks that have been posted and not yet taken, as one."""
        blocks = self.blocks
        if not blocks:
            whole = self.whole
            if whole:
                self.whole = b""
            return whole
        first = blocks.popleft()
        if not blocks:
            return first
        pieces = [first]
        while blocks:
            pieces.append(blocks.popleft())
        return b"".join(pieces)

    def flushed(self, count: int) -> None:
        """*count* bytes of blocks have been sent; the next may come."""
        self.sent += count
        _unlock(self._room)

    def answer_body(self, pieces: list[bytes], error: RequestError | None) -> None:
        """Give the thread the *pieces* of the body that it waits for; without any, the *error*."""
        self.pieces = pieces
        self.body_error = error
        _unlock(self._body_answer)

    def end(self) -> None:
        """Nobody listens any more: done, cancelled, or the client is gone."""
        self.over = True
        _unlock(self._room)
        _unlock(self._body_answer)

    def when_left(self, function: Callable[[], None]) -> None:
        """After `end`: call *function* when the thread is free for another call, or as good as free."""
        if self.finished or self.failed:
            function()
            return
        self._on_left = function
        # If the thread has left it meanwhile, it may not have seen that this was to be told.
        self._look_whether_left()

    def _look_whether_left(self) -> None:
        if self.left and self._on_left is not None:
            function, self._on_left = self._on_left, None
            function()

    def _abort(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    # --- the thread's side

    def run(self) -> None:
        """Call the application, unless nobody waits for it any more."""
        try:
            if not self.over:  # Cancelled while it waited for a thread.
                self._run()
        finally:
            # wsgi.input refers to this call: without the environ there is no cycle to collect.
            self.environ = {}
        self.left = True
        if self._on_left is not None:
            self._threads.post(self)

    def fail(self, error: BaseException) -> None:
        """End it with *error*, which came into its thread from outside of the application."""
        self._fail(error)
        self.left = True
        if self._on_left is not None:
            self._threads.post(self)

    def describe(self) -> dict[str, str]:
        """Which request it is, for the log."""
        request = self._request
        return {"request_id": request.id, "method": request.method, "path": request.path}

    def client_disconnected(self) -> bool:
        """Whether nobody waits for the response any more (rules WSGI-4: ``gw.client_disconnected``)."""
        return self.over or self._responder.disconnected

    def _run(self) -> None:
        """Call the application, send what it returns, close that (PEP 3333, "Specification Details")."""
        result: Iterable[bytes] | None = None
        try:
            answer = self.application(self.environ, self.start_response)
            if type(answer) is list or type(answer) is tuple:
                # Nothing can be seen between the blocks of these, so they are one; and there is no close().
                self._finish(answer[0] if len(answer) == 1 else b"".join(answer))
            else:
                result = answer
                self._send_each(answer)
        except BaseException as error:
            # SystemExit too: it ends this request, not the worker thread.
            self._fail(error)
        finally:
            # Always, even if the client is gone (PEP 3333).
            if result is not None:
                self._close(result)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Keep the head; it is sent with the first bytes of the body, or at the end."""
        if exc_info:
            try:
                if self._begun:
                    raise _error_of(exc_info)
            finally:
                exc_info = None  # PEP 3333: avoid a circular reference through the traceback
        elif self.status:
            raise RuntimeError("start_response was called again without exc_info")
        code, self.reason = parse_status(status)
        self.headers, self._left = parse_headers(headers)
        self.status = code
        return self.write

    def write(self, data: bytes) -> None:
        """Send a block: what start_response returns, for applications that cannot return their body."""
        if data and not self.finished:
            self._send(data)

    def next_pieces(self) -> list[bytes]:
        """The next pieces of the request body, for wsgi.input; ``b""`` is its end."""
        if self._body_answer is None:
            self._body_answer = _locked()
        if self.over or self.finished:
            raise ClientDisconnected("the request is over")
        self.wants_body = True
        self._threads.post(self)
        self.waits_for_client = True
        self._body_answer.acquire()
        self.waits_for_client = False
        if self.over:
            raise ClientDisconnected("the request is over")
        if not self.pieces and self.body_error is not None:
            raise BodyFailed(self.body_error.detail)
        return self.pieces

    def _send_each(self, result: Iterable[bytes]) -> None:
        if isinstance(result, FileWrapper) and self.status and (file := result.regular_file()):
            self._send_file(*file)
            return
        for block in result:
            if block:
                self._send(block)
            if self.finished:
                break  # PEP 3333, "Handling the Content-Length Header": stop when enough was sent.
        else:
            self._finish(b"")

    def _send(self, block: bytes) -> None:
        """Post *block*; the response is finished with it if that is all that Content-Length promised."""
        block = self._checked(block)
        last = self._left == 0
        self._begin(last=last)
        self._post_block(block)
        if last:
            self.finished = True
        self._threads.post(self)

    def _finish(self, block: bytes) -> None:
        """Post the last *block*, which may be empty, and the end."""
        if self.finished:
            return
        block = self._checked(block)
        if self._left and self._request.method != "HEAD" and self.status not in BODILESS:
            self._fall_short(block)
        self._begin(last=True)
        if self.blocks is None:
            self.whole = block
        elif block:
            self._post_block(block)
        self.finished = True
        self._threads.post(self)

    def _fall_short(self, block: bytes) -> None:
        """With *block* the response is at its end, and shorter than it has said."""
        own = None if block or self._begun else with_own_length(self.headers)
        if own is not None:
            self.headers = own
        else:
            # The front will cut the connection, so that the client can tell (RFC 9112 section 8).
            self._warn("the response is shorter than its Content-Length", missing=self._left)
            self.short = True

    def _send_file(self, descriptor: int, offset: int, count: int) -> None:
        """Post a file and wait until it has been sent: after that it is closed."""
        if self._left is not None:
            count = min(count, self._left)
        elif not self._begun and self.status not in BODILESS:
            # WSGI-15: known as well as that of a single block. Not appended: the list is everybody's.
            self.headers = [*self.headers, (b"content-length", b"%d" % count)]
        self._begin(last=False)
        self.file = descriptor, offset, count
        self.finished = True
        self._threads.post(self)
        assert self._room is not None
        while not self.over:  # Blocks before the file release it too; end() comes after the file.
            self.waits_for_client = True
            self._room.acquire()
            self.waits_for_client = False

    def _checked(self, block: bytes) -> bytes:
        """*block*, cut to what Content-Length allows."""
        if not self.status:
            raise RuntimeError("the application did not call start_response before its body")
        if not isinstance(block, bytes):
            raise TypeError(f"a block of the body is not bytes: {type(block).__name__}")
        left = self._left
        if left is not None:
            if len(block) > left:
                self._warn("the response is longer than its Content-Length", excess=len(block) - left)
                block = block[:left]
            self._left = left - len(block)
        return block

    def _post_block(self, block: bytes) -> None:
        if self.blocks is None:
            self.blocks = deque()
        self._made += len(block)
        self.blocks.append(block)

    def _begin(self, *, last: bool) -> None:
        """Wait until the blocks before are not too much ahead. Raises ClientDisconnected."""
        if self._room is not None:
            # end() unlocks once: after that there is nothing to wait for.
            while self._made - self.sent >= AHEAD_BYTES and not self.over:
                self.waits_for_client = True
                self._room.acquire()
                self.waits_for_client = False
        elif not last:
            self._room = _locked()
        if self.over:
            raise ClientDisconnected("the client has gone")
        self._begun = True

    def _fail(self, error: BaseException) -> None:
        end_child(error)
        # What follows from the client's failure, which the application may have wrapped, is not its own.
        if self.finished or not (self.over or self.body_error is not None):
            log.error(
                "application failed",
                backend=self._backend,
                **self.describe(),
                exc_info=error,
            )
        if not self.finished:
            if not self._begun:
                self.last_words = traceback_of(error)
            self.raised = name_of(error)
            self.failed = True
        # Also when it has finished: what was thrown into the thread may have come before that was posted.
        self._threads.post(self)

    def _close(self, result: Iterable[bytes]) -> None:
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        except BaseException as error:  # as in run()
            end_child(error)
            log.exception(
                "application failed in close()",
                backend=self._backend,
                method=self._request.method,
                path=self._request.path,
            )

    def _warn(self, event: str, **facts: object) -> None:
        log.warning(
            event, backend=self._backend, method=self._request.method, path=self._request.path, **facts
        )


def _error_of(exc_info: ExcInfo) -> BaseException:
    _, error, traceback = exc_info
    if error is None:
        return RuntimeError("start_response was called again after the response had begun")
    return error.with_traceback(traceback)


def _unlock(lock: "threading.Lock | None") -> None:
    """Release *lock* if the thread waits for it or will; only the trio thread ever releases."""
    if lock is not None and lock.locked():
        lock.release()
