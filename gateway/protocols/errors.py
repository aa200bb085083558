"""What can go wrong in a codec, by whose fault it is.

A codec raises nothing else: every byte sequence from a peer ends in events or in one
:class:`RemoteProtocolError`; every misuse by the caller is a :class:`LocalProtocolError`.
After an error the side that failed stays failed, and says so on each later call: by a copy of the error,
made by ``again``. The traceback of the error itself leads back to the codec, which would keep both alive.
"""

from enum import Enum


class ProtocolError(Exception):
    """A rule of the protocol was broken; the connection cannot be used further."""


class LocalProtocolError(ProtocolError):
    """Our own side broke it: a bug of the caller, or a value that the protocol cannot express."""

    def again(self) -> "LocalProtocolError":
        """The same, without a traceback."""
        return type(self)(str(self))


class TooLargeToEncode(LocalProtocolError):
    """The value is legal but the protocol has no room for it (uwsgi: 65,535 bytes of variables)."""


class RemoteProtocolError(ProtocolError):
    """The peer broke it.

    ``status`` is the HTTP status that fits when the peer is a client (400, 413, 414, 431, 501, 505);
    it means nothing when the peer is an application, where the gateway answers 502.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status

    def again(self) -> "RemoteProtocolError":
        """The same kind with the same facts, without a traceback."""
        return type(self)(str(self), status=self.status)


class LimitExceeded(RemoteProtocolError):
    """The peer sent more than a bound of ours allows (a head too large, a chunk extension too long)."""


class Incomplete(RemoteProtocolError):
    """The peer closed the connection in the middle of a message."""


class Refusal(Enum):
    """Why an application refused a request before running it (FastCGI 5.5 protocolStatus)."""

    CANT_MULTIPLEX = "cannot multiplex connections"
    OVERLOADED = "overloaded"
    UNKNOWN_ROLE = "unknown role"


class RequestRefused(RemoteProtocolError):
    """The application answered that it will not take this request; the connection itself is sound."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"the application refused the request: {refusal.value}", status=502)
        self.refusal = refusal

    def again(self) -> "RequestRefused":
        """As `RemoteProtocolError.again`."""
        return RequestRefused(self.refusal)
