"""All kinds of backends: which one a mapping is tells its key."""

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Discriminator, Tag

from gateway.config.backends.ajp import AJPBackend
from gateway.config.backends.application import FastCGIBackend, SCGIBackend, UWSGIBackend
from gateway.config.backends.cgi import CGIBackend
from gateway.config.backends.http import HTTPBackend
from gateway.config.backends.python import ASGIBackend, WSGIBackend
from gateway.config.base import Model
from gateway.config.wording import alternatives, expected, suggestion

KINDS = (
    CGIBackend,
    FastCGIBackend,
    SCGIBackend,
    UWSGIBackend,
    AJPBackend,
    HTTPBackend,
    ASGIBackend,
    WSGIBackend,
)
_KIND_NAMES = tuple(kind.kind for kind in KINDS)


def _exactly_one_kind(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kinds = [key for key in value if key in _KIND_NAMES]
    if len(kinds) > 1:
        raise ValueError(f"a backend is of one kind, got {alternatives(kinds).replace(' or ', ' and ')}")
    if not kinds:
        guess = next(filter(None, (suggestion(key, _KIND_NAMES) for key in value)), "")
        raise ValueError(
            f"expected a kind of backend ({alternatives(_KIND_NAMES)}){'; ' * bool(guess)}{guess}"
        )
    return value


def _mapping(value: Any) -> Any:
    if isinstance(value, dict | Model):
        return value
    raise expected(f"a mapping with a kind of backend ({alternatives(_KIND_NAMES)})", value)


def _kind_of(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((f"<{key}>" for key in value if key in _KIND_NAMES), None)
    return f"<{value.kind}>" if isinstance(value, KINDS) else None


Backend: TypeAlias = Annotated[
    Annotated[CGIBackend, Tag("<cgi>")]
    | Annotated[FastCGIBackend, Tag("<fastcgi>")]
    | Annotated[SCGIBackend, Tag("<scgi>")]
    | Annotated[UWSGIBackend, Tag("<uwsgi>")]
    | Annotated[AJPBackend, Tag("<ajp>")]
    | Annotated[HTTPBackend, Tag("<http>")]
    | Annotated[ASGIBackend, Tag("<asgi>")]
    | Annotated[WSGIBackend, Tag("<wsgi>")],
    Discriminator(_kind_of),
    BeforeValidator(_exactly_one_kind),
    BeforeValidator(_mapping),
]
