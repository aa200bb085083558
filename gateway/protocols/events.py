"""The events that every codec takes and gives: one vocabulary, nothing protocol-shaped above it.

Events are complete when built and not changed afterwards. They are written out and no dataclasses: one
request builds five, and what a dataclass generates is not compiled (setup.py), which took a twentieth of the
time of a small request.

Data flow of one exchange, gateway as the web server::

    RequestHead | RequestVariables, Data*, EndOfMessage  ──► application
    application ──► InformationalResponse*, (ResponseHead, Data*, EndOfMessage) | LocalRedirect
                    with Stderr and BodyWanted anywhere between
"""

from enum import Enum
from typing import Any, ClassVar, Final, Literal, TypeAlias

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields in order, duplicates kept. Names are lower-case when a codec made them."""


class Event:
    """Equal to another of its type with equal attributes."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._attributes() == [
            getattr(other, name) for name in self.__match_args__
        ]

    __hash__ = None  # type: ignore[assignment]  # their lists may be compared, and have no hash

    def __repr__(self) -> str:
        named = ", ".join(
            f"{name}={value!r}" for name, value in zip(self.__match_args__, self._attributes(), strict=True)
        )
        return f"{type(self).__name__}({named})"

    def _attributes(self) -> list[Any]:
        return [getattr(self, name) for name in self.__match_args__]


class RequestHead(Event):
    """The head of an HTTP request (RFC 9112 section 3)."""

    __slots__ = ("headers", "method", "target", "version")
    __match_args__ = ("method", "target", "headers", "version")

    def __init__(self, method: bytes, target: bytes, headers: Headers, version: bytes = b"1.1") -> None:
        self.method = method
        self.target = target
        """The request target as sent: origin-form, absolute-form, authority-form or ``*``."""
        self.headers = headers
        self.version = version


class RequestVariables(Event):
    """The head of a CGI-family request: FastCGI PARAMS, the SCGI header block, the uwsgi variable block.

    Names and values are native strings as in PEP 3333: every character is one byte (Latin-1).
    """

    __slots__ = ("variables",)
    __match_args__ = ("variables",)

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables


class InformationalResponse(Event):
    """A 1xx response; any number may come before the final one (RFC 9110 15.2)."""

    __slots__ = ("headers", "reason", "status")
    __match_args__ = ("status", "headers", "reason")

    def __init__(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.reason = reason


class ResponseHead(Event):
    """The head of the final response."""

    __slots__ = ("headers", "reason", "status", "version")
    __match_args__ = ("status", "headers", "reason", "version")

    def __init__(self, status: int, headers: Headers, reason: bytes = b"", version: bytes = b"1.1") -> None:
        self.status = status
        self.headers = headers
        self.reason = reason
        self.version = version


class LocalRedirect(Event):
    """A CGI local redirect: answer as if this path and query had been requested (RFC 3875 6.2.2).

    It is the whole response: EndOfMessage follows, no ResponseHead comes.
    """

    __slots__ = ("target",)
    __match_args__ = ("target",)

    def __init__(self, target: bytes) -> None:
        self.target = target


class Data(Event):
    """Some bytes of the message body, never empty when a codec made it."""

    __slots__ = ("data",)
    __match_args__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class EndOfMessage(Event):
    """The message is complete, by the protocol's own framing."""

    __slots__ = ("application_status", "surplus", "trailers")
    __match_args__ = ("trailers", "surplus", "application_status")

    def __init__(
        self, trailers: Headers | None = None, surplus: bool = False, application_status: int = 0
    ) -> None:
        self.trailers: Headers = [] if trailers is None else trailers
        self.surplus = surplus
        """More of the body came than Content-Length promised; it was dropped."""
        self.application_status = application_status
        """What a CGI program would have given to exit() (FastCGI 5.5)."""


class Stderr(Event):
    """Something that the application wrote to its error stream."""

    __slots__ = ("data",)
    __match_args__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class BodyWanted(Event):
    """The application asks for more of the request's body, in a protocol where nothing of it goes unasked
    (AJP): what the codec held can be sent, and more be given.
    """

    __slots__ = ()


class NeedData(Enum):
    """The type of the one value :data:`NEED_DATA`."""

    NEED_DATA = "need data"


NEED_DATA: Final[Literal[NeedData.NEED_DATA]] = NeedData.NEED_DATA
"""``next_event()`` has nothing to give until ``receive_data()`` is called again."""

RequestEvent: TypeAlias = RequestHead | RequestVariables | Data | EndOfMessage
"""What goes from a web server to an application."""

ResponseEvent: TypeAlias = (
    InformationalResponse | ResponseHead | LocalRedirect | Data | EndOfMessage | Stderr | BodyWanted
)
"""What comes back."""
