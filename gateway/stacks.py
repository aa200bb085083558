"""What a thread is doing, and where an exception comes from, in words: stacks and tracebacks.

Applications have their say in both: whatever their code makes of the questions, nothing is raised here. Needs
nothing but the standard library: it also runs in the processes of spawned applications.
"""

import sys
import traceback
from collections.abc import Callable, Iterable
from types import CodeType, FrameType, TracebackType
from typing import Final

LINES: Final = 100
"""Lines that are kept: the innermost calls say where it hangs, and the end what happened."""

_IMPORT_SYSTEM: Final = "<frozen importlib._bootstrap"

_NAME: Final = vars(type)["__name__"]
"""What a class is called, whatever its own class has under that name."""


def stack_of(thread: int, *, below: Callable[..., object] | None = None) -> str:
    """The calls of the thread with that identifier, outermost first, by line; empty if it has ended.

    With *below* only those that *below*, a function of Python, has made.
    """
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    calls = _calls(frame, getattr(below, "__code__", None))
    try:
        text = "".join(traceback.StackSummary.extract(calls).format())
    except Exception:  # of the importer of a module, asked for its source
        text = _without_source(calls)
    return "\n".join(text.splitlines()[-LINES:])


def traceback_of(error: BaseException) -> list[str]:
    """The end of the traceback of *error*, by line.

    As text, because an exception that is kept keeps all that its frames refer to.
    """
    return traceback_text(error, error.__traceback__).splitlines()[-LINES:]


def traceback_text(error: BaseException, trace: TracebackType | None) -> str:
    """The traceback of *error*, down from *trace*. Raises nothing, whatever *error* makes of its parts."""
    try:
        return "".join(traceback.format_exception(type(error), error, trace)).rstrip("\n")
    except Exception as wrong:  # of an application's own code
        calls = _without_source(traceback.walk_tb(trace))
        return f"Traceback (most recent call last):\n{calls}{_said_by(error, name_of(wrong))}"


def name_of(error: BaseException) -> str:
    """What its class is called; not what that, or its own class, makes of the question."""
    name: str = _NAME.__get__(type(error))
    return name


def repr_of(error: BaseException) -> str:
    """In one line, as Python shows it; if its own code lets it."""
    try:
        return repr(error)
    except Exception as wrong:
        return f"{name_of(error)}: repr() of it failed: {name_of(wrong)}"


def _said_by(error: BaseException, why: str) -> str:
    try:
        return "".join(traceback.format_exception_only(error)).rstrip("\n")
    except Exception:
        return f"{name_of(error)}: what it says cannot be shown: {why}"


def _without_source(calls: Iterable[tuple[FrameType, int]]) -> str:
    """*calls* as a traceback shows them, without the lines: nothing of anybody's own is asked for them."""
    return "".join(
        f'  File "{frame.f_code.co_filename}", line {number}, in {frame.f_code.co_name}\n'
        for frame, number in calls
    )


def _calls(frame: FrameType | None, outermost: CodeType | None) -> list[tuple[FrameType, int]]:
    found: list[tuple[FrameType, int]] = []
    inside = False
    while frame is not None and frame.f_code is not outermost:
        # As in Python's own tracebacks, what stands between an import and the module says nothing: it is
        # three of four calls where one module imports another. Unless it is there that the thread waits.
        importing = frame.f_code.co_filename.startswith(_IMPORT_SYSTEM)
        if not (importing and inside):
            found.append((frame, frame.f_lineno))
        inside = inside or not importing
        frame = frame.f_back
    return found[::-1]
