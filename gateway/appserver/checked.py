"""What an application gives to start_response, checked: flup sends whatever it is given.

A line end in the value of a header (an address to redirect to, as the client has sent it) would begin a
header of the client's own. As in `backends.wsgi.head`, which needs more than a virtual environment has.
"""

import re
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIApplication

from gateway.runtime import forked

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# RFC 9110 5.1: field-name = token
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


def checked(application: WSGIApplication) -> WSGIApplication:
    """*application*, whose start_response raises ValueError for what HTTP cannot carry."""

    def serve(environ: dict[str, Any], start_response: StartResponse) -> Any:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            forked.end_returned()
            _check(status, headers)
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return serve


def _check(status: str, headers: list[tuple[str, str]]) -> None:
    if _CONTROL.search(status):
        raise ValueError(f"the status has a control character: {status!r}")
    for name, value in headers:
        if not _NAME.match(name):
            raise ValueError(f"HTTP cannot carry a header of this name: {name!r}")
        if _CONTROL.search(value):
            raise ValueError(f"the value of the header {name} has a control character: {value!r}")
