"""Runs CPython's own tests of asyncio on the gateway's loop: ``pytest -p guest_loop.cpython``.

The loop takes the place of asyncio's own wherever a test makes one. What is left out of the files is in
:data:`LEFT_OUT`. Many tests have loops of their own, made for the purpose: how many did run on the gateway's
is said at the end.
"""

import asyncio
from collections.abc import Iterator
from fnmatch import fnmatch
from selectors import BaseSelector

import pytest

from .stepped import SteppedLoop

LEFT_OUT = {
    "*signal_handl*": "an application has no signal handlers",
    "SelectorEventLoopSignalTests.*": "an application has no signal handlers",
    "*SafeChildWatcherTests.*": "waits for processes by a signal handler",
    "*FastChildWatcherTests.*": "waits for processes by a signal handler",
    "Subprocess*SafeWatcherTests.*": "waits for processes by a signal handler",
    "Subprocess*FastWatcherTests.*": "waits for processes by a signal handler",
    "PolicyTests.*child_watcher*": "waits for processes by a signal handler",
    "PollEventLoopTests.*": "about a selector, and the gateway's loop has its own",
    "SelectEventLoopTests.*": "about a selector, and the gateway's loop has its own",
    "*Task*Subclass*.*": "the same tests of other classes of tasks",
    "CTask_PyFuture_Tests.*": "the same tests of other classes of tasks",
    "PyTask_CFuture_Tests.*": "the same tests of other classes of tasks",
    "*.test_*_del_collect": "collects garbage a thousand times, and runs no loop",
}
"""Patterns of classes and names, and why."""


class _Loop(SteppedLoop):
    """Takes a selector as asyncio's does, and has no use for it."""

    runs = 0
    """Those of all loops, and the steps of them."""

    def __init__(self, selector: BaseSelector | None = None) -> None:
        super().__init__()

    def run_forever(self) -> None:
        _Loop.runs += 1
        super().run_forever()


class _Count:
    """Counts the tests that ran on the loop."""

    def __init__(self) -> None:
        self._tests = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        before = _Loop.runs
        try:
            return (yield)
        finally:
            self._tests += _Loop.runs > before

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"{self._tests} on the loop of the gateway")


def pytest_configure(config: pytest.Config) -> None:
    """Make the loop the one that asyncio makes, and that tests of asyncio's make."""
    patch = pytest.MonkeyPatch()
    for module in (asyncio, asyncio.events):
        patch.setattr(module, "new_event_loop", _Loop)
    for name in ("SelectorEventLoop", "EventLoop"):
        patch.setattr(asyncio, name, _Loop, raising=False)
    # Until Python 3.13: test_events has its processes waited for by it.
    if hasattr(asyncio, "SafeChildWatcher"):
        patch.setattr(asyncio, "SafeChildWatcher", asyncio.ThreadedChildWatcher)
    config.pluginmanager.register(_Count())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not about the loop."""
    kept = [item for item in items if not any(fnmatch(_name(item), pattern) for pattern in LEFT_OUT)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _name(item: pytest.Item) -> str:
    return ".".join(item.nodeid.split("::")[1:])
