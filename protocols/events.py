"""The events that every codec takes and gives: one vocabulary, nothing protocol-shaped above it.

Events are complete when built and not changed afterwards. They are slotted dataclasses, not frozen
ones: ``frozen=True`` triples the cost of building one, and one request builds four or more.

Data flow of one exchange, gateway as the web server::

    RequestHead | RequestVariables, Data*, EndOfMessage  ──► application
    application ──► InformationalResponse*, (ResponseHead, Data*, EndOfMessage) | LocalRedirect
                    with Stderr and BodyWanted anywhere between
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, TypeAlias

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields in order, duplicates kept. Names are lower-case when a codec made them."""


@dataclass(slots=True)
class RequestHead:
    """The head of an HTTP request (RFC 9112 section 3)."""

    method: bytes
    target: bytes
    """The request target as sent: origin-form, absolute-form, authority-form or ``*``."""
    headers: Headers
    version: bytes = b"1.1"


@dataclass(slots=True)
class RequestVariables:
    """The head of a CGI-family request: FastCGI PARAMS, the SCGI header block, the uwsgi variable block.

    Names and values are native strings as in PEP 3333: every character is one byte (Latin-1).
    """

    variables: Mapping[str, str]


@dataclass(slots=True)
class InformationalResponse:
    """A 1xx response; any number may come before the final one (RFC 9110 15.2)."""

    status: int
    headers: Headers
    reason: bytes = b""


@dataclass(slots=True)
class ResponseHead:
    """The head of the final response."""

    status: int
    headers: Headers
    reason: bytes = b""
    version: bytes = b"1.1"


@dataclass(slots=True)
class LocalRedirect:
    """A CGI local redirect: answer as if this path and query had been requested (RFC 3875 6.2.2).

    It is the whole response: EndOfMessage follows, no ResponseHead comes.
    """

    target: bytes


@dataclass(slots=True)
class Data:
    """Some bytes of the message body, never empty when a codec made it."""

    data: bytes


@dataclass(slots=True)
class EndOfMessage:
    """The message is complete, by the protocol's own framing."""

    trailers: Headers = field(default_factory=list)
    surplus: bool = False
    """More of the body came than Content-Length promised; it was dropped."""


@dataclass(slots=True)
class Stderr:
    """Something that the application wrote to its error stream."""

    data: bytes


@dataclass(slots=True)
class BodyWanted:
    """The application asks for more of the request's body, in a protocol where nothing of it goes unasked
    (AJP): what the codec held can be sent, and more be given.
    """


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
