"""What supervisor and workers say to each other, while one of them ends."""

import socket

import trio
import trio.testing

from gateway.supervisor.channel import Channel
from tests.gateway.served import run


def test_nobody_hears_what_is_said_to_one_that_is_gone() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        async with Channel(ours) as channel:
            theirs.close()
            await channel.send(ask=1)

    run(main)


def test_nobody_hears_what_is_said_after_the_end() -> None:
    """Who asks for the state of all workers may meet one that ends at that moment: it was a 500."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            channel = Channel(ours)
            await channel.aclose()
            await channel.send(ask=1)

    run(main)


def test_what_waits_to_be_said_is_not_heard_when_the_channel_closes() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            channel = Channel(ours)
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(lambda: channel.send(text="x" * 16 * 1024 * 1024))
                await trio.testing.wait_all_tasks_blocked()
                await channel.aclose()

    run(main)
