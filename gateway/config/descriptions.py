"""What each setting is for: the docstrings of the models' fields.

Only the JSON Schema and the documentation want them, and reading them takes a fifth of the time in which a
configuration is loaded: so it is done when somebody asks.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from gateway.config.base import Model


def descriptions(model: type[Model]) -> dict[str, str]:
    """By the names of its fields. One without a docstring is missing."""
    found: dict[str, str] = {}
    for ancestor in reversed(model.__mro__):
        if issubclass(ancestor, Model):
            found.update(_docstrings(ancestor.__module__).get(ancestor.__name__, {}))
    return {name: text for name, text in found.items() if name in model.model_fields}


def describe(schema: dict[str, Any], root: type[Model]) -> None:
    """Put descriptions into the JSON Schema of *root*, and of the models in it, by their names."""
    models = {model.__name__: model for model in _below(Model)}
    for name, definition in [(root.__name__, schema), *schema.get("$defs", {}).items()]:
        if model := models.get(name):
            for field, text in descriptions(model).items():
                definition["properties"][model.model_fields[field].alias or field]["description"] = text


def _below(model: type[Model]) -> Iterator[type[Model]]:
    for child in model.__subclasses__():
        yield child
        yield from _below(child)


@cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """By class and field of a module: the string that follows the field's line."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.ClassDef):
            fields = found[node.name] = {}
            for field, after in zip(node.body, node.body[1:], strict=False):
                match field, after:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str() as text)),
                    ):
                        fields[name] = inspect.cleandoc(text)
    return found
