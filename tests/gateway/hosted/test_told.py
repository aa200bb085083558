"""What the gateway tells the process of an application arrives as it was, whatever a client has sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BackendError, Cause, GatewayError, Phase, RequestError
from gateway.hosted.told import (
    ToldFailure,
    connection_of,
    failure_of,
    restore,
    told_connection,
    told_failure,
    told_request,
)
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.http1 import encode_response_head
from gateway.request import Connection, Request
from gateway.tls.facts import TlsFacts
from tests.gateway.conftest import make_request

bytes_of_fields = st.binary(max_size=20)
names_and_values = bytes_of_fields.filter(lambda value: b"\n" not in value)
paths = st.binary(max_size=20).map(lambda raw: "/" + raw.decode("utf-8", "surrogateescape"))


def as_sent(value: bytes) -> bytes:
    """*value* after it was a field: what cannot be one is refused here."""
    head = encode_response_head(200, b"", [(b"x", value)])
    assert head.isascii()
    assert head.count(b"\r\n") == 3
    return value


@given(
    method=st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", fullmatch=True),
    path=paths,
    raw_path=bytes_of_fields,
    query=bytes_of_fields,
    host=st.text(max_size=10),
    headers=st.lists(st.tuples(names_and_values.filter(bool), names_and_values)),
    variables=st.none() | st.dictionaries(st.text(), st.text()),
)
def test_request(**facts: Any) -> None:
    """No byte is lost, and none can end the field."""
    request = Request(
        method=facts["method"],
        path=facts["path"],
        raw_path=facts["raw_path"],
        query=facts["query"],
        version="2",
        headers=facts["headers"],
        host=facts["host"],
        connection=Connection(client=None, server=None),
    )
    request.variables = facts["variables"]
    request.mount = request.path[:2]
    told = make_request()
    restore(told, as_sent(told_request(request)))
    for name in ("method", "path", "raw_path", "query", "version", "headers", "host", "mount", "variables"):
        assert getattr(told, name) == getattr(request, name)


@pytest.mark.parametrize("field", [(b"a\nb", b"c"), (b"a", b"b\nc")])
def test_field_that_http_cannot_carry(field: tuple[bytes, bytes]) -> None:
    """No front lets one in; a filter may make one of what a client has sent."""
    request = make_request()
    request.headers = [field]
    with pytest.raises(LocalProtocolError):
        told_request(request)


@pytest.mark.parametrize("known", [True, False])
def test_id(known: bool) -> None:
    """One that the gateway has used already is the process's, too."""
    request, told = make_request(), make_request()
    if known:
        assert request.id
    restore(told, told_request(request))
    assert told.known_id == request.known_id
    assert (told.id == request.id) is known


@pytest.mark.parametrize(
    "client", [("192.0.2.1", 4000), ("2001:db8::1", 0), ("/run/\udcff.sock", None), None]
)
def test_connection(client: Any) -> None:
    connection = Connection(client=client, server=("192.0.2.2", 443), scheme="https")
    told = connection_of(as_sent(told_connection(connection)))
    assert (told.scheme, told.client, told.server) == ("https", client, ("192.0.2.2", 443))
    assert (told.tls, told.environ) == (None, None)
    assert connection_of(told_connection(connection)) is told


def test_tls() -> None:
    connection = Connection(client=("192.0.2.1", 4000), server=("192.0.2.2", 443), scheme="https")
    connection.tls = TlsFacts(
        version="TLSv1.3",
        cipher="TLS_AES_256_GCM_SHA384",
        cipher_bits=256,
        cipher_suite=0x1302,
        server_name="example.com",
        protocol="h2",
        server_certificate="-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        client_certificate=None,
    )
    told = connection_of(as_sent(told_connection(connection)))
    assert told.tls is not None
    assert told.tls.variables == connection.tls.variables
    assert told.tls.extension() == connection.tls.extension()


def test_failure_of_the_application() -> None:
    request = make_request()
    error = BackendError(
        Cause.FAILED,
        "the application raised ValueError: é\r\nx",
        backend="inside",
        address="app:app",
        phase=Phase.RUN,
        retry_after=2.5,
        last_words=["Traceback", "ValueError"],
    )
    told = failure_of(as_sent(told_failure(error, request)), "api")
    assert (told.id, str(told)) == (request.id, "backend api (app:app), run: " + error.detail)
    found = told.failure
    assert isinstance(found, BackendError)
    assert (found.cause, found.detail, found.backend, found.address) == (
        Cause.FAILED, error.detail, "api", "app:app"
    )  # fmt: skip
    assert (found.phase, found.retry_after, found.last_words) == (Phase.RUN, 2.5, ["Traceback", "ValueError"])


def test_failure_of_the_client() -> None:
    error = RequestError(413, "too much", close=True, headers=[(b"x-a", b"\xe9")])
    found = failure_of(as_sent(told_failure(error, make_request())), "api").failure
    assert isinstance(found, RequestError)
    assert (found.status, found.detail, found.close, found.headers) == (
        413, "too much", True, [(b"x-a", b"\xe9")]
    )  # fmt: skip


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"{}",
        b"[1]",
        b"null",
        json.dumps(["id", "backend", "no such cause", "", "", "run", None, []]).encode(),
        json.dumps(["id", "backend", "proxy_internal_response", "", "", "no phase", None, []]).encode(),
        json.dumps(["id", "request", "x", "", False, ""]).encode(),
        json.dumps(["id", "request", 400, "", False, [1]]).encode(),
        json.dumps(["id", "request", 400, "", False, "odd"]).encode(),
        json.dumps(["id", "request", 99999, "", False, ""]).encode(),
        json.dumps(["id", "request", 200, "", False, ""]).encode(),
        b'["id", "request", 1e999, "", false, ""]',
        json.dumps(["id", "request", 400, 5, False, ""]).encode(),
        json.dumps(["id", "request", 400, "", False, "a b\nc"]).encode(),
        json.dumps(["id", "request", 400, "", False, "a\nb\r"]).encode(),
        json.dumps(["id", "request", 400, "", False, "Content-Length\n5"]).encode(),
        json.dumps(["i\r\nd", "request", 400, "", False, ""]).encode(),
        json.dumps(["id", "backend", "proxy_internal_response", "", "", "head", [], []]).encode(),
        json.dumps(["id", "backend", "proxy_internal_response", "", "", "head", float("inf"), []]).encode(),
        json.dumps(["id", "backend", "proxy_internal_response", "", "", "head", None, [5]]).encode(),
        100_000 * b"[",
    ],
)
def test_what_is_no_failure(told: bytes) -> None:
    """An application may send such a field itself."""
    with pytest.raises(RemoteProtocolError, match="not a failure"):
        failure_of(told, "api")


def test_told_failure_is_no_failure_of_the_backend() -> None:
    """Retries and health are about processes, not about what an application answers."""
    failure = ToldFailure(RequestError(400, "x"), "id")
    assert isinstance(failure, GatewayError)
    assert not isinstance(failure, BackendError)
