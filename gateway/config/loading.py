"""A configuration file to a :class:`Config`, or every mistake in it.

:func:`load` reads a file, :func:`load_text` takes its text, :func:`from_mapping` takes data that has no
file (the options of the command line). All raise :class:`ConfigError` and nothing else, whatever they get.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema

from gateway.config.base import Place
from gateway.config.descriptions import describe
from gateway.config.whole import Config
from gateway.config.wording import show
from gateway.escape import printable
from gateway.reading import read_now
from gateway.runtime.lean import without_plugins

LARGEST_FILE = 16 * 2**20
"""Bytes of a configuration file; what is larger was named by mistake."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something that the author of a configuration has to change."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.path, self.message) if part)


class ConfigError(Exception):
    """The configuration cannot be used. ``mistakes`` has all that is wrong with it, in order of lines."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


def _mistake(file: str, line: int | None, message: str, place: Place = ()) -> Mistake:
    # Keys, names and values of the author's are in it.
    return Mistake(printable(file), line, _written(place), printable(message))


def load(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file. Its relative paths start at its own directory."""
    return load_text(read_text(path), os.fspath(path), Path(path).parent)


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a configuration file. Raises ConfigError if there is none."""
    name = os.fspath(path)
    try:
        raw = read_now(name, LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([_mistake(name, None, f"cannot be read: {reason}")]) from None
    if len(raw) > LARGEST_FILE:
        raise ConfigError([_mistake(name, None, f"larger than {LARGEST_FILE} bytes")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 text: byte 0x{raw[error.start]:02x}"
        raise ConfigError([_mistake(name, line, message)]) from None


def load_text(
    text: str, name: str, directory: str | os.PathLike[str], environment: Mapping[str, str] | None = None
) -> Config:
    """Read the text of a configuration called *name*, whose relative paths start at *directory*."""
    # With PyYAML 13 ms: the command line has no YAML.
    from gateway.config.source import OTHERS, Source, SourceError

    try:
        source = Source(text, os.environ if environment is None else environment)
    except SourceError as error:
        raise ConfigError([_mistake(name, error.line, error.message)]) from None
    if source.data is None and not source.mistakes:
        raise ConfigError([_mistake(name, 1, "the file is empty: expected listeners and routes")])
    if isinstance(source.data, str) and not source.mistakes:
        message = f"expected a mapping, got {show(source.data)}{OTHERS}"
        raise ConfigError([_mistake(name, 1, message)])
    mistakes = [_mistake(name, line, message, place) for place, line, message in source.mistakes]
    try:
        config = _validated(source.data, directory)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            place = _place_in(source.data, details["loc"])
            # A value that could not be read is one mistake, not two.
            if not any(place[: len(broken)] == broken for broken in source.broken):
                mistakes.append(_mistake(name, source.line(place), details["msg"], place))
    else:
        if not mistakes:
            lines = (source.line(("routes", position)) for position in range(len(config.routes)))
            config.remember_route_places(tuple(f"{printable(name)}:{line}" for line in lines))
            return config
    raise ConfigError(sorted(dict.fromkeys(mistakes), key=lambda mistake: mistake.line or 0)) from None


def from_mapping(data: Mapping[str, Any], name: str, directory: str | os.PathLike[str]) -> Config:
    """Make a configuration of plain data, with the same checks."""
    try:
        return _validated(data, directory)
    except ValidationError as error:
        raise ConfigError(
            [
                _mistake(name, None, details["msg"], _place_in(data, details["loc"]))
                for details in error.errors(include_url=False)
            ]
        ) from None


def schema() -> dict[str, Any]:
    """The JSON Schema of the configuration, for editors (draft 2020-12)."""
    made = Config.model_json_schema(by_alias=True, schema_generator=_Untitled, mode="validation")
    describe(made, Config)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "Gateway configuration",
    }


class _Untitled(GenerateJsonSchema):
    """Without titles made of the names of keys: "X Accel Redirect" tells an editor's user nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _place_in(data: Any, place: Place) -> Place:
    """*place* as it is in *data*: without what the validation library adds on the way.

    It adds the alternatives of a type (``<spawn>``), ``[key]``, and the details of abbreviated mappings.
    """
    found: Place = ()
    missing: str | int = ""
    for key in place:
        inside = key in data if isinstance(data, dict) else isinstance(data, list) and key in range(len(data))
        if inside:
            data = data[key]
            found = (*found, key)
        missing = "" if inside else key
    is_key = isinstance(data, dict) and isinstance(missing, str) and missing[:1] not in ("", "<", "[")
    return (*found, missing) if is_key else found


def _validated(data: Any, directory: str | os.PathLike[str]) -> Config:
    with without_plugins():
        return Config.model_validate(data, context={"directory": os.path.abspath(directory)})


def _written(place: Place) -> str:
    """``routes[2].match.path``."""
    text = ""
    for key in place:
        if isinstance(key, int):
            text += f"[{key}]"
        elif key.replace("-", "_").isidentifier():
            text += f".{key}" if text else key
        else:
            text += f"[{key!r}]" if text else repr(key)
    return text
