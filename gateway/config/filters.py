"""The settings of filters (`gateway.filters`): what a route or a backend does to requests and responses."""

from typing import Annotated, Any, Final

from pydantic import Field

from gateway.config.base import Model, written
from gateway.config.values import (
    HeaderPattern,
    Limit,
    LineTemplateText,
    Many,
    ResponseHeaderName,
    Size,
)
from gateway.config.wording import expected


class HeaderChanges(Model):
    """What becomes of the header fields of a message: remove, then set, add, default."""

    set: dict[ResponseHeaderName, LineTemplateText] = Field(default_factory=dict)
    """Fields in place of those of the same name."""
    add: dict[ResponseHeaderName, LineTemplateText] = Field(default_factory=dict)
    """Fields beside those of the same name."""
    default: dict[ResponseHeaderName, LineTemplateText] = Field(default_factory=dict)
    """Fields for messages that have none of that name."""
    remove: Annotated[tuple[HeaderPattern, ...], Many()] = ()
    """Names of fields that go, or patterns of names such as X-Debug-*."""


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
    """Bytes of a request body; more is answered 413. By default the limit for clients."""


buffering_schema: Final[dict[str, Any]] = {"type": "boolean"}


def switched_on(value: Any) -> Any:
    """``true`` for a mapping with its defaults, ``false`` for none."""
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, str):
        raise expected("true, false or a mapping", value)
    return value
