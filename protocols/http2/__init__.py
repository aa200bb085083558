"""HTTP/2 (RFC 9113), the server's side: bytes in, events with stream ids out.

====================  ====================================================================
``server``            `Http2Server`: one client connection
``frames``            a look at the frames that arrive, ahead of the engine: bounds and floods
``fields``            what a request's field section must look like, and what it means
``hpack``             field sections to bytes and back, remembering what repeats
``events``            what the server tells about streams and the connection
``errors``            error codes (RFC 9113 section 7) and the one exception
====================  ====================================================================

The engine underneath is h2's H2Connection: framing, the state machines of streams, windows, settings.
What it would answer by ending the connection although the fault is one stream's (RFC 9113 8.1.1), and
what it does not bound, is done here. Nothing above this package knows which engine it is.

zttp (0.0.35, in Zig) takes 3 µs for a small request where this package takes 100, and does not fit: it gives
credit on receipt instead of consumption (RFC 9113 5.2), has fixed settings and no PING of ours, keeps more of
a response than the windows take, and ends a connection at its 4,097th request, taken for a flood.
"""

from protocols.http2.errors import ErrorCode, Http2Error
from protocols.http2.events import (
    Http2Event,
    PeerGoesAway,
    PingAnswered,
    StreamBroken,
    StreamData,
    StreamEnded,
    StreamRefused,
    StreamRequest,
    WindowOpened,
)
from protocols.http2.frames import PREFACE
from protocols.http2.server import Http2Server

__all__ = [
    "PREFACE",
    "ErrorCode",
    "Http2Error",
    "Http2Event",
    "Http2Server",
    "PeerGoesAway",
    "PingAnswered",
    "StreamBroken",
    "StreamData",
    "StreamEnded",
    "StreamRefused",
    "StreamRequest",
    "WindowOpened",
]
