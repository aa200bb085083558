"""One request of an HTTP/2 connection and what belongs to it."""

import trio

from gateway.failure.response import FailureResponse
from gateway.front.http2.body import Http2Body
from gateway.front.http2.output import Outlet
from gateway.front.http2.responder import Http2Responder
from gateway.front.http2.tunnel import Http2Upgrade
from gateway.request import Request


class Http2Stream:
    """One request and what belongs to it."""

    __slots__ = (
        "body",
        "gone",
        "outlet",
        "refusal",
        "request",
        "responder",
        "scope",
        "stream_id",
        "told",
        "upgrade",
    )

    def __init__(self, stream_id: int, outlet: Outlet, body: Http2Body, responder: Http2Responder) -> None:
        self.stream_id = stream_id
        self.outlet = outlet
        self.body = body
        self.responder = responder
        self.request: Request | None = None
        """None if it could not become one."""
        self.refusal: FailureResponse | None = None
        """What is answered then."""
        self.upgrade: Http2Upgrade | None = None
        self.scope: trio.CancelScope | None = None
        """In which it is answered, once that has begun."""
        self.gone = False
        """The client has reset it."""
        self.told = False
        """The handler was told that the client has gone: it has the grace to end."""

    def begin(self, scope: trio.CancelScope) -> None:
        """It is answered from now on, within *scope*."""
        self.scope = scope
        if self.upgrade is not None:
            self.upgrade.scope = scope

    def disconnect(self) -> None:
        """The client has left."""
        if self.responder.on_disconnect is not None:
            self.told = True
        self.responder.disconnect()
        if self.upgrade is not None:
            self.upgrade.disconnect()
