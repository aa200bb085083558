"""Max-Forwards (RFC 9110 7.6.2): TRACE and OPTIONS end at the hop that the client has counted out."""

from typing import Final

from gateway.errors import RequestError
from gateway.request import Request, Responder, respond

COUNTED: Final = frozenset({"TRACE", "OPTIONS"})
"""The methods for which the field means something."""

# RFC 9110 9.3.8: a reflection excludes fields that are likely to hold secrets.
_SECRET: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization"})

_DIGITS: Final = 10
"""Digits of the number; a larger one counts nothing."""


def count_down(request: Request) -> bool:
    """Take one from Max-Forwards; False if *request* must not be forwarded any more.

    Raises RequestError (400) if the field is not one number.
    """
    values = [value for name, value in request.headers if name == b"max-forwards"]
    if not values:
        return True
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > _DIGITS:
        raise RequestError(400, "Max-Forwards is not a number")
    left = int(values[0]) - 1
    if left < 0:
        return False
    request.headers = [
        (name, b"%d" % left if name == b"max-forwards" else value) for name, value in request.headers
    ]
    return True


async def answer_as_last(request: Request, responder: Responder) -> None:
    """Answer as the final recipient: TRACE with what was received, OPTIONS with nothing to tell."""
    if request.method == "OPTIONS":
        await respond(responder, 200, [])
        return
    target = request.raw_path + b"?" + request.query if request.query else request.raw_path
    lines = [b"TRACE %b HTTP/%b" % (target, request.version.encode())]
    lines += [b"%b: %b" % field for field in request.headers if field[0] not in _SECRET]
    body = b"\r\n".join(lines) + b"\r\n\r\n"
    await respond(responder, 200, [(b"content-type", b"message/http")], body)
