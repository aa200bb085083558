"""Whose turn it is to run the program at an address that only one can have: at a reload two workers want to.

The right to it is a Unix socket with an abstract name (unix(7)): one process at a time has it, and it is free
again when that has ended, however it did. Who waits for it is connected to it: so the one sees that it is
wanted, and the other when it is free.
"""

import errno
import os
import socket
from hashlib import sha256
from typing import Final

import trio

from gateway.errors import StartError

_BACKLOG: Final = 64
"""Those that have given up, too: reloads that have failed."""

_PAUSE: Final = 0.05
"""Seconds."""


class Turn:
    """At *address*, among the workers of one supervisor."""

    def __init__(self, address: object) -> None:
        self._address = address
        digest = sha256(f"{os.getppid()} {address}".encode()).hexdigest()
        self._name = f"\0gateway-{digest[:32]}"
        self._held: socket.socket | None = None
        self._waiting: socket.socket | None = None

    def take(self) -> bool:
        """Whether it is ours now, until `release`. Raises StartError if there is no descriptor for it."""
        try:
            held = socket.socket(socket.AF_UNIX)
            try:
                held.bind(self._name)
                held.listen(_BACKLOG)
            except OSError as error:
                held.close()
                if error.errno == errno.EADDRINUSE:
                    return False
                raise
        except OSError as error:
            raise StartError(f"no place for {self._address}: {error}") from error
        held.setblocking(False)
        self._held = held
        return True

    @property
    def is_ours(self) -> bool:
        """Whether it was taken."""
        return self._held is not None

    async def until_free(self) -> None:
        """Wait until who has it releases it, or ends; somebody else may be faster."""
        with trio.socket.socket(socket.AF_UNIX) as waiting:
            try:
                await waiting.connect(self._name)
                await waiting.recv(1)
            except ConnectionResetError:
                pass
            except OSError:  # it has just been released, or taken, or many that have given up wait before us
                await trio.sleep(_PAUSE)  # noqa: TID251 - nothing tells of that

    async def until_wanted(self) -> None:
        """Wait until somebody waits for it, while it is ours."""
        assert self._held is not None
        while True:
            await trio.lowlevel.wait_readable(self._held)
            try:
                waiting, _ = self._held.accept()
            except OSError:  # there is no descriptor for it
                return
            waiting.setblocking(False)
            try:
                waiting.recv(1)
            except BlockingIOError:
                self._waiting = waiting
                return
            except ConnectionResetError:
                pass
            waiting.close()  # it has given up

    def release(self) -> None:
        """Leave it to others, if it is ours."""
        for each in (self._held, self._waiting):  # it can be taken before it is known to be free
            if each is not None:
                each.close()
        self._held = self._waiting = None
