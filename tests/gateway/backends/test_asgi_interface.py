"""Which applications are of ASGI 2; that they run is tested in tests/conformance/test_asgi_rules.py."""

import functools
from collections.abc import Callable, Generator
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from fastapi import FastAPI
from quart import Quart
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.base import BaseHTTPMiddleware

from gateway.backends.asgi.interface import is_double_callable


async def single(scope: Any, receive: Any, send: Any) -> None: ...


def double(scope: Any) -> Any: ...


def returns_awaitable(scope: Any, receive: Any, send: Any) -> Any:
    return single(scope, receive, send)


def decorated(function: Callable[..., Any]) -> Any:
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    return wrapper


class SingleInstance:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class PlainSingleInstance:
    def __call__(self, scope: Any, receive: Any, send: Any) -> Any: ...


class DoubleInstance:
    def __call__(self, scope: Any) -> Any: ...


class DoubleClass:
    def __init__(self, scope: Any, *more: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


class AwaitedClass:
    """Each request is an instance (Starlette's endpoints)."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def __await__(self) -> Generator[Any, None, None]:
        yield


class AwaitedClassOfAnything(AwaitedClass):
    def __init__(self, *arguments: Any) -> None: ...


class Updated:
    """Looks like what it wraps."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Static:
    __call__ = staticmethod(single)


class OfInstance:
    __call__ = SingleInstance()


class Methods:
    async def single(self, scope: Any, receive: Any, send: Any) -> None: ...

    def double(self, scope: Any) -> Any: ...

    @classmethod
    async def of_class(cls, scope: Any, receive: Any, send: Any) -> None: ...


class Marked:
    _asgi_single_callable = True

    def __init__(self, scope: Any) -> None: ...


class MarkedInstance(SingleInstance):
    _asgi_double_callable = True


SINGLE: list[Any] = [
    single,
    returns_awaitable,
    decorated(single),
    functools.wraps(single)(decorated(single)),
    functools.partial(lambda x, scope, receive, send: None, 1),
    functools.wraps(double)(lambda scope, receive, send: None),
    Updated(double),
    Static(),
    OfInstance(),
    SingleInstance(),
    PlainSingleInstance(),
    AwaitedClass,
    AwaitedClassOfAnything,
    HTTPEndpoint,
    Methods().single,
    Methods.of_class,
    Marked,
    Starlette(),
    BaseHTTPMiddleware(Starlette()),
    FastAPI(),
    Quart(__name__),
    ASGIHandler.__call__.__get__(object()),
]
DOUBLE: list[Any] = [
    double,
    functools.partial(lambda x, scope: None, 1),
    functools.wraps(double)(decorated(double)),
    DoubleClass,
    DoubleInstance(),
    Methods().double,
    MarkedInstance(),
]


@pytest.mark.parametrize("app", SINGLE)
def test_of_asgi_3(app: Any) -> None:
    assert not is_double_callable(app)


@pytest.mark.parametrize("app", DOUBLE)
def test_of_asgi_2(app: Any) -> None:
    assert is_double_callable(app)


def test_a_wrapper_that_raises_whatever_it_is_asked_for_is_not_marked() -> None:
    class Wrapper(SingleInstance):
        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    assert not is_double_callable(Wrapper())


def test_no_signature_tells_nothing() -> None:
    """Of some functions in C there is none; and Python 3.14 evaluates annotations for it."""

    class Silent:
        __signature__ = "none"

        def __call__(self) -> None: ...

    assert not is_double_callable(Silent())

    class Unknown:
        @property
        def __signature__(self) -> Any:
            raise NameError("name 'Scope' is not defined")

        def __call__(self) -> None: ...

    assert not is_double_callable(Unknown())
