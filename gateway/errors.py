"""Failures of the gateway, typed by whose fault they are; `failure.py` maps each to its response.

Protocol errors (`protocols.errors`) are mapped to these at the one place where a codec is driven.
"""

from enum import Enum


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
    UNREACHABLE = "destination_unavailable"
    CONNECT_TIMEOUT = "connection_timeout"
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

    *status* is a 4xx (or 501, 505); *close* says whether the connection can be used further.
    """

    def __init__(self, status: int, detail: str, *, close: bool = False) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.close = close


class BackendError(GatewayError):
    """The backend's fault: which backend, at which address, in which phase, and why."""

    def __init__(self, cause: Cause, detail: str, *, backend: str, address: str, phase: Phase) -> None:
        super().__init__(f"backend {backend} ({address}), {phase.value}: {detail}")
        self.cause = cause
        self.detail = detail
        self.backend = backend
        self.address = address
        self.phase = phase


class ClientGone(GatewayError):
    """The client closed or reset the connection; nobody is left to answer."""


class ResponseAborted(GatewayError):
    """The response was begun and cannot be completed; the client must see that it is cut short."""
