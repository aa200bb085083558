"""One running program with its three pipes.

The request body goes into its standard input, its output streams out as the response, its standard error
goes to the log. One task waits for its output and its end, woken by the pump; a second one exists only while
a request body is still arriving. Error output is read in the pump's task, whatever the other waits for.
"""

import errno
import os
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from gateway.backends.cgi.program import Script
from gateway.backends.cgi.progress import Progress
from gateway.backends.cgi.transcript import Recording
from gateway.errors import BackendError, Cause, GatewayError, Phase
from gateway.logger import get_logger
from gateway.logs.stderr import ErrorStream
from gateway.net.pump import Pump
from gateway.programs.confinement import Confinement
from gateway.programs.executable import explain
from gateway.programs.process import Process, describe_end, spawn
from gateway.protocols.cgi import ResponseParser
from gateway.protocols.errors import Incomplete, LimitExceeded, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    InformationalResponse,
    LocalRedirect,
    ResponseHead,
)
from gateway.request import FLUSH_BYTES, MAX_INFORMATIONAL, Body, Request, Responder
from gateway.runtime.exhaustion import EXHAUSTED

PIPE_SIZE: Final = 64 * 1024
"""Bytes that a pipe holds (pipe(7)): what can be written to a program that does not read yet."""

log = get_logger()


EXIT_WAIT: Final = 0.1
"""Seconds that a program has to exit behind its output for the response to tell how it has ended."""


@dataclass(slots=True, frozen=True)
class ExchangeSettings:
    """What all programs of a backend have in common.

    ``timeout``: seconds without a byte in or out. ``kill_after``: seconds from SIGTERM to SIGKILL.
    ``catch_stderr``: a line that matches, before the response has begun, is a failure. ``session``: each
    leads one of its own, which costs a fortieth of a small program, most of it in the scheduler (sched(7),
    autogroup); it matters only if the gateway belongs to a terminal.
    """

    timeout: float
    kill_after: float
    confinement: Confinement | None
    catch_stderr: re.Pattern[str] | None
    session: bool


class Exchange:
    """One program, from its start to its end. Whatever happens, `close` it."""

    def __init__(
        self,
        backend: str,
        script: Script,
        request: Request,
        settings: ExchangeSettings,
        pump: Pump,
        recording: Recording | None = None,
    ) -> None:
        """*recording* keeps what the program writes."""
        self._backend = backend
        self._script = script
        self._settings = settings
        self._recording = recording
        self._process: Process | None = None
        self._descriptors: set[int] = set()
        self._stdin = self._stdout = self._stderr = -1
        self._pump = pump
        self._progress = Progress(pump, settings.timeout)
        self._phase = Phase.SPAWN
        self._request = request
        self._errors: ErrorStream | None = None  # most programs never say anything
        # Feeding
        self.body_pending = False
        self._unwritten: bytes = b""

    # Beginning and end

    def start(self, environ: Mapping[bytes, bytes], stdin: int | None, body: Body) -> None:
        """Start the program; with no *stdin*, through a pipe that has what is here of *body* in it."""
        if self._recording is not None:
            self._recording.environ = environ
        try:
            if stdin is None:
                stdin, self._stdin = self._pipe()
                os.set_blocking(self._stdin, False)
                self._write_what_is_here(body)
            self._stdout, stdout = self._pipe()
            self._stderr, stderr = self._pipe()
            os.set_blocking(self._stdout, False)
            os.set_blocking(self._stderr, False)
            filename = self._script.filename
            # RFC 3875 7.2: the working directory is the script's.
            directory = os.path.dirname(filename)
            self._process = spawn(
                self._script.command,
                env=environ,
                directory=directory,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                confinement=self._settings.confinement,
                session=self._settings.session,
                expected_to_end=True,
            )
            # Who waits for the client, with the output unread, must not be told again and again.
            self._pump.watch(self._stdout, self._progress.stir, edge=True)
            self._pump.watch(self._stderr, self._read_stderr)
        except OSError as error:
            raise self._not_started(error) from error
        for descriptor in (stdin, stdout, stderr):
            self._close(descriptor)
        self._phase = Phase.FIRST_BYTE
        self._progress.begin()

    async def finish(self) -> None:
        """After the response: wait until the program exits, and log what it still had to say."""
        process = self._process
        assert process is not None
        self._phase = Phase.RUN
        self._progress.touch()
        if not process.reap() and not await self._reap_in_time(process):
            log.warning("CGI program does not exit", **self._facts, timeout=self._settings.timeout)
            return
        self._read_stderr()
        if process.returncode:
            log.warning("CGI program failed", **self._facts, end=describe_end(process.returncode))

    @property
    def _facts(self) -> dict[str, str]:
        return {
            "backend": self._backend,
            "program": os.fsdecode(self._script.filename),
            "request_id": self._request.id,
        }

    @property
    def _last_words(self) -> list[str]:
        return [] if self._errors is None else self._errors.last_words

    @property
    def failed(self) -> bool:
        """Whether the program has told of a failure by its exit status."""
        return self._process is not None and bool(self._process.returncode)

    @property
    def ending(self) -> str:
        """How the program ended, in words."""
        returncode = self._process.returncode if self._process is not None else None
        return "does not exit" if returncode is None else describe_end(returncode)

    async def close(self) -> None:
        """Leave nothing behind: no process, no descriptor."""
        try:
            if self._process is not None and self._process.returncode is None:
                # Its input stays open meanwhile: an end would make a whole body of one that was cut off
                # (FCGI-20).
                await self._process.terminate(self._settings.kill_after)
            self._read_stderr()
        finally:
            if self._errors is not None:
                self._errors.end()
            if self._recording is not None:
                self._recording.stderr = self._last_words
            self._progress.end()
            for descriptor in tuple(self._descriptors):
                self._close(descriptor)

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        self._descriptors.update(ends)
        return ends

    def _close(self, descriptor: int) -> None:
        if descriptor in self._descriptors:
            self._descriptors.remove(descriptor)
            self._pump.unwatch(descriptor)
            os.close(descriptor)

    # The request body

    def _write_what_is_here(self, body: Body) -> None:
        """Fill the pipe before the program runs: a small body that has arrived needs no second task."""
        room = PIPE_SIZE
        while room and not self._unwritten:
            piece = body.read_nowait()
            if piece is None:
                break
            if not piece:
                self._close(self._stdin)
                return
            try:
                written = os.write(self._stdin, memoryview(piece)[:room])
            except BlockingIOError:  # a pipe may be smaller for a user who has many (pipe(7))
                written = 0
            room -= written
            self._unwritten = piece[written:]
        self.body_pending = True

    async def feed_and_relay(self, body: Body, parser: ResponseParser, responder: Responder) -> bytes | None:
        """`relay` while the rest of *body* goes in: a script may answer before it has all (RFC 3875 3.4)."""
        target: bytes | None = None
        failure: GatewayError | None = None

        async def feed() -> None:
            nonlocal failure
            try:
                await self._feed(body)
            except GatewayError as error:
                failure = error
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            try:
                target = await self.relay(parser, responder)
            except GatewayError as error:
                failure = failure or error
            # A program need not read its input (RFC 3875 4.2).
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return target

    async def _feed(self, body: Body) -> None:
        try:
            await self._write(self._unwritten)
            self._unwritten = b""
            while True:
                piece = body.read_nowait()
                if piece is None:
                    self._progress.paused = True
                    try:
                        piece = await body.read()
                    finally:  # when cancelled, too: the program has answered, and is waited for
                        self._progress.paused = False
                        self._progress.touch()
                if not piece:
                    break
                await self._write(piece)
        except BrokenPipeError:
            pass  # RFC 3875 4.2: it has closed its input, it may still answer
        self._close(self._stdin)

    async def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._stdin, view)
                view = view[written:]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._stdin)
            self._progress.touch()

    # The response

    async def relay(self, parser: ResponseParser, responder: Responder) -> bytes | None:
        """Pass the program's output on until its end; the target if it is a local redirect."""
        target = None
        informed = queued = 0
        open_ended = True
        try:
            while True:
                event = parser.next_event()
                if event is NEED_DATA:
                    parser.receive_data(await self._read_output(responder))
                elif isinstance(event, Data):
                    responder.write(event.data)
                    queued += len(event.data)
                    if queued >= FLUSH_BYTES:
                        # The program may be faster than we are: its output need never run dry.
                        queued = 0
                        await responder.flush()
                        await trio.lowlevel.checkpoint()
                        self._progress.touch()
                elif isinstance(event, ResponseHead):
                    self._check_stderr()
                    open_ended = all(name != b"content-length" for name, _ in event.headers)
                    self._phase = Phase.BODY
                    self._start_response(responder, event)
                elif isinstance(event, EndOfMessage):
                    if open_ended:
                        await self._check_end()
                    elif event.surplus:
                        log.warning("the response is longer than its Content-Length", **self._facts)
                        self._close(self._stdout)  # who goes on writing learns it (SIGPIPE)
                    break
                elif isinstance(event, LocalRedirect):
                    target = event.target
                elif isinstance(event, InformationalResponse):
                    informed += 1
                    if informed > MAX_INFORMATIONAL:
                        detail = f"more than {MAX_INFORMATIONAL} informational responses"
                        raise self._error(Cause.MALFORMED, detail)
                    await responder.inform(event.status, event.headers)
        except RemoteProtocolError as error:
            raise await self._malformed(error) from error
        if target is None:
            responder.end()
            await responder.flush()
        return target

    def _check_stderr(self) -> None:
        """Raises BackendError if the program has written what is to be caught."""
        if self._settings.catch_stderr is None:
            return
        self._read_stderr()  # what it wrote before its answer is here
        if self._errors is None:
            return
        self._errors.end_line()
        if (line := self._errors.caught) is not None:
            raise self._error(Cause.MALFORMED, f"its error output is caught by catch_stderr: {line}")

    async def _check_end(self) -> None:
        """The end of the output is the end of the response (RFC 3875 6.1), unless a signal ended both.

        A program that was killed, by a bug of its own or a limit, has not said all, unless it has told how
        much that is. One that lives on behind its output has.
        """
        process = self._process
        assert process is not None
        if not process.reap():
            with trio.move_on_after(EXIT_WAIT):
                await self._reap_in_time(process)
        if process.returncode is not None and process.returncode < 0:
            self._read_stderr()
            raise self._error(Cause.INCOMPLETE, f"it was ended by {describe_end(process.returncode)}")

    def _start_response(self, responder: Responder, head: ResponseHead) -> None:
        try:
            responder.start(head.status, head.headers, head.reason)
        except LocalProtocolError as error:
            raise self._error(Cause.MALFORMED, str(error)) from error

    async def _read_output(self, responder: Responder) -> bytes:
        """Some output, ``b""`` at its end. What is ready for the client is sent before waiting."""
        progress = self._progress
        flushed = self._phase is not Phase.BODY
        while True:
            try:
                data = os.read(self._stdout, PIPE_SIZE) if progress.stirred else None
            except BlockingIOError:
                progress.stirred = False
                data = None
            if data is None:
                if not flushed:
                    flushed = True
                    await responder.flush()
                    progress.touch()
                if not await progress.wait():
                    raise self._error(
                        Cause.READ_TIMEOUT, f"nothing in or out for {self._settings.timeout:g} s"
                    )
                continue
            progress.touch()
            if self._recording is not None:
                self._recording.output(data)
            if data and self._phase is Phase.FIRST_BYTE:
                self._phase = Phase.HEAD
            if not data:
                self._close(self._stdout)
            return data

    async def _reap_in_time(self, process: Process) -> bool:
        """Wait until the program has ended, and reap it; False if ``timeout`` is over."""
        while not process.reap():
            self._progress.stirred = False
            descriptor = -1
            with suppress(OSError):  # none is left: it is found out at the next sweep
                descriptor = process.open_pidfd()
                self._pump.watch(descriptor, self._progress.stir)
            try:
                if not await self._progress.wait():
                    return False
            finally:
                self._pump.unwatch(descriptor)
        return True

    def _read_stderr(self) -> None:
        """Log what is there: at most a pipe full, so that a flood cannot hold the event loop."""
        if self._stderr not in self._descriptors:
            return
        try:
            data = os.read(self._stderr, PIPE_SIZE)
        except BlockingIOError:
            return
        if data:
            if self._errors is None:
                self._errors = ErrorStream(self._facts, self._settings.catch_stderr)
            self._errors.write(data)
        else:
            self._close(self._stderr)

    # Failures

    async def _malformed(self, error: RemoteProtocolError) -> BackendError:
        detail = str(error)
        if isinstance(error, Incomplete) and self._phase is not Phase.BODY:
            # It has closed its output without an answer: how it ended says why.
            phase = self._phase
            await self.finish()
            self._phase = phase
            assert self._process is not None
            returncode = self._process.returncode
            detail += "; it does not exit" if returncode is None else f"; {describe_end(returncode)}"
            if returncode == -signal.SIGXCPU:
                return self._error(Cause.READ_TIMEOUT, f"{detail}: its CPU time is used up")
        match error:
            case LimitExceeded():
                cause = Cause.HEAD_TOO_LARGE
            case Incomplete():
                cause = Cause.INCOMPLETE if self._phase is Phase.BODY else Cause.TERMINATED
            case _:
                cause = Cause.MALFORMED
        return self._error(cause, detail)

    def _not_started(self, error: OSError) -> BackendError:
        program = self._script.command[0]
        why = explain(program, error)
        # EAGAIN: no room for another process (fork(2)).
        ours = error.errno in EXHAUSTED or error.errno in (errno.EAGAIN, errno.ENOSPC)
        cause = Cause.OVERLOADED if ours else Cause.NOT_STARTED
        return self._error(cause, f"{os.fsdecode(program)} cannot be started: {why}", error.errno)

    def _error(self, cause: Cause, detail: str, code: int | None = None) -> BackendError:
        return BackendError(
            cause,
            detail,
            backend=self._backend,
            address=os.fsdecode(self._script.filename),
            phase=self._phase,
            errno=code,
            last_words=self._last_words,
        )
