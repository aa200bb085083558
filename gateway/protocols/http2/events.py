"""What an HTTP/2 connection tells: the shared vocabulary of `protocols.events` with stream ids."""

from dataclasses import dataclass
from typing import TypeAlias

from gateway.protocols.events import Headers, RequestHead


@dataclass(slots=True)
class StreamRequest:
    """A valid request has opened a stream.

    ``head.headers`` begin with ``host``, made of :authority (RFC 9113 8.3.1), and have one ``cookie`` at
    most (8.2.3); pseudo-header fields are not among them.
    """

    stream_id: int
    head: RequestHead
    authority: bytes
    """Host and port that the request is for."""
    protocol: bytes
    """What an extended CONNECT asks for, lower-case (RFC 8441 4); ``b""`` for every other request."""
    tunnel: bool
    """Whether it is a CONNECT, extended or not (RFC 9113 8.5): then DATA is no body. The target of one that
    is not extended is the authority, host and port."""
    length: int | None
    """Bytes of body: 0 if the stream has ended with the head, None if unknown."""


@dataclass(slots=True)
class StreamRefused:
    """A stream was opened by a request that deserves an answer, but no handler: *status* says which."""

    stream_id: int
    head: RequestHead
    """As in StreamRequest; whatever is wrong with it, it says what an answer must look like."""
    status: int
    reason: str


@dataclass(slots=True)
class StreamMalformed:
    """What has opened a stream is no request, for that *reason*; the stream was reset (RFC 9113 8.1.1)."""

    stream_id: int
    reason: str


@dataclass(slots=True)
class StreamData:
    """Some bytes of a body or tunnel; may be empty (padding). *size* is what to acknowledge for it."""

    stream_id: int
    data: bytes
    size: int


@dataclass(slots=True)
class StreamEnded:
    """The client's side of the stream is complete, by END_STREAM."""

    stream_id: int
    trailers: Headers


@dataclass(slots=True)
class StreamBroken:
    """The stream is gone: reset by the client, or by us because what came on it was wrong, a *fault*."""

    stream_id: int
    code: int
    reason: str
    fault: bool = False


@dataclass(slots=True)
class WindowOpened:
    """More may be sent on the stream; on any stream if the id is 0."""

    stream_id: int


@dataclass(slots=True)
class PingAnswered:
    """The client has answered a PING of ours."""


@dataclass(slots=True)
class PeerGoesAway:
    """The client opens no more streams (GOAWAY); those that are open go on (RFC 9113 6.8)."""


Http2Event: TypeAlias = (
    StreamRequest
    | StreamRefused
    | StreamMalformed
    | StreamData
    | StreamEnded
    | StreamBroken
    | WindowOpened
    | PingAnswered
    | PeerGoesAway
)
