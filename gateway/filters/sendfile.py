"""X-Sendfile and X-Accel-Redirect: the application decides, the gateway sends.

``X-Sendfile: /srv/files/report.pdf`` names a file below one of `roots` (lighttpd, Apache);
``X-Accel-Redirect: /protected/report.pdf`` a path of this server (nginx), which may lead to a route that is
for this only (`internal`). The application's own body is dropped. Its fields stay, those excepted that
describe its body; ranges and conditions of the request are answered for the file.

The status is the application's: a file may be the page of a 404 (lighttpd; Apache's mod_xsendfile leaves all
but 200 alone). Of what is no 200 there is no part (RFC 9110 14.2) and no older copy (13.2.1), so it is sent
whole. A 206 is a 200 of an application that knows ranges (Flask): the part is the gateway's to send. Behind
X-Accel-Redirect the status is that of the path, as in nginx.
"""

import os
import stat
from collections.abc import Sequence
from typing import Final

from gateway.backend import Handler
from gateway.errors import BackendError, Cause, Phase, RequestError
from gateway.front.pieces import file_unreadable
from gateway.local_redirect import Dispatch, follow
from gateway.passing import PassingResponder
from gateway.protocols.events import Headers
from gateway.protocols.http1 import encode_fields
from gateway.references import ACCEL, SENDFILE
from gateway.request import Request, Responder
from gateway.static.handler import send_file
from gateway.static.resolve import Tree

# They are about the body that is not sent.
_OF_THE_BODY: Final = frozenset(
    {
        SENDFILE,
        ACCEL,
        b"accept-ranges",
        b"content-length",
        b"content-range",
        b"etag",
        b"last-modified",
        b"transfer-encoding",
    }
)

_OF_BOTH: Final = frozenset({b"set-cookie", b"vary"})
"""RFC 6265 3, RFC 9110 12.5.5: what the one response says of these does not replace what the other says."""


class SendfileFilter:
    """Obeys X-Sendfile for files below *roots*, and X-Accel-Redirect where *accel* says so.

    *backend* is whose responses they are, for failures; *dispatch* answers redirects.
    """

    def __init__(
        self, handler: Handler, *, backend: str, roots: Sequence[str], accel: bool, dispatch: Dispatch
    ) -> None:
        self._handler = handler
        self._backend = backend
        self._trees = [(os.path.abspath(root).rstrip("/"), Tree(root)) for root in roots]
        self._accel = accel
        self._dispatch = dispatch

    async def handle(self, request: Request, responder: Responder) -> None:
        watching = _WatchingResponder(responder, sendfile=bool(self._trees), accel=self._accel)
        try:
            await self._handler.handle(request, watching)
        except BackendError as failure:
            # Its Content-Length may be the other's, and nothing of a body come.
            if watching.target is None or failure.cause is not Cause.INCOMPLETE:
                raise
        target = watching.target
        if target is None:
            return
        responder.on_disconnect = None  # the application's, which has ended
        if watching.is_file:
            merging = _MergingResponder(responder, watching.kept, watching.status, watching.reason)
            fields = request.headers if watching.status == 200 else []
            await self._send(target, request, fields, merging)
        else:
            merging = _MergingResponder(responder, watching.kept)
            await follow(
                request, target, merging, dispatch=self._dispatch, backend=self._backend, address=_ADDRESS
            )

    async def _send(self, target: bytes, request: Request, fields: Headers, responder: Responder) -> None:
        """Answer with the file, as the conditions and the range in *fields* have it."""
        descriptor, facts, name = self._open(target)
        try:
            if not stat.S_ISREG(facts.st_mode):
                raise RequestError(404, "no such file")
            head = request.method == "HEAD"
            await send_file(descriptor, facts, name, fields, responder, head=head)
        finally:
            os.close(descriptor)

    def _open(self, target: bytes) -> tuple[int, os.stat_result, str]:
        """The file that *target* names, and its own name. Raises RequestError if it is not there."""
        path = os.path.normpath(os.fsdecode(target))
        for root, tree in self._trees:
            if path.startswith(f"{root}/"):
                try:
                    return *tree.open(path[len(root) :]), os.path.basename(path)
                except OSError as error:
                    raise file_unreadable(error) from error
        detail = f"X-Sendfile names what is not below the roots: {path}"
        raise BackendError(Cause.MALFORMED, detail, backend=self._backend, address=_ADDRESS, phase=Phase.HEAD)


_ADDRESS: Final = "its response"


class _WatchingResponder(PassingResponder):
    """Passes a response on, unless it names another one."""

    __slots__ = ("_accel", "_sendfile", "is_file", "kept", "reason", "status", "target")

    def __init__(self, responder: Responder, *, sendfile: bool, accel: bool) -> None:
        super().__init__(responder)
        self._sendfile = sendfile
        self._accel = accel
        self.target: bytes | None = None
        """What the response names."""
        self.is_file = False
        """Whether that is a file; otherwise it is a path of this server."""
        self.kept: Headers = []
        """The fields of the response that stay."""
        self.status = 200
        self.reason = b""

    @property
    def started(self) -> bool:
        return self.target is not None or self._responder.started

    def withdraw(self) -> bool:
        self.target = None
        return self._responder.withdraw()

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        if self._is_named(status, headers, reason):
            return True
        return self._responder.try_respond(status, headers, body, reason)

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        if not self._is_named(status, headers, reason):
            self._responder.start(status, headers, reason)

    def write(self, data: bytes) -> None:
        if self.target is None:
            self._responder.write(data)

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        if self.target is None:
            await self._responder.write_file(descriptor, offset, count)

    def end(self, trailers: Headers | None = None) -> None:
        if self.target is None:
            self._responder.end(trailers)

    def _is_named(self, status: int, headers: Headers, reason: bytes) -> bool:
        """Whether another response is named. Raises LocalProtocolError for fields that HTTP cannot carry, as
        those of any response: the name of a file may be a client's.
        """
        for name, value in headers:
            lower = name.lower()
            if (lower == SENDFILE and self._sendfile) or (lower == ACCEL and self._accel):
                encode_fields(headers)
                self.target = value.strip()
                self.is_file = lower == SENDFILE
                if status != 206:
                    self.status, self.reason = status, reason
                self.kept = [field for field in headers if field[0].lower() not in _OF_THE_BODY]
                return True
        return False


class _MergingResponder(PassingResponder):
    """Adds the *kept* fields of the application to the response that stands in for its own, and gives a 200
    the *status* of the application.
    """

    __slots__ = ("_kept", "_reason", "_status")

    def __init__(self, responder: Responder, kept: Headers, status: int = 200, reason: bytes = b"") -> None:
        super().__init__(responder)
        self._kept = kept
        self._status = status
        self._reason = reason

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        headers = self._merged(status, headers)
        if status == 200:
            status, reason = self._status, self._reason or reason
        return self._responder.try_respond(status, headers, body, reason)

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        headers = self._merged(status, headers)
        if status == 200:
            status, reason = self._status, self._reason or reason
        self._responder.start(status, headers, reason)

    def _merged(self, status: int, headers: Headers) -> Headers:
        if status >= 300 and status != 304:
            return headers  # not what the application meant to be sent
        kept = self._kept
        if any(
            value.startswith(b"multipart/byteranges") for name, value in headers if name == b"content-type"
        ):
            # RFC 9110 15.3.7.2: then the type is that of the parts' wrapping.
            kept = [field for field in kept if field[0].lower() != b"content-type"]
        names = {name.lower() for name, _ in kept} - _OF_BOTH
        return [*kept, *(field for field in headers if field[0].lower() not in names)]
