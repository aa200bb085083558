"""Changes of files, for --reload: the configuration, the code of the applications, their templates.

Changes are gathered until there is none for `QUIET` ms, so that many files saved at once are one reload.
The kernel looks at what was there when it was told to: a directory that is removed and made anew, as builds
do, or a link that is set to another directory, is looked at anew, and so is one above it.
"""

import fnmatch
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio
from watchfiles import Change, DefaultFilter, awatch
from watchfiles._rust_notify import WatchfilesRustInternalError
from watchfiles.main import FileChange

from gateway.config import Config
from gateway.config.backends.python import PythonApplication
from gateway.config.spawn import SpawnedApp
from gateway.logger import get_logger

QUIET: Final = 50
"""Milliseconds without a change that end a change."""
LONGEST: Final = 500
"""Milliseconds for which changes are gathered at most."""

INCLUDED: Final = ("*.py", "*.html", "*.htm", "*.jinja", "*.jinja2", "*.j2", "*.mako", "*.tmpl")
"""Code, and templates by the names that they mostly have."""

EXCLUDED: Final = (".*", "venv", "site-packages")

_LIMITS: Final = "fs.inotify.max_user_instances, fs.inotify.max_user_watches"
"""Of the system, for all programs of a user: editors take many of them."""

log = get_logger()

# It counts the changes on the terminal; we say what has changed.
logging.getLogger("watchfiles").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked at."""

    files: tuple[Path, ...] = ()
    """Whatever their names: the configuration, and what the command line names."""
    directories: tuple[Path, ...] = ()
    """By default those of the applications."""
    included: tuple[str, ...] = ()
    """Patterns of names of files, beside `INCLUDED`."""
    excluded: tuple[str, ...] = ()
    """Patterns of names of files and directories, or of whole paths, beside `EXCLUDED`."""


class Watcher:
    """Calls *on_change* with the paths that have changed."""

    def __init__(self, watched: Watched, on_change: Callable[[list[str]], object]) -> None:
        self._watched = watched
        self._on_change = on_change
        self._files = {str(path.absolute()) for path in watched.files}
        self._nursery: trio.Nursery | None = None
        self._directories: frozenset[str] = frozenset()
        self._above: frozenset[str] = frozenset()
        """All directories that they are in."""
        self._scope = trio.CancelScope()

    def follow(self, config: Config) -> None:
        """Look at the directories of the applications in *config*; called again when it has changed."""
        directories = self._watched.directories or tuple(code_directories(config))
        found = frozenset(_outermost(os.path.abspath(each) for each in directories))
        if found != self._directories:
            self._directories = found
            self._above = frozenset(str(parent) for each in found for parent in Path(each).parents)
            self._look_anew()

    def _look_anew(self) -> None:
        assert self._nursery is not None
        before, self._scope = self._scope, trio.CancelScope()
        self._nursery.start_soon(self._watch_directories, self._scope)
        before.cancel()

    async def _watch_directories(self, scope: trio.CancelScope) -> None:
        """Look at the directories that are there, and in those above for what takes their places."""
        roots = self._directories
        there = frozenset(filter(os.path.isdir, roots))
        above = frozenset(filter(os.path.isdir, self._above))
        with scope:
            async with trio.open_nursery() as nursery:
                if there:
                    nursery.start_soon(
                        self._watch, there, _Filter(self._watched, roots), self._on_change, True
                    )
                if above:
                    nursery.start_soon(self._watch, above, self._is_new, self._on_new, False)

    def _is_new(self, change: Change, path: str) -> bool:
        return change is Change.added and (path in self._directories or path in self._above)

    def _on_new(self, paths: list[str]) -> None:
        self._look_anew()
        if any(map(os.path.isdir, self._directories)):
            self._on_change(paths)

    async def run(
        self, config: Config, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Look until cancelled; *started* when nothing is missed any more."""
        async with trio.open_nursery() as self._nursery:
            # Editors put a new file in the place of the old one, so it is its directory that is looked at.
            parents = frozenset(os.path.dirname(path) for path in self._files)
            if parents:
                self._nursery.start_soon(self._watch, parents, self._is_file, self._on_change, False)
            self.follow(config)
            # A new task has its turn in the next round, and sets its watch before it waits. Those of
            # directories are made by one more.
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            task_status.started()
            await trio.sleep_forever()

    async def _watch(
        self,
        paths: Iterable[str],
        wanted: Callable[[Change, str], bool],
        on_change: Callable[[list[str]], object],
        recursive: bool,
    ) -> None:
        end = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set_at_end, end)
            look = partial(
                awatch,
                *paths,
                watch_filter=wanted,
                debounce=LONGEST,
                step=QUIET,
                rust_timeout=0,  # none: the thread is told when to end
                stop_event=end,
                recursive=recursive,
            )
            try:
                await _follow_changes(look(), on_change)
            except PermissionError:  # with this it keeps other errors to itself, too
                await _follow_changes(look(ignore_permission_denied=True), on_change)
            except FileNotFoundError:
                if recursive:
                    self._look_anew()  # It was there a moment ago.
            except (OSError, WatchfilesRustInternalError) as error:
                log.warning("files are looked at now and then", cause=str(error), limits=_LIMITS)
                await _follow_changes(look(ignore_permission_denied=True, force_polling=True), on_change)

    def _is_file(self, _change: Change, path: str) -> bool:
        return path in self._files


async def _follow_changes(
    changes: AsyncIterator[set[FileChange]], on_change: Callable[[list[str]], object]
) -> None:
    async for change in changes:
        on_change(sorted(path for _, path in change))


async def _set_at_end(end: trio.Event) -> None:
    """Set *end* when this is cancelled: whoever waits for a thread hears of it from the thread only."""
    try:
        await trio.sleep_forever()
    finally:
        end.set()


def code_directories(config: Config) -> list[Path]:
    """Where the modules of the applications are."""
    found = []
    for backend in config.backends.values():
        if isinstance(backend, PythonApplication):
            found.append(Path(backend.directory))
        spawn: SpawnedApp | None = getattr(backend, "spawn", None)
        if spawn is not None and spawn.wsgi is not None:
            found.append(Path(spawn.directory))
    return found


def _outermost(directories: Iterable[str]) -> list[str]:
    """Without those below others."""
    found: list[str] = []
    for each in sorted(set(directories)):
        if not any(Path(each).is_relative_to(other) for other in found):
            found.append(each)
    return found


class _Filter(DefaultFilter):
    """Which files below *directories* count: what is included and not excluded, and no caches."""

    def __init__(self, watched: Watched, directories: Iterable[str]) -> None:
        super().__init__()
        self._directories = [Path(each) for each in directories]
        self._included = (*INCLUDED, *watched.included)
        self._excluded = (*EXCLUDED, *watched.excluded)

    def __call__(self, change: Change, path: str) -> bool:
        # What the directories themselves are called, and what they are in, does not matter.
        below = next(
            (Path(path).relative_to(each) for each in self._directories if Path(path).is_relative_to(each)),
            Path(path),
        )
        return (
            _matches(below, self._included, path)
            and not any(_matches(Path(part), self._excluded, path) for part in below.parts)
            and super().__call__(change, str(below))
        )


def _matches(name: Path, patterns: Iterable[str], path: str) -> bool:
    return any(fnmatch.fnmatch(name.name, each) or fnmatch.fnmatch(path, each) for each in patterns)
