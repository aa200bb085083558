"""Requests that the gateway makes from a client's."""

import pytest

from gateway.derived import RedirectedRequest, SideRequest, derive
from gateway.request import NO_BODY, Request
from tests.gateway.conftest import BytesBody, make_request


@pytest.mark.parametrize("kind", [RedirectedRequest, SideRequest])
def test_who_asks_stays_and_what_the_route_said_does_not(kind: type[Request]) -> None:
    request = make_request(b"/m/x?q", method="POST", mount="/m", body=BytesBody(b"body"))
    request.variables = {"REMOTE_USER": "ann"}
    derived = derive(
        kind, request, method="GET", path="/y", raw_path=b"/y", query=b"z", headers=[(b"host", b"b")]
    )
    assert type(derived) is kind
    assert (derived.method, derived.path, derived.raw_path, derived.query) == ("GET", "/y", b"/y", b"z")
    assert derived.headers == [(b"host", b"b")]
    assert derived.body is NO_BODY
    assert (derived.host, derived.version, derived.id) == (request.host, request.version, request.id)
    assert derived.connection is request.connection
    assert (derived.mount, derived.backend, derived.variables) == ("", "", None)
