"""Numbers and booleans, which may come from variables."""

import os
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, Strict
from pydantic_core import CoreSchema, core_schema

from gateway.config.values.parsed import Parsed
from gateway.config.wording import expected


class FromEnvironment(str):
    """Text that came from a variable: may stand where a number or a boolean is expected."""

    __slots__ = ()


VARIABLE: Final = {"type": "string", "pattern": r"\$\{.+\}"}


class _OrVariable:
    """Lets a number or boolean be written as ``${NAME}`` too."""

    def __init__(self, parse: Callable[[Any], Any]) -> None:
        self._parse = parse

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._parse, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [handler(schema), VARIABLE]}


def whole_number(value: Any) -> Any:
    """The number in the text of a variable; anything else as it is."""
    if isinstance(value, FromEnvironment) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value, re.ASCII):
        return int(value)
    return value


_TRUTH: Final = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


def flag(value: Any) -> Any:
    """The truth in the text of a variable; anything else as it is."""
    return _TRUTH.get(value.strip().lower(), value) if isinstance(value, FromEnvironment) else value


MOST: Final = 2**31 - 1
"""What the system takes for a count (an int of C, as of listen(2)), and HTTP/2 for that of streams."""


class Number(_OrVariable):
    """Metadata of a whole number of at least *least* and at most *most*, or ``${NAME}`` for one."""

    def __init__(self, least: int, most: int = MOST) -> None:
        super().__init__(whole_number)
        self._number = core_schema.int_schema(strict=True, ge=least, le=most)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._parse, self._number)


Flag: TypeAlias = Annotated[bool, Strict(), _OrVariable(flag)]
"""true or false."""

Http2: TypeAlias = Annotated[Literal[True, False, "only"], _OrVariable(flag)]
"""Whether HTTP/2 is spoken, or nothing else."""

Count: TypeAlias = Annotated[int, Number(1)]
"""A whole number, at least 1."""

CountOrNone: TypeAlias = Annotated[int, Number(0)]
"""A whole number, 0 means none."""

Byte: TypeAlias = Annotated[int, Number(0, 255)]
"""A whole number that fits one byte."""

Percent: TypeAlias = Annotated[int, Number(1, 100)]
"""A part of a hundred."""

FinalStatus: TypeAlias = Annotated[int, Number(200, 599)]
"""The status of a final response."""

ErrorStatus: TypeAlias = Annotated[int, Number(400, 599)]
"""The status of a response that tells of an error."""

RedirectStatus: TypeAlias = Annotated[Literal[301, 302, 303, 307, 308], _OrVariable(whole_number)]
"""The status of a redirect."""


MOST_PROCESSES: Final = 1024
"""Of one daemon: more than any machine has cores, and fewer than the system has room for."""

Processes: TypeAlias = Annotated[int, Number(1, MOST_PROCESSES)]
"""So many processes, at least 1."""

ProcessesOrNone: TypeAlias = Annotated[int, Number(0, MOST_PROCESSES)]
"""So many processes, 0 means none."""

Threads: TypeAlias = Annotated[int, Number(1, 10_000)]
"""So many threads, all of which are started. Linux has room for some 32,000 by default."""

Tries: TypeAlias = Annotated[int, Number(1, 100)]
"""So many, one right after the other."""


def parse_workers(value: Any) -> int:
    """The number of processes; ``auto`` is one for each core that we may run on."""
    value = whole_number(value)
    if value == "auto":
        return len(os.sched_getaffinity(0))
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise expected("a number of at least 1, or auto", value)
    if value > MOST_PROCESSES:
        raise expected(f"a number of at most {MOST_PROCESSES}, or auto", value)
    return value


Workers: TypeAlias = Annotated[
    int,
    Parsed(
        parse_workers,
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MOST_PROCESSES},
                {"const": "auto"},
                VARIABLE,
            ]
        },
    ),
]


def parse_redirect_https(value: Any) -> int | bool:
    """true, false, or the port that clients reach https on."""
    value = whole_number(flag(value))
    if not isinstance(value, int) or not (isinstance(value, bool) or 1 <= value <= 65535):
        raise expected("true, false, or the port of https, such as 443", value)
    return value


RedirectHttps: TypeAlias = Annotated[
    int | bool,
    Parsed(
        parse_redirect_https,
        {"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 65535}]},
    ),
]
