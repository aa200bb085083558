"""Shorter ways to write a value: one for a list of one, a scalar for a mapping, on and off for words."""

from collections.abc import Callable
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gateway.config.wording import expected


class Many:
    """Metadata of a tuple that may be written as one value or as a list of them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, list | tuple) else [value], handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


class AtLeastOne:
    """Metadata of a tuple that must not be empty (MinLen would not count values that are wrong)."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_not_empty, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "minItems": 1}


def _not_empty(value: Any) -> Any:
    if isinstance(value, list | tuple) and not value:
        raise ValueError("expected at least one, got an empty list")
    return value


class Short:
    """Metadata of a mapping that may be written as a scalar, which *expand* turns into the mapping."""

    def __init__(self, expand: Callable[[Any], Any], schema: dict[str, Any]) -> None:
        self.expand = expand
        self.schema = schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.expand, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [handler(schema), self.schema]}


def switched_on(value: Any) -> Any:
    """*expand* for an optional mapping: true is one with all defaults, false is none."""
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, str):
        raise expected("true, false or a mapping", value)
    return value


def switch(value: Any) -> Any:
    """YAML 1.1 reads on and off as booleans; where they are words, they are words again."""
    return ("on" if value else "off") if isinstance(value, bool) else value
