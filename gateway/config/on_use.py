"""Models that few configurations use: they are imported, and their validators built, with the first value."""

from importlib import import_module
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from gateway.config.base import Model


class OnUse:
    """Metadata of a value that is the model called *name* in *module*, which is not imported before."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def model(self) -> type[Model]:
        """The model, imported now at the latest."""
        found: type[Model] = getattr(import_module(self.module), self.name)
        return found

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self.made)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.described(handler)

    def described(self, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The JSON Schema of the model: a reference to where it stands among the definitions."""
        # Pydantic writes the outermost schema in place: only what is within another becomes a reference.
        return handler(core_schema.definitions_schema(self.model.__pydantic_core_schema__, []))

    def made(self, value: Any, info: ValidationInfo) -> Model:
        """The model of *value*. Raises ValidationError."""
        return self.model.model_validate(value, context=info.context)
