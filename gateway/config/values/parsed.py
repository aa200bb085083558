"""Values that a function makes of what is written.

Like pydantic's PlainValidator with WithJsonSchema, which also builds what it takes to write such values back:
that alone would be a third of the time in which a configuration is loaded.
"""

from collections.abc import Callable
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Parsed:
    """Metadata of a value that *parse* makes, which raises ValueError; *schema* says what may be written."""

    def __init__(self, parse: Callable[..., Any], schema: dict[str, Any]) -> None:
        self._parse = parse
        self._schema = schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._parse)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self._schema)


class ParsedInPlace(Parsed):
    """The same, where *parse* is also told the directory of the file: paths may be relative to it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._parse)
