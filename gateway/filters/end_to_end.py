"""Fields of a request that go further than the gateway.

A client may name any field in Connection, and the gateway then passes it on to nobody (RFC 9110 7.6.1). That
is for the client's own fields. One that the gateway adds, for an application or a guard to rely on, has to
come after: otherwise a client could keep it away from them.
"""

from typing import Final

from gateway.protocols.events import Headers
from gateway.protocols.lists import list_tokens

# What nearly every Connection field says: it names no other field.
_PERSISTENCE: Final = frozenset({b"keep-alive", b"close"})

# They belong to every request that has them; naming them is an attack.
_STAYS: Final = frozenset({b"content-length", b"content-type", b"host"})


def end_to_end(headers: Headers) -> Headers:
    """*headers* without those that Connection names; what is added to them stays. Names are lower-case."""
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            named.update(list_tokens(value))
    named -= _PERSISTENCE
    if not named:
        return headers
    named -= _STAYS
    return [field for field in headers if field[0] != b"connection" and field[0] not in named]
