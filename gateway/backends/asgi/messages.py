"""What applications send, checked: every value that a message of an HTTP response may carry (ASGI-3).

Raises TypeError for a value of a wrong Python type, and ValueError for one that is missing or that HTTP
cannot carry.
"""

import os
import stat
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from gateway.backends.asgi.host import Message
from gateway.protocols.events import Headers
from gateway.protocols.grammar import CONTROL, TOKEN

_NO_FIELDS: Final[Headers] = []

_SAFE: Final = "/:@!$&'()*+,;=~-._"
"""RFC 3986 3.3: what a path may hold as it is."""


_OF_THE_CONNECTION: Final = frozenset(
    {b"connection", b"content-length", b"host", b"keep-alive", b"proxy-connection", b"te"}
    | {b"transfer-encoding", b"upgrade", b"expect"}
)
"""RFC 9113 8.2.2; a pushed request has no body, and the host of the one that it belongs to."""


def check_status(message: Message) -> int:
    """The status of a final response."""
    status = required(message, "status")
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"status is {type(status).__name__}, not int")
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is not the status of a final response")
    return int(status)


def check_headers(headers: Iterable[Iterable[bytes]]) -> Headers:
    """Pairs of byte strings."""
    fields: Headers = []
    for name, value in headers:
        if name.__class__ is not bytes or value.__class__ is not bytes:
            name, value = _two_byte_strings(name, value)
        fields.append((name, value))
    return fields


def _two_byte_strings(name: object, value: object) -> tuple[bytes, bytes]:
    """Those of a subclass as plain ones."""
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        raise TypeError(f"the header {name!r}: {value!r} is not two byte strings")
    return bytes(name), bytes(value)


def as_bytes(body: object) -> bytes:
    """A body that is not ``bytes`` but may become so."""
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"body is {type(body).__name__}, not bytes")


def flag(message: Message, key: str) -> bool:
    """A bool that is False if it is missing."""
    value = message.get(key, False)
    if not isinstance(value, bool):
        raise TypeError(f"{key} is {type(value).__name__}, not bool")
    return value


def required(message: Message, key: str) -> Any:
    """The value of a key that must be there."""
    try:
        return message[key]
    except KeyError:
        raise ValueError(f"{message['type']} has no {key}") from None


# --- extensions


def link_fields(message: Message) -> Headers:
    """The fields of an early hint (RFC 8297): one Link for each of the *links*."""
    links = []
    for link in required(message, "links"):
        if not isinstance(link, bytes):
            raise TypeError(f"the link {link!r} is not a byte string")
        links.append((b"link", link))
    return links


def trailer_fields(message: Message) -> Headers:
    """The fields of one part of the trailers."""
    return check_headers(message.get("headers", _NO_FIELDS))


def push_target(message: Message) -> bytes:
    """The target of a push: its *path* percent-encoded again, with a query if it has one."""
    path = required(message, "path")
    if not isinstance(path, str):
        raise TypeError(f"path is {type(path).__name__}, not str")
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError(f"path is not that of a resource of this server: {path!r}")
    path, question, query = path.partition("?")
    return (quote(path, safe=_SAFE) + question + quote(query, safe=_SAFE + "?%")).encode()


def pushed_fields(message: Message) -> Headers:
    """The fields of the request whose response is pushed, without those that are not the application's."""
    fields: Headers = []
    for name, value in check_headers(required(message, "headers")):
        lower = name.lower()
        if not TOKEN.fullmatch(lower):  # pseudo-header fields, too
            raise ValueError(f"not the name of a field: {name!r}")
        if CONTROL.search(value):
            raise ValueError(f"not the value of a field: {value!r}")
        if lower not in _OF_THE_CONNECTION:
            fields.append((lower, value))
    return fields


class FilePart:
    """Bytes of an open regular file, to be sent. *own*: `close` closes it; it is not the application's."""

    __slots__ = ("_file", "_own", "count", "descriptor", "offset")

    def __init__(self, descriptor: int, offset: int, count: int, *, own: bool, file: Any = None) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.count = count
        self._own = own
        self._file = file
        """What was read from its current position, which moves by what is sent."""

    def advance(self) -> None:
        """It was sent: the next part of the same file begins behind it."""
        if self._file is None:
            return
        position = self.offset + self.count
        if isinstance(self._file, int):
            os.lseek(self.descriptor, position, os.SEEK_SET)
        else:
            self._file.seek(position)

    def close(self) -> None:
        if self._own:
            os.close(self.descriptor)


def open_path(message: Message) -> FilePart:
    """The whole file of a pathsend. One that cannot be opened is a ValueError: an OSError from ``send`` would
    say that the client has gone.
    """
    path = required(message, "path")
    if not isinstance(path, str):
        raise TypeError(f"path is {type(path).__name__}, not str")
    if not os.path.isabs(path):
        raise ValueError(f"path is not absolute: {path!r}")
    try:
        # Opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"{path!r} cannot be sent: {error.strerror}") from error
    try:
        size = _size_of(descriptor)
    except ValueError:
        os.close(descriptor)
        raise
    return FilePart(descriptor, 0, size, own=True)


def part_of_file(message: Message) -> FilePart:
    """What a zerocopysend names: from *offset*, or the position of the file; *count* bytes, or all."""
    file = required(message, "file")
    if isinstance(file, bool) or not (isinstance(file, int) or hasattr(file, "fileno")):
        raise TypeError(f"file is {type(file).__name__}, which has no descriptor")
    try:
        descriptor: int = file if isinstance(file, int) else file.fileno()
        size = _size_of(descriptor)
    except OSError as error:  # closed, or none of the system's (io.UnsupportedOperation)
        raise ValueError(f"file cannot be sent: {error}") from error
    offset = _number(message, "offset")
    own_position = offset is None
    if offset is None:
        # What a buffered file has read ahead is still its own to give: its position is not the descriptor's.
        offset = file.tell() if hasattr(file, "tell") else os.lseek(descriptor, 0, os.SEEK_CUR)
    left = max(0, size - offset)
    count = _number(message, "count")
    count = left if count is None else min(count, left)
    moves = file if hasattr(file, "seek") else descriptor
    return FilePart(descriptor, offset, count, own=False, file=moves if own_position else None)


def _size_of(descriptor: int) -> int:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("only regular files can be sent")
    return facts.st_size


def _number(message: Message, key: str) -> int | None:
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{key} is {type(value).__name__}, not int")
    if value < 0:
        raise ValueError(f"{key} is negative: {value}")
    return value


def debug_information(message: Message) -> dict[str, Any]:
    """What an application says of its response, for tests."""
    info = required(message, "info")
    if not isinstance(info, dict):
        raise TypeError(f"info is {type(info).__name__}, not dict")
    return info
