"""Local redirects of programs: the answer is that of another path of this server (RFC 3875 6.2.2)."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from gateway.derived import RedirectedRequest, SideRequest, derive
from gateway.errors import BackendError, Cause, Phase, RequestError
from gateway.request import Request, Responder
from gateway.target import decode_path, split_target

MAX_HOPS: Final = 10
"""Local redirects that one request may cause, as Apache's LimitInternalRecursion."""

Dispatch: TypeAlias = Callable[[Request, Responder], Awaitable[None]]
"""Routes a request and answers it."""

# The new request has no body (RFC 3875 6.2.2 leaves it to the server).
_BODY_FIELDS: Final = frozenset(
    {b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"expect", b"trailer"}
)


async def follow(
    request: Request, target: bytes, responder: Responder, *, dispatch: Dispatch, backend: str, address: str
) -> None:
    """Answer *request* as if the client had requested *target*.

    Raises BackendError if the target is impossible, the redirects go round in circles, or the request is a
    `SideRequest`.
    """
    hops = request.hops + 1 if isinstance(request, RedirectedRequest) else 1
    try:
        if isinstance(request, SideRequest):
            raise RequestError(400, "it answers a guard's or a mirror's request")  # noqa: TRY301
        if hops > MAX_HOPS:
            raise RequestError(400, f"more than {MAX_HOPS} local redirects, a loop")  # noqa: TRY301
        redirected = _redirected(request, target, hops)
    except RequestError as error:
        raise BackendError(
            Cause.MALFORMED,
            f"a local redirect that cannot be followed: {error.detail}",
            backend=backend,
            address=address,
            phase=Phase.HEAD,
        ) from error
    await dispatch(redirected, responder)


def _redirected(request: Request, target: bytes, hops: int) -> RedirectedRequest:
    """The GET (or HEAD) of *target* that stands in for *request*: same client, same fields, no body."""
    raw_path, query = split_target(target)
    headers = request.headers if request.route_headers is None else request.route_headers
    redirected = derive(
        RedirectedRequest,
        request,
        method="HEAD" if request.method == "HEAD" else "GET",
        path=decode_path(raw_path),
        raw_path=raw_path,
        query=query,
        headers=[field for field in headers if field[0] not in _BODY_FIELDS],
    )
    redirected.hops = hops
    return redirected
