"""CGI: a program per request (RFC 3875).

A request's path is split where the program is found (SCRIPT_NAME | PATH_INFO), the request body streams
into its standard input, its output streams out as the response, its standard error goes to the log.
All descriptors of one exchange are in one small epoll set, so one task serves them; a second one exists
only while a request body is still arriving.

Promises:

* The program sees the CGI variables, PATH, and the configured variables; nothing of our environment.
* The response ends when the program closes its output (RFC 3875 6.1). Then it has ``timeout`` to exit.
* ``timeout`` is for inactivity: no byte in or out for that long. Waiting for the client does not count.
* On timeout, client abort and shutdown its process group gets SIGTERM, and SIGKILL after ``kill_after``;
  it is always reaped. What it left behind on a normal end (in its group, without its output) stays.

It does not run anything that is not executable, look into file types, or pass a query as arguments
(RFC 3875 4.4 is a hole older than the web's memory of it: CVE-2012-1823).
"""

import contextlib
import errno
import os
import select
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from time import perf_counter
from typing import Final

import structlog
import trio

from gateway.backend import StartError
from gateway.environ import build_environ
from gateway.errors import BackendError, Cause, GatewayError, Phase, RequestError
from gateway.local_redirect import Dispatch, follow
from gateway.process import LineSplitter, Process, describe_end, spawn
from gateway.request import Body, Request, Responder
from gateway.spool import BodyPolicy, spool
from gateway.template import Template
from gateway.upstream.exchange import MAX_INFORMATIONAL
from gateway.upstream.stderr import LAST_LINES
from protocols.cgi import HEAD_LIMIT, ResponseParser
from protocols.errors import Incomplete, LimitExceeded, LocalProtocolError, RemoteProtocolError
from protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    InformationalResponse,
    LocalRedirect,
    ResponseHead,
)

PIPE_SIZE: Final = 64 * 1024
"""Bytes that a pipe holds (pipe(7)): what can be written to a program that does not read yet."""

MAX_STDERR: Final = 64 * 1024
"""Bytes of standard error that are logged for one request; the rest is read and counted."""

DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
"""PATH for programs unless configured: where the system's interpreters are."""

log = structlog.get_logger()


@dataclass(slots=True, frozen=True)
class Script:
    """The program that a request runs, and how its path is split around it."""

    filename: bytes
    script_name: str
    path_info: str


class CgiBackend:
    """Runs the programs of a directory, or one program.

    ``path``: the directory or the program. ``timeout``: seconds without a byte in or out.
    ``kill_after``: seconds from SIGTERM to SIGKILL. ``variables``: added to the environment, they win.
    ``index``: the program to look for when a path ends at a directory. ``nph``: patterns (fnmatch) of
    names whose output is a whole HTTP response (RFC 3875 section 5). ``body_policy``: what to do with a
    request body of unknown length; ``spool_memory`` and ``max_body`` bound what is stored, in bytes,
    and ``max_body`` also what is passed on.
    ``head_limit``: bytes of the response head. ``dispatch`` answers local redirects.

    Programs do not see the Authorization field (RFC 3875 4.1.18), unless ``variables`` has it:
    ``HTTP_AUTHORIZATION: "{header.authorization}"``.
    """

    def __init__(
        self,
        name: str,
        *,
        path: str | os.PathLike[str],
        dispatch: Dispatch,
        timeout: float = 60.0,
        kill_after: float = 5.0,
        variables: Mapping[str, Template] | None = None,
        index: str | None = None,
        nph: Sequence[str] = ("nph-*",),
        body_policy: BodyPolicy = "spool",
        max_body: int = 1 << 30,
        spool_memory: int = 256 * 1024,
        head_limit: int = HEAD_LIMIT,
    ) -> None:
        self._name = name
        # Links in the configured path itself are the operator's; those below it must not lead out.
        self._path = os.path.realpath(os.fsencode(path))
        self._one_program = not os.path.isdir(self._path)
        directory = os.path.dirname(self._path) if self._one_program else self._path
        self._document_root = directory.decode("latin-1")
        self._timeout = timeout
        self._kill_after = kill_after
        self._constants = {b"PATH": DEFAULT_PATH.encode()}
        self._variables: dict[bytes, Template] = {}
        for key, template in (variables or {}).items():
            if template.constant is not None:
                self._constants[_bytes(key)] = _bytes(template.constant)
            else:
                self._variables[_bytes(key)] = template
        self._index = index
        self._nph = nph
        self._body_policy = body_policy
        self._max_body = max_body
        self._spool_memory = spool_memory
        self._head_limit = head_limit
        self._dispatch = dispatch
        self._null = -1

    @property
    def name(self) -> str:
        return self._name

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep what requests share, until cancelled. Raises StartError if there is no such path."""
        self._check()
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            os.close(self._null)
            self._null = -1

    def _check(self) -> None:
        path = os.fsdecode(self._path)
        if not os.path.exists(path):
            raise StartError(f"backend {self._name}: {path}: no such file or directory")
        if self._one_program and not os.access(path, os.X_OK):
            raise StartError(f"backend {self._name}: {path} is not executable")

    async def handle(self, request: Request, responder: Responder) -> None:
        """Run the program that *request* names.

        Raises RequestError 403 or 404 if there is none, 411 and 413 for its body; BackendError for what
        the program does wrong.
        """
        script = self._find(request)
        body = request.body
        began = perf_counter()
        if body.length is not None and body.length > self._max_body:
            raise RequestError(413, f"the request body is larger than {self._max_body} bytes")
        if body.length is not None or self._body_policy == "stream":
            target = await self._run(script, request, responder, body)
        elif self._body_policy == "reject":
            raise RequestError(
                411,
                f"backend {self._name} takes no request body of unknown length (chunked); send"
                " Content-Length, or set `body: spool` for this backend",
                close=True,
            )
        else:
            with await spool(body, memory=self._spool_memory, max_body=self._max_body) as spooled:
                began = perf_counter()
                target = await self._run(script, request, responder, spooled, spooled.descriptor)
        request.upstream_time = perf_counter() - began
        if target is not None:
            await follow(
                request,
                target,
                responder,
                dispatch=self._dispatch,
                backend=self._name,
                address=os.fsdecode(script.filename),
            )

    # Which program

    def _find(self, request: Request) -> Script:
        if self._one_program:
            return Script(self._path, request.mount, request.rest)
        # %2F would be a separator in the file system that it was not in the URL (RFC 3875 4.1.5).
        if b"%2f" in request.raw_path.lower():
            raise RequestError(404, "an encoded slash is in no program's path")
        filename = self._path
        script_name = request.mount
        segments = request.rest.split("/")[1:]
        for position, segment in enumerate(segments, 1):
            if not segment and position == len(segments):
                break  # `/directory/`
            filename, mode = self._look_up(filename, segment)
            script_name += f"/{segment}"
            if stat.S_ISREG(mode):
                return self._executable(filename, script_name, "".join(f"/{s}" for s in segments[position:]))
            if not stat.S_ISDIR(mode):
                raise RequestError(404, "there is no such program")
        return self._find_index(filename, script_name)

    def _find_index(self, directory: bytes, script_name: str) -> Script:
        if self._index is not None:
            with contextlib.suppress(RequestError):
                filename, mode = self._look_up(directory, self._index)
                if stat.S_ISREG(mode):
                    return self._executable(filename, f"{script_name}/{self._index}", "")
        raise RequestError(403, "the path is a directory of programs")

    def _look_up(self, directory: bytes, segment: str) -> tuple[bytes, int]:
        """The file or directory *segment*, and its mode; never outside the configured path."""
        # `//` names nothing (RFC 3875 9.8); the rest cannot come from a request, but costs nothing.
        if segment in ("", ".", "..") or "\0" in segment:
            raise RequestError(404, "there is no such program")
        filename = os.path.join(directory, segment.encode("utf-8", "surrogateescape"))
        try:
            mode = os.lstat(filename).st_mode
            if stat.S_ISLNK(mode):
                filename = os.path.realpath(filename, strict=True)
                mode = os.stat(filename).st_mode
                if not filename.startswith(os.path.join(self._path, b"")):
                    raise RequestError(403, "the link leads out of the programs' directory")
        except OSError as error:  # ENOENT, ENAMETOOLONG, ELOOP, EACCES
            raise RequestError(404, "there is no such program") from error
        return filename, mode

    def _executable(self, filename: bytes, script_name: str, path_info: str) -> Script:
        if not os.access(filename, os.X_OK):
            raise RequestError(403, "the file is not executable")
        return Script(filename, script_name, path_info)

    # One exchange

    async def _run(
        self,
        script: Script,
        request: Request,
        responder: Responder,
        body: Body,
        stdin: int | None = None,
    ) -> bytes | None:
        """Run *script* and pass its response on; the target if that is a local redirect.

        *stdin* is a file with the body in it, if there is one.
        """
        if stdin is None and body.length == 0:
            stdin = self._null
        exchange = _Exchange(self._name, script, request, self._timeout)
        try:
            exchange.start(self._environ(script, request, body.length), stdin, body)
            parser = ResponseParser(
                head_limit=self._head_limit,
                nph=self._is_nph(script),
                head_request=request.method == "HEAD",
            )
            if exchange.body_pending:
                target = await exchange.feed_and_relay(body, parser, responder)
            else:
                target = await exchange.relay(parser, responder)
            await exchange.finish()
            return target
        finally:
            # Nothing to wait for here after a normal end.
            await exchange.close(self._kill_after)

    def _environ(self, script: Script, request: Request, length: int | None) -> dict[bytes, bytes]:
        environ = build_environ(
            request,
            script_name=script.script_name,
            path_info=script.path_info,
            content_length=length,
            pass_authorization=False,
        )
        environ["SCRIPT_FILENAME"] = script.filename.decode("latin-1")
        environ["DOCUMENT_ROOT"] = self._document_root
        if path_info := environ["PATH_INFO"]:
            environ["PATH_TRANSLATED"] = self._document_root + path_info  # RFC 3875 4.1.6
        # RFC 3875 7.2: no NUL in values. No HTTP field has one, and a path with one was refused.
        encoded = {name.encode("latin-1"): value.encode("latin-1") for name, value in environ.items()}
        encoded.update(self._constants)
        for name, template in self._variables.items():
            encoded[name] = _bytes(template.render(request))
        return encoded

    def _is_nph(self, script: Script) -> bool:
        name = os.fsdecode(os.path.basename(script.filename))
        return any(fnmatchcase(name, pattern) for pattern in self._nph)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class _Exchange:
    """One running program with its three pipes."""

    def __init__(self, backend: str, script: Script, request: Request, timeout: float) -> None:
        self._backend = backend
        self._script = script
        self._request = request
        self._timeout = timeout
        self._process: Process | None = None
        self._descriptors: set[int] = set()
        self._stdin = self._stdout = self._stderr = -1
        self._poll: select.epoll | None = None
        self._phase = Phase.SPAWN
        self._errors = _ErrorLog(backend, script, request)
        # Feeding
        self.body_pending = False
        self._unwritten: bytes = b""
        self._active_at = 0.0
        self._waits_for_client = False

    # Beginning and end

    def start(self, environ: Mapping[bytes, bytes], stdin: int | None, body: Body) -> None:
        """Start the program; with no *stdin*, through a pipe that has what is here of *body* in it."""
        try:
            self._poll = select.epoll()
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
                [filename], env=environ, directory=directory, stdin=stdin, stdout=stdout, stderr=stderr
            )
        except OSError as error:
            raise self._not_started(error) from error
        for descriptor in (stdin, stdout, stderr):
            self._close(descriptor)
        self._poll.register(self._stdout, select.EPOLLIN)
        self._poll.register(self._stderr, select.EPOLLIN)
        self._phase = Phase.FIRST_BYTE
        self._touch()

    async def finish(self) -> None:
        """After the response: wait until the program exits, and log what it still had to say."""
        process = self._process
        assert process is not None
        assert self._poll is not None
        self._phase = Phase.RUN
        self._touch()
        if not process.reap():
            self._poll.register(process.pidfd, select.EPOLLIN)
            while not process.reap():
                if not await self._wait():
                    log.warning("CGI program does not exit", **self._errors.facts, timeout=self._timeout)
                    return
        self._read_stderr()
        if process.returncode:
            log.warning("CGI program failed", **self._errors.facts, end=describe_end(process.returncode))

    async def close(self, kill_after: float) -> None:
        """Leave nothing behind: no process, no descriptor."""
        try:
            if self._process is not None and self._process.returncode is None:
                self._close(self._stdin)
                await self._process.terminate(kill_after)
            self._read_stderr()
        finally:
            self._errors.end()
            if self._poll is not None:
                self._poll.close()
            for descriptor in tuple(self._descriptors):
                self._close(descriptor)

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        self._descriptors.update(ends)
        return ends

    def _close(self, descriptor: int) -> None:
        if descriptor in self._descriptors:
            self._descriptors.remove(descriptor)
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
                    self._waits_for_client = True
                    piece = await body.read()
                    self._waits_for_client = False
                    self._touch()
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
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._stdin)
            self._touch()

    # The response

    async def relay(self, parser: ResponseParser, responder: Responder) -> bytes | None:
        """Pass the program's output on until its end; the target if it is a local redirect."""
        target = None
        informed = 0
        try:
            while True:
                event = parser.next_event()
                if event is NEED_DATA:
                    parser.receive_data(await self._read_output(responder))
                elif isinstance(event, Data):
                    responder.write(event.data)
                elif isinstance(event, ResponseHead):
                    self._phase = Phase.BODY
                    self._start_response(responder, event)
                elif isinstance(event, EndOfMessage):
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

    def _start_response(self, responder: Responder, head: ResponseHead) -> None:
        try:
            responder.start(head.status, head.headers, head.reason)
        except LocalProtocolError as error:
            raise self._error(Cause.MALFORMED, str(error)) from error

    async def _read_output(self, responder: Responder) -> bytes:
        """Some output, ``b""`` at its end. What is ready for the client is sent before waiting."""
        flushed = self._phase is not Phase.BODY
        while True:
            try:
                data = os.read(self._stdout, PIPE_SIZE)
            except BlockingIOError:
                if not flushed:
                    flushed = True
                    await responder.flush()
                    self._touch()
                if not await self._wait():
                    detail = f"nothing in or out for {self._timeout:g} s"
                    raise self._error(Cause.READ_TIMEOUT, detail) from None
                continue
            self._touch()
            if self._phase is Phase.FIRST_BYTE:
                self._phase = Phase.HEAD
            if not data:
                self._close(self._stdout)
            return data

    async def _wait(self) -> bool:
        """Wait for output, error output or the end of the program; False if ``timeout`` is over.

        Error output is taken care of here, and is no sign of progress.
        """
        assert self._poll is not None
        while True:
            if self._waits_for_client:
                self._touch()
            deadline = self._active_at + self._timeout
            # Looked at here too: a flood of error output lets no wait be long enough to be cancelled.
            if trio.current_time() >= deadline:
                return False
            with trio.CancelScope(deadline=deadline):
                await trio.lowlevel.wait_readable(self._poll.fileno())
                break
        if any(descriptor == self._stderr for descriptor, _ in self._poll.poll(0)):
            self._read_stderr()
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
            self._errors.write(data)
        else:
            self._close(self._stderr)

    def _touch(self) -> None:
        self._active_at = trio.current_time()

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
        match error:
            case LimitExceeded():
                cause = Cause.HEAD_TOO_LARGE
            case Incomplete() if self._phase is Phase.BODY:
                cause = Cause.INCOMPLETE
            case _:
                cause = Cause.MALFORMED
        return self._error(cause, detail)

    def _not_started(self, error: OSError) -> BackendError:
        match error.errno:
            case errno.ENOENT | errno.ENOTDIR:  # the program itself was found
                why = "the interpreter in its first line does not exist"
            case errno.ENOEXEC:
                why = "it is no program of this machine, nor a script with #! in its first line"
            case _:
                why = error.strerror or str(error)
        ours = error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
        cause = Cause.OVERLOADED if ours else Cause.NOT_STARTED
        return self._error(cause, f"the program cannot be started: {why}", error.errno)

    def _error(self, cause: Cause, detail: str, code: int | None = None) -> BackendError:
        return BackendError(
            cause,
            detail,
            backend=self._backend,
            address=os.fsdecode(self._script.filename),
            phase=self._phase,
            errno=code,
            last_words=self._errors.last_lines,
        )


class _ErrorLog:
    """A program's standard error, logged line by line with the request's id, up to a bound."""

    def __init__(self, backend: str, script: Script, request: Request) -> None:
        self._backend = backend
        self._script = script
        self._request = request
        self._splitter: LineSplitter | None = None  # most programs never say anything
        self._logged = 0
        self._dropped = 0
        self.last_lines: list[str] = []

    @property
    def facts(self) -> dict[str, str]:
        return {
            "backend": self._backend,
            "program": os.fsdecode(self._script.filename),
            "request_id": self._request.id,
        }

    def write(self, data: bytes) -> None:
        if self._logged >= MAX_STDERR:
            self._dropped += len(data)
            return
        self._logged += len(data)
        if self._splitter is None:
            self._splitter = LineSplitter()
        self._log(self._splitter.feed(data))

    def end(self) -> None:
        if self._splitter is not None:
            self._log(self._splitter.end())
        if self._dropped:
            log.warning("CGI program wrote too much to stderr", **self.facts, dropped=self._dropped)

    def _log(self, lines: list[str]) -> None:
        for line in lines:
            log.warning("stderr", **self.facts, line=line)
        self.last_lines = (self.last_lines + lines)[-LAST_LINES:]
