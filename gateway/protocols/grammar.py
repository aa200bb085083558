"""The grammar that all protocols here have in common (RFC 9110): tokens, numbers, what breaks a field.

Patterns for whole pieces; what is wrong with a piece, and whose fault it is, says who looks at it.
"""

import re
from typing import Final

_LOWER_TCHAR: Final = r"!#$%&'*+\-.^_`|~0-9a-z"

TCHAR: Final = _LOWER_TCHAR + "A-Z"
"""The characters of a token (RFC 9110 5.6.2), to stand in the brackets of a pattern."""

TOKEN: Final = re.compile(b"[%b]+" % TCHAR.encode())
"""RFC 9110 5.6.2: token = 1*tchar. Methods and the names of fields are tokens."""

LOWER_TOKEN: Final = re.compile(b"[%b]+" % _LOWER_TCHAR.encode())
"""A token without upper-case letters, as HTTP/2 has names (RFC 9113 8.2.1)."""

LINE_BREAK: Final = re.compile(rb"[\0\r\n]")
"""What the value of a field must not have (RFC 9110 5.5): some recipient takes it for the end of the line, or
of the value. In most values, which are short, one search takes half the time of three ``in``."""

CONTROLS: Final = bytes({*range(0x20), 0x7F} - {0x09})
"""All that no value of a field has (RFC 9110 5.5). Recipients may take those that break no line, but those of
HTTP/2 mostly reset the stream for them (nghttp2)."""

CONTROL: Final = re.compile(b"[%b]" % re.escape(CONTROLS))

LARGEST_LENGTH: Final = 2**63 - 1
"""Bytes. No file is larger, nor does a recipient in C count further."""

_MOST_DIGITS: Final = 19  # of it


def parse_digits(text: bytes) -> int | None:
    """The length that *text* says; None if it is not of digits only, or is more than LARGEST_LENGTH.

    RFC 9110 8.6: Content-Length = 1*DIGIT, so leading zeros are legal; but not more digits than the largest
    length has, because no sender in earnest writes them, and int() of any number takes quadratic time.
    """
    size = len(text)
    if size > _MOST_DIGITS or not text.isdigit():
        return None
    number = int(text)
    return None if size == _MOST_DIGITS and number > LARGEST_LENGTH else number
