"""Quantities with a unit: durations, sizes, percentages."""

import re
from typing import Annotated, Any, Final, TypeAlias

from gateway.config.values.numbers import FromEnvironment
from gateway.config.values.parsed import Parsed
from gateway.config.wording import expected

# ---- durations


_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST: Final = 365 * 86400.0


def parse_duration(value: Any) -> float:
    """Seconds from ``250ms``, ``30s``, ``5m``, ``1h``, ``1d``, or 0. A bare number has no unit: refused."""
    if value == "0" or (value == 0 and not isinstance(value, bool)):
        return 0.0
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise expected("a duration such as 30s or 250ms", value)
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > _LONGEST:
        raise expected("a duration of at most 365d", value)
    return seconds


def parse_timeout(value: Any) -> float:
    """A duration that something can happen in: 0 would mean that it always fails."""
    seconds = parse_duration(value)
    if seconds == 0:
        raise expected("a duration longer than 0, such as 30s", value)
    return seconds


_DURATION_SCHEMA: Final = {
    "anyOf": [{"type": "string", "pattern": rf"^{_DURATION.pattern}$|\$\{{.+\}}"}, {"const": 0}]
}

Duration: TypeAlias = Annotated[float, Parsed(parse_duration, _DURATION_SCHEMA)]
"""Seconds; 0 is allowed."""

Timeout: TypeAlias = Annotated[
    float,
    Parsed(parse_timeout, {"type": "string", "pattern": rf"^{_DURATION.pattern}$|\$\{{.+\}}"}),
]
"""Seconds, more than 0."""


# ---- sizes


_SIZE: Final = re.compile(r"([0-9]+)(B|KiB|MiB|GiB|TiB)?", re.ASCII)
_BYTES: Final = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def parse_size(value: Any) -> int:
    """Bytes from ``64KiB``, ``10MiB``, ``1GiB``, or a plain number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        found = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if found is None or (found[2] is None and not isinstance(value, FromEnvironment)):
            raise expected("a size such as 64KiB, 10MiB or a number of bytes", value)
        # Python refuses to read numbers of thousands of digits; so do we.
        size = int(found[1]) * _BYTES[found[2]] if len(found[1]) < 20 else 2**63
    if not 0 <= size < 2**63:
        raise expected("a size between 0 and 8388607TiB", value)
    return size


SIZE_SCHEMA: Final = {
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]+(B|KiB|MiB|GiB|TiB)$|\$\{.+\}"},
        {"type": "integer", "minimum": 0},
    ]
}

Size: TypeAlias = Annotated[int, Parsed(parse_size, SIZE_SCHEMA)]
"""Bytes."""


def parse_limit(value: Any) -> int:
    """A size that lets something through."""
    size = parse_size(value)
    if size == 0:
        raise expected("a size larger than 0", value)
    return size


Limit: TypeAlias = Annotated[int, Parsed(parse_limit, SIZE_SCHEMA)]
"""Bytes, more than 0."""


def parse_buffer_size(value: Any) -> int:
    """The size of a uwsgi peer's variable block."""
    size = parse_size(value)
    # uwsgi: the size of the block is a 16 bit number (UW-4).
    if not 0 < size <= 65535:
        raise expected("a size from 1 to 65535 bytes, the most that uwsgi can express", value)
    return size


BufferSize: TypeAlias = Annotated[int, Parsed(parse_buffer_size, SIZE_SCHEMA)]


# ---- parts


_PERCENT: Final = re.compile(r"([0-9]{1,3})%", re.ASCII)


def parse_part(value: Any) -> float:
    """A part of a whole, from 0 to 1, of ``50%``."""
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) > 100:
        raise expected("a percentage such as 50%", value)
    return int(found[1]) / 100


Part: TypeAlias = Annotated[
    float,
    Parsed(parse_part, {"type": "string", "pattern": rf"^{_PERCENT.pattern}$|\$\{{.+\}}"}),
]
