"""What an application tells of itself: the answer to GET_VALUES (FastCGI 4.1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.protocols.fastcgi.variables import encode_get_values

_MAX_CONNS: Final = "FCGI_MAX_CONNS"
_MAX_REQS: Final = "FCGI_MAX_REQS"
_MPXS_CONNS: Final = "FCGI_MPXS_CONNS"

GET_CAPABILITIES: Final = encode_get_values((_MAX_CONNS, _MAX_REQS, _MPXS_CONNS))
"""The record that asks for all of them."""

_DIGITS: Final = 9
"""Of a number that is believed: no application has a billion connections."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How an application may be used; as it is made, of one that has told nothing."""

    connections: int | None = None
    """Connections that it takes at the same time; None: it does not say."""
    requests: int | None = None
    """Requests that it takes at the same time; None: it does not say."""
    multiplexes: bool = False
    """Whether a connection may have several requests at the same time."""


def capabilities_of(values: Mapping[str, str]) -> Capabilities:
    """What *values* say. An application answers with the names that it knows (4.1); the others, and values
    that are no numbers, say nothing.
    """
    return Capabilities(
        connections=_number(values.get(_MAX_CONNS, "")),
        requests=_number(values.get(_MAX_REQS, "")),
        multiplexes=values.get(_MPXS_CONNS) == "1",
    )


def _number(text: str) -> int | None:
    if len(text) > _DIGITS or not (text.isascii() and text.isdigit()):
        return None
    return int(text) or None
