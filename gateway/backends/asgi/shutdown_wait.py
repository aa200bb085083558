"""How an application is told that the daemon stops (ASGI extension ``gateway.shutdown``).

Not compiled: mypyc makes a dict that can be called crash when it is.
"""

from collections.abc import Awaitable, Callable
from typing import Any


class ShutdownWait(dict[str, Any]):
    """``wait`` of the extension. Middleware copies scopes, some deeply (Hypercorn's ProxyFix): it stays one.

    Those who show a scope as JSON have only its byte strings in mind: there it is an empty object.
    """

    __slots__ = ("_wait",)

    def __init__(self, wait: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._wait = wait

    def __bool__(self) -> bool:
        return True  # as any function: applications ask whether it is there

    def __call__(self) -> Awaitable[None]:
        return self._wait()

    def __deepcopy__(self, memo: object) -> "ShutdownWait":
        return self
