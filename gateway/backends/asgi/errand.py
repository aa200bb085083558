"""What an application on asyncio awaits of trio: a trio task does it, and an asyncio task waits for that.

Where that trio task comes from is the caller's affair: it may be one that is there already (`crossing`), or a
new one (`guest`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio


class Errand:
    """A trio function that an asyncio task of *loop* awaits, to be called within *scope*, if it has one."""

    __slots__ = ("_done", "_error", "_function", "_loop", "_scope", "_waiter")

    def __init__(
        self,
        function: Callable[[], Awaitable[object]],
        scope: trio.CancelScope | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._function = function
        self._loop = loop
        self._scope = trio.CancelScope() if scope is None else scope
        self._waiter: asyncio.Future[None] = loop.create_future()
        """Resolved when the function has ended; the one who waits may change it."""
        self._done = False
        self._error: BaseException | None = None

    # --- the trio task

    async def run(self) -> None:
        """Call the function. Raises only what ends the trio task, which cancels the asyncio task."""
        try:
            # Not even begun if nobody waits any more: another one may have been sent since.
            if not self._scope.cancel_called:
                with self._scope:
                    await self._function()
        except Exception as error:  # raised again by wait(), in the asyncio task
            self._error = error
        except BaseException:
            self._error = asyncio.CancelledError()
            raise
        finally:
            self._done = True
            if not self._waiter.done():
                self._waiter.set_result(None)

    # --- the asyncio task

    async def wait(self) -> None:
        """Until the function has ended, or was cancelled. Raises what it raised."""
        error: BaseException | None = None
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.cancel()
            while not self._done:  # however often it is cancelled meanwhile
                self._waiter = self._loop.create_future()
                with suppress(asyncio.CancelledError):
                    await self._waiter
            raise
        finally:
            # An error's traceback holds the frames it came through: taken off the errand, and off this
            # frame, it goes with whoever catches it.
            error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    def cancel(self) -> None:
        """Nobody needs it any more."""
        self._scope.cancel()
