"""The error codes of HTTP/2, and what is raised when a connection cannot go on."""

from enum import IntEnum

from gateway.protocols.errors import RemoteProtocolError


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Http2Error(RemoteProtocolError):
    """The peer broke a rule that ends the connection (RFC 9113 5.4.1); GOAWAY says *code*."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code

    def again(self) -> "Http2Error":
        """As `RemoteProtocolError.again`."""
        return Http2Error(str(self), self.code)


class MalformedMessage(RemoteProtocolError):
    """A request is malformed: its stream is reset with PROTOCOL_ERROR (RFC 9113 8.1.1)."""
