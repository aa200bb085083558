"""One process at a time has an address: who waits for it is seen, and sees when it is free."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest

from gateway import turns
from gateway.net.address import TcpAddress
from gateway.spawn.endpoint import OwnSocket
from gateway.spawn.turn import turn_at
from tests.gateway.test_daemon import ROOT

# Does with its turn what it is told, and tells what has come of it.
PROGRAM = """
import os, signal, sys
from gateway import turns
from gateway.spawn.turn import turn_at

turns.share(int(sys.argv[1]))
turn = turn_at(sys.argv[2])

def fork():
    pid = os.fork()
    if not pid:
        signal.pause()
    return pid

for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Worker:
    """Another process, which has a turn at *address*."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def does(self, what: str) -> object:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return eval(self.process.stdout.readline())

    def takes(self) -> object:
        return self.does("turn.take()")


@contextmanager
def worker(descriptor: int, address: str = "here") -> Iterator[Worker]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(descriptor), address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        pass_fds=[descriptor],
        text=True,
    ) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()


def _forbidden(*_: object) -> NoReturn:
    raise PermissionError(errno.EPERM, "memfd_create")


@pytest.fixture(params=["memory", "a file"])
def descriptor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    if request.param == "a file":
        monkeypatch.setattr(os, "memfd_create", _forbidden)
    with turns.make() as file:
        yield file.fileno()


def test_one_has_it_until_it_is_released(descriptor: int) -> None:
    with worker(descriptor) as ours, worker(descriptor) as theirs, worker(descriptor, "there") as elsewhere:
        assert ours.takes()
        assert not theirs.takes()
        assert elsewhere.takes()
        ours.does("turn.release()")
        ours.does("turn.release()")
        assert theirs.takes()
        assert not ours.takes()


def test_supervisors_share_nothing(descriptor: int) -> None:
    with turns.make() as another, worker(descriptor) as ours, worker(another.fileno()) as theirs:
        assert ours.takes()
        assert theirs.takes()


def test_who_waits_is_seen_until_it_does_not_wait_any_more(descriptor: int) -> None:
    with worker(descriptor) as ours, worker(descriptor) as theirs, worker(descriptor) as third:
        assert ours.takes()
        assert not ours.does("turn.wanted")
        assert not theirs.takes()
        assert not third.takes()
        assert ours.does("turn.wanted")
        assert ours.does("turn.wanted")  # looking changes nothing
        assert not third.does("turn.take(waits=False)")
        assert ours.does("turn.wanted")
        theirs.process.kill()
        theirs.process.wait()
        assert not ours.does("turn.wanted")
        assert not third.takes()
        assert ours.does("turn.wanted")
        ours.does("turn.release()")
        assert third.takes()
        assert not third.does("turn.wanted")


def test_who_waits_sees_when_another_was_faster(descriptor: int) -> None:
    with worker(descriptor) as ours, worker(descriptor) as theirs, worker(descriptor) as third:
        assert ours.takes()
        assert not theirs.takes()
        assert not third.takes()
        ours.does("turn.release()")
        assert not theirs.does("turn.passed_on")
        assert third.takes()
        assert not theirs.takes()
        assert theirs.does("turn.passed_on")


def test_what_a_process_forks_does_not_have_it(descriptor: int) -> None:
    """It may stay for longer than the worker."""
    with worker(descriptor) as ours, worker(descriptor) as theirs:
        assert ours.takes()
        children = [ours.does("fork()")]
        try:
            ours.does("turn.release()")
            assert theirs.takes()
            theirs.does("turn.release()")
            assert ours.takes()
            children.append(ours.does("fork()"))
            ours.process.kill()
            ours.process.wait()
            assert theirs.takes()
        finally:
            for child in children:
                assert isinstance(child, int)
                os.kill(child, 9)


def test_it_is_free_when_the_process_that_has_it_ends(descriptor: int) -> None:
    """Whichever way."""
    with worker(descriptor) as ours, worker(descriptor) as theirs:
        assert ours.takes()
        assert not theirs.takes()
        ours.process.kill()
        ours.process.wait()
        assert theirs.takes()


def test_programs_do_not_inherit_the_file(descriptor: int) -> None:
    with worker(descriptor) as ours:
        assert ours.does(f"os.get_inheritable({descriptor})") is False


def test_one_process_alone_has_no_turns() -> None:
    address = TcpAddress("127.0.0.1", 1)
    assert turn_at(address) is None
    assert OwnSocket(address).turn is None
