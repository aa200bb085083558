"""What a container says: Send Headers, Send Body Chunk, Get Body Chunk, End Response."""

from typing import Final

from gateway.protocols.ajp.packets import (
    END_RESPONSE,
    FROM_CONTAINER,
    GET_BODY_CHUNK,
    HEADER_SIZE,
    SEND_BODY_CHUNK,
    SEND_HEADERS,
    Cursor,
    encode_packet,
)
from gateway.protocols.ajp.request import LONGEST_NAME, decode_header_name
from gateway.protocols.errors import LocalProtocolError, TooLargeToEncode
from gateway.protocols.events import Headers, InformationalResponse, ResponseHead
from gateway.protocols.grammar import LINE_BREAK, TOKEN, parse_digits

# Send Headers: 0xA001 and so on.
RESPONSE_HEADERS: Final = (  # noqa: SIM905 - a list would be a long column
    "content-type content-language content-length date last-modified location set-cookie set-cookie2"
    " servlet-engine status www-authenticate"
).split()

_HEADER_CODES: Final = {name.encode(): bytes((0xA0, code)) for code, name in enumerate(RESPONSE_HEADERS, 1)}


def decode_head(cursor: Cursor) -> ResponseHead | InformationalResponse:
    """What Send Headers says, behind its code. Raises RemoteProtocolError (502)."""
    status = cursor.integer()
    if not 100 <= status <= 999:
        raise cursor.malformed(f"not a status code: {status}")
    if status == 101:
        raise cursor.malformed("101: AJP has no way to switch protocols")
    reason = _value(cursor)
    if reason == b"%d" % status:
        reason = b""  # Tomcat, which has none, for mod_jk, which needs one
    headers: Headers = []
    for _ in range(cursor.integer()):
        name = decode_header_name(cursor, RESPONSE_HEADERS)
        headers.append((name.encode("latin-1"), _value(cursor).strip(b" \t")))
    if not cursor.at_end:
        raise cursor.malformed("there is something behind its end")
    if status < 200:
        return InformationalResponse(status, headers, reason)
    return ResponseHead(status, headers, reason)


def promised_length(head: ResponseHead) -> int | None:
    """The bytes of body that Content-Length says; None if it is absent or no number."""
    for name, value in head.headers:
        if name == b"content-length" and (length := parse_digits(value)) is not None:
            return length
    return None


def _value(cursor: Cursor) -> bytes:
    value = cursor.string() or b""
    if LINE_BREAK.search(value):
        raise cursor.malformed(f"a line break or NUL in {value[:80]!r}")
    return value


def decode_chunk(cursor: Cursor) -> bytes:
    """What Send Body Chunk carries; nothing, which asks for all to be flushed, is legal."""
    data = cursor.take(cursor.integer())
    # Undocumented: containers end it with a NUL, as if it were a string. Apache takes no other form.
    if not cursor.at_end and (cursor.byte() or not cursor.at_end):
        raise cursor.malformed("a chunk is not as long as it says")
    return data


def encode_head(head: ResponseHead, packet_size: int) -> bytes:
    """Send Headers.

    Raises TooLargeToEncode if it has more than *packet_size* bytes, LocalProtocolError for what AJP cannot
    say.
    """
    if not 200 <= head.status <= 999:
        raise LocalProtocolError(f"status {head.status} cannot be the final one")
    parts = [
        bytes((SEND_HEADERS,)),
        head.status.to_bytes(2, "big"),
        # mod_jk fails without a reason phrase (Tomcat bug 45026).
        _string(head.reason or b"%d" % head.status),
        len(head.headers).to_bytes(2, "big"),
    ]
    for name, value in head.headers:
        lower = name.lower()
        if not TOKEN.fullmatch(name) or len(name) > LONGEST_NAME:
            raise LocalProtocolError(f"not a field name: {name[:80]!r}")
        if lower == b"transfer-encoding":
            raise LocalProtocolError("the body cannot have a Transfer-Encoding")
        parts += (_HEADER_CODES.get(lower) or _string(name), _string(value))
    content = b"".join(parts)
    if HEADER_SIZE + len(content) > packet_size:
        raise TooLargeToEncode(
            f"the head of the response takes {HEADER_SIZE + len(content)} bytes"
            f" where an AJP packet has {packet_size}"
        )
    return encode_packet(FROM_CONTAINER, content)


def _string(text: bytes) -> bytes:
    if LINE_BREAK.search(text):
        raise LocalProtocolError(f"AJP cannot carry a line break or NUL: {text[:80]!r}")
    if len(text) >= 0xFFFF:
        raise TooLargeToEncode(f"a string of {len(text)} bytes")
    return b"%b%b\0" % (len(text).to_bytes(2, "big"), text)


def encode_chunks(data: bytes, packet_size: int) -> bytes:
    """Send Body Chunk, as often as *data* needs it."""
    room = packet_size - HEADER_SIZE - 4
    packets = []
    for start in range(0, len(data), room):
        piece = data[start : start + room]
        content = b"%c%b%b\0" % (SEND_BODY_CHUNK, len(piece).to_bytes(2, "big"), piece)
        packets.append(encode_packet(FROM_CONTAINER, content))
    return b"".join(packets)


def encode_get_body(count: int) -> bytes:
    """Get Body Chunk, for at most *count* bytes."""
    return encode_packet(FROM_CONTAINER, bytes((GET_BODY_CHUNK,)) + count.to_bytes(2, "big"))


def encode_end(*, reuse: bool) -> bytes:
    """End Response."""
    return encode_packet(FROM_CONTAINER, bytes((END_RESPONSE, reuse)))
