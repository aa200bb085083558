"""What the client is told of each failure."""

import re

import pytest

from gateway.errors import BackendError, Cause, ClientGone, Phase, RequestError
from gateway.failure import plain_response, reason_of, response_for, status_of

STATUSES = {
    Cause.REFUSED: 502,
    Cause.UNREACHABLE: 502,
    Cause.CONNECT_TIMEOUT: 504,
    Cause.READ_TIMEOUT: 504,
    Cause.WRITE_TIMEOUT: 504,
    Cause.TERMINATED: 502,
    Cause.INCOMPLETE: 502,
    Cause.MALFORMED: 502,
    Cause.HEAD_TOO_LARGE: 502,
    Cause.LOOP: 502,
    Cause.OVERLOADED: 503,
    Cause.FAILED: 500,
}


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_status(cause: Cause) -> None:
    """H-18."""
    assert status_of(cause) == STATUSES[cause]


def failed(cause: Cause = Cause.TERMINATED, detail: str = "gone", backend: str = "app") -> BackendError:
    return BackendError(cause, detail, backend=backend, address="10.0.0.1:9000", phase=Phase.FIRST_BYTE)


def test_failure_of_a_backend_has_a_proxy_status() -> None:
    """RFC 9209: the registered error, the backend, and the phase; the address stays in the log."""
    made = response_for(failed())
    headers = dict(made.headers)
    assert made.status == 502
    assert headers[b"proxy-status"] == (
        b'gateway; error=connection_terminated; next-hop="app"; details="first byte: gone"'
    )
    assert b"retry-after" not in headers
    assert b"10.0.0.1" not in made.body + headers[b"proxy-status"]
    assert b"first byte: gone" in made.body


def test_overload_says_when_to_come_back() -> None:
    """H-18."""
    assert dict(response_for(failed(Cause.OVERLOADED)).headers)[b"retry-after"] == b"1"


@pytest.mark.parametrize(
    "detail", ['say "x" \\', "line\r\nX: injected", "snow \u2603", "\x00\x7f", "x" * 1000]
)
def test_proxy_status_is_a_valid_structured_field(detail: str) -> None:
    """RFC 8941 3.3.3: whatever the detail is made of."""
    field = dict(response_for(failed(detail=detail)).headers)[b"proxy-status"].decode("ascii")
    assert re.fullmatch(r'gateway; error=\w+; next-hop="app"; details="(?:[ !#-\[\]-~]|\\["\\])*"', field)
    assert len(field) < 600


def test_refused_request_says_why() -> None:
    made = response_for(RequestError(411, "a length is needed"))
    assert (made.status, made.body) == (411, b"411 Length Required\n\na length is needed\n")


@pytest.mark.parametrize("error", [ValueError("secret"), ClientGone("gone")])
def test_everything_else_is_a_500_without_details(error: Exception) -> None:
    made = response_for(error)
    assert made.status == 500
    assert b"secret" not in made.body


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "Not Found"),
        (418, "I'm a Teapot"),
        (499, "Client Error"),
        (599, "Server Error"),
        (299, "Unknown"),
    ],
)
def test_reasons(status: int, reason: str) -> None:
    assert reason_of(status) == reason
    assert plain_response(status, "why").body.startswith(f"{status} {reason}\n".encode())
