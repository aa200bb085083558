"""FastCGI name-value pairs (FastCGI 3.4): the content of PARAMS, GET_VALUES and GET_VALUES_RESULT.

Names and values are native strings, one Latin-1 character per byte, as in PEP 3333. A length below 128 is
one byte, a longer one four bytes with the top bit set; both are themselves written as Latin-1 characters,
so that a whole block is one join and one encode.
"""

from collections.abc import Iterable
from typing import Final

from gateway.protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError, TooLargeToEncode
from gateway.protocols.fastcgi.records import CONTENT_LIMIT, GET_VALUES, PARAMS, encode_record, encode_stream
from gateway.protocols.variables import describe_largest

VARIABLES_LIMIT: Final = 1024 * 1024
"""Bytes of one request's PARAMS. nginx and HAProxy stop at 64 KiB or one buffer; several records are legal
and this is far above what one request's header fields may take."""

PAIR_LIMIT: Final = 1000
"""Pairs in one request: HTTP servers stop at 100 header fields, and configurations add some dozens."""

_SHORT: Final = [chr(length) for length in range(128)]


def encode_pairs(variables: dict[str, str]) -> bytes:
    """The pairs as one block.

    Raises LocalProtocolError for a character outside Latin-1.
    """
    short = _SHORT
    parts: list[str] = []
    for name, value in variables.items():
        name_length = len(name)
        value_length = len(value)
        if name_length < 128 and value_length < 128:
            # One by one: compiled, that takes three quarters of the time of `parts += ...`.
            parts.append(short[name_length])
            parts.append(short[value_length])
            parts.append(name)
            parts.append(value)
        else:
            parts += _length(name), _length(value), name, value
    try:
        return "".join(parts).encode("latin-1")
    except UnicodeEncodeError as error:
        culprit = next(name for name, value in variables.items() if not _is_native(name + value))
        raise LocalProtocolError(f"variable {culprit!r} has a character outside Latin-1") from error


def encode_params(request_id: int, variables: dict[str, str], limit: int) -> bytes:
    """The PARAMS records with *variables*, and the empty one that ends them.

    Raises TooLargeToEncode if the pairs take more than *limit* bytes.
    """
    block = encode_pairs(variables)
    if len(block) > limit:
        raise TooLargeToEncode(
            f"the variables take {len(block)} bytes, more than {limit};"
            f" the largest are {describe_largest(variables)}"
        )
    if len(block) <= CONTENT_LIMIT:
        records = encode_stream(PARAMS, request_id, block)
    else:
        records = b"".join(
            [encode_stream(PARAMS, request_id, content) for content in _whole_pairs(variables)]
        )
    return records + encode_record(PARAMS, request_id)


def _whole_pairs(variables: dict[str, str]) -> Iterable[bytes]:
    """The block in pieces that each fit in a record, unless a single pair does not.

    FastCGI 3.3 lets a stream be cut anywhere, but uWSGI parses each PARAMS record alone.
    """
    pending = b""
    for name, value in variables.items():
        pair = encode_pairs({name: value})
        if len(pending) + len(pair) > CONTENT_LIMIT:
            yield pending
            pending = pair
        else:
            pending += pair
    yield pending


def _length(text: str) -> str:
    length = len(text)
    return _SHORT[length] if length < 128 else (length | 0x80000000).to_bytes(4, "big").decode("latin-1")


def _is_native(text: str) -> bool:
    return all(character <= "\xff" for character in text)


def decode_pairs(block: bytes, *, limit: int = PAIR_LIMIT, status: int = 400) -> dict[str, str]:
    """The pairs in *block*; of pairs with the same name the last one, as in php-fpm.

    Raises RemoteProtocolError with *status* if a length points beyond the block, LimitExceeded with
    status 431 for more than *limit* pairs.
    """
    text = block.decode("latin-1")
    end = len(block)
    position = 0
    count = 0
    variables: dict[str, str] = {}
    try:
        while position < end:
            name_length = block[position]
            position += 1
            if name_length > 127:
                name_length = _long_length(block, position)
                position += 3
            value_length = block[position]
            position += 1
            if value_length > 127:
                value_length = _long_length(block, position)
                position += 3
            value_start = position + name_length
            name = text[position:value_start]
            position = value_start + value_length
            variables[name] = text[value_start:position]
            count += 1
            if count > limit:
                raise LimitExceeded(f"more than {limit} FastCGI name-value pairs", status=431)
    except IndexError:
        position = end + 1
    if position != end:
        raise RemoteProtocolError("a FastCGI name-value pair is longer than its block", status=status)
    return variables


def _long_length(block: bytes, position: int) -> int:
    """The length whose first byte is just before *position*; its last byte must exist."""
    return (
        (block[position - 1] & 0x7F) << 24
        | block[position] << 16
        | block[position + 1] << 8
        | block[position + 2]
    )


def encode_get_values(names: Iterable[str]) -> bytes:
    """A GET_VALUES record that asks for *names* (FastCGI 4.1); at most 64 KiB of them."""
    block = encode_pairs(dict.fromkeys(names, ""))
    if len(block) > CONTENT_LIMIT:
        raise TooLargeToEncode("the names do not fit in one GET_VALUES record")
    return encode_record(GET_VALUES, 0, block)
