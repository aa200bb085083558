"""The base of all configuration models: frozen, exact about keys, and complete about mistakes.

A model reports its own contradictions beside the mistakes of its fields, and those of the models in it,
in one go. So contradictions are looked for in the plain data, before it is known to be right.

The docstring of a field is its description in the JSON Schema (`gateway.config.descriptions`) and says its
unit. Inside the program durations are float seconds and sizes are int bytes. No model opens a file or a
socket, except to look whether directories that requests need exist and whether certificates and their keys
can be used, and to read error pages.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from gateway.config.wording import describe, expected, suggestion

Place: TypeAlias = tuple[str | int, ...]
"""Keys and positions from the model down to a value."""


def written(default: Any) -> Any:
    """A default as it is written in the file (``10s``), which the field's type parses like any value."""
    return Field(default=default)


def pointless(
    data: Mapping[str, Any], *keys: str, because: str, below: Place = ()
) -> Iterator[tuple[Place, str]]:
    """A mistake for each of *keys* that *data*, the mapping at *below*, has in vain, *because* of what."""
    for key in keys:
        if key in data:
            yield (*below, key), because


def queue_contradictions(
    data: dict[str, Any], *, bound: str, below: Place = ()
) -> Iterator[tuple[Place, str]]:
    """What is wrong with the queue in *data*, the mapping at *below*, where nothing but *bound* fills it."""
    if data.get(bound) is None:
        yield from pointless(
            data, "queue", "queue_time", because=f"without {bound} no request waits", below=below
        )


MISTAKE = "mistake"
"""The type of every error that leaves a model; its message is worded already."""


class Model(BaseModel):
    """A mapping of the configuration."""

    # defer_build: what a file does not use is never built, which is a third of the time to load one.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)

    later: ClassVar[dict[str, str]] = {}
    """Keys of the language that this version does not have, with what to say about them."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        """Yield place and message of what cannot be meant together. Wrong types are not its concern."""
        return iter(())

    @classmethod
    def keys(cls) -> list[str]:
        """The keys as they are written in the file."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="wrap")
    @classmethod
    def _all_mistakes(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        found = list(cls.contradictions(data)) if isinstance(data, dict) else []
        try:
            model = handler(data)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                place, kind = details["loc"], details["type"]
                if kind == MISTAKE:
                    found.append((place, details["msg"]))
                elif kind == "extra_forbidden":
                    found.append((place, cls._unknown_key(str(place[-1]))))
                elif kind == "model_type" and not place:
                    found.append((place, cls._no_mapping(data)))
                else:
                    found.append((place, describe(details)))
        else:
            if not found:
                return model
        raise ValidationError.from_exception_data(
            cls.__name__, [_error(place, message) for place, message in found]
        )

    @classmethod
    def _unknown_key(cls, key: str) -> str:
        if key in cls.later:
            return cls.later[key]
        from gateway.config.foreign import key_here  # most files have no mistakes

        hint = key_here(cls.__mro__, key) or suggestion(key, cls.keys())
        return f"unknown key; {hint or 'expected one of ' + ', '.join(cls.keys())}"

    @classmethod
    def _no_mapping(cls, value: Any) -> str:
        from gateway.config.foreign import form_of

        form = form_of(cls.__mro__)
        return str(expected(f"a mapping such as {form}" if form else "a mapping", value))


def _error(place: Place, message: str) -> InitErrorDetails:
    kind = PydanticCustomError(MISTAKE, "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=place, input=None)
