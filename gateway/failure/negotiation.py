"""Which of several media types a client would rather have: RFC 9110 12.5.1, for a short list of ours.

Promises: whatever the field says, there is an answer; what is malformed in it counts for nothing. Does not:
look at parameters of media types other than ``q``.
"""

import re
from collections.abc import Sequence
from typing import Final

from gateway.protocols.events import Headers
from gateway.protocols.grammar import TCHAR

# RFC 9110 12.4.2: qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
_QVALUE: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_RANGE: Final = re.compile(f"([{TCHAR}]+)/([{TCHAR}]+)")
_LONGEST: Final = 4096
"""Bytes of Accept that are looked at; browsers send 150."""
_NAMED: Final = 2
"""The specificity of a range without a wildcard."""


def preferred(headers: Headers, offers: Sequence[str], default: str) -> str:
    """The one of *offers* (media types, lower-case) that the Accept fields of *headers* prefer.

    Of equally weighted ones, one that is named wins over those that a wildcard covers, and among the named
    ones the earlier in *offers*. *default*, one of them, is for a client that says nothing, leaves the choice
    to us, or takes none of them: it gets something all the same (RFC 9110 12.5.1).
    """
    ranges = _parse(b",".join(value for name, value in headers if name == b"accept")[:_LONGEST])
    best = max(offers, key=lambda offer: _worth(offer, ranges))
    weight, specificity = worth = _worth(best, ranges)
    if not weight or (specificity < _NAMED and _worth(default, ranges) == worth):
        return default
    return best


def _parse(accept: bytes) -> dict[tuple[str, str], float]:
    """Media ranges with their weights."""
    ranges: dict[tuple[str, str], float] = {}
    for item in accept.decode("latin-1").lower().split(","):
        media_range, *parameters = (part.strip(" \t") for part in item.split(";"))
        found = _RANGE.fullmatch(media_range)
        weight = _weight(parameters)
        if found is not None and weight is not None:
            key = (found[1], found[2])
            ranges[key] = max(weight, ranges.get(key, 0.0))
    return ranges


def _weight(parameters: list[str]) -> float | None:
    """The value of ``q``; 1 without one; None for one that is malformed."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            return float(value) if _QVALUE.fullmatch(value) else None
    return 1.0


def _worth(offer: str, ranges: dict[tuple[str, str], float]) -> tuple[float, int]:
    """Weight of the most specific range that covers *offer*, and how specific that is (RFC 9110 12.5.1)."""
    kind, _, subtype = offer.partition("/")
    for specificity, key in ((_NAMED, (kind, subtype)), (1, (kind, "*")), (0, ("*", "*"))):
        if key in ranges:
            return ranges[key], specificity
    return 0.0, 0
