"""The same request is the same to every kind of backend, whatever it is, over HTTP/1.1 and HTTP/2 (14.1)."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.protocols.events import Headers
from tests.conformance.http2_wire import headers as header_frames
from tests.conformance.http2_wire import read_answers
from tests.conformance.reader import read_responses
from tests.conformance.recording import KINDS, MOUNT, RecordingGateway
from tests.gateway.served import Served
from tests.protocols.http2_peer import DATA, END_STREAM, frame

NAMES: Final = ("x-one", "x-two", "x-a-longer-name", "accept-language")


@dataclass
class Drawn:
    """A request."""

    method: str
    mounted: bool
    segments: list[tuple[str, bool]]
    """Each with whether all of it is percent-encoded."""
    query: str
    headers: list[tuple[str, str]]
    pieces: list[bytes]
    sized: bool

    @property
    def target(self) -> str:
        encoded = [_escaped(text) if whole else quote(text, safe="") for text, whole in self.segments]
        path = (MOUNT if self.mounted else "") + "/" + "/".join(encoded)
        return f"{path}?{self.query}" if self.query else path

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def has_body(self) -> bool:
        return bool(self.pieces) or self.method in ("POST", "PUT", "PATCH")

    def facts(self, port: int) -> dict[str, str]:
        """What every backend has to be told, of a client of *port*."""
        path = "/" + "/".join(text for text, _ in self.segments)
        return {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": MOUNT if self.mounted else "",
            "PATH_INFO": path.encode().decode("latin-1"),
            "QUERY_STRING": self.query,
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_PORT": str(port),
            "HTTPS": "",
        }

    def fields(self) -> dict[str, str]:
        """By name, values joined in order (RFC 9110 5.3)."""
        found: dict[str, str] = {}
        for name, value in self.headers:
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    def http1(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: example.com:8123"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        body = b""
        if self.has_body and self.sized:
            lines.append(f"Content-Length: {len(self.body)}")
            body = self.body
        elif self.has_body:
            lines.append("Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*self.pieces, b""])
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def http2(self) -> bytes:
        pseudo = {
            "method": self.method,
            "scheme": "http",
            "path": self.target,
            "authority": "example.com:8123",
        }
        fields: Headers = [(b":" + name.encode(), value.encode()) for name, value in pseudo.items()]
        fields += [(name.encode(), value.encode("latin-1")) for name, value in self.headers]
        if self.has_body and self.sized:
            fields.append((b"content-length", b"%d" % len(self.body)))
        frames = header_frames(1, fields, end=not self.has_body)
        if self.has_body:
            frames += b"".join(frame(DATA, 0, 1, piece) for piece in self.pieces)
            frames += frame(DATA, END_STREAM, 1, b"")
        return frames


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


# No separators and no segments that mean another path (RFC 3986 5.2.4): `smuggling_requests` has those.
segments = st.text(
    st.characters(min_codepoint=0x21, exclude_categories=["Cs"], exclude_characters="/\\\x7f"),
    min_size=1,
    max_size=12,
).filter(lambda text: set(text) != {"."})
values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40
).map(str.strip)
queries = st.text("abcXYZ019-._~!$&'()*+,;=:@/?%", max_size=30).map(lambda text: text.replace("%", "%C3%A9"))
requests = st.builds(
    Drawn,
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "REPORT"]),
    mounted=st.booleans(),
    segments=st.lists(st.tuples(segments, st.booleans()), min_size=1, max_size=4),
    query=queries,
    headers=st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=6),
    pieces=st.lists(st.binary(min_size=1, max_size=500), max_size=4),
    sized=st.booleans(),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(drawn=requests)
def test_every_kind_is_told_the_same(drawn: Drawn, recording: RecordingGateway) -> None:
    """14.1"""
    received = recording.converse(drawn.http1())
    for kind in KINDS:
        assert [answer.start[0] for answer in read_responses(received[kind], [drawn.method])] == [b"200"]
        check(kind, drawn, recording, recording.served[kind])
    received = recording.converse_http2((drawn.http2(),))
    for kind in KINDS:
        assert read_answers(received[kind])[0][1].status == 200
        check(kind, drawn, recording, recording.entered[kind])


def check(kind: str, drawn: Drawn, recording: RecordingGateway, served: Served) -> None:
    requests, errors = recording.take(kind)
    assert not errors
    (recorded,) = requests
    assert recorded.seen.body == drawn.body
    facts = drawn.facts(served.address[1])
    assert recorded.facts == {name: facts[name] for name in recorded.facts}, kind
    assert {name: recorded.fields.get(name) for name in NAMES} == {
        name: drawn.fields().get(name) for name in NAMES
    }, kind
