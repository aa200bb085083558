"""Fields of a request that go further than the gateway.

A client may name any field in Connection, and the gateway then passes it on to nobody (RFC 9110 7.6.1). That
is for the client's own fields. One that the gateway adds, for an application or a guard to rely on, has to
come after: otherwise a client could keep it away from them.
"""

from gateway.protocols.events import Headers
from gateway.protocols.hop_by_hop import named_by


def end_to_end(headers: Headers) -> Headers:
    """*headers* without those that Connection names; what is added to them stays. Names are lower-case."""
    named: frozenset[bytes] = frozenset()
    for name, value in headers:
        if name == b"connection":
            named |= named_by(value)
    if not named:
        return headers
    return [field for field in headers if field[0] != b"connection" and field[0] not in named]
