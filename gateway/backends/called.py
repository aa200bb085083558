"""Whether an application can be called as those of its kind are; what cannot is named when it is loaded.

Otherwise each request would fail with a TypeError that tells of numbers of arguments, and not of the mistake:
the other kind of application, or a function that makes one.
"""

import inspect
from typing import Any, Final

from gateway.backends.python import Kind
from gateway.errors import StartError

_ARGUMENTS: Final = {"asgi": ("scope", "receive", "send"), "wsgi": ("environ", "start_response")}


def check_called(application: Any, kind: Kind, *, target: str, backend: str) -> None:
    """Raises StartError if *application* takes other arguments; in doubt it does not."""
    signatures = _signatures(application)

    def takes(count: int) -> bool:
        return any(can_take(signature, count) for signature in signatures)

    if not signatures or takes(len(_ARGUMENTS[kind])):
        return
    other: Kind = "wsgi" if kind == "asgi" else "asgi"
    if takes(0):
        hint = "if it is a function that makes the application, say so by factory: true, or --factory"
    elif kind == "asgi" and takes(1):
        return  # of ASGI 2
    elif takes(len(_ARGUMENTS[other])):
        hint = f"that of {other.upper()} has {_words(other)}: expected {other}, or --{other}"
    else:
        hint = "expected the application itself"
    raise StartError(
        f"backend {backend}: {target} cannot be called with {_words(kind)} as an application of "
        f"{kind.upper()} is; {hint}"
    )


def can_take(signature: inspect.Signature, count: int) -> bool:
    """Whether so many positional arguments are right."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _signatures(application: Any) -> list[inspect.Signature]:
    """Its own, and that of what it wraps; none if it does not tell, as some functions in C.

    From Python 3.14 on annotations are evaluated for it, and may name what only type checkers import.
    """
    try:
        return [inspect.signature(application, follow_wrapped=follow) for follow in (False, True)]
    except Exception:
        return []


def _words(kind: Kind) -> str:
    return f"({', '.join(_ARGUMENTS[kind])})"
