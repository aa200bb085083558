"""A file through our own memory, for a response whose framing the kernel cannot write."""

import os

from gateway.errors import MachineError, ResponseAborted
from gateway.request import Responder
from gateway.runtime.exhaustion import EXHAUSTED


async def write_pieces(responder: Responder, descriptor: int, offset: int, count: int, size: int) -> None:
    """As `Responder.write_file`, in pieces of *size* bytes."""
    end = offset + count
    while offset < end:
        piece = read_piece(descriptor, offset, min(size, end - offset))
        if not piece:
            raise file_too_short()
        responder.write(piece)
        await responder.flush()
        offset += len(piece)


def read_piece(descriptor: int, offset: int, size: int) -> bytes:
    """At most *size* bytes from *offset*, ``b""`` behind the end of the file. Raises MachineError."""
    try:
        return os.pread(descriptor, size, offset)
    except OSError as error:
        raise file_unreadable(error) from error


def file_unreadable(error: OSError) -> MachineError:
    """The machine is at fault, not the client: a broken disk, a file server that has lost the file."""
    status = 503 if error.errno in EXHAUSTED else 500
    return MachineError(status, "the file cannot be read now", cause=error)


def file_too_short() -> ResponseAborted:
    """The file has not the bytes any more that it had when it was asked."""
    return ResponseAborted("the file became shorter while it was sent")
