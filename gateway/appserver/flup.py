"""FastCGI and SCGI by flup's threaded servers, with what they leave undone for a supervised process.

* flup's main loop looks at its signals once a second and may sit in accept(); ours is `listener`.
* flup's pool takes threads for idle that queued connections have claimed already: of two that come together
  one may wait until another ends, and kept ones do not end. Here each connection has a thread of its own.
* flup waits at the end for threads that wait for idle connections; here connections are ended in order.
* flup's SCGI server opens its own socket, reads bodies without an end, gives an empty body as text, and
  closes a connection that still has unread body in it, which may reset it under the response.
* flup waits by select(2), which knows no descriptor from 1024 on: it closes such connections. Here, poll(2).
* flup guesses an empty PATH_INFO from the undecoded REQUEST_URI; here it stays empty.
"""

import io
import logging
import socket
import threading
import warnings
from contextlib import suppress
from typing import Any, BinaryIO, ClassVar
from wsgiref.types import WSGIApplication

from gateway.appserver import polling
from gateway.appserver.listener import DRAIN_LIMIT, OpenConnections, accept_until_stopped
from gateway.appserver.report import Report
from gateway.runtime.forked import end_child

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from flup.server import fcgi, fcgi_base, scgi, scgi_base

fcgi_base.select = scgi_base.select = polling


def serve_fastcgi(application: WSGIApplication, listener: socket.socket, report: Report) -> None:
    """Serve *application* by FastCGI on *listener* until told to stop."""
    # maxSpare: none of the pool's own threads.
    _FastCGIServer(application, multiprocess=True, maxSpare=0).serve(listener, report)


def serve_scgi(application: WSGIApplication, listener: socket.socket, report: Report) -> None:
    """Serve *application* by SCGI on *listener* until told to stop."""
    # Its logger has a line for each request at INFO.
    server = _SCGIServer(application, multiprocess=True, loggingLevel=logging.WARNING, maxSpare=0)
    server.serve(listener, report)


class _Server:
    """In front of a server of flup's: each connection is served in a thread of its own."""

    connection_class: ClassVar[Any]
    connections: OpenConnections

    def serve(self, listener: socket.socket, report: Report) -> None:
        self.connections = OpenConnections(report)
        accept_until_stopped(listener, self._accepted, report)
        self.connections.drain()

    def _accepted(self, sock: socket.socket) -> None:
        self.connections.opened(sock)
        try:
            threading.Thread(target=self.connection_class(sock, "", self, None).run, daemon=True).start()
        except RuntimeError:  # there are no more threads: the web server may try another process
            sock.close()
            self.connections.closed(sock)


def _complete(environ: dict[str, Any]) -> None:
    for name in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"):
        environ.setdefault(name, "")


# ---- FastCGI


class _FastCGIRequest(fcgi_base.Request):  # type: ignore[misc]  # flup has no types
    broken_off = False
    """The application has failed behind the beginning of its response."""

    def run(self) -> None:
        connection = self._conn._sock
        try:
            super().run()
        finally:
            self.server.connections.idle(connection)

    def _end(self, *status: int) -> None:
        if self.broken_off:
            # What has no end is incomplete to the web server; flup would tell of a whole response.
            with suppress(OSError):  # it was reset
                self._conn._sock.shutdown(socket.SHUT_RDWR)
        else:
            super()._end(*status)


class _FastCGIConnection(fcgi_base.Connection):  # type: ignore[misc]  # flup has no types
    def run(self) -> None:
        try:
            super().run()
        except OSError:
            pass  # the web server has gone
        finally:
            self._sock.close()  # flup does not always, and requests refer to it in a cycle
            self.server.connections.closed(self._sock)

    def _do_begin_request(self, record: Any) -> None:
        self.server.connections.busy(self._sock)
        super()._do_begin_request(record)


class _FastCGIServer(_Server, fcgi.WSGIServer):  # type: ignore[misc]  # flup has no types
    request_class = _FastCGIRequest
    connection_class = _FastCGIConnection

    def handler(self, request: Any) -> Any:
        try:
            return super().handler(request)
        except BaseException as error:
            end_child(error)
            request.broken_off = request.stdout.dataWritten
            raise

    def _sanitizeEnv(self, environ: dict[str, Any]) -> None:  # noqa: N802 (flup's name)
        _complete(environ)


# ---- SCGI


class _Body(io.RawIOBase):
    """Exactly the body, of a stream that does not end with it."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream = stream
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._left)
        data = self._stream.read1(size) if size else b""  # type: ignore[attr-defined]  # a BufferedReader
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def drain(self) -> None:
        """Read what is left, up to DRAIN_LIMIT."""
        limit = DRAIN_LIMIT
        while limit > 0 and (size := self.readinto(bytearray(64 * 1024))):
            limit -= size


class _SCGIConnection(scgi_base.Connection):  # type: ignore[misc]  # flup has no types
    def run(self) -> None:
        connections = self.server.connections
        try:
            super().run()
        finally:
            connections.idle(self._sock)
            connections.closed(self._sock)


class _SCGIServer(_Server, scgi.WSGIServer):  # type: ignore[misc]  # flup has no types
    connection_class = _SCGIConnection

    def handler(self, request: Any) -> None:
        length = int(request.environ["CONTENT_LENGTH"])
        body = _Body(request.stdin, length)
        request.stdin = io.BufferedReader(body)
        try:
            super().handler(request)
        except BaseException as error:
            end_child(error)
            raise
        # RFC 9112 9.6 has the reason, for TCP: closing with unread input discards output. The same is
        # true of Unix sockets, where the reader sees a reset instead of the end.
        request.stdout.flush()
        request._conn._sock.shutdown(socket.SHUT_WR)
        body.drain()

    def _sanitizeEnv(self, environ: dict[str, Any]) -> None:  # noqa: N802 (flup's name)
        _complete(environ)
