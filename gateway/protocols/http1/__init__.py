"""HTTP/1.1 (RFC 9112), both roles: bytes in, events out.

====================  ====================================================================
``server``            `Http1Server`: receives requests, sends responses
``client``            `Http1Client`: sends requests, receives responses
``reading``           the machine under both: buffer, states, body framing, sticky errors
``fields``            the field section, over httptools (llhttp)
``checks``            grammar of start lines, Host, Connection, Transfer-Encoding
``serialise``         events to bytes, as plain functions; the framing of a sent body
====================  ====================================================================

`Http1Client` is imported from its module: a server with no web servers behind it does without.
"""

from gateway.protocols.http1.serialise import (
    CHUNKED_FIELD,
    CLOSE_FIELD,
    KEEP_ALIVE_FIELD,
    LAST_CHUNK,
    encode_chunk,
    encode_fields,
    encode_last_chunk,
    encode_request_head,
    encode_response_head,
)
from gateway.protocols.http1.server import Http1Server, Http2Preface

__all__ = [
    "CHUNKED_FIELD",
    "CLOSE_FIELD",
    "KEEP_ALIVE_FIELD",
    "LAST_CHUNK",
    "Http1Server",
    "Http2Preface",
    "encode_chunk",
    "encode_fields",
    "encode_last_chunk",
    "encode_request_head",
    "encode_response_head",
]
