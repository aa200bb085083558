"""All kinds of backends: which one a mapping is tells its key.

The module of a kind is imported when a configuration has one of it: the others would take a tenth of the
daemon's start.
"""

from typing import Annotated, Any, Final, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from gateway.config.backends.common import BackendModel
from gateway.config.base import Model
from gateway.config.on_use import OnUse
from gateway.config.wording import alternatives, expected, suggestion

KINDS: Final = {
    "cgi": OnUse("gateway.config.backends.cgi", "CGIBackend"),
    "fastcgi": OnUse("gateway.config.backends.application", "FastCGIBackend"),
    "scgi": OnUse("gateway.config.backends.application", "SCGIBackend"),
    "uwsgi": OnUse("gateway.config.backends.application", "UWSGIBackend"),
    "ajp": OnUse("gateway.config.backends.ajp", "AJPBackend"),
    "http": OnUse("gateway.config.backends.http", "HTTPBackend"),
    "asgi": OnUse("gateway.config.backends.python", "ASGIBackend"),
    "wsgi": OnUse("gateway.config.backends.python", "WSGIBackend"),
}


def _kind_of(value: dict[str, Any]) -> str:
    kinds = [key for key in value if key in KINDS]
    if len(kinds) > 1:
        raise ValueError(f"a backend is of one kind, got {alternatives(kinds).replace(' or ', ' and ')}")
    if not kinds:
        from gateway.config.foreign import kind_here  # most files have no mistakes

        guesses = [*map(kind_here, value), *(suggestion(key, KINDS) for key in value)]
        guess = next(filter(None, guesses), "")
        raise ValueError(f"expected a kind of backend ({alternatives(KINDS)}){'; ' * bool(guess)}{guess}")
    return kinds[0]


def _made(value: Any, info: ValidationInfo) -> Model:
    if isinstance(value, BackendModel):
        return value
    if not isinstance(value, dict):
        raise expected(f"a mapping with a kind of backend ({alternatives(KINDS)})", value)
    return KINDS[_kind_of(value)].made(value, info)


class _ByKind:
    """Metadata of a backend: it is made by the class of its kind."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(_made)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"oneOf": [kind.described(handler) for kind in KINDS.values()]}


Backend: TypeAlias = Annotated[BackendModel, _ByKind()]
