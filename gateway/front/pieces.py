"""A file through our own memory, for a response whose framing the kernel cannot write."""

import os

from gateway.errors import ResponseAborted
from gateway.request import Responder


async def write_pieces(responder: Responder, descriptor: int, offset: int, count: int, size: int) -> None:
    """As `Responder.write_file`, in pieces of *size* bytes."""
    end = offset + count
    while offset < end:
        piece = os.pread(descriptor, min(size, end - offset), offset)
        if not piece:
            raise file_too_short()
        responder.write(piece)
        await responder.flush()
        offset += len(piece)


def file_too_short() -> ResponseAborted:
    """The file has not the bytes any more that it had when it was asked."""
    return ResponseAborted("the file became shorter while it was sent")
