"""Local redirects: the request that stands in for the client's, and their bound."""

import pytest
import trio

from gateway.errors import BackendError, Cause, Phase
from gateway.local_redirect import MAX_HOPS, follow
from gateway.request import NO_BODY, Request, Responder
from tests.gateway.conftest import BytesBody, RecordingResponder, make_request


def followed(request: Request, target: bytes) -> Request:
    """The request that *target* leads to."""
    found: list[Request] = []

    async def dispatch(redirected: Request, responder: Responder) -> None:
        found.append(redirected)

    trio.run(
        lambda: follow(request, target, RecordingResponder(), dispatch=dispatch, backend="b", address="a")
    )
    (redirected,) = found
    return redirected


def test_target_replaces_path_and_query() -> None:
    """CGI-34."""
    redirected = followed(make_request(b"/old?a", mount="/old"), b"/n%20ew/../x?b=%20")
    assert (redirected.path, redirected.raw_path, redirected.query) == ("/x", b"/n%20ew/../x", b"b=%20")
    assert (redirected.mount, redirected.backend) == ("", "")


@pytest.mark.parametrize(
    ("method", "becomes"), [("GET", "GET"), ("HEAD", "HEAD"), ("POST", "GET"), ("PUT", "GET")]
)
def test_method(method: str, becomes: str) -> None:
    assert followed(make_request(method=method), b"/x").method == becomes


def test_body_and_its_fields_are_gone_and_the_rest_is_kept() -> None:
    """CGI-34: the body may be unavailable."""
    request = make_request(
        method="POST",
        headers=[
            (b"content-length", b"4"), (b"content-type", b"a/b"), (b"expect", b"100-continue"),
            (b"transfer-encoding", b"chunked"), (b"cookie", b"x"), (b"host", b"h"),
        ],
        body=BytesBody(b"body"),
    )  # fmt: skip
    redirected = followed(request, b"/x")
    assert redirected.body is NO_BODY
    assert redirected.headers == [(b"cookie", b"x"), (b"host", b"h")]
    assert redirected.connection is request.connection
    assert redirected.host == request.host


@pytest.mark.parametrize("target", [b"/../x", b"/%zz", b"/%00", b"/x#y", b"x"])
def test_impossible_target_is_the_backends_fault(target: bytes) -> None:
    with pytest.raises(BackendError) as caught:
        followed(make_request(), target)
    assert (caught.value.cause, caught.value.phase) == (Cause.MALFORMED, Phase.HEAD)


def test_circle_is_bounded() -> None:
    hops = 0

    async def dispatch(request: Request, responder: Responder) -> None:
        nonlocal hops
        hops += 1
        await follow(request, b"/again", responder, dispatch=dispatch, backend="b", address="a")

    async def main() -> None:
        with pytest.raises(BackendError) as caught:
            await dispatch(make_request(), RecordingResponder())
        assert "loop" in caught.value.detail

    trio.run(main)
    assert hops == MAX_HOPS + 1
