"""What an application gives to start_response, checked and turned into a status and header fields.

PEP 3333 asks for the check at the time of the call, so that the traceback points at the culprit.
"""

import re
from typing import Final

from gateway.protocols.events import Headers
from gateway.protocols.grammar import TCHAR, parse_digits
from gateway.protocols.memo import LONGEST_HEAD, Memo

# PEP 3333: "a status string of the form '999 Message here'", without control characters.
_STATUS: Final = re.compile(r"[2-9][0-9]{2} [^\x00-\x1f\x7f]*\Z")
_NAME: Final = re.compile(f"[{TCHAR}]+")  # RFC 9110 5.1: field-name = token
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

# PEP 3333, "Other HTTP Features": an application must not use HTTP's hop-by-hop features.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)

# Applications use few names, statuses and whole heads, each a thousand times.
_names: Final[Memo[str, bytes]] = Memo()
_statuses: Final[Memo[str, tuple[int, bytes]]] = Memo()
_heads: Final[Memo[tuple[tuple[str, str], ...], tuple[Headers, int | None]]] = Memo()


def parse_status(status: str) -> tuple[int, bytes]:
    """Code and reason phrase. Raises TypeError or ValueError for what PEP 3333 does not allow."""
    try:
        return _statuses[status]
    except KeyError:
        pass
    if not isinstance(status, str):
        raise TypeError(f"the status is not a str: {status!r}")
    if not _STATUS.match(status):
        raise ValueError(f"the status does not have the form '999 Reason' of a final response: {status!r}")
    parsed = int(status[:3]), status[4:].encode("latin-1")
    _statuses.keep(status, parsed)
    return parsed


def parse_headers(headers: list[tuple[str, str]]) -> tuple[Headers, int | None]:
    """The fields with lower-case names (not to be changed), and the Content-Length if there is one.

    Raises TypeError or ValueError for what PEP 3333 does not allow.
    """
    if type(headers) is not list:
        raise TypeError(f"the headers are not a list: {headers!r}")
    key = tuple(headers)
    try:
        known = _heads.get(key)
    except TypeError:  # unhashable: something that no header may be
        return _parse_headers(headers)
    if known is None:
        known = _parse_headers(headers)
        if sum(len(name) + len(value) for name, value in known[0]) <= LONGEST_HEAD:
            _heads.keep(key, known)
    return known


def _parse_headers(headers: list[tuple[str, str]]) -> tuple[Headers, int | None]:
    fields: Headers = []
    length = None
    for header in headers:
        if type(header) is not tuple or len(header) != 2:
            raise TypeError(f"a header is not a (name, value) tuple: {header!r}")
        text, value = header
        try:
            name = _names[text]
        except KeyError:
            name = _parse_name(text)
        if not isinstance(value, str):
            raise TypeError(f"the value of the header {text} is not a str: {value!r}")
        # isprintable() is the fast half of the question; some characters above ASCII need the other.
        if not value.isprintable() and _CONTROL.search(value):
            raise ValueError(f"the value of the header {text} has a control character: {value!r}")
        if name == b"content-length":
            told = _parse_length(value)
            if length not in (None, told):
                raise ValueError(f"two values of Content-Length: {length} and {told}")
            length = told
        fields.append((name, value.encode("latin-1")))
    return fields, length


def _parse_name(text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"a header name is not a str: {text!r}")
    if not _NAME.fullmatch(text):
        raise ValueError(f"HTTP cannot carry a header of this name: {text!r}")
    lower = text.lower()
    if lower in _HOP_BY_HOP:
        raise ValueError(f"the header {text} belongs to the connection, which is the server's (PEP 3333)")
    name = lower.encode("ascii")
    _names.keep(text, name)
    return name


def _parse_length(value: str) -> int:
    length = parse_digits(value.encode("ascii", "replace"))
    if length is None:
        raise ValueError(f"the Content-Length is not a number: {value!r}")
    return length
