"""The gateway's side of an application in a process of its own.

Promises: the application sees what it would see in the gateway's own process; what it fails with is
answered, logged and shown in the same way, with the same id of the request. It learns that its client has
left when that happens, and of the end of the daemon when that begins.
"""

from typing import Final

import trio

from gateway.errors import BackendError, Cause, Phase, RequestError
from gateway.hosted.told import (
    CONNECTION,
    FAILURE,
    REQUEST,
    ToldFailure,
    failure_of,
    told_connection,
    told_request,
)
from gateway.net.pump import Pump
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import Headers, RequestHead, ResponseHead
from gateway.request import Request, Responder
from gateway.shutdown.notice import Listener, ShutdownNotice
from gateway.upstream.spawned import SpawnedUpstream
from gateway.upstream.switch import Switch
from gateway.upstream.upstream import UpstreamState

_HOST: Final = (b"host", b"application")
_LENGTH: Final = b"content-length"
_CHUNKED: Final = (b"transfer-encoding", b"chunked")
_CONTINUE: Final = (b"expect", b"100-continue")
_TAKES_TRAILERS: Final = ((b"te", b"trailers"), (b"connection", b"te"))
_SWITCHES: Final = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"))


class HostedBackend:
    """Implements `backend.Backend`. *announce* passes on what *notice* tells of the daemon's end.

    *tunnel_timeout* seconds without a byte end a WebSocket.
    """

    def __init__(
        self,
        name: str,
        *,
        upstream: SpawnedUpstream,
        pump: Pump,
        announce: Listener,
        notice: ShutdownNotice,
        tunnel_timeout: float,
    ) -> None:
        self.name = name
        self._upstream = upstream
        self._pump = pump
        self._announce = announce
        self._notice = notice
        self._tunnel_timeout = tunnel_timeout
        upstream.terms.companion = self._look_for_failure

    def snapshot(self) -> UpstreamState:
        """How the processes are."""
        return self._upstream.snapshot()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the pool of connections until cancelled."""
        self._notice.listen(self, self._announce)
        try:
            await self._upstream.run(task_status=task_status)
        finally:
            self._notice.leave(self)

    async def handle(self, request: Request, responder: Responder) -> None:
        """Pass the request on, and its answer back. Raises as the backend in the process does."""
        expects = False
        switch: Switch | None = None
        try:
            fields: Headers = [
                _HOST,
                (REQUEST, told_request(request)),
                (CONNECTION, told_connection(request.connection)),
            ]
            upgrade = request.upgrade
            if upgrade is not None and upgrade.protocol == "websocket":
                switch = Switch(upgrade, pump=self._pump, idle=self._tunnel_timeout)
                fields += _SWITCHES
            else:
                expects = _add_framing(fields, request)
            await self._upstream.exchange(
                request,
                responder,
                RequestHead(request.method.encode("ascii"), b"/", fields),
                awaits_continue=expects,
                switch=switch,
            )
        except ToldFailure as told:
            request.adopt_id(told.id)
            raise told.failure from None
        except LocalProtocolError as unsayable:
            raise RequestError(400, f"the request cannot be passed on: {unsayable}") from unsayable

    def _look_for_failure(self, head: ResponseHead) -> None:
        """Raises ToldFailure if *head* tells of one."""
        for name, value in head.headers:
            if name == FAILURE:
                try:
                    failure = failure_of(value, self.name)
                except RemoteProtocolError as wrong:  # the application has sent such a field
                    raise BackendError(
                        Cause.MALFORMED, str(wrong), backend=self.name, address="", phase=Phase.HEAD
                    ) from wrong
                raise failure


def _add_framing(fields: Headers, request: Request) -> bool:
    """Say how the body of *request* comes; whether it waits for 100 (Continue)."""
    fields += _TAKES_TRAILERS
    length = request.body.length
    if length is None:
        fields.append(_CHUNKED)
    elif length:
        fields.append((_LENGTH, b"%d" % length))
    # RFC 9110 10.1.1: from an HTTP/1.0 client it is ignored.
    if length != 0 and request.version != "1.0" and request.header(b"expect") is not None:
        fields.append(_CONTINUE)
        return True
    return False
