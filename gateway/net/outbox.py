"""What tasks write in one turn of the loop leaves together, when the turn is over.

Why: a peer on the same machine that waits for one answer is woken by each, and goes to sleep again before
the next, for which both sides pay; answers that leave one right after the other find it awake. With 64
connections that saves a third of the CPU time of a small response, and a quarter where it is passed on::

    task ─► PumpStream.try_send ─► held ┐
    task ─► PumpStream.try_send ─► held ┼─► (the turn is over: trio is about to wait) ─► send, send, send
    task ─► PumpStream.try_send ─► held ┘

A write that is held counts as sent, as one that waits in the kernel does. So only answers are held: who has
said something since the last write has read that, as a rule, and the kernel has room. Where it has not, the
rest stays with the stream, and leaves before anything else does, or before its end. Otherwise nothing is held
for longer than :data:`LONGEST` and the step of one task: who computes does not keep the answers of others.

Pieces of a response that goes on by HTTP/1.1 are held too, small and large ones, but not the first of a turn:
what a program makes without a wait leaves in few writes, and what comes now and then leaves at once
(`PumpStream.try_send_more`). Whether the kernel has room for them is not known beforehand: what it does not
take waits in the stream, which the next piece finds out.
"""

from time import perf_counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.net.stream import PumpStream

LARGEST: Final = 16 * 1024
"""Bytes of small writes that a stream holds; larger ones are worth a system call of their own at once."""

GATHERED: Final = 512 * 1024
"""Bytes of pieces after which they leave together; a peer that does not read can leave as many with its
stream, and the last piece. One on the same machine is woken by each write: 1 GiB in pieces of 64 KiB takes
two thirds of the CPU time so."""

MOST: Final = 32
"""Streams after which those held leave, in the middle of a turn."""

LONGEST: Final = 0.001
"""Seconds since the first was held after which the next takes all along, in the middle of a turn."""


class Outbox:
    """The streams of a pump that hold something."""

    __slots__ = ("_began", "_streams", "opened")

    def __init__(self) -> None:
        self.opened = False
        """Somebody calls `release` at the end of each turn; until then nothing may be held."""
        self._streams: list[PumpStream] = []
        self._began = 0.0

    def add(self, stream: "PumpStream") -> None:
        """*stream* has begun to hold something."""
        streams = self._streams
        streams.append(stream)
        if len(streams) == 1:
            self._began = perf_counter()
        elif len(streams) >= MOST or self.overdue:
            self.release()

    @property
    def overdue(self) -> bool:
        """The first of those that hold something has done so for :data:`LONGEST`."""
        return perf_counter() - self._began > LONGEST

    def release(self) -> None:
        """Send what is held."""
        streams = self._streams
        if streams:
            self._streams = []
            for stream in streams:
                stream.release()
