"""What tests of files share."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

import pytest

Unprivileged: TypeAlias = Callable[[], AbstractContextManager[None]]

NOBODY = 65534


@contextmanager
def _unprivileged() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def unprivileged() -> Unprivileged:
    """A context in which permissions apply, whoever runs the tests."""
    return _unprivileged
