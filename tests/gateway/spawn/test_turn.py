"""One at a time has an address: who waits for it is seen, and sees when it is free."""

import os
import subprocess
import sys

import trio
import trio.testing

from gateway.net.address import TcpAddress
from gateway.spawn.turn import Turn

ADDRESS = TcpAddress("127.0.0.1", 1)


def test_one_has_it_until_it_is_released() -> None:
    ours, theirs, elsewhere = Turn(ADDRESS), Turn(ADDRESS), Turn(TcpAddress("127.0.0.1", 2))
    assert ours.take()
    assert not theirs.take()
    assert elsewhere.take()
    assert (ours.is_ours, theirs.is_ours) == (True, False)
    ours.release()
    ours.release()
    assert theirs.take()
    theirs.release()
    elsewhere.release()


def test_who_waits_is_seen_and_sees_when_it_is_free() -> None:
    async def main() -> None:
        ours, theirs = Turn(ADDRESS), Turn(ADDRESS)
        assert ours.take()
        async with trio.open_nursery() as nursery:

            async def give_way() -> None:
                await ours.until_wanted()
                seen.append("wanted")
                await trio.testing.wait_all_tasks_blocked()
                seen.append("released")
                ours.release()

            nursery.start_soon(give_way)
            await trio.testing.wait_all_tasks_blocked()
            while not theirs.take():
                await theirs.until_free()
            seen.append("taken")
        theirs.release()

    seen: list[str] = []
    trio.run(main)
    assert seen == ["wanted", "released", "taken"]


def test_who_has_given_up_does_not_count() -> None:
    async def main() -> None:
        ours, theirs = Turn(ADDRESS), Turn(ADDRESS)
        assert ours.take()
        for _ in range(100):  # more than can wait
            with trio.CancelScope() as scope:
                scope.deadline = trio.current_time() + 0.001
                await theirs.until_free()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.until_wanted)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            while nursery.child_tasks:  # also one that could not even be seen
                with trio.move_on_after(0.1):
                    await theirs.until_free()
        ours.release()

    trio.run(main)


def test_it_is_free_when_the_process_that_has_it_ends() -> None:
    """Whichever way."""
    code = (
        "import os, sys, time; from gateway.spawn.turn import Turn\n"
        f"os.getppid = lambda: {os.getppid()}\n"
        "turn = Turn('here'); print(turn.take(), flush=True); time.sleep(600)"
    )

    async def main(process: "subprocess.Popen[bytes]") -> None:
        turn = Turn("here")
        assert not turn.take()
        async with trio.open_nursery() as nursery:

            async def take() -> None:
                while not turn.take():
                    await turn.until_free()

            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            process.kill()
        turn.release()

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"True\n"
            trio.run(main, process)
        finally:
            process.kill()
