"""What a thread is doing: its stack, as a traceback shows it."""

import sys
import traceback
from collections.abc import Callable
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
    code = getattr(below, "__code__", None)
    summary = traceback.StackSummary.extract(reversed([*_frames(frame, code)]))
    return "\n".join("".join(summary.format()).splitlines()[-LINES:])


def _frames(frame: FrameType | None, outermost: CodeType | None) -> "list[tuple[FrameType, int]]":
    found = []
    while frame is not None and frame.f_code is not outermost:
        found.append((frame, frame.f_lineno))
        frame = frame.f_back
    return found
