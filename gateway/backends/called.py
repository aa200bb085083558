"""Whether an application can be called as those of its kind are; what cannot is named when it is loaded.

Otherwise each request would fail with a TypeError that tells of numbers of arguments, and not of the mistake:
the other kind of application, or a function that makes one.
"""

from inspect import Signature, getattr_static, signature
from types import FunctionType, WrapperDescriptorType
from typing import Any, Final

from gateway.backends.python import Kind
from gateway.errors import StartError

_ARGUMENTS: Final = {"asgi": ("scope", "receive", "send"), "wsgi": ("environ", "start_response")}


def check_called(application: Any, kind: Kind, *, target: str, backend: str) -> None:
    """Raises StartError if *application* takes other arguments; in doubt it does not."""
    told = counts_taken(application)
    counts = set().union(*told)
    if not told or len(_ARGUMENTS[kind]) in counts:
        return
    other: Kind = "wsgi" if kind == "asgi" else "asgi"
    if 0 in counts:
        hint = "if it is a function that makes the application, say so by factory: true, or --factory"
    elif kind == "asgi" and 1 in counts:
        return  # of ASGI 2
    elif len(_ARGUMENTS[other]) in counts:
        hint = f"that of {other.upper()} has {_words(other)}: expected {other}, or --{other}"
    else:
        hint = "expected the application itself"
    raise StartError(
        f"backend {backend}: {target} cannot be called with {_words(kind)} as an application of "
        f"{kind.upper()} is; {hint}"
    )


def counts_taken(application: Any) -> list[set[int]]:
    """With how many positional arguments, up to three, it can be called; and likewise what it wraps.

    Empty if it does not tell, as some functions in C, or tells what it was made to tell. From Python 3.14
    on annotations are evaluated for it, and may name what only type checkers import.
    """
    try:
        if getattr(application, "__signature__", None) is not None:
            return []
        call = getattr_static(type(application), "__call__")
        if not isinstance(call, FunctionType | WrapperDescriptorType):
            # Of static methods and the like Python 3.11 and 3.12 count an argument too many as bound.
            application = application.__call__
        signatures = [signature(application, follow_wrapped=follow) for follow in (False, True)]
    except Exception:
        return []
    return [{count for count in range(4) if _can_take(each, count)} for each in signatures]


def _can_take(signature: Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _words(kind: Kind) -> str:
    return f"({', '.join(_ARGUMENTS[kind])})"
