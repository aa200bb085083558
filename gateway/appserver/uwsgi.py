"""A uwsgi server for one WSGI application: a thread per connection, our own codec, wsgiref's handler."""

import io
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final
from wsgiref.handlers import BaseHandler
from wsgiref.headers import Headers
from wsgiref.types import ErrorStream, InputStream, WSGIApplication
from wsgiref.util import guess_scheme

from gateway.appserver.listener import DRAIN_LIMIT, accept_until_stopped
from gateway.appserver.report import Report
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    RequestEvent,
    RequestVariables,
    ResponseHead,
)
from gateway.protocols.uwsgi import UwsgiServer
from gateway.runtime import forked

THREADS: Final = 32
"""Requests of one process that run at the same time; more connections wait."""

READ_SIZE: Final = 64 * 1024


def serve_uwsgi(application: WSGIApplication, listener: socket.socket, report: Report) -> None:
    """Serve *application* by uwsgi on *listener* until told to stop; then let what runs finish."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="uwsgi") as threads:

        def handle(connection: socket.socket) -> None:
            # There are no more threads: those that there are take it in its turn.
            with suppress(RuntimeError):
                threads.submit(_serve_logged, connection, application, report)

        threads.submit(int).result()  # so that there is one
        accept_until_stopped(listener, handle, report)


def _serve_logged(connection: socket.socket, application: WSGIApplication, report: Report) -> None:
    try:
        with connection:
            _Exchange(connection).serve(application)
    except (RemoteProtocolError, OSError) as error:
        print(f"uwsgi connection failed: {error}", file=sys.stderr)
    finally:
        report.request_ended()


class _Exchange:
    """One connection, which is one request."""

    def __init__(self, connection: socket.socket) -> None:
        self.codec = UwsgiServer()
        self.connection = connection
        self.lost = False
        """The web server has gone."""
        self._received = False

    def serve(self, application: WSGIApplication) -> None:
        event = self.next_event()
        if not isinstance(event, RequestVariables):  # a PING: the answer is ready
            self.connection.sendall(self.codec.data_to_send())
            return
        _Handler(self, dict(event.variables)).run(application)
        # Closing with unread input would reset the connection under the response.
        self.connection.shutdown(socket.SHUT_WR)
        self._drain()

    def next_event(self) -> RequestEvent:
        while True:
            event = self.codec.next_event()
            if event is not NEED_DATA:
                self._received = isinstance(event, EndOfMessage)
                return event
            try:
                data = self.connection.recv(READ_SIZE)
            except OSError:
                self.lost = True
                raise
            self.codec.receive_data(data)

    def send(self, event: ResponseHead | Data) -> None:
        try:
            self.connection.sendall(self.codec.send(event))
        except OSError:
            self.lost = True
            raise

    def _drain(self) -> None:
        limit = DRAIN_LIMIT
        while not self._received and limit > 0:
            event = self.next_event()
            if isinstance(event, Data):
                limit -= len(event.data)


class _Body(io.RawIOBase):
    """wsgi.input: the pieces of the body as they come."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._rest = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self._ended:
            event = self._exchange.next_event()
            if isinstance(event, Data):
                self._rest = memoryview(event.data)
            else:
                self._ended = True
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class _Handler(BaseHandler):
    """Calls the application; its response goes out as events of the codec."""

    wsgi_multithread = True
    wsgi_multiprocess = True
    wsgi_run_once = False
    os_environ: dict[str, str] = {}  # noqa: RUF012 (declared so by BaseHandler)
    # What BaseHandler sets and its stub does not declare.
    environ: dict[str, Any]
    status: str | None
    headers: Headers | None

    def __init__(self, exchange: _Exchange, variables: dict[str, str]) -> None:
        self._exchange = exchange
        self._variables = variables

    def run(self, application: WSGIApplication) -> None:
        """As BaseHandler's, which takes any lost connection for that of the web server, and says nothing."""
        try:
            self.setup_environ()
            self.result = application(self.environ, self.start_response)
            self.finish_response()
        except BaseException as error:
            forked.end_child(error)
            if not self._exchange.lost:
                self.handle_error()

    def add_cgi_vars(self) -> None:
        self.environ.update(self._variables)
        for name in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"):
            self.environ.setdefault(name, "")

    def get_scheme(self) -> str:
        # `BaseHandler.setup_environ` asks before it adds the variables of the request.
        return guess_scheme(self._variables)

    def get_stdin(self) -> InputStream:
        return io.BufferedReader(_Body(self._exchange))

    def get_stderr(self) -> ErrorStream:
        return sys.stderr

    def send_headers(self) -> None:
        self.cleanup_headers()
        self.headers_sent = True
        assert self.status is not None
        assert self.headers is not None
        code, _, reason = self.status.partition(" ")
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        self._send(ResponseHead(int(code), fields, reason.encode("latin-1")))

    def _write(self, data: bytes) -> None:
        if data:
            self._send(Data(data))

    def _flush(self) -> None:
        """Everything is sent when it is written."""

    def _send(self, event: ResponseHead | Data) -> None:
        forked.end_returned()
        self._exchange.send(event)
