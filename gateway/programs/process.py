"""Child processes: one way to start them, one way to end them.

Every child is the leader of a new session, so a signal reaches all that it started, and no terminal can stop
it; or of a process group alone, where it is said that there is no terminal. It gets exactly three descriptors
and default signal handling (Python itself ignores SIGPIPE, and whoever started the daemon may have had more
ignored, as nohup does). A pidfd tells of its end, without SIGCHLD and without a thread; where there are none,
a thread for each does.

The ladder at the end of a life: SIGTERM to the process group, a grace, SIGKILL to the group, reap.
The leader stays unreaped until then: its number, which is the group's, cannot be used again meanwhile.
"""

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Final

import trio

from gateway.logger import get_logger
from gateway.programs.confinement import Confinement
from gateway.programs.executable import check_executable
from gateway.programs.launch import start_program
from gateway.runtime.exhaustion import EXHAUSTED

REAP_WAIT: Final = 5.0
"""Seconds that a process may need to disappear after SIGKILL; only one stuck in the kernel needs any."""

LOOK_INTERVAL: Final = 0.05
"""Seconds between two looks at a process when no descriptor is left that would tell of its end."""

log = get_logger()


class Process:
    """A running child, or one that has ended.

    ``pid`` is also the number of its process group. Whoever spawned it calls `reap`, `wait` or `terminate`
    until one of them has reaped it.
    """

    __slots__ = ("_pidfd", "pid", "returncode")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = -1
        self.returncode: int | None = None
        """The exit status, the negative number of the signal that ended it, or None if not reaped yet."""

    def open_pidfd(self) -> int:
        """A descriptor, always the same, that is readable from its end on, and closed when it is reaped.

        Raises OSError if no descriptor is left.
        """
        if self._pidfd < 0:
            # Its number is nobody else's until it is reaped.
            self._pidfd = _open_pidfd(self.pid)
        return self._pidfd

    def reap(self) -> bool:
        """Reap it if it has ended; whether it is reaped now."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                status = 0  # somebody else in this process has reaped it: how it has ended is lost
            else:
                if not pid:
                    return False
            self.returncode = os.waitstatus_to_exitcode(status)
            self._close()
        return True

    async def wait(self) -> int:
        """Wait for its end, reap it, and return ``returncode``."""
        while not self.reap():
            await self._wait_for_end()
        assert self.returncode is not None
        return self.returncode

    async def terminate(self, grace: float) -> None:
        """End the process group: SIGTERM, *grace* seconds, SIGKILL; then reap.

        The leader's end ends the grace of the whole group. Not interrupted by cancellation, and over
        after *grace* + REAP_WAIT seconds at the latest.
        """
        if self.returncode is not None:
            return
        self._signal_group(signal.SIGTERM)
        with trio.CancelScope(deadline=trio.current_time() + grace, shield=True):
            await self._wait_for_end()
        self._signal_group(signal.SIGKILL)
        with trio.CancelScope(deadline=trio.current_time() + REAP_WAIT, shield=True) as patience:
            await self.wait()
        if patience.cancelled_caught:
            self._close()
            log.error("process survives SIGKILL", pid=self.pid)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone: what it has started for a request can end with the request."""
        if self.returncode is not None:
            return  # the descriptor is closed, its number may be another's
        try:
            signal.pidfd_send_signal(self.open_pidfd(), number)
        except ProcessLookupError:
            pass
        except (OSError, AttributeError):  # there are none (`_open_pidfd`), or it is beyond our reach
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)

    async def _wait_for_end(self) -> None:
        """Wait until it can be reaped, without reaping it."""
        try:
            descriptor = self.open_pidfd()
        except OSError:
            while not self._has_ended():  # noqa: ASYNC110 - no descriptor is left, so nothing tells of it
                await trio.sleep(LOOK_INTERVAL)  # noqa: TID251
        else:
            await trio.lowlevel.wait_readable(descriptor)

    def _has_ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            # It was still in our group when that got a signal, which has ended it before it led its own.
            self.send_signal(number)
        except PermissionError as error:
            # A set-user-ID program is beyond our reach.
            log.warning("process cannot be signalled", pid=self.pid, signal=number.name, cause=str(error))


def _open_pidfd(pid: int) -> int:
    """A pidfd of the child *pid*; or else a pipe that ends with it, as a thread that waits for it sees to.

    Linux has pidfds since 5.3, sandboxes may refuse them (old ones of Docker, gVisor), and a Python that was
    built with the headers of an older Linux lacks the functions. Raises OSError.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
    except AttributeError:
        pass
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        threading.Thread(target=_close_at_end, args=(pid, theirs), name=f"end of {pid}", daemon=True).start()
    except RuntimeError as no_thread:
        os.close(ours)
        os.close(theirs)
        raise OSError(errno.EAGAIN, str(no_thread)) from no_thread
    return ours


def _close_at_end(pid: int, descriptor: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    os.close(descriptor)


def spawn(
    argv: Sequence[str | bytes],
    *,
    env: Mapping[bytes, bytes],
    directory: str | bytes,
    stdin: int,
    stdout: int,
    stderr: int,
    confinement: Confinement | None = None,
    others: Sequence[int] = (),
    session: bool = True,
    expected_to_end: bool = False,
) -> Process:
    """Start ``argv[0]`` with exactly *env*, in *directory*, with three descriptors and no other but *others*.

    With *confinement* it is an absolute path. Without *session* it leads a process group only. If it is
    *expected_to_end* before anybody waits for that, ``pidfd`` is opened only once somebody does.

    Raises OSError if it cannot be started: no such program, not executable, no interpreter for it, no
    such directory, too many processes or open files.
    """
    _handle_what_is_ignored()
    if confinement is not None:
        check_executable(argv[0])
        argv = confinement.wrap(argv)
    pid = start_program(
        argv,
        env=env,
        directory=directory,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        others=others,
        session=session,
    )
    process = Process(pid)
    if not expected_to_end:
        try:
            process.open_pidfd()
        except OSError:  # no descriptor is left for it
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    return process


_none_is_ignored = False
"""Whether that was seen to: once, at the first child, because looking takes a tenth of starting one."""

_RESTORED: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""What Python ignores at its start, and what is restored in the child."""


def _handle_what_is_ignored() -> None:
    """Do nothing about ignored signals by a handler instead, which for this process is the same.

    execve(2): ignored signals stay ignored in the new program, handled ones get their default. It cannot be
    done in the child: it would have to be forked instead of vforked for it, with the locks of other threads
    held. Signal handlers belong to the main thread; elsewhere nothing is changed.
    """
    global _none_is_ignored
    if _none_is_ignored or threading.current_thread() is not threading.main_thread():
        return
    _none_is_ignored = True
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in _RESTORED:
            signal.signal(number, _do_nothing)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """As SIG_IGN does."""


def describe_end(returncode: int) -> str:
    """How a process ended, in words: ``exit status 3``, ``signal 9 (SIGKILL)``."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"signal {-returncode} ({signal.Signals(-returncode).name})"
    except ValueError:  # real-time signals have no names
        return f"signal {-returncode}"
