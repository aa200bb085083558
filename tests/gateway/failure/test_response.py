"""What the client is told of each failure."""

import errno
import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.config.clients import ClientLimits, ClientTimeouts
from gateway.errors import (
    BackendError,
    Cause,
    ClientGone,
    MachineError,
    NoRoute,
    Phase,
    ProhibitedAddress,
    RequestError,
    ResponseAborted,
    TargetError,
)
from gateway.failure.advice import advice_for
from gateway.failure.pages import Failure, FailurePages, reason_of
from gateway.failure.response import FailureResponse, plain_response, response_for, status_of
from gateway.request import Request
from tests.gateway.conftest import make_request

STATUSES = {
    Cause.REFUSED: 502,
    Cause.UNREACHABLE: 502,
    Cause.UNKNOWN_HOST: 502,
    Cause.UNAVAILABLE: 503,
    Cause.NOT_STARTED: 502,
    Cause.CONNECT_TIMEOUT: 504,
    Cause.TLS_FAILED: 502,
    Cause.TLS_ALERT: 502,
    Cause.BAD_CERTIFICATE: 502,
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


def failed(cause: Cause = Cause.TERMINATED, detail: str = "gone", **facts: Any) -> BackendError:
    return BackendError(
        cause, detail, backend="app", address="10.0.0.1:9000", phase=Phase.FIRST_BYTE, **facts
    )


def told(error: Exception, *, debug: bool = False, request: Request | None = None) -> FailureResponse:
    return response_for(error, request or make_request(b"/x"), FailurePages(debug=debug))


def field(made: FailureResponse, name: bytes) -> str:
    (value,) = [value for found, value in made.headers if found == name]
    return value.decode("ascii")


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_status_and_something_to_tell(cause: Cause) -> None:
    """H-18, RFC 9209 2.3."""
    assert status_of(cause) == STATUSES[cause]
    made = told(failed(cause, "secret"))
    assert made.status == STATUSES[cause]
    assert f"error={cause.value};" in field(made, b"proxy-status")
    assert b"application" in made.body
    assert b"secret" not in made.body + field(made, b"proxy-status").encode()


def test_failure_of_a_backend_names_what_failed_and_no_more() -> None:
    """RFC 9209: the registered error, the backend, and the phase; words and addresses stay in the log."""
    made = told(failed(detail="b'SECRET\\x00'", errno=errno.ECONNRESET, last_words=["password"]))
    assert field(made, b"proxy-status") == (
        'gateway; error=connection_terminated; next-hop="app"; '
        'details="first byte: the application ended without an answer"'
    )
    everything = made.body + b"".join(value for _, value in made.headers)
    for secret in (b"10.0.0.1", b"SECRET", b"password", b"ECONNRESET"):
        assert secret not in everything
    assert [name for name, _ in made.headers].count(b"retry-after") == 0


def test_developers_are_told_everything() -> None:
    made = told(
        failed(detail="Connection reset", errno=errno.ECONNRESET, last_words=["password"]), debug=True
    )
    assert 'details="first byte: Connection reset"' in field(made, b"proxy-status")
    for fact in (b"GET /x", b"10.0.0.1", b"first byte", b"Connection reset", b"ECONNRESET", b"password"):
        assert fact in made.body


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_advice_for_developers(cause: Cause) -> None:
    """It names the place, or the setting; nobody else is told."""
    error = failed(cause, last_words=["ValueError"])
    advice = advice_for(error)
    assert advice[0].isupper()
    assert advice[-1] == "."
    assert advice.encode() in told(error, debug=True).body
    assert advice.encode() not in told(error).body


def test_advice_depends_on_what_is_known() -> None:
    forbidden = failed(Cause.UNREACHABLE, errno=errno.EACCES)
    assert "write to the socket" in advice_for(forbidden)
    assert "firewall" in advice_for(failed(Cause.UNREACHABLE, errno=errno.ENETUNREACH))
    assert "traceback" in advice_for(failed(Cause.FAILED, last_words=["ValueError"]))
    assert "traceback" not in advice_for(failed(Cause.FAILED))
    assert "drop_extensions of backends." in advice_for(failed(Cause.FAILED))


@pytest.mark.parametrize(("phase", "said"), [(Phase.QUEUE, "its servers"), (Phase.SPAWN, "Its processes")])
def test_advice_for_what_is_not_available_knows_servers_from_processes(phase: Phase, said: str) -> None:
    detail = "no server is up (a:1: health check: Connection refused)"
    down = BackendError(Cause.UNAVAILABLE, detail, backend="app", address="a:1", phase=phase)
    assert said in advice_for(down)


@pytest.mark.parametrize("cause", Cause)
def test_target_of_a_tunnel_is_no_backend(cause: Cause) -> None:
    """The client has named it, so it is told which; nothing in the configuration is wrong."""
    error = TargetError(cause, "gone", backend="a.example:443", address="x", phase=Phase.CONNECT)
    made = told(error, debug=True)
    assert made.status == STATUSES[cause]
    assert 'next-hop="a.example:443"' in field(made, b"proxy-status")
    assert b"the target" in told(error).body
    assert b"application" not in told(error).body
    assert b"backends." not in made.body
    assert b"a.example:443" in made.body


def test_addresses_that_are_prohibited_are_for_developers() -> None:
    error = ProhibitedAddress("no", ["10.0.0.1", "::1"])
    assert "10.0.0.1, ::1" in str(error)
    assert b"10.0.0.1, ::1" in told(error, debug=True).body
    assert b"10.0.0.1" not in told(error).body
    assert "error=destination_ip_prohibited" in field(told(error), b"proxy-status")


@pytest.mark.parametrize("status", [408, 413, 414, 431])
def test_what_a_setting_refuses_names_it(status: int) -> None:
    """The settings are those of the configuration."""
    body = told(RequestError(status, "too much"), debug=True).body.decode()
    (advice,) = [line for line in body.splitlines() if "decide" in line]
    settings = set(ClientTimeouts.model_fields) | set(ClientLimits.model_fields)
    named = re.findall(r"\b(?:timeouts|limits)\.(\w+)", advice)
    assert named
    assert set(named) <= settings


def test_developers_see_the_routes_that_did_not_match() -> None:
    error = NoRoute(["routes[0] (a.yaml:3) path: /x"])
    made = told(error, debug=True)
    assert b"routes:\n    routes[0] (a.yaml:3) path: /x\n" in made.body
    assert b"a.yaml" not in told(error).body


@pytest.mark.parametrize(("seconds", "expected"), [(None, "1"), (0.2, "1"), (6.4, "7")])
def test_overload_says_when_to_come_back(seconds: float | None, expected: str) -> None:
    """H-18."""
    assert field(told(failed(Cause.OVERLOADED, retry_after=seconds)), b"retry-after") == expected


@pytest.mark.parametrize(
    "detail", ['say "x" \\', "line\r\nX: injected", "snow \u2603", "\x00\x7f", "x" * 1000]
)
def test_proxy_status_is_a_valid_structured_field(detail: str) -> None:
    """RFC 8941 3.3.3: whatever the detail is made of."""
    found = field(told(failed(detail=detail), debug=True), b"proxy-status")
    assert re.fullmatch(r'gateway; error=\w+; next-hop="app"; details="(?:[ !#-\[\]-~]|\\["\\])*"', found)
    assert len(found) < 600


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (RequestError(411, "a length is needed"), 411, "http_request_error"),
        (RequestError(403, "not yours"), 403, "http_request_denied"),
        (RequestError(501, "cannot"), 501, "proxy_internal_response"),
        (NoRoute(), 404, "destination_not_found"),
        (MachineError(503, "not now", cause=OSError(errno.EMFILE, "SECRET")), 503, "proxy_internal_error"),
        (ResponseAborted("SECRET"), 500, "http_protocol_error"),
        (ValueError("SECRET"), 500, "proxy_internal_error"),
        (ClientGone("SECRET"), 500, "proxy_internal_error"),
    ],
)
def test_every_failure_has_its_reason_and_an_id(error: Exception, status: int, kind: str) -> None:
    """RFC 9209 2.3."""
    request = make_request(b"/x")
    made = told(error, request=request)
    assert made.status == status
    assert field(made, b"proxy-status").startswith(f"gateway; error={kind}; details=")
    assert field(made, b"x-request-id") == request.id
    assert request.id.encode() in made.body
    assert b"SECRET" not in made.body + field(made, b"proxy-status").encode()
    debugging = told(error, request=request, debug=True)
    assert (b"SECRET" in debugging.body) == ("SECRET" in str(error))


def test_fields_of_a_refusal_are_sent() -> None:
    """RFC 9110 15.5.6."""
    made = told(RequestError(405, "read only", headers=[(b"allow", b"GET")]))
    assert field(made, b"allow") == "GET"


class BrokenPages(FailurePages):
    def render(self, failure: Failure, request: Request) -> tuple[bytes, bytes]:
        raise ZeroDivisionError


def test_failure_of_the_page_is_logged_and_the_failure_told_plainly() -> None:
    request = make_request(b"/x")
    with capture_logs() as logs:
        made = response_for(RequestError(404, "no such file"), request, BrokenPages())
    assert made.status == 404
    assert made.body == f"404 Not Found\n\nno such file\n\nrequest id: {request.id}\n".encode()
    assert logs[0]["event"] == "failure page failed"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "Not Found"),
        (413, "Content Too Large"),
        (418, "I'm a Teapot"),
        (499, "Client Error"),
        (599, "Server Error"),
        (299, "Unknown"),
    ],
)
def test_plain_response(status: int, reason: str) -> None:
    assert reason_of(status) == reason
    made = plain_response(status, "why")
    request_id = field(made, b"x-request-id")
    assert made.body == f"{status} {reason}\n\nwhy\n\nrequest id: {request_id}\n".encode()
    assert 'details="why"' in field(made, b"proxy-status")
