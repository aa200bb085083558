"""HTTP/2 (RFC 9113), the server's side: bytes in, events with stream ids out.

====================  ====================================================================
``server``            `Http2Server`: one client connection, the states of its streams
``frames``            frames out of what arrives: bounds and floods
``windows``           flow control
``settings``          SETTINGS
``fields``            what a request's field section must look like, and what it means
``hpack``             field sections to bytes and back, remembering what repeats
``events``            what the server tells about streams and the connection
``errors``            error codes (RFC 9113 section 7) and the one exception
====================  ====================================================================

Framing, streams and windows are our own, compression is the hpack library's. h2's H2Connection needed ten
times the CPU, and what is promised here had to be built around it: faults that cost their stream only,
two steps of GOAWAY, bounds. h2 is the client in the tests.

zttp (0.0.35, in Zig) takes a third of our time and does not fit: it gives credit on receipt instead of
consumption (RFC 9113 5.2), has fixed settings and no PING of ours, keeps more of a response than the windows
take, and ends a connection at its 4,097th request, taken for a flood.
"""

from gateway.protocols.http2.errors import ErrorCode, Http2Error
from gateway.protocols.http2.events import (
    Http2Event,
    PeerGoesAway,
    PingAnswered,
    StreamBroken,
    StreamData,
    StreamEnded,
    StreamMalformed,
    StreamRefused,
    StreamRequest,
    WindowOpened,
)
from gateway.protocols.http2.frames import PREFACE
from gateway.protocols.http2.server import Http2Server

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
    "StreamMalformed",
    "StreamRefused",
    "StreamRequest",
    "WindowOpened",
]
