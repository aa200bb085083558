"""Trailer fields that may be passed on (RFC 9110 6.5.1), in requests and responses of every version of HTTP.

A recipient may merge trailers into the header section, so whatever frames a message, routes it, says who
asks, or changes how the content is understood belongs in front of the content or nowhere.
"""

from typing import Final

from gateway.protocols.events import Headers
from gateway.protocols.forwarded import CLIENT_FIELDS
from gateway.protocols.hop_by_hop import HOP_BY_HOP
from gateway.protocols.lists import list_tokens

# RFC 9110 6.5.1 names the kinds, RFC 7230 4.1.2 had the examples.
_FORBIDDEN: Final = HOP_BY_HOP | frozenset(
    {
        # Framing, as most of those that end with the connection.
        b"content-length",
        # Routing.
        b"host",
        b"max-forwards",
        b"via",
        # Who asks.
        b"authorization",
        b"cookie",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"set-cookie",
        b"www-authenticate",
        # Controls and conditions, which are weighed before the content.
        b"age",
        b"cache-control",
        b"date",
        b"expect",
        b"expires",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"location",
        b"pragma",
        b"range",
        b"retry-after",
        b"vary",
        # How the content is understood.
        b"content-encoding",
        b"content-range",
        b"content-type",
    }
)


def takes_trailers(fields: Headers) -> bool:
    """Whether a client with these *fields* wants trailers: ``TE: trailers`` (RFC 9110 6.5.1, 10.1.4)."""
    return any(name == b"te" and b"trailers" in list_tokens(value) for name, value in fields)


def permitted_trailers(trailers: Headers) -> Headers:
    """Those of *trailers* that may be passed on.

    What only proxies say of their clients is not among them. Names with underscores are dropped as they are
    from the headers: for many programs they are twins of names with dashes.
    """
    return [field for field in trailers if _permitted(field[0].lower())]


def _permitted(name: bytes) -> bool:
    return name not in _FORBIDDEN and b"_" not in name and not name.startswith(CLIENT_FIELDS)
