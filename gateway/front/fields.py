"""The fields of a response that the gateway writes or reads itself, over every version of HTTP."""

from time import gmtime, time
from typing import Final

from gateway.errors import Cause, ResponseAborted
from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.grammar import parse_digits
from gateway.protocols.hop_by_hop import HOP_BY_HOP

# RFC 9110 7.6.1, RFC 9113 8.2.2: fields of one connection, which are ours to write; and what we look at.
NOTICED: Final = (HOP_BY_HOP - {b"trailer"}) | {b"content-length", b"date", b"server"}
"""Fields that are not simply passed on. A Server without a value is one that the response is not to have."""


def parse_length(value: bytes, earlier: int | None) -> int:
    """What a Content-Length promises, if one that came *earlier* says the same (RFC 9110 8.6).

    Raises LocalProtocolError.
    """
    length = parse_digits(value.strip())
    if length is None:
        raise LocalProtocolError(f"Content-Length is not a number: {value!r}")
    if earlier is not None and earlier != length:
        raise LocalProtocolError(f"two values of Content-Length: {earlier} and {length}")
    return length


def too_long(surplus: int) -> ResponseAborted:
    """*surplus* bytes have come that Content-Length does not promise."""
    return ResponseAborted(
        f"the response body is {surplus} bytes longer than its Content-Length", Cause.MALFORMED
    )


def too_short(missing: int) -> ResponseAborted:
    """The response is at its end, and *missing* bytes have not come that Content-Length promises."""
    return ResponseAborted(f"the response body is {missing} bytes shorter than its Content-Length")


# RFC 9110 5.6.7: in English, whatever the locale.
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(seconds: float) -> bytes:
    """*seconds* since the epoch as a Date says it; `email.utils`, which has this too, takes 2 ms to load."""
    year, month, day, hour, minute, second, weekday, _, _ = gmtime(seconds)
    date = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04}"
    return f"{date} {hour:02}:{minute:02}:{second:02} GMT".encode()


SERVER: Final = (b"server", b"gateway")

_SERVER_LINE: Final = b"%b: %b\r\n" % SERVER


class OwnFields:
    """The fields that every response gets unless it has them: Date (RFC 9110 6.6.1) and Server.

    They are made once a second, by whatever response comes first in it. A Date is of when the response is
    made, not of when it was asked for: a client counts the age of what it keeps from there (RFC 9111 4.2.3).
    """

    __slots__ = ("_both", "_date", "_date_line", "_made")

    def __init__(self) -> None:
        self._made = -1.0  # the second, since the epoch
        self._date = (b"date", b"")
        self._date_line = self._both = b""

    def date(self) -> tuple[bytes, bytes]:
        """The one of now."""
        now = time()
        if not 0.0 <= now - self._made < 1.0:
            self._make(now)
        return self._date

    def lines(self, dated: bool, served: bool) -> bytes:
        """For HTTP/1.1 what a response lacks that has a Date (*dated*) or Server (*served*), or neither."""
        now = time()
        if not 0.0 <= now - self._made < 1.0:
            self._make(now)
        if not (dated or served):
            return self._both
        return (b"" if dated else self._date_line) + (b"" if served else _SERVER_LINE)

    def _make(self, now: float) -> None:
        self._made = now // 1.0
        self._date = (b"date", http_date(now))
        self._date_line = b"%b: %b\r\n" % self._date
        self._both = self._date_line + _SERVER_LINE


OWN_FIELDS: Final = OwnFields()
