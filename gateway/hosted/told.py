"""What the two processes tell each other, as fields of HTTP/1.1.

The gateway tells the request (`REQUEST`) and its connection (`CONNECTION`): they are JSON, so nothing that a
client sends can be taken for anything else, and nothing of it is lost. The process tells of a failure
(`FAILURE`) that has no response yet, so that the gateway answers it as it answers all others.
"""

import json
from math import isfinite
from typing import Any, Final

from gateway.errors import BackendError, Cause, GatewayError, Phase, RequestError
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import Headers
from gateway.protocols.grammar import CONTROL, TOKEN
from gateway.protocols.memo import Memo
from gateway.request import Address, Connection, Request
from gateway.tls.facts import TlsFacts

REQUEST: Final = b"gateway-request"
CONNECTION: Final = b"gateway-connection"
FAILURE: Final = b"gateway-failure"

FAILED: Final = 500
"""The status of a response that tells of a failure; it is nobody's to see."""

_KNOWN: Final = 1024
"""Connections that are remembered: one has many requests."""


_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def _written(value: Any) -> bytes:
    """JSON that may stand in a field: ASCII, without a control character (RFC 9110 5.5)."""
    return _encode(value).replace("\x7f", "\\u007f").encode("ascii")


# --- a request


def told_request(request: Request) -> bytes:
    """*request* without its connection and its body, as the process is told of it.

    Raises LocalProtocolError for header fields that HTTP cannot carry.
    """
    return _written(
        [
            request.method,
            request.path,
            request.raw_path.decode("latin-1"),
            request.query.decode("latin-1"),
            request.version,
            request.host,
            request.mount,
            request.path_rest,
            request.known_id,
            request.variables,
            _told_fields(request.headers),
        ]
    )


def restore(request: Request, told: bytes) -> None:
    """Make *request*, in which *told* came, the one that it is about."""
    (
        request.method,
        request.path,
        raw_path,
        query,
        request.version,
        request.host,
        request.mount,
        request.path_rest,
        known_id,
        request.variables,
        fields,
    ) = json.loads(told)
    request.raw_path = raw_path.encode("latin-1")
    request.query = query.encode("latin-1")
    request.headers = _fields(fields)
    if known_id is not None:
        request.adopt_id(known_id)


def _told_fields(headers: Headers) -> str:
    """Names and values, each on a line of its own: as one text they take half the time."""
    lines = b"\n".join([b"\n".join(field) for field in headers])
    if headers and lines.count(b"\n") != 2 * len(headers) - 1:
        raise LocalProtocolError("a header field has a line feed in it")  # RFC 9110 5.5
    return lines.decode("latin-1")


def _fields(told: str) -> Headers:
    if not told:
        return []
    lines = told.encode("latin-1").split(b"\n")
    return list(zip(lines[::2], lines[1::2], strict=True))


# --- its connection

_told_connections: Final[Memo[tuple[TlsFacts | None, Address, Address, str], bytes]] = Memo(_KNOWN)
_connections: Final[Memo[bytes, Connection]] = Memo(_KNOWN)


def told_connection(connection: Connection) -> bytes:
    """The facts of *connection*."""
    tls = connection.tls
    key = (tls, connection.client, connection.server, connection.scheme)
    told = _told_connections.get(key)
    if told is None:
        told = _written(
            [
                connection.scheme,
                connection.client,
                connection.server,
                None if tls is None else [tls.variables, tls.extension()],
            ]
        )
        _told_connections.keep(key, told)
    return told


class ToldTls(TlsFacts):
    """What the gateway has agreed on with the client."""

    def __init__(self, variables: dict[str, str], extension: dict[str, Any]) -> None:
        vars(self)["variables"] = variables
        self._extension = extension

    def extension(self) -> dict[str, Any]:
        return {**self._extension}


def connection_of(told: bytes) -> Connection:
    """The connection that *told* is about; the same one for the same text."""
    known = _connections.get(told)
    if known is None:
        scheme, client, server, tls = json.loads(told)
        known = Connection(
            client=_address(client),
            server=_address(server),
            scheme=scheme,
            tls=None if tls is None else ToldTls(*tls),
        )
        _connections.keep(told, known)
    return known


def _address(told: list[Any] | None) -> Address:
    return None if told is None else (told[0], told[1])


# --- a failure


class ToldFailure(GatewayError):
    """A failure of which the process has told. Its *id* is what the process calls the request in its log."""

    def __init__(self, failure: GatewayError, id_: str) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.id = id_


def told_failure(error: BackendError | RequestError, request: Request) -> bytes:
    """*error*, that *request* came to."""
    if isinstance(error, RequestError):
        fields = _told_fields(error.headers)
        return _written([request.id, "request", error.status, error.detail, error.close, fields])
    return _written(
        [
            request.id,
            "backend",
            error.cause.value,
            error.detail,
            error.address,
            error.phase.value,
            error.retry_after,
            list(error.last_words),
        ]
    )


def failure_of(told: bytes, backend: str) -> ToldFailure:
    """The failure that *told* is about, as one of *backend*. Raises RemoteProtocolError if it is none.

    The application may have sent it itself. So nothing is in it that could not be answered with.
    """
    try:
        id_, kind, *facts = json.loads(told)
        if kind == "request":
            status, detail, close, fields = facts
            if not 400 <= status <= 599:
                raise ValueError(f"status {status}")  # noqa: TRY301
            texts = [id_, detail]
            failure: GatewayError = RequestError(
                int(status), detail, close=bool(close), headers=_failure_fields(fields)
            )
        else:
            cause, detail, address, phase, retry_after, last_words = facts
            if retry_after is not None and not isfinite(retry_after):
                raise ValueError(f"retry after {retry_after}")  # noqa: TRY301
            texts = [id_, detail, address, *last_words]
            failure = BackendError(
                Cause(cause),
                detail,
                backend=backend,
                address=address,
                phase=Phase(phase),
                retry_after=retry_after,
                last_words=last_words,
            )
        "".join(texts)  # a TypeError if one of them is no text
        if not id_.isalnum():
            raise ValueError(f"the id {id_!r}")  # noqa: TRY301
        return ToldFailure(failure, id_)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a failure that this gateway tells of: {error}") from error


def _failure_fields(told: str) -> Headers:
    """The fields of a failure's response, whose length is not theirs to say. Raises ValueError."""
    fields = _fields(told)
    for name, value in fields:
        if not TOKEN.fullmatch(name) or name.lower() == b"content-length" or CONTROL.search(value):
            raise ValueError(f"the field {name!r}: {value!r}")
    return fields
