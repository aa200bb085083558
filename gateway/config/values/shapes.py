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
    """Metadata of a mapping that may be written as something shorter, which *expand* turns into the mapping.

    What it leaves as it is, is wrong unless it is a mapping; *forms* says what is right.
    """

    def __init__(
        self, expand: Callable[[Any], Any], schema: dict[str, Any], forms: str = "a mapping"
    ) -> None:
        self.expand = expand
        self.schema = schema
        self.forms = forms

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._mapping, handler(source))

    def _mapping(self, value: Any) -> Any:
        expanded = self.expand(value)
        if isinstance(expanded, str | int | float | list):
            raise expected(self.forms, value)
        return expanded

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [handler(schema), self.schema]}


class Switched(Short):
    """`Short` for an optional mapping: true is one with all defaults, false none. *keys* are some of it."""

    def __init__(self, keys: str) -> None:
        super().__init__(_switched_on, {"type": "boolean"}, f"true, false or a mapping with {keys}")


def _switched_on(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    return value


def switch(value: Any) -> Any:
    """YAML 1.1 reads on and off as booleans; where they are words, they are words again."""
    return ("on" if value else "off") if isinstance(value, bool) else value
