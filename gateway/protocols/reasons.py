"""The reason phrases of the registered status codes (RFC 9110 15), whatever Python has for them."""

from http import HTTPStatus
from typing import Final

REASONS: Final = {status.value: status.phrase for status in HTTPStatus} | {
    # Until 3.13, Python has the words of RFC 2616.
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
