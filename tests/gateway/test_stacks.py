"""Stacks of threads."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from gateway.stacks import name_of, stack_of, traceback_text


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


def test_module_whose_source_cannot_be_had() -> None:
    """That of an importer which does not say so in the way of importers."""

    class Loader:
        def get_source(self, name: str) -> str:
            raise KeyError(name)

    source = (
        "def wait():\n    entered.set()\n    go_on.wait(60)\n\ndef fail():\n    raise LookupError('no')\n"
    )
    entered, go_on = threading.Event(), threading.Event()
    module = {"__name__": "sealed", "__loader__": Loader(), "entered": entered, "go_on": go_on}
    exec(compile(source, "sealed.py", "exec"), module)
    wait, fail = cast("Any", module["wait"]), cast("Any", module["fail"])
    thread = threading.Thread(target=wait)
    thread.start()
    assert entered.wait(60)
    assert thread.ident is not None
    text = stack_of(thread.ident)
    go_on.set()
    thread.join()
    assert '  File "sealed.py", line 3, in wait\n' in text
    with pytest.raises(LookupError) as caught:
        fail()
    said = traceback_text(caught.value, caught.value.__traceback__)
    assert said.endswith('  File "sealed.py", line 6, in fail\nLookupError: no')


def test_modules_that_import_each_other_are_shown_without_the_import_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Python's tracebacks: it is three of four calls."""
    entered, go_on = threading.Event(), threading.Event()
    meeting = ModuleType("meeting_of_a_test")
    meeting.entered, meeting.go_on = entered, go_on  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "meeting_of_a_test", meeting)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "outer_of_a_test.py").write_text("import inner_of_a_test\n")
    (tmp_path / "inner_of_a_test.py").write_text(
        "import meeting_of_a_test as meeting\nmeeting.entered.set()\nmeeting.go_on.wait(60)\n"
    )

    def load() -> None:
        __import__("outer_of_a_test")

    threads = [threading.Thread(target=load) for _ in range(2)]
    texts = []
    for thread in threads:
        thread.start()
        assert entered.wait(60)
        assert thread.ident is not None
        while "_of_a_test" not in (text := stack_of(thread.ident, below=threading.Thread.run)):
            assert thread.is_alive()
        texts.append(text)
    while "in acquire" not in texts[1]:
        assert threads[1].is_alive()
        texts[1] = stack_of(threads[1].ident or 0, below=threading.Thread.run)
    go_on.set()
    for thread in threads:
        thread.join()
    assert texts[0].index("import inner_of_a_test") < texts[0].index("meeting.go_on.wait(60)")
    assert "importlib" not in texts[0]
    # Where it waits is shown in any case: the other one has the module.
    assert "importlib" in texts[1].splitlines()[-1]


def test_a_class_is_called_what_it_is_whatever_its_own_class_says() -> None:
    class Kind(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]  # as an application may
            raise LookupError

        def __getattribute__(cls, name: str) -> object:
            raise LookupError

    class Mute(Exception, metaclass=Kind):
        pass

    assert name_of(Mute()) == "Mute"
