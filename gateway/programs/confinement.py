"""What a child process may be and use: its user and groups, and its resource limits.

Two small programs of util-linux do it, which become the child (exec)::

    spawn ─► prlimit --cpu=10:15 … ─► setpriv --reuid=33 … ─► the program

Not this process: limits belong to all of its threads, and code of ours between fork and exec
(``preexec_fn``) would run with the locks of other threads held. Popen's ``user`` runs no such code, but
forks where it would vfork, and copying the page tables of a daemon of 100 MB stops the event loop for 20 ms;
each of these programs costs 1 ms, and not in the event loop. Limits that are set from outside (prlimit(2))
once the child runs do not hold for what it has started by then.

In this order, because root may raise what was lowered for the gateway, and because the number of processes
counts for the user that the program gets.
"""

import os
import resource
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

CPU_GRACE: Final = 5
"""Seconds of CPU time from SIGXCPU, which a program may catch, to SIGKILL."""

_TOOL_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass(slots=True, frozen=True)
class User:
    """Who a child is: user, group, supplementary groups. None for a user or group that stays."""

    uid: int | None
    gid: int
    groups: tuple[int, ...] = ()
    name: str = ""
    home: str = ""

    def variables(self) -> dict[str, str]:
        """Those that tell programs who they are, as login(1) sets them; none for a user without a name."""
        return {"HOME": self.home, "LOGNAME": self.name, "USER": self.name} if self.name else {}


@dataclass(slots=True, frozen=True)
class ResourceLimits:
    """Bounds of a child and, each for itself, of what it starts (setrlimit(2)). None: as the gateway's."""

    cpu: float | None = None
    """Seconds of CPU time, rounded up to whole ones."""
    memory: int | None = None
    """Bytes of address space."""
    processes: int | None = None
    """Processes and threads of its user, all together; root's are not counted."""
    open_files: int | None = None
    file_size: int | None = None
    """Bytes of a file that it writes."""
    core: int | None = None
    """Bytes of a core dump."""

    def options(self) -> Iterator[str]:
        """For prlimit(1)."""
        for field, (option, _) in _LIMITS.items():
            if (bounds := self._bounds(field)) is not None:
                yield f"--{option}={bounds[0]}:{bounds[1]}"

    def refused(self) -> Iterator[tuple[str, int]]:
        """The fields that are above the gateway's own limits, where it may give no more, and those limits."""
        for field, (_, number) in _LIMITS.items():
            bounds, (soft, ours) = self._bounds(field), resource.getrlimit(number)
            if bounds is None or ours == resource.RLIM_INFINITY or bounds[1] <= ours:
                continue
            # Who may is a matter of capabilities, of the namespace that they are for, of fs.nr_open: try it.
            try:
                resource.setrlimit(number, (soft, bounds[1]))
            except (ValueError, OverflowError):
                yield field, ours
            else:
                resource.setrlimit(number, (soft, ours))

    def _bounds(self, field: str) -> tuple[int, int] | None:
        """The soft and the hard limit (setrlimit(2))."""
        value: float | None = getattr(self, field)
        if value is None:
            return None
        if field == "cpu":
            return ceil(value), ceil(value) + CPU_GRACE
        return int(value), int(value)


_LIMITS: Final = {
    "cpu": ("cpu", resource.RLIMIT_CPU),
    "memory": ("as", resource.RLIMIT_AS),
    "processes": ("nproc", resource.RLIMIT_NPROC),
    "open_files": ("nofile", resource.RLIMIT_NOFILE),
    "file_size": ("fsize", resource.RLIMIT_FSIZE),
    "core": ("core", resource.RLIMIT_CORE),
}
"""For each field the option of prlimit(1) and the number of setrlimit(2)."""


class Confinement:
    """A user and limits for children: give it to `gateway.programs.process.spawn`."""

    __slots__ = ("_prefix", "user")

    def __init__(
        self,
        user: User | None = None,
        limits: ResourceLimits | None = None,
        *,
        death_signal: signal.Signals | None = None,
    ) -> None:
        """*death_signal* is what the child gets when the thread that has started it ends (prctl(2)),
        where there is a program that can ask for it.
        """
        self._prefix: list[str] = []
        if limits is not None and (options := list(limits.options())):
            self._prefix += [tool("prlimit"), *options]
        if user is not None:
            self._prefix += [tool("setpriv"), *_identity(user)]
        if death_signal is not None and (setpriv := shutil.which("setpriv", path=_TOOL_PATH)):
            # After a change of the user, which would clear it.
            self._prefix += [setpriv, f"--pdeathsig={death_signal.name.removeprefix('SIG')}"]

    def wrap(self, argv: Sequence[str | bytes]) -> list[str | bytes]:
        """The command that becomes *argv*, whose program is an absolute path, in confinement."""
        return [*self._prefix, *argv]


def tool(name: str) -> str:
    """The path of a program of util-linux. Raises FileNotFoundError."""
    path = shutil.which(name, path=_TOOL_PATH)
    if path is None:
        raise FileNotFoundError(f"the program {name} is missing: it belongs to util-linux")
    return path


def may_change_user() -> bool:
    """Whether children can have another user than ours."""
    return os.geteuid() == 0


def _identity(user: User) -> Iterator[str]:
    if user.uid is not None:
        yield f"--reuid={user.uid}"
    yield f"--regid={user.gid}"
    yield f"--groups={','.join(map(str, user.groups))}" if user.groups else "--clear-groups"
