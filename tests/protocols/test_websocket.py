"""WebSocket on the server's side: handshake facts, permessage-deflate, messages and their ends."""

import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.events import NEED_DATA
from gateway.protocols.websocket.deflate import Deflate, negotiate
from gateway.protocols.websocket.handshake import accept_value, is_key, offered_subprotocols
from gateway.protocols.websocket.server import FRAMES_AT_A_TIME, Closed, Pong, WebSocketServer

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame (RFC 6455 5.2)."""
    mask = b"\x37\xfa\x21\x3d"
    first = opcode | fin << 7 | rsv1 << 6
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def server(max_message: int = 1000, deflate: Deflate | None = None) -> WebSocketServer:
    return WebSocketServer(max_message=max_message, deflate=deflate)


def events_of(codec: WebSocketServer) -> list[object]:
    found: list[object] = []
    while (event := codec.next_event()) is not NEED_DATA or codec.paused:
        if event is not NEED_DATA:
            found.append(event)
    return found


# --- the handshake


def test_accept_value() -> None:
    """RFC 6455 1.3: the example."""
    assert accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        (b"dGhlIHNhbXBsZSBub25jZQ==", True),
        (b"dGhlIHNhbXBsZSBub25jZQ", False),
        (b"dGhlIHNhbXBsZSBub25jZQ==\x80", False),
        (b"c2hvcnQ=", False),
        (b"", False),
    ],
)
def test_key(key: bytes, valid: bool) -> None:
    """RFC 6455 4.2.1: 16 bytes in base64."""
    assert is_key(key) is valid


def test_subprotocols() -> None:
    """RFC 6455 11.3.4: in order, over several fields."""
    headers = [(b"sec-websocket-protocol", b"b, ,A"), (b"x", b"y"), (b"sec-websocket-protocol", b"c")]
    assert offered_subprotocols(headers) == ["b", "A", "c"]


# --- messages


def test_messages() -> None:
    """RFC 6455 5.4, 5.5.2: fragments are joined, pings between them answered."""
    data = b"".join(
        [
            frame(TEXT, "ä".encode()),
            frame(BINARY, b"\xff" * 300),
            frame(TEXT),
            frame(TEXT, b"a\xc3", fin=False),
            frame(PING, b"p"),
            frame(PONG, b"q"),
            frame(CONTINUATION, fin=False),
            frame(CONTINUATION, b"\x9fb"),
            frame(BINARY, b"1", fin=False),
            frame(CONTINUATION, b"2"),
        ]
    )
    wanted = ["ä", b"\xff" * 300, "", Pong(b"q"), "aßb", b"12"]
    whole = server()
    whole.receive_data(data)
    assert events_of(whole) == wanted
    assert whole.replies() == b"\x8a\x01p"
    assert whole.replies() == b""
    by_bytes = server()
    found: list[object] = []
    for i in range(len(data)):
        by_bytes.receive_data(data[i : i + 1])
        found += events_of(by_bytes)
    assert found == wanted
    assert by_bytes.replies() == b"\x8a\x01p"


@pytest.mark.parametrize("step", [1, 7, 1000, 65536, 1_000_000])
@pytest.mark.parametrize("compressed", [False, True])
def test_messages_in_pieces(step: int, compressed: bool) -> None:
    """RFC 6455 5.3: the mask goes on over all of a frame, however it comes, and so does its text."""
    codec = server(80_000, Deflate(most=80_000) if compressed else None)
    peer = Peer()
    messages: list[str | bytes] = ["", b"", "aß€𝄞" * 200, b"\0\xff\x37" * 300]
    if step > 1:
        messages += ["aß€𝄞" * 7000, bytes(range(256)) * 300, "x" * 70_000]
    data = b""
    for message in messages:
        opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        data += frame(opcode, peer.deflate(payload) if compressed else payload, rsv1=compressed)
    data += frame(PONG, b"p")
    found: list[object] = []
    for start in range(0, len(data), step):
        codec.receive_data(data[start : start + step])
        found += events_of(codec)
    assert found == [*messages, Pong(b"p")]


def test_pieces_that_come_together() -> None:
    data = frame(BINARY, b"abc" * 300)
    codec = server()
    codec.receive_data(data[:10])
    assert events_of(codec) == []
    codec.receive_data(data[10:500])
    codec.receive_data(data[500:] + data)
    assert events_of(codec) == [b"abc" * 300] * 2


@pytest.mark.parametrize("compressed", [False, True])
def test_text_that_is_none_is_refused_before_its_end(compressed: bool) -> None:
    """RFC 6455 8.1, as soon as it is known."""
    codec = server(deflate=Deflate(most=1000) if compressed else None)
    payload = b"ab\xff" + b"x" * 900
    data = frame(TEXT, zlib.compress(payload, 0, -15)[:-4] if compressed else payload, rsv1=compressed)
    codec.receive_data(data[:100])
    (closed,) = events_of(codec)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.failed) == (1007, True)


def test_pieces_of_a_message_take_little_memory() -> None:
    """A frame of which a byte comes at a time."""
    codec = server(max_message=1_000_000)
    data = frame(BINARY, b"x" * 70_000)
    codec.receive_data(data[:14])
    tracemalloc.start()
    try:
        for i in range(14, len(data) - 1):
            codec.receive_data(data[i : i + 1])
            assert events_of(codec) == []
        # What references to 70,000 pieces would take alone is twice that; other threads count, too.
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_send(size: int) -> None:
    """RFC 6455 5.2: the three lengths; a server does not mask."""
    data = b"x" * size
    if size < 126:
        head = bytes((0x82, size))
    elif size < 65536:
        head = struct.pack("!BBH", 0x82, 126, size)
    else:
        head = struct.pack("!BBQ", 0x82, 127, size)
    assert server().send_message(data) == head + data


def test_send_text_and_ping() -> None:
    assert server().send_message("ä") == b"\x81\x02\xc3\xa4"
    assert server().ping(b"p") == b"\x89\x01p"


@pytest.mark.parametrize("cut", [0, 700, 1007])
@pytest.mark.parametrize(
    "frames",
    [
        frame(BINARY, b"x" * 1100),
        frame(TEXT, "ä".encode() * 550),
        frame(TEXT, "ä".encode() * 300, fin=False) + frame(CONTINUATION, "ä".encode() * 250),
    ],
)
def test_message_too_big(frames: bytes, cut: int) -> None:
    """RFC 6455 7.4.1: 1009, as soon as it is known."""
    codec = server()
    codec.receive_data(frames[:cut] or b"\x8a\x80\0\0\0\0")
    assert events_of(codec) in ([], [Pong(b"")])
    codec.receive_data(frames[cut:])
    assert events_of(codec) == [Closed(1009, "the message has more than 1000 bytes", failed=True)]
    assert codec.over
    assert codec.replies()[2:4] == struct.pack("!H", 1009)


def test_message_too_big_before_its_end() -> None:
    codec = server()
    codec.receive_data(frame(BINARY, b"x" * 5000)[:1100])
    assert events_of(codec) == [Closed(1009, "the message has more than 1000 bytes", failed=True)]


@pytest.mark.parametrize(
    "frames",
    [
        frame(BINARY, b"x" * 1000),
        frame(TEXT, "ä".encode() * 500),
        frame(TEXT, "ä".encode() * 250, fin=False) + frame(CONTINUATION, b"x" * 500),
    ],
)
def test_message_of_the_largest_size(frames: bytes) -> None:
    codec = server()
    codec.receive_data(frames * 2)
    assert len(events_of(codec)) == 2


# --- the end


@pytest.mark.parametrize(
    ("data", "event", "reply"),
    [
        (close_frame(1000), Closed(1000, ""), b"\x88\x02\x03\xe8"),
        (close_frame(4000, b"bye"), Closed(4000, "bye"), b"\x88\x05\x0f\xa0bye"),
        (frame(CLOSE), Closed(1005, ""), b"\x88\x00"),
    ],
)
def test_peer_closes(data: bytes, event: Closed, reply: bytes) -> None:
    """RFC 6455 5.5.1: a Close is answered, and nothing is read or sent after it."""
    codec = server()
    codec.receive_data(frame(TEXT, b"a") + data + frame(TEXT, b"b"))
    assert events_of(codec) == ["a", event]
    assert codec.replies() == reply
    assert codec.over
    codec.receive_data(frame(TEXT, b"c"))
    codec.receive_data(b"")
    assert events_of(codec) == []
    with pytest.raises(LocalProtocolError):
        codec.send_message("x")
    with pytest.raises(LocalProtocolError):
        codec.ping(b"")
    with pytest.raises(LocalProtocolError):
        codec.close(1000)


def test_we_close() -> None:
    """The peer may go on until its own Close comes; its pings are not answered any more."""
    codec = server()
    assert codec.close(1001, "bye") == b"\x88\x05\x03\xe9bye"
    codec.receive_data(frame(TEXT, b"a") + frame(PING) + close_frame(1001))
    assert events_of(codec) == ["a", Closed(1001, "")]
    assert codec.replies() == b""


@pytest.mark.parametrize(
    ("code", "reason", "sent"),
    [(1005, "lost", b"\x88\x00"), (1000, "ß" * 100, b"\x88\x7c\x03\xe8" + "ß".encode() * 61)],
)
def test_close_frames(code: int, reason: str, sent: bytes) -> None:
    """RFC 6455 5.5, 7.1.5: no code, no reason; 125 bytes at most."""
    assert server().close(code, reason) == sent


@pytest.mark.parametrize(
    "before", [b"", frame(TEXT, b"a")[:-1], frame(TEXT, b"abc")[:-1], frame(TEXT, b"a", fin=False)]
)
def test_lost(before: bytes) -> None:
    """RFC 6455 7.1.5: 1006 without a Close frame."""
    codec = server()
    codec.receive_data(before)
    codec.receive_data(b"")
    assert events_of(codec) == [Closed(1006, "")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (b"\x81\x01a", 1002),
        (b"\x81\xfe\0\x01mask\0", 1002),
        (b"\x81\xff\0\0\0\0\0\0\0\x01mask\0", 1002),
        (frame(3), 1002),
        (frame(CONTINUATION), 1002),
        (frame(TEXT, fin=False) + frame(TEXT), 1002),
        (frame(PING, fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(TEXT, rsv1=True), 1002),
        (close_frame(1005), 1002),
        (close_frame(999), 1002),
        (frame(CLOSE, b"a"), 1002),
        (close_frame(1000, b"\xff"), 1007),
    ],
)
def test_protocol_errors(data: bytes, code: int) -> None:
    """RFC 6455 5, 7.1.7, 8.1: failed with a code, which the peer is told."""
    codec = server()
    codec.receive_data(frame(TEXT, b"a") + data + frame(TEXT, b"b"))
    first, closed = events_of(codec)
    assert first == "a"
    assert isinstance(closed, Closed)
    assert (closed.code, closed.failed) == (code, True)
    reply = codec.replies()
    assert reply[:1] + reply[2:4] == b"\x88" + struct.pack("!H", code)


def test_protocol_error_after_our_close() -> None:
    """There is one Close frame from each side."""
    codec = server()
    codec.close(1000)
    codec.receive_data(frame(3))
    (closed,) = events_of(codec)
    assert isinstance(closed, Closed)
    assert closed.failed
    assert codec.replies() == b""


# --- permessage-deflate


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (b"permessage-deflate", b"permessage-deflate; server_max_window_bits=12"),
        (
            b"Permessage-Deflate; client_max_window_bits",
            b"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            b'permessage-deflate; client_max_window_bits="10"; server_max_window_bits=9',
            b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            b"permessage-deflate; client_max_window_bits=8",
            b"permessage-deflate; server_max_window_bits=12",
        ),
        (
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            b"permessage-deflate; server_max_window_bits=12; server_no_context_takeover"
            b"; client_no_context_takeover",
        ),
        (
            b"x, permessage-deflate; unknown, permessage-deflate; server_max_window_bits=8"
            b",permessage-deflate",
            b"permessage-deflate; server_max_window_bits=12",
        ),
        (b"", None),
        (b"x-webkit-deflate-frame", None),
        (b"permessage-deflate; server_max_window_bits", None),
        (b"permessage-deflate; server_max_window_bits=16", None),
        (b"permessage-deflate; client_max_window_bits=012", None),
        (b"permessage-deflate; server_no_context_takeover=1", None),
        (b"permessage-deflate; client_max_window_bits; client_max_window_bits", None),
    ],
)
def test_negotiation(offers: bytes, answer: bytes | None) -> None:
    """RFC 7692 7.1: an offer with a mistake is declined, and the next one looked at."""
    agreed = negotiate(offers, most=1000)
    assert (None if agreed is None else agreed[0]) == answer


class Peer:
    """The client's side of the extension, by zlib alone."""

    def __init__(self, bits: int = 15, keeps_context: bool = True) -> None:
        self._bits, self._keeps_context = bits, keeps_context
        self._deflater = zlib.compressobj(wbits=-bits)
        self._inflater = zlib.decompressobj(wbits=-bits)

    def deflate(self, data: bytes) -> bytes:
        if not self._keeps_context:
            self._deflater = zlib.compressobj(wbits=-self._bits)
        return (self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def inflate(self, data: bytes) -> bytes:
        if not self._keeps_context:
            self._inflater = zlib.decompressobj(wbits=-self._bits)
        return self._inflater.decompress(data + b"\0\0\xff\xff")


@pytest.mark.parametrize("keeps_context", [True, False])
def test_deflate_both_ways(keeps_context: bool) -> None:
    """RFC 7692 7.2: fragments, control frames between them, uncompressed messages between others."""
    peer = Peer(10, keeps_context)
    deflate = Deflate(
        most=1000,
        server_bits=10,
        client_bits=10,
        server_keeps_context=keeps_context,
        client_keeps_context=keeps_context,
    )
    codec = server(deflate=deflate)
    for text in ("abc" * 100, "abc" * 90, ""):
        payload = peer.deflate(text.encode())
        codec.receive_data(frame(TEXT, payload[:2], fin=False, rsv1=True))
        codec.receive_data(frame(PING, b"p"))
        codec.receive_data(frame(CONTINUATION, payload[2:], fin=True))
        assert events_of(codec) == [text]
        codec.receive_data(frame(TEXT, b"plain") + frame(PONG, b"q"))
        assert events_of(codec) == ["plain", Pong(b"q")]
    sizes = []
    for _ in range(2):
        sent = codec.send_message("xyz" * 50)
        assert sent[0] == 0xC1
        sizes.append(sent[1])
        assert peer.inflate(sent[2:]) == b"xyz" * 50
    assert (sizes[1] < sizes[0]) == keeps_context
    assert codec.send_message("short") == b"\x81\x05short"


def test_last_block_of_deflate() -> None:
    """RFC 7692 7.2.3.4: the example of a block with BFINAL; the next message begins anew."""
    codec = server(deflate=Deflate(most=1000))
    for _ in range(2):
        codec.receive_data(frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv1=True))
        assert events_of(codec) == ["Hello"]


def test_what_is_behind_a_last_block_is_refused() -> None:
    """It becomes nothing that the bound would count, however much comes in fragments."""
    codec = server(deflate=Deflate(most=1000))
    codec.receive_data(frame(TEXT, bytes.fromhex("f348cdc9c90700"), fin=False, rsv1=True))
    assert events_of(codec) == []
    codec.receive_data(frame(CONTINUATION, bytes(1000), fin=False))
    (closed,) = events_of(codec)
    assert isinstance(closed, Closed)
    assert closed.code == 1007


@pytest.mark.parametrize("whole", [True, False])
def test_inflating_is_bounded(whole: bool) -> None:
    """A thousand bytes that become a million are refused, and do not become them."""
    codec = server(deflate=Deflate(most=1000))
    peer = Peer()
    codec.receive_data(frame(BINARY, peer.deflate(bytes(1000)), rsv1=True))
    assert events_of(codec) == [bytes(1000)]
    payload = peer.deflate(bytes(1_000_000))
    if whole:
        codec.receive_data(frame(BINARY, payload, rsv1=True))
    else:
        codec.receive_data(frame(BINARY, payload[:500], fin=False, rsv1=True))
        codec.receive_data(frame(CONTINUATION, payload[500:]))
    assert events_of(codec) == [Closed(1009, "the message has more than 1000 bytes", failed=True)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"\xff\xff\xff", rsv1=True), 1007),
        (frame(TEXT, b"\x01\x01\x00\xfe\xff\xff", rsv1=True), 1007),
        (frame(3, b"", rsv1=True), 1002),
        (frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", rsv1=True), 1002),
        (frame(PING, b"a", rsv1=True), 1002),
    ],
)
def test_deflate_errors(data: bytes, code: int) -> None:
    """RFC 7692 6.1: the bit is for the first frame of a message."""
    codec = server(deflate=Deflate(most=1000))
    codec.receive_data(data)
    (closed,) = events_of(codec)
    assert isinstance(closed, Closed)
    assert closed.code == code


# --- any bytes


@given(data=st.binary(max_size=200), cut=st.integers(0, 200), compressed=st.booleans())
def test_any_bytes(data: bytes, cut: int, compressed: bool) -> None:
    """Whatever comes makes events and one end."""
    codec = server(50, Deflate(most=50) if compressed else None)
    found: list[object] = []
    for piece in (data[:cut], data[cut:]):
        if piece:
            codec.receive_data(piece)
            found += events_of(codec)
    codec.receive_data(b"")
    found += events_of(codec)
    assert isinstance(found[-1], Closed)
    assert not [event for event in found[:-1] if isinstance(event, Closed)]


# --- what costs more than its bytes


@pytest.mark.parametrize("kind", [PING, PONG, CONTINUATION])
def test_many_small_frames_are_read_in_turns(kind: int) -> None:
    """Others have their turn after 200 of them, whatever they are; nothing is lost."""
    codec = server()
    small = frame(kind, fin=kind != CONTINUATION)
    codec.receive_data(
        frame(BINARY, b"x", fin=False) + small * 1000 + frame(CONTINUATION, b"y") + close_frame(1000)
    )
    pauses = 0
    found: list[object] = []
    while (event := codec.next_event()) is not NEED_DATA or codec.paused:
        pauses += codec.paused
        if not isinstance(event, Pong) and event is not NEED_DATA:
            found.append(event)
    assert pauses == 1002 // FRAMES_AT_A_TIME
    assert found == [b"xy", Closed(1000, "")]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_message_in_small_fragments_takes_little_memory(opcode: int) -> None:
    """Fragments of a byte each, and empty ones, which no limit of bytes would end."""
    codec = server(max_message=1_000_000)
    codec.receive_data(frame(opcode, b"x", fin=False))
    fragments = (frame(CONTINUATION, b"x", fin=False) + frame(CONTINUATION, fin=False)) * 1000
    tracemalloc.start()
    try:
        for _ in range(60):
            codec.receive_data(fragments)
            assert events_of(codec) == []
        # What references to 120,000 pieces would take alone is three times that; other threads count, too.
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()
    codec.receive_data(frame(CONTINUATION, b"y"))
    (message,) = events_of(codec)
    assert message == (b"x" * 60_001 + b"y" if opcode == BINARY else "x" * 60_001 + "y")
