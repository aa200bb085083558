"""Variables of a CGI request (RFC 3875 4.1), whatever protocol carries them: FastCGI, SCGI, uwsgi or AJP."""

import heapq
from collections.abc import Mapping

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.grammar import parse_digits


def declared_length(variables: dict[str, str], name: str = "CONTENT_LENGTH") -> int | None:
    """The length in bytes that a variable declares; None if it is absent.

    Empty is absent: nginx passes an empty CONTENT_LENGTH where there is no body or it has no length.
    Raises ValueError for what is no number.
    """
    value = variables.get(name)
    if not value:
        return None
    length = parse_digits(value.encode("ascii", "replace"))
    if length is None:
        raise ValueError(f"{name} is not a number: {value[:40]!r}")
    return length


def block_size(variables: Mapping[str, str]) -> int:
    """Bytes that *variables* take with lengths of two bytes, as in a packet of uwsgi."""
    return 4 * len(variables) + sum(map(len, variables)) + sum(map(len, variables.values()))


def describe_largest(variables: Mapping[str, str]) -> str:
    """The three largest variables with their sizes in bytes, names included, for a message."""
    sizes = ((name, len(name) + len(value)) for name, value in variables.items())
    largest = heapq.nlargest(3, sizes, key=lambda item: item[1])
    return ", ".join(f"{name} ({size})" for name, size in largest)


def merge_repeated(name: str, first: str, second: str) -> str:
    """One value for a variable that came twice. Raises RemoteProtocolError if there cannot be one."""
    if first == second:
        return first
    if name.startswith("HTTP_"):
        # RFC 9110 5.3; RFC 6265 5.4 for cookies.
        return f"{first}{'; ' if name == 'HTTP_COOKIE' else ', '}{second}"
    raise RemoteProtocolError(f"variable {name[:80]!r} occurs twice with different values")
