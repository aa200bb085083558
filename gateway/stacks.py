"""What a thread is doing: its stack, as a traceback shows it."""

import sys
import traceback
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Final

LINES: Final = 100
"""Lines of a stack that are kept: the innermost calls say where it hangs."""


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
        text = without_source(calls)
    return "\n".join(text.splitlines()[-LINES:])


def without_source(calls: Iterable[tuple[FrameType, int]]) -> str:
    """*calls* as a traceback shows them, without the lines: nothing of anybody's own is asked for them."""
    return "".join(
        f'  File "{frame.f_code.co_filename}", line {number}, in {frame.f_code.co_name}\n'
        for frame, number in calls
    )


def _calls(frame: FrameType | None, outermost: CodeType | None) -> list[tuple[FrameType, int]]:
    found = []
    while frame is not None and frame.f_code is not outermost:
        found.append((frame, frame.f_lineno))
        frame = frame.f_back
    return found[::-1]
