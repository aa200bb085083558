"""The registered status codes (RFC 9110 15): their reason phrases, and which have no body."""

from http import HTTPStatus
from typing import Final

# Whatever Python has for them.
REASONS: Final = {status.value: status.phrase for status in HTTPStatus} | {
    # Until 3.13, Python has the words of RFC 2616.
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}

BODILESS: Final = frozenset({204, 304})
"""Of final responses, those without a body whatever their fields say (RFC 9112 6.3, RFC 9110 15.3.5, 15.4.5).
A 204 must not have a Content-Length either; 304 may carry that of the response it stands for."""
