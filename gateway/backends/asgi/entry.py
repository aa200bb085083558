"""The first call of an application in a task of trio: in a context that the task did not have before."""

from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from functools import partial
from typing import Any

from gateway.net.resumption import current_task


class Entry:
    """Awaits what *call* returns: in *context*, which the whole task has from its next step on."""

    __slots__ = ("_call", "_context")

    def __init__(self, context: Context, call: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._call = call

    def __await__(self) -> Generator[Any, Any, None]:
        current_task().context = self._context
        main = self._main()
        step: Callable[[], Any] = partial(self._context.run, main.send, None)
        while True:
            try:
                message = step()
            except StopIteration:
                return
            finally:
                del step  # It may hold an error, whose traceback holds this frame.
            try:
                step = partial(main.send, (yield message))
            except BaseException as error:
                step = partial(main.throw, error)

    async def _main(self) -> None:
        await self._call()
