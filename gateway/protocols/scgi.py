"""SCGI, both roles: https://github.com/nascheme/scgi/blob/main/doc/protocol.txt.

A request is a netstring of NUL-terminated names and values, then the body::

    "70:" "CONTENT_LENGTH" NUL "27" NUL "SCGI" NUL "1" NUL ... "," body

Promises that what it sends keeps every rule of the specification, and that what it accepts kept them.
The form of the response is not specified; by custom it is a CGI response that ends with the connection.
Does not add variables, except the two that the protocol itself requires.
"""

import re
from collections.abc import Mapping
from typing import Final

from gateway.protocols.cgi import encode_response
from gateway.protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import ResponseHead
from gateway.protocols.single import SingleRequestClient, SingleRequestServer

MAX_BLOCK_SIZE: Final = 256 * 1024
"""Bytes of variables that a server accepts: four times the 64 KiB of header fields that a front accepts,
because variables repeat the path and lengthen each name. lighttpd sends up to 64 KiB, nginx 40 KiB."""

# netstrings: decimal, "the length must not have extra zeros at the front".
_SIZE = re.compile(rb"0|[1-9][0-9]*")


class ScgiClient(SingleRequestClient):
    """The web server's side of one SCGI request."""

    __slots__ = ()

    def _encode_variables(self, variables: Mapping[str, str]) -> bytes:
        return encode_variables(variables)


class ScgiServer(SingleRequestServer):
    """The application's side of one SCGI request.

    *max_block_size* bounds the bytes of variables; more are LimitExceeded (431).
    """

    __slots__ = ("_block_size", "_max_block_size")

    def __init__(self, *, max_block_size: int = MAX_BLOCK_SIZE) -> None:
        super().__init__()
        self._max_block_size = max_block_size
        self._block_size: int | None = None

    def _parse_variables(self) -> dict[str, str] | None:
        if self._block_size is None:
            self._block_size = self._parse_size()
            if self._block_size is None:
                return None
        block = self._buffer.take(self._block_size + 1)
        if block is None:
            return None
        if not block.endswith(b","):
            raise RemoteProtocolError("the netstring of variables does not end with a comma")
        return decode_variables(block[:-1])

    def _parse_size(self) -> int | None:
        """The decimal number and the colon that begin a netstring, None if more bytes are needed."""
        # One digit more than the bound has: enough to be sure that a longer number is above it.
        begin = self._buffer.peek(min(len(self._buffer), len(str(self._max_block_size)) + 1))
        if not begin:
            return None
        digits, colon, _ = begin.partition(b":")
        if not _SIZE.fullmatch(digits):
            raise RemoteProtocolError(f"not the length of a netstring: {digits!r}")
        size = int(digits)
        if size > self._max_block_size:
            raise LimitExceeded(f"more than {self._max_block_size} bytes of variables", status=431)
        if not colon:
            return None
        self._buffer.take(len(digits) + 1)
        return size

    def _encode_head(self, head: ResponseHead) -> bytes:
        return encode_response(head)


def encode_variables(variables: Mapping[str, str]) -> bytes:
    """The netstring that carries *variables*, CONTENT_LENGTH ("0" if absent) and SCGI first.

    Raises LocalProtocolError for an empty name, a NUL, a character that is not Latin-1, and an SCGI
    other than "1".
    """
    if "" in variables:
        raise LocalProtocolError("SCGI cannot carry a variable without a name")
    if variables.get("SCGI", "1") != "1":
        raise LocalProtocolError("the variable SCGI must be '1'")
    # "The first header must have the name CONTENT_LENGTH", with digits even if there is no body.
    fields = ["CONTENT_LENGTH", variables.get("CONTENT_LENGTH") or "0", "SCGI", "1"]
    for name, value in variables.items():
        if name not in {"CONTENT_LENGTH", "SCGI"}:
            fields += (name, value)
    block = "\0".join(fields)
    if block.count("\0") != len(fields) - 1:
        raise LocalProtocolError("SCGI cannot carry a NUL in a name or value")
    try:
        return f"{len(block) + 1}:{block}\0,".encode("latin-1")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"a variable is not Latin-1: {error}") from None


def decode_variables(block: bytes) -> dict[str, str]:
    """The variables in the contents of a netstring. Raises RemoteProtocolError."""
    *fields, rest = block.decode("latin-1").split("\0")
    names = fields[::2]
    if rest or len(fields) % 2:
        raise RemoteProtocolError("the variables do not end with a NUL after a value")
    if not names or names[0] != "CONTENT_LENGTH" or not fields[1]:
        raise RemoteProtocolError("the variables do not begin with a CONTENT_LENGTH")
    variables = dict(zip(names, fields[1::2], strict=True))
    if "" in variables:
        raise RemoteProtocolError("a variable has no name")
    if len(variables) != len(names):
        raise RemoteProtocolError("a variable occurs twice")
    if variables.get("SCGI") != "1":
        raise RemoteProtocolError("no variable SCGI with the value 1")
    return variables
