"""Requests that the gateway makes from a client's: same client, same host, same id in the logs.

A program's local redirect becomes a `RedirectedRequest`; a question to a guard and a copy for a mirror are
`SideRequest`.
"""

from typing import TypeVar

from gateway.protocols.events import Headers
from gateway.request import NO_BODY, Body, Request


class RedirectedRequest(Request):
    """A request that a program made by a local redirect; ``hops`` counts them from the client's on."""

    __slots__ = ("hops",)
    hops: int


class SideRequest(Request):
    """A request of the gateway's own beside that of a client: a question to a guard, a copy for a mirror.

    No page of this server can stand in for its answer: a page that a guard has named would let in whoever
    may see it, and each of these requests could cause others without end.
    """

    __slots__ = ()


AnyRequest = TypeVar("AnyRequest", bound=Request)


def derive(
    kind: type[AnyRequest],
    request: Request,
    *,
    method: str,
    path: str,
    raw_path: bytes,
    query: bytes,
    headers: Headers,
    body: Body = NO_BODY,
) -> AnyRequest:
    """A request of that *kind* from *request*, of which no route has been chosen yet.

    What *headers* say of a body has to fit *body*.
    """
    derived = kind(
        method=method,
        path=path,
        raw_path=raw_path,
        query=query,
        version=request.version,
        headers=headers,
        host=request.host,
        connection=request.connection,
        body=body,
    )
    derived.share_id(request)
    return derived
