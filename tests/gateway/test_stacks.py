"""Stacks of threads."""

import threading
from collections.abc import Iterator

import pytest

from gateway.stacks import stack_of


@pytest.fixture
def waiting() -> Iterator[threading.Thread]:
    entered, go_on = threading.Event(), threading.Event()

    def outer() -> None:
        inner()

    def inner() -> None:
        entered.set()
        go_on.wait(60)

    thread = threading.Thread(target=outer)
    thread.start()
    assert entered.wait(60)
    yield thread
    go_on.set()
    thread.join()


def test_stack_of_another_thread(waiting: threading.Thread) -> None:
    assert waiting.ident is not None
    text = stack_of(waiting.ident)
    assert text.index("in outer") < text.index("in inner") < text.index("go_on.wait(60)")
    assert __file__ in text


def test_only_what_one_function_has_called(waiting: threading.Thread) -> None:
    assert waiting.ident is not None
    text = stack_of(waiting.ident, below=threading.Thread.run)
    assert "in run" not in text
    assert "in outer" in text


def test_thread_that_has_ended(waiting: threading.Thread) -> None:
    assert stack_of(-1) == ""
