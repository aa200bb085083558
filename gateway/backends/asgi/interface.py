"""ASGI 2 applications as ASGI 3 ones (ASGI-1).

An ASGI 3 application is called once, ``app(scope, receive, send)``; one of ASGI 2 twice,
``app(scope)(receive, send)``. Which it is follows from what it can be called with. `asgiref.compatibility`
asks instead whether it is a coroutine function, and takes decorated functions, and classes whose instances
are awaited, for ASGI 2; its marks (``_asgi_single_callable``, ``_asgi_double_callable``) count here, too.
"""

import inspect
from typing import Any, Literal, TypeAlias

from gateway.backends.asgi.host import Application, Receive, Scope, Send
from gateway.backends.called import counts_taken

Interface: TypeAlias = Literal["auto", "asgi3", "asgi2"]


def as_single_callable(app: Any, interface: Interface) -> Application:
    """*app* as it is called here; *interface* says which it is, or that it shows."""
    if interface == "asgi2" or (interface == "auto" and is_double_callable(app)):
        return _as_single_callable(app)
    single: Application = app
    return single


def is_double_callable(app: Any) -> bool:
    """Whether *app* is a function, class or instance of ASGI 2; in doubt it is not."""
    if _is_marked(app, "_asgi_single_callable"):
        return False
    if _is_marked(app, "_asgi_double_callable"):
        return True
    told = counts_taken(app)
    # A wrapper may take anything, and one that does not may wrap what takes something else.
    if not told or not all(1 in counts for counts in told):
        return False
    return not all(3 in counts for counts in told) or (inspect.isclass(app) and not hasattr(app, "__await__"))


def _is_marked(app: Any, mark: str) -> bool:
    try:
        return bool(getattr(app, mark, False))
    except Exception:  # of a wrapper that looks up names in a way of its own
        return False


def _as_single_callable(app: Any) -> Application:
    async def single(scope: Scope, receive: Receive, send: Send) -> None:
        scope["asgi"]["version"] = "2.0"
        await app(scope)(receive, send)

    return single
