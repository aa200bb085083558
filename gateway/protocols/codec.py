"""The one surface of all connection codecs, so that one driver fits all.

A *client* codec is the web server's side: it sends request events and receives response events.
A *server* codec is the application's side: the other way round.
"""

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

from gateway.protocols.events import NeedData, RequestEvent, ResponseEvent

Sent_contra = TypeVar("Sent_contra", contravariant=True)
Received_co = TypeVar("Received_co", covariant=True)


class Codec(Protocol, Generic[Sent_contra, Received_co]):
    """A sans-I/O connection: it stores bytes, gives events, and turns events into bytes."""

    def send(self, event: Sent_contra, /) -> bytes:
        """The bytes that say *event*.

        Raises LocalProtocolError if the event is illegal now or cannot be expressed.
        """
        ...

    def receive_data(self, data: bytes, /) -> None:
        """Store bytes from the peer; ``b""`` is the end of input. Never parses, never raises."""
        ...

    def next_event(self) -> Received_co | NeedData:
        """The next event, or NEED_DATA. Raises RemoteProtocolError, and nothing else."""
        ...


class ClientCodec(Codec[RequestEvent, ResponseEvent], Protocol):
    """The web server's side of a connection to an application."""

    @property
    def reusable(self) -> bool:
        """The last exchange is over on both sides, and the connection may carry another."""
        ...


class PullingClient(ABC):
    """A client codec of which the application asks for the request's body (AJP).

    `send` gives what may go out now and keeps the rest. BodyWanted says when more of it can go.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def holding(self) -> bool:
        """Some of what was given waits to be asked for: give no more of the body."""

    @abstractmethod
    def data_to_send(self) -> bytes:
        """What can go out: after BodyWanted something, or nothing if it was not given yet."""


ServerCodec = Codec[ResponseEvent, RequestEvent]
