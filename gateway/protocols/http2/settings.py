"""The settings of a connection (RFC 9113 6.5)."""

import struct
from collections.abc import Iterator
from typing import Final

from gateway.protocols.http2.errors import ErrorCode, Http2Error
from gateway.protocols.http2.frames import MAX_FRAME_SIZE
from gateway.protocols.http2.windows import LARGEST_WINDOW

# RFC 9113 6.5.2
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
SETTINGS_MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8  # RFC 8441 3

_RANGES: Final = {
    ENABLE_PUSH: (0, 1),
    INITIAL_WINDOW_SIZE: (0, LARGEST_WINDOW),
    SETTINGS_MAX_FRAME_SIZE: (MAX_FRAME_SIZE, 2**24 - 1),
    ENABLE_CONNECT_PROTOCOL: (0, 1),
}
_ANY: Final = (0, 2**32 - 1)
_SETTING: Final = struct.Struct(">HL")


def encode_settings(settings: dict[int, int]) -> bytes:
    """The payload of SETTINGS."""
    return b"".join([_SETTING.pack(key, value) for key, value in settings.items()])


def parse_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The settings in *payload*, of whole entries, in their order (RFC 9113 6.5.3). Raises Http2Error."""
    for key, value in _SETTING.iter_unpack(payload):
        least, most = _RANGES.get(key, _ANY)
        if not least <= value <= most:
            code = ErrorCode.FLOW_CONTROL_ERROR if key == INITIAL_WINDOW_SIZE else ErrorCode.PROTOCOL_ERROR
            raise Http2Error(f"setting {key} cannot be {value}", code)
        yield key, value
