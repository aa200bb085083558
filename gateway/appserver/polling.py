"""`select` by poll(2), under the same names: select(2) itself knows no descriptor from 1024 on.

A process has so many where its application keeps files open, or where so many requests run.
"""

import select as system
import socket
from collections.abc import Sequence
from typing import Final

error: Final = OSError


def select(
    reading: Sequence[socket.socket],
    writing: Sequence[socket.socket] = (),
    _exceptional: Sequence[socket.socket] = (),
    timeout: float | None = None,
) -> tuple[list[socket.socket], list[socket.socket], list[socket.socket]]:
    """As `select.select`, without its third list. Raises ValueError for a socket that is closed."""
    poll = system.poll()
    for each in reading:
        poll.register(each, system.POLLIN)
    for each in writing:
        poll.register(each, system.POLLOUT)
    ready = {descriptor for descriptor, _ in poll.poll(None if timeout is None else timeout * 1000)}
    return (
        [each for each in reading if each.fileno() in ready],
        [each for each in writing if each.fileno() in ready],
        [],
    )
