"""Conditional requests (RFC 9110 section 13): what the client's validators mean for a file.

Pure functions over the conditional fields of a request, which :func:`conditional_fields` collects.
Fields that are malformed are ignored, as each of their sections asks.
"""

import re
from calendar import timegm
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from gateway.front.fields import http_date as _http_date
from gateway.protocols.events import Headers

_FIELDS: Final = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range"}
)

# RFC 9110 8.8.3: entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE
_ENTITY_TAG: Final = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')

# RFC 9110 5.6.7: IMF-fixdate, and the two obsolete forms that must be understood.
_MONTHS: Final = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES: Final = (
    re.compile(rb"[A-Z][a-z]{2}, (?P<day>\d\d) (?P<month>...) (?P<year>\d{4}) " + _TIME + rb" GMT\Z"),
    re.compile(rb"[A-Z][a-z]{5,8}, (?P<day>\d\d)-(?P<month>...)-(?P<year>\d\d) " + _TIME + rb" GMT\Z"),
    re.compile(rb"[A-Z][a-z]{2} (?P<month>...) (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})\Z"),
)

_LONGEST_DATE: Final = 40
"""Bytes of a field that is looked at, and remembered: a Wednesday in September of the second form has 33."""


def conditional_fields(headers: Headers) -> dict[bytes, bytes]:
    """The conditional fields and Range of a request; several lines of one are joined (RFC 9110 5.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _FIELDS:
            found[name] = found[name] + b", " + value if name in found else value
    return found


def failed_precondition(fields: Mapping[bytes, bytes], etag: bytes, modified: int) -> int | None:
    """304 or 412 if the conditions of a GET or HEAD say so, in the order of RFC 9110 13.2.2.

    *etag* is strong, with its quotes; *modified* is in seconds since the epoch.
    """
    if_match = fields.get(b"if-match")
    if if_match is not None:
        if not _matches(if_match, etag, weakly=False):
            return 412
    else:
        since = _date_of(fields, b"if-unmodified-since")
        if since is not None and modified > since:
            return 412
    if_none_match = fields.get(b"if-none-match")
    if if_none_match is not None:
        return 304 if _matches(if_none_match, etag, weakly=True) else None
    since = _date_of(fields, b"if-modified-since")
    return 304 if since is not None and modified <= since else None


def range_is_current(fields: Mapping[bytes, bytes], etag: bytes, modified: int, now: float) -> bool:
    """Whether If-Range lets Range be obeyed (RFC 9110 13.1.5): both validators must be strong."""
    validator = fields.get(b"if-range")
    if validator is None:
        return True
    if validator[:1] == b'"':
        return validator == etag
    # RFC 9110 8.8.2.2: a date is strong only if the file cannot have changed again in that second.
    return parse_date(validator) == modified and now >= modified + 1


def _matches(value: bytes, etag: bytes, *, weakly: bool) -> bool:
    """RFC 9110 8.8.3.2; ``*`` stands for any current representation."""
    if value.strip() == b"*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _ENTITY_TAG.findall(value))


def _date_of(fields: Mapping[bytes, bytes], name: bytes) -> int | None:
    value = fields.get(name)
    return None if value is None else parse_date(value)


@lru_cache(maxsize=1024)  # files have few dates, and requests repeat them
def http_date(seconds: int) -> bytes:
    """IMF-fixdate: ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    return _http_date(seconds)


def parse_date(value: bytes) -> int | None:
    """Seconds since the epoch of an HTTP-date in any of its three forms; None if it is none."""
    return _parse_date(value) if len(value) <= _LONGEST_DATE else None


@lru_cache(maxsize=1024)
def _parse_date(value: bytes) -> int | None:
    for form in _DATES:
        found = form.match(value)
        if found is not None:
            return _seconds(found.groupdict())
    return None


def _seconds(parts: dict[str, bytes]) -> int | None:
    year = int(parts["year"])
    if len(parts["year"]) == 2:
        # RFC 9110 5.6.7: more than 50 years in the future is in the past.
        this_year = datetime.now(UTC).year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    try:
        month = _MONTHS.index(parts["month"]) + 1
        second = min(int(parts["second"]), 59)  # a leap second is the one before it
        moment = datetime(year, month, int(parts["day"]), int(parts["hour"]), int(parts["minute"]), second)
    except ValueError:
        return None
    return timegm(moment.timetuple())
