"""The settings of filters (`gateway.filters`): what a route or a backend does to requests and responses."""

from typing import Annotated

from pydantic import Field

from gateway.config.base import Model, written
from gateway.config.values.numbers import Percent
from gateway.config.values.quantities import Limit, Size
from gateway.config.values.requests import HeaderPattern, ResponseHeaderName
from gateway.config.values.shapes import Many
from gateway.config.values.texts import LineTemplateText, PathTarget


class HeaderChanges(Model):
    """What becomes of the header fields of a message: remove, then set, add, default."""

    set: dict[ResponseHeaderName, LineTemplateText] = Field(default_factory=dict)
    """Fields in place of those of the same name."""
    add: dict[ResponseHeaderName, LineTemplateText] = Field(default_factory=dict)
    """Fields beside those of the same name."""
    default: dict[ResponseHeaderName, LineTemplateText] = Field(default_factory=dict)
    """Fields for messages that have none of that name."""
    remove: Annotated[tuple[HeaderPattern, ...], Many()] = ()
    """Names of fields that go, or patterns of names such as X-Debug-*; of responses Server, too,
    which error pages of the gateway's own have."""


class HeaderRules(Model):
    """Changes of header fields, each way."""

    request: HeaderChanges | None = None
    """What becomes of the fields of requests: set, add, default, remove."""
    response: HeaderChanges | None = None
    """What becomes of the fields of responses: set, add, default, remove."""


class Buffering(Model):
    """How much of a response is taken from the backend before the client has read it."""

    memory: Size = written("64KiB")
    """Bytes of a response that wait in memory."""
    file: Size = written("1GiB")
    """Bytes that wait in a temporary file beyond them; 0 for none: then the backend waits for the client."""


class RequestBuffering(Model):
    """A request body is read before the backend hears of the request."""

    memory: Size = written("256KiB")
    """Bytes of a body that are kept in memory before a temporary file is used."""
    max_body: Limit | None = None
    """Bytes of a request body; more is answered 413. By default, and at most, limits.body."""


class ForwardAuth(Model):
    """A backend that is asked whether a request may go on."""

    backend: str
    """The name of the backend."""
    path: PathTarget = "/"
    """The path, with a query if need be, that it is asked for, by GET and with the fields of the request;
    X-Forwarded-Method and X-Forwarded-Uri say what the client wants, the path without dot segments."""
    copy_headers: Annotated[tuple[ResponseHeaderName, ...], Many()] = ()
    """Fields of its answer that the request gets, in place of the client's own."""


class Mirror(Model):
    """A second backend that gets a copy of each request."""

    backend: str
    """The name of the backend. Nobody sees its responses."""
    percent: Percent = 100
    """How many of a hundred requests are copied."""
    memory: Size = written("256KiB")
    """Bytes of a request body kept in memory, for both, before a temporary file is used."""
    max_body: Limit | None = None
    """Bytes of a request body; more is answered 413. By default, and at most, limits.body."""
