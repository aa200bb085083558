"""What the client is told when something fails: the one place where a failure becomes a response.

Every failure of a backend carries ``Proxy-Status`` (RFC 9209) with the error's registered type, the
backend's name as next hop, and the phase with its cause as details. Addresses stay in the log.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import assert_never

from gateway.errors import BackendError, Cause, RequestError, ResponseAborted
from protocols.events import Headers


@dataclass(slots=True)
class FailureResponse:
    """A whole response that the gateway makes itself."""

    status: int
    headers: Headers
    body: bytes


def status_of(cause: Cause) -> int:
    """502 for a wrong answer or none, 503 for an overload, 504 for a late one (RFC 9110 15.6)."""
    match cause:
        case (
            Cause.REFUSED
            | Cause.UNREACHABLE
            | Cause.TERMINATED
            | Cause.INCOMPLETE
            | Cause.MALFORMED
            | Cause.HEAD_TOO_LARGE
            | Cause.LOOP
        ):
            return 502
        case Cause.OVERLOADED:
            return 503
        case Cause.CONNECT_TIMEOUT | Cause.READ_TIMEOUT | Cause.WRITE_TIMEOUT:
            return 504
        case Cause.FAILED:
            return 500
        case _:
            assert_never(cause)


def response_for(error: Exception) -> FailureResponse:
    """The response that says *error*; 500 for anything that is not a GatewayError."""
    match error:
        case RequestError():
            return plain_response(error.status, error.detail)
        case BackendError():
            status = status_of(error.cause)
            response = plain_response(status, f"{error.phase.value}: {error.detail}")
            response.headers.append((b"proxy-status", _proxy_status(error)))
            if status == 503:
                # RFC 9110 15.6.4: say when to come back.
                response.headers.append((b"retry-after", b"1"))
            return response
        case ResponseAborted():
            return plain_response(500, "the response of the application was not what it promised")
        case _:
            return plain_response(500, "the gateway failed to answer this request")


def plain_response(status: int, detail: str) -> FailureResponse:
    """A text response that names its status and says why in one line."""
    body = f"{status} {reason_of(status)}\n\n{detail}\n".encode("utf-8", "replace")
    return FailureResponse(status, [(b"content-type", b"text/plain; charset=utf-8")], body)


def reason_of(status: int) -> str:
    """The registered reason phrase, or the class of the status for an unregistered one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return {4: "Client Error", 5: "Server Error"}.get(status // 100, "Unknown")


def _proxy_status(error: BackendError) -> bytes:
    details = _structured_string(f"{error.phase.value}: {error.detail}")
    next_hop = _structured_string(error.backend)
    return f"gateway; error={error.cause.value}; next-hop={next_hop}; details={details}".encode()


def _structured_string(text: str) -> str:
    """A string of RFC 8941 3.3.3: printable ASCII in quotes, backslash and quote escaped."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in text[:200])
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
