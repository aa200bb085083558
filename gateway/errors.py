"""Failures of the gateway, typed by whose fault they are; `failure/` maps each to its response.

Those of the start have none: there are no requests yet. Protocol errors (`protocols.errors`) are mapped to
these at the one place where a codec is driven.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import TypeVar

from gateway.protocols.events import Headers
from gateway.stacks import traceback_of


class Phase(Enum):
    """How far the exchange with a backend had come."""

    CONNECT = "connect"
    SPAWN = "spawn"
    QUEUE = "queue"
    SEND = "send"
    FIRST_BYTE = "first byte"
    HEAD = "head"
    BODY = "body"
    RUN = "run"


class Cause(Enum):
    """What happened to the backend; each has one status and one Proxy-Status error (RFC 9209 2.3)."""

    REFUSED = "connection_refused"
    UNREACHABLE = "destination_ip_unroutable"
    UNKNOWN_HOST = "dns_error"
    UNAVAILABLE = "destination_unavailable"
    NOT_STARTED = "proxy_configuration_error"
    CONNECT_TIMEOUT = "connection_timeout"
    TLS_FAILED = "tls_protocol_error"
    TLS_ALERT = "tls_alert_received"
    BAD_CERTIFICATE = "tls_certificate_error"
    READ_TIMEOUT = "http_response_timeout"
    WRITE_TIMEOUT = "connection_write_timeout"
    TERMINATED = "connection_terminated"
    INCOMPLETE = "http_response_incomplete"
    MALFORMED = "http_protocol_error"
    HEAD_TOO_LARGE = "http_response_header_section_size"
    LOOP = "proxy_loop_detected"
    OVERLOADED = "connection_limit_reached"
    FAILED = "proxy_internal_response"


class GatewayError(Exception):
    """Base of every failure of an exchange that has a response."""


class RequestError(GatewayError):
    """The client's fault.

    *status* is a 4xx (or 501, 505); *close* says whether the connection can be used further; *headers*
    are fields that the response needs (RFC 9110 15.5: Allow, Content-Range). *detail* is told to the
    client, so it is about the request and names nothing that the server keeps to itself; *setting* is the
    key of the configuration that decides, for the log.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        close: bool = False,
        headers: Headers | None = None,
        setting: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.close = close
        self.headers: Headers = headers or []
        self.setting = setting


class NoRoute(RequestError):
    """No route of the configuration matches the request; *routes* are all of them, in words."""

    def __init__(self, routes: Sequence[str] = ()) -> None:
        super().__init__(404, "no route of this server matches the request")
        self.routes = routes


class ProhibitedAddress(RequestError):
    """The target of a tunnel has no other *addresses* than those that may not be connected to."""

    def __init__(self, detail: str, addresses: Sequence[str]) -> None:
        super().__init__(403, detail)
        self.addresses = addresses

    def __str__(self) -> str:
        return f"{self.detail}: {', '.join(self.addresses)}"


class MachineError(GatewayError):
    """The machine's fault that the gateway runs on: no descriptors left, a broken disk, or a full one.

    *status* is 500, 503 or 507; *detail* is told to the client, *cause* to the operator.
    """

    def __init__(self, status: int, detail: str, *, cause: OSError) -> None:
        super().__init__(f"{detail}: {cause}")
        self.status = status
        self.detail = detail
        self.cause = cause


class BackendError(GatewayError):
    """The backend's fault: which backend, at which address, in which phase, and why.

    *detail* and *last_words* (the end of what the application wrote to its error stream for this request,
    or of its traceback) are for the log and the developer: they may hold bytes of the application's,
    paths and addresses. *retry_after* is in seconds, if it is known when to come back.
    """

    def __init__(
        self,
        cause: Cause,
        detail: str,
        *,
        backend: str,
        address: str,
        phase: Phase,
        errno: int | None = None,
        retry_after: float | None = None,
        last_words: Sequence[str] = (),
    ) -> None:
        super().__init__(f"backend {backend} ({address}), {phase.value}: {detail}")
        self.cause = cause
        self.detail = detail
        self.backend = backend
        self.address = address
        self.phase = phase
        self.errno = errno
        self.retry_after = retry_after
        self.last_words = last_words

    def log_fields(self) -> dict[str, str]:
        """What the log says of it."""
        return {
            "backend": self.backend,
            "address": self.address,
            "phase": self.phase.value,
            "cause": self.cause.value,
            "detail": self.detail,
        }

    def another(self, kind: "type[AnyBackendError]") -> "AnyBackendError":
        """The same failure once more, as one of that *kind*: for another request, or in other words."""
        return kind(
            self.cause,
            self.detail,
            backend=self.backend,
            address=self.address,
            phase=self.phase,
            errno=self.errno,
            retry_after=self.retry_after,
            last_words=self.last_words,
        )


AnyBackendError = TypeVar("AnyBackendError", bound=BackendError)


def without_frames(error: AnyBackendError) -> AnyBackendError:
    """*error*, and what it came from, without the frames that they went through.

    A frame that keeps it to raise it later would be kept by it, with the whole request, until the collector
    of cycles runs.
    """
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error


class TargetError(BackendError):
    """The failure of a server that a client has chosen (CONNECT), which is no backend: *backend* is its host
    and port in the client's words.
    """

    def log_fields(self) -> dict[str, str]:
        fields = super().log_fields()
        return {"target": fields.pop("backend"), **fields}


class ClientGone(GatewayError):
    """The client closed or reset the connection; nobody is left to answer."""


class ResponseAborted(GatewayError):
    """The response was begun and cannot be completed; the client must see that it is cut short.

    *cause* is what that makes of the backend whose response it is.
    """

    def __init__(self, detail: str, cause: Cause = Cause.INCOMPLETE) -> None:
        super().__init__(detail)
        self.cause = cause


class StartError(Exception):
    """A backend or listener cannot start; the message says which and why, for the operator.

    Where the code of an application has *raised* something, its traceback is for the log: whoever says why
    the daemon or the reload has failed logs it, once.
    """

    def __init__(self, message: str, *, backend: str = "", raised: BaseException | None = None) -> None:
        super().__init__(message)
        self.backend = backend
        self.traceback = "" if raised is None else "\n".join(traceback_of(raised))

    def log_fields(self) -> dict[str, str]:
        """What the log says of it; nothing if there is no traceback."""
        return {"backend": self.backend, "exception": self.traceback} if self.traceback else {}


AnyError = TypeVar("AnyError", bound=Exception)


def each_of(group: BaseExceptionGroup[AnyError]) -> Iterator[AnyError]:
    """The errors in *group*, however deep."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from each_of(error)
        else:
            yield error
