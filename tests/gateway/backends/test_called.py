"""An application that cannot be called as one of its kind is named when it is loaded."""

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask

from gateway.backends.called import check_called
from gateway.backends.python import Kind
from gateway.errors import StartError
from tests.gateway.backends.test_asgi_interface import DOUBLE, SINGLE

FACTORY = "if it is a function that makes the application, say so by factory: true, or --factory"
OF_WSGI = "that of WSGI has (environ, start_response): expected wsgi, or --wsgi"
OF_ASGI = "that of ASGI has (scope, receive, send): expected asgi, or --asgi"


def wsgi(environ: Any, start_response: Any) -> Any: ...


def with_more(environ: Any, start_response: Any, options: Any = None) -> Any: ...


class Instances:
    """Each response is an instance (PEP 3333)."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


class Static:
    __call__ = staticmethod(wsgi)


class OfClass:
    @classmethod
    def __call__(cls, environ: Any, start_response: Any) -> Any: ...


class Told:
    """Was given the signature of something else, as decorators do."""

    __signature__ = inspect.signature(lambda request: None)

    def __call__(self, environ: Any, start_response: Any) -> Any: ...


def make() -> Any: ...


def make_configured(config: Any = None) -> Any: ...


def make_of_four(one: Any, two: Any, three: Any, four: Any) -> Any: ...


@functools.wraps(make)
def of_anything(*arguments: Any) -> Any: ...


class Silent:
    """Does not tell what it takes: Python 3.14 evaluates annotations for that."""

    @property
    def __signature__(self) -> Any:
        raise NameError("name 'Scope' is not defined")

    def __call__(self) -> None: ...


WSGI: list[Any] = [
    wsgi,
    with_more,
    Instances,
    of_anything,
    functools.partial(lambda x, e, s: [], 1),
    Static(),
    OfClass(),
    Told(),
    Flask("x"),
]


@pytest.mark.parametrize(
    ("kind", "application"),
    [("wsgi", each) for each in WSGI]
    + [("asgi", each) for each in [*SINGLE, *DOUBLE, of_anything]]
    + [("asgi", Silent()), ("wsgi", Silent())],
)
def test_what_can_be_called_is_taken(kind: Kind, application: Any) -> None:
    check_called(application, kind, target="main:app", backend="api")


@pytest.mark.parametrize(
    ("kind", "application", "hint"),
    [
        ("asgi", make, FACTORY),
        ("asgi", make_configured, FACTORY),
        ("asgi", make_of_four, "expected the application itself"),
        ("asgi", wsgi, OF_WSGI),
        ("asgi", Flask("x"), OF_WSGI),
        ("wsgi", make, FACTORY),
        ("wsgi", make_configured, FACTORY),
        ("wsgi", SINGLE[0], OF_ASGI),
        ("wsgi", FastAPI(), OF_ASGI),
        ("wsgi", DOUBLE[0], "expected the application itself"),
    ],
)
def test_what_cannot_is_told_with_the_next_step(kind: Kind, application: Any, hint: str) -> None:
    with pytest.raises(StartError) as caught:
        check_called(application, kind, target="main:app", backend="api")
    arguments = {"asgi": "(scope, receive, send)", "wsgi": "(environ, start_response)"}[kind]
    assert str(caught.value) == (
        f"backend api: main:app cannot be called with {arguments} as an application of {kind.upper()} is; "
        f"{hint}"
    )
