"""A strict and simple reader of HTTP/1.1 messages: the judge of what goes over the wire.

It shares nothing with the gateway's own codec, knows no leniency, and reads whole byte strings only.
"""

import re
from dataclasses import dataclass

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/1\.1" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) [\t\x20-\x7e\x80-\xff]*")
_FIELD = re.compile(
    rb"(%b):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*" % _TOKEN
)
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class Unreadable(Exception):
    """The bytes are not what RFC 9112 allows."""


class CutShort(Exception):
    """The message is not complete."""


@dataclass
class Message:
    """A request or a response."""

    start: tuple[bytes, ...]
    fields: list[tuple[bytes, bytes]]
    body: bytes
    trailers: list[tuple[bytes, bytes]]

    def field(self, name: bytes) -> bytes | None:
        """All values of a field, joined."""
        values = [value for each, value in self.fields if each == name]
        return b", ".join(values) if values else None


def read_request(data: bytes) -> tuple[Message, bytes]:
    """The first request in *data*, and what follows it. Raises Unreadable, CutShort."""
    line, fields, rest = _read_head(data)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Unreadable(f"the request line {line!r}")
    if sum(name == b"host" for name, _ in fields) != 1:
        raise Unreadable("not one Host")
    body, trailers, rest = _read_body(fields, rest, until_close=False)
    return Message(match.groups(), fields, body, trailers), rest


def read_response(data: bytes, method: str) -> tuple[Message, bytes]:
    """The first response in *data*, which ends there, and what follows it. Raises Unreadable, CutShort."""
    line, fields, rest = _read_head(data)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise Unreadable(f"the status line {line!r}")
    status = int(match[1])
    if status < 200 or status in (204, 304) or method == "HEAD":
        return Message(match.groups(), fields, b"", []), rest
    body, trailers, rest = _read_body(fields, rest, until_close=True)
    return Message(match.groups(), fields, body, trailers), rest


def read_responses(data: bytes, methods: list[str]) -> list[Message]:
    """All final responses in *data*, which answer requests of *methods* (GET beyond them)."""
    found: list[Message] = []
    while data:
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        message, data = read_response(data, method)
        if not message.start[0].startswith(b"1"):
            found.append(message)
    return found


def _read_head(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        raise CutShort(f"the head {head[:80]!r}")
    line, *lines = head.split(b"\r\n")
    return line, _read_fields(lines), rest


def _read_fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Unreadable(f"the field {line[:80]!r}")
        fields.append((match[1].lower(), match[2]))
    return fields


def _read_body(
    fields: list[tuple[bytes, bytes]], rest: bytes, *, until_close: bool
) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise Unreadable(f"{lengths} and {codings}")
    if codings:
        if codings != [b"chunked"]:
            raise Unreadable(f"the coding {codings}")
        return _read_chunks(rest)
    if not lengths:
        return (rest, [], b"") if until_close else (b"", [], rest)
    if not lengths[0].isdigit():
        raise Unreadable(f"the length {lengths}")
    length = int(lengths[0])
    if len(rest) < length:
        raise CutShort(f"{len(rest)} of {length} bytes")
    return rest[:length], [], rest[length:]


def _read_chunks(rest: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    body = b""
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            raise CutShort("a chunk size")
        if not _SIZE.fullmatch(line):
            raise Unreadable(f"the chunk size {line[:80]!r}")
        size = int(line, 16)
        if size == 0:
            break
        if len(rest) < size + 2:
            raise CutShort("a chunk")
        if rest[size : size + 2] != b"\r\n":
            raise Unreadable("the end of a chunk")
        body += rest[:size]
        rest = rest[size + 2 :]
    if rest.startswith(b"\r\n"):
        return body, [], rest[2:]
    section, end, rest = rest.partition(b"\r\n\r\n")
    if not end:
        raise CutShort("the trailer section")
    return body, _read_fields(section.split(b"\r\n")), rest
