"""The one place where a failure becomes a response: which status, which fields, and what is told to whom.

Every response that the gateway makes for a failure has ``Proxy-Status`` (RFC 9209) with the registered type
of the error, ``X-Request-Id`` with the id that its log lines have, and a body in the format that the client
prefers (`pages`). Everybody is told what class of thing has failed; only with ``debug: true`` are
addresses, paths and words of an application told: otherwise they are for the log.
"""

import errno
import os
import secrets
from dataclasses import dataclass
from math import ceil
from typing import Final, assert_never

from gateway.errors import (
    BackendError,
    Cause,
    MachineError,
    NoRoute,
    ProhibitedAddress,
    RequestError,
    ResponseAborted,
    TargetError,
)
from gateway.failure.advice import REFUSALS, UNROUTED, advice_for
from gateway.failure.pages import Failure, FailurePages, reason_of
from gateway.logger import get_logger
from gateway.protocols.events import Headers
from gateway.request import Request
from gateway.stacks import traceback_of

log = get_logger()

_TEXT: Final = b"text/plain; charset=utf-8"


@dataclass(slots=True)
class FailureResponse:
    """A whole response that the gateway makes itself."""

    status: int
    headers: Headers
    body: bytes


# ---- facts


def status_of(cause: Cause) -> int:
    """502 for a wrong answer or none, 503 for an overload, 504 for a late one (RFC 9110 15.6)."""
    match cause:
        case (
            Cause.REFUSED
            | Cause.UNREACHABLE
            | Cause.UNKNOWN_HOST
            | Cause.TLS_FAILED
            | Cause.TLS_ALERT
            | Cause.BAD_CERTIFICATE
            | Cause.NOT_STARTED
            | Cause.TERMINATED
            | Cause.INCOMPLETE
            | Cause.MALFORMED
            | Cause.HEAD_TOO_LARGE
            | Cause.LOOP
        ):
            return 502
        case Cause.OVERLOADED | Cause.UNAVAILABLE:
            return 503
        case Cause.CONNECT_TIMEOUT | Cause.READ_TIMEOUT | Cause.WRITE_TIMEOUT:
            return 504
        case Cause.FAILED:
            return 500
        case _:
            assert_never(cause)


_TOLD: Final = {
    Cause.REFUSED: "the application refused the connection",
    Cause.UNREACHABLE: "the application cannot be reached",
    Cause.UNKNOWN_HOST: "the application's host is not known",
    Cause.UNAVAILABLE: "the application is not available for the moment",
    Cause.NOT_STARTED: "the application cannot be started",
    Cause.CONNECT_TIMEOUT: "the application did not take the connection in time",
    Cause.TLS_FAILED: "no TLS connection to the application can be made",
    Cause.TLS_ALERT: "the application refuses the TLS connection",
    Cause.BAD_CERTIFICATE: "the application's certificate is not accepted",
    Cause.READ_TIMEOUT: "the application did not answer in time",
    Cause.WRITE_TIMEOUT: "the application did not take the request in time",
    Cause.TERMINATED: "the application ended without an answer",
    Cause.INCOMPLETE: "the application broke off its answer",
    Cause.MALFORMED: "the application gave an answer that cannot be understood",
    Cause.HEAD_TOO_LARGE: "the head of the application's answer is too large",
    Cause.OVERLOADED: "the application has no room for the request",
    Cause.LOOP: "the application's address leads back to this gateway, again and again",
    Cause.FAILED: "the application failed",
}
"""What everybody may know."""


def failure_of(error: Exception) -> Failure:
    """The facts of *error*; a 500 for anything that is not a GatewayError."""
    match error:
        case NoRoute():
            return Failure(
                error.status,
                "destination_not_found",
                error.detail,
                advice=UNROUTED,
                output=error.routes,
                output_title="routes",
            )
        case ProhibitedAddress():
            return Failure(
                error.status,
                "destination_ip_prohibited",
                error.detail,
                facts={"addresses": ", ".join(error.addresses)},
            )
        case RequestError():
            return Failure(
                error.status,
                _client_error(error.status),
                error.detail,
                headers=error.headers,
                advice=REFUSALS.get(error.status, ""),
                facts=_file_of(error),
            )
        case BackendError():
            return _failure_of_backend(error)
        case MachineError():
            return Failure(
                error.status,
                "proxy_internal_error",
                error.detail,
                headers=_retry_after(error.status),
                facts={"cause": str(error.cause)},
            )
        case ResponseAborted():
            told = "the response was not what it promised to be"
            return Failure(500, Cause.MALFORMED.value, told, facts={"detail": str(error)})
        case _:
            told = "the gateway failed to answer this request"
            return Failure(500, "proxy_internal_error", told, output=traceback_of(error))


def _file_of(error: RequestError) -> dict[str, str]:
    """The file that was looked for, if it was one."""
    match error.__context__:  # mypyc drops what an exception is raised `from`
        case OSError(filename=bytes() | str() as name):
            return {"file": os.fsdecode(name)}
        case _:
            return {}


def _failure_of_backend(error: BackendError) -> Failure:
    status, told, kind = status_of(error.cause), _TOLD[error.cause], "backend"
    if isinstance(error, TargetError):
        told, kind = told.replace("the application", "the target"), "target"
    facts = {
        kind: error.backend,
        "address": error.address,
        "phase": error.phase.value,
        "cause": error.cause.value,
        "detail": error.detail,
    }
    if error.errno is not None:
        facts["errno"] = f"{errno.errorcode.get(error.errno, 'unknown')} ({error.errno})"
    return Failure(
        status,
        error.cause.value,
        told,
        headers=_retry_after(status, error.retry_after),
        next_hop=error.backend,
        advice=advice_for(error),
        facts=facts,
        output=error.last_words,
    )


def _client_error(status: int) -> str:
    """RFC 9209 2.3: the answer is our own, not the application's."""
    match status:
        case 403:
            return "http_request_denied"
        case _ if status < 500:
            return "http_request_error"
        case _:
            return "proxy_internal_response"


def _retry_after(status: int, seconds: float | None = None) -> Headers:
    """RFC 9110 15.6.4: 503 says when to come back."""
    return [(b"retry-after", b"%d" % max(1, ceil(seconds or 0)))] if status == 503 else []


# ---- the response


def response_for(
    error: Exception, request: Request, pages: FailurePages, *, route: str = ""
) -> FailureResponse:
    """The response that tells *error*. *route* is what the developer may know of the route that matched."""
    failure = failure_of(error)
    if pages.debug:
        asked = {"request": f"{request.method} {request.subject}"} if request.method else {}
        failure.facts = {**asked, **({"route": route} if route else {}), **failure.facts}
    try:
        content_type, body = pages.render(failure, request)
    except Exception:
        # Whatever is wrong with the page, the client is told of the failure, and this one is not answered.
        log.exception("failure page failed", request_id=request.id)
        content_type, body = _TEXT, _plain_body(failure.status, failure.detail, request.id)
    headers = [
        (b"content-type", content_type),
        (b"vary", b"accept"),  # RFC 9110 12.5.5
        *failure.headers,
        *_own_fields(failure, request.id, debug=pages.debug),
    ]
    return FailureResponse(failure.status, headers, body)


def plain_response(status: int, detail: str) -> FailureResponse:
    """A text response that names its status and says why in one line, for what has no Request."""
    request_id = secrets.token_hex(8)
    failure = Failure(status, _client_error(status), detail)
    headers = [(b"content-type", _TEXT), *_own_fields(failure, request_id, debug=False)]
    return FailureResponse(status, headers, _plain_body(status, detail, request_id))


def _plain_body(status: int, detail: str, request_id: str) -> bytes:
    text = f"{status} {reason_of(status)}\n\n{detail}\n\nrequest id: {request_id}\n"
    return text.encode("utf-8", "replace")


def _own_fields(failure: Failure, request_id: str, *, debug: bool) -> Headers:
    return [
        (b"x-request-id", request_id.encode("ascii", "replace")),
        (b"proxy-status", _proxy_status(failure, debug=debug)),
    ]


def _proxy_status(failure: Failure, *, debug: bool) -> bytes:
    """RFC 9209 2: who says so, the error, the backend, and the phase with what may be told of it."""
    detail = failure.facts.get("detail", failure.detail) if debug else failure.detail
    if failure.next_hop:
        detail = f"{failure.facts['phase']}: {detail}"
    members = ["gateway", f"error={failure.error}"]
    if failure.next_hop:
        members.append(f"next-hop={_structured_string(failure.next_hop)}")
    members.append(f"details={_structured_string(detail)}")
    return "; ".join(members).encode()


def _structured_string(text: str) -> str:
    """A string of RFC 8941 3.3.3: printable ASCII in quotes, backslash and quote escaped."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in text[:200])
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
