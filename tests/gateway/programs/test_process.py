"""gateway.programs.process: what a child gets, how it ends, and that nothing of it stays."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.programs.process import Process, describe_end, spawn
from tests.gateway.programs.starting import way_of_starting  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_leak")

ENVIRON = {b"PATH": b"/usr/bin:/bin", b"NAME": "wärts".encode()}


class Child:
    """A child of the test with a pipe for its output."""

    def __init__(self, *argv: str, directory: Path | str = "/", **options: Any) -> None:
        self.output, end = os.pipe2(os.O_CLOEXEC)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.process = spawn(
                argv,
                env=ENVIRON,
                directory=str(directory),
                stdin=null,
                stdout=end,
                stderr=2,
                **options,
            )
        except OSError:
            os.close(self.output)
            raise
        finally:
            os.close(end)
            os.close(null)

    async def read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            await trio.lowlevel.wait_readable(self.output)
            piece = os.read(self.output, 1)
            assert piece, f"the output ended after {line!r}"
            line += piece
        return line

    async def read_all(self) -> bytes:
        data = b""
        with trio.fail_after(60):
            while True:
                await trio.lowlevel.wait_readable(self.output)
                piece = os.read(self.output, 65536)
                if not piece:
                    os.close(self.output)
                    return data
                data += piece


def test_child_gets_exactly_what_it_is_given(tmp_path: Path) -> None:
    async def main() -> None:
        child = Child("/bin/sh", "-c", "pwd; env", directory=tmp_path)
        lines = (await child.read_all()).splitlines()
        assert lines[0] == os.fsencode(tmp_path)
        variables = {line for line in lines[1:] if not line.startswith((b"PWD=", b"SHLVL=", b"_="))}
        assert variables == {b"PATH=/usr/bin:/bin", "NAME=wärts".encode()}
        assert await child.process.wait() == 0

    trio.run(main)


def test_child_gets_three_descriptors_and_no_other() -> None:
    """FCGI-23, complaint 29: a write end that a child inherits keeps the reader waiting for ever."""

    async def main() -> None:
        inheritable, other = os.pipe2(0)
        try:
            child = Child(sys.executable, "-c", "import os; print(*os.listdir('/proc/self/fd'))")
            found = set((await child.read_all()).split())
        finally:
            os.close(inheritable)
            os.close(other)
        assert found - {b"3"} == {b"0", b"1", b"2"}  # 3 is the listing itself
        assert await child.process.wait() == 0

    trio.run(main)


def test_child_has_default_signal_handling() -> None:
    """Python ignores SIGPIPE, and ignored signals are inherited; `yes | head` would run for ever."""

    async def main() -> None:
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
        child = Child("/bin/sh", "-c", "grep -E '^Sig(Ign|Blk)' /proc/self/status")
        words = (await child.read_all()).split()
        assert words[:3] == [b"SigBlk:", b"0" * 16, b"SigIgn:"]
        # glibc keeps signals 32 and 33 to itself: nobody can change them, and `make` passes them on ignored.
        assert int(words[3], 16) & ~(0b11 << 31) == 0
        assert await child.process.wait() == 0

    trio.run(main)


SPAWN_AND_ASK = """
import os, sys, trio
from gateway.programs.process import spawn
async def main():
    argv = ["/bin/grep", "^SigIgn", "/proc/self/status"]
    process = spawn(argv, env={}, directory="/", stdin=0, stdout=1, stderr=2)
    assert await process.wait() == 0
trio.run(main)
"""


def test_child_has_default_signal_handling_whatever_the_daemon_has_inherited() -> None:
    """nohup, and the background jobs of a shell without job control, ignore signals for what they start."""
    names = "HUP INT QUIT USR1 CHLD TTOU"
    ignoring = f'trap "" {names}; exec "$0" -c "$1"'
    found = subprocess.run(
        ["/bin/bash", "-c", ignoring, sys.executable, SPAWN_AND_ASK],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert (found.returncode, found.stderr) == (0, b"")
    assert int(found.stdout.split()[1], 16) & ~(0b11 << 31) == 0


def test_ignored_signals_stay_without_effect() -> None:
    """The process that starts children goes on ignoring what it ignored."""
    script = SPAWN_AND_ASK + "import signal; os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    found = subprocess.run(
        ["/bin/bash", "-c", 'trap "" HUP; exec "$0" -c "$1"', sys.executable, script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert found.stdout.endswith(b"alive\n"), found.stderr


@pytest.mark.parametrize("session", [True, False])
def test_child_leads_a_session_of_its_own_or_a_group(session: bool) -> None:
    async def main() -> None:
        child = Child("/bin/cat", "/proc/self/stat", session=session)
        fields = (await child.read_all()).rpartition(b")")[2].split()
        group, its_session, terminal = map(int, fields[2:5])
        assert group == child.process.pid
        assert its_session == (group if session else os.getsid(0))
        assert terminal == 0 or not session
        assert await child.process.wait() == 0

    trio.run(main)


@pytest.mark.parametrize(("script", "returncode"), [("exit 3", 3), ("kill -KILL $$", -9), ("exit 0", 0)])
def test_wait_tells_how_it_ended(script: str, returncode: int) -> None:
    async def main() -> None:
        child = Child("/bin/sh", "-c", script)
        assert await child.process.wait() == returncode
        assert await child.process.wait() == returncode, "once more, from memory"
        os.close(child.output)

    trio.run(main)


def test_reap_says_whether_it_has_ended() -> None:
    async def main() -> None:
        child = Child("/bin/cat", "/dev/zero")
        assert not child.process.reap()
        os.close(child.output)  # SIGPIPE ends it
        await trio.lowlevel.wait_readable(child.process.open_pidfd())
        assert child.process.reap()
        assert child.process.returncode == -signal.SIGPIPE

    trio.run(main)


def test_signal_after_the_end_goes_nowhere() -> None:
    """The number of the pidfd is somebody else's then."""
    child = Child("/bin/sh", "-c", "exit 0")

    async def main() -> None:
        await child.process.wait()
        assert await child.read_all() == b""
        child.process.send_signal(signal.SIGTERM)

    trio.run(main)


def test_terminate_is_polite_first() -> None:
    async def main() -> None:
        child = Child(
            "/bin/sh", "-c", 'trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 1 & wait; done'
        )
        assert await child.read_line() == b"ready\n"
        await child.process.terminate(60)
        assert child.process.returncode == 7
        assert await child.read_all() == b"bye\n"

    trio.run(main)


@pytest.mark.parametrize("session", [True, False])
def test_terminate_kills_the_whole_group_that_does_not_listen(session: bool) -> None:
    """Complaint 28: TERM, then KILL, and for the group: the pipe ends only when all of it are gone."""

    async def main() -> None:
        script = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 1000; done"
        child = Child("/bin/sh", "-c", script, session=session)
        await child.read_line()
        await child.process.terminate(0)
        assert child.process.returncode == -signal.SIGKILL
        assert await child.read_all() == b"", "the pipe ends when nobody of the group is left"

    trio.run(main)


def test_terminate_ends_one_that_leads_no_group() -> None:
    """A signal to the gateway's group, as when a reload overtakes another, may meet it before it does."""
    process = Process(os.posix_spawn("/bin/sleep", ["sleep", "60"], {}))
    with capture_logs() as logs:
        trio.run(process.terminate, 0)
    assert process.returncode in (-signal.SIGTERM, -signal.SIGKILL)
    assert logs == []


def test_terminate_after_the_end_kills_what_is_left_of_the_group() -> None:
    async def main() -> None:
        child = Child("/bin/sh", "-c", "sleep 1000 & echo $!")
        await child.read_line()
        await trio.lowlevel.wait_readable(child.process.open_pidfd())
        await child.process.terminate(60)
        assert child.process.returncode == 0
        assert await child.read_all() == b"", "the pipe ends when nobody of the group is left"

    trio.run(main)


def test_terminate_is_not_interrupted_by_cancellation() -> None:
    """Complaint 30: always reap, also after the client has gone."""

    async def main() -> None:
        child = Child("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done")
        await child.read_line()
        with trio.CancelScope() as scope:
            scope.cancel()
            await child.process.terminate(0)
        assert child.process.returncode == -signal.SIGKILL
        os.close(child.output)

    trio.run(main)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("missing", None, FileNotFoundError),
        ("not-executable", "#!/bin/sh\n", PermissionError),
        ("no-interpreter", "#!/no/such/interpreter\n", FileNotFoundError),
        ("no-program", "neither ELF nor a script", OSError),
    ],
)
def test_rejects_what_cannot_be_started(
    tmp_path: Path, name: str, content: str | None, error: type[OSError]
) -> None:
    program = tmp_path / name
    if content is not None:
        program.write_text(content)
        program.chmod(0o644 if name == "not-executable" else 0o755)
    with pytest.raises(error):
        Child(str(program))


def test_end_is_noticed_without_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        well = Child("/bin/sh", "-c", "exit 3", expected_to_end=True)
        stubborn = Child(
            "/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done", expected_to_end=True
        )
        assert await stubborn.read_line() == b"ready\n"
        with monkeypatch.context() as patched:
            patched.setattr(os, "pidfd_open", no_descriptor)
            assert await well.process.wait() == 3
            await stubborn.process.terminate(0)
        assert stubborn.process.returncode == -signal.SIGKILL
        assert await well.read_all() == await stubborn.read_all() == b""

    trio.run(main)


def no_descriptor(pid: int) -> int:
    raise OSError(24, "Too many open files")


def test_python_without_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was built with the headers of a Linux before 5.3 lacks the functions."""
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(signal, "pidfd_send_signal")

    async def main() -> None:
        child = Child("/bin/sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 1 & wait; done")
        assert await child.read_line() == b"ready\n"
        child.process.send_signal(signal.SIGTERM)
        assert await child.process.wait() == 7
        await child.read_all()
        child.process.send_signal(signal.SIGTERM)

    trio.run(main)
    for thread in threading.enumerate():
        if thread.name.startswith("end of "):
            thread.join()  # it closes its descriptor


def test_kills_the_child_if_no_descriptor_is_left_to_watch_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pidfd_open", no_descriptor)
    with pytest.raises(OSError, match="Too many open files"):
        Child("/bin/sleep", "1000")


def test_describe_end() -> None:
    assert describe_end(0) == "exit status 0"
    assert describe_end(-9) == "signal 9 (SIGKILL)"
    assert describe_end(-40) == "signal 40"
