"""A trio loop in a thread of its own, so that what takes long to start serves many tests."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from queue import Queue
from typing import TypeVar

import trio

from tests.gateway.served import Served, read_all

T = TypeVar("T")


@contextmanager
def in_thread(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """What *make* gives, entered in a new loop; it is left, and the loop ended, with this context."""
    ready: Queue[tuple[T, trio.lowlevel.TrioToken] | BaseException] = Queue()
    stop = trio.Event()
    failures: list[BaseException] = []

    async def main() -> None:
        async with make() as made:
            ready.put((made, trio.lowlevel.current_trio_token()))
            await stop.wait()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as error:  # raised again in the thread of the tests
            failures.append(error)
            ready.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    started = ready.get()
    if isinstance(started, BaseException):
        thread.join()
        raise started
    made, token = started
    try:
        yield made
    finally:
        if not failures:
            token.run_sync_soon(stop.set)
        thread.join()
    if failures:
        raise failures[0]


async def ask_and_close(served: Served, sent: bytes) -> bytes:
    """All that a client gets that sends this and closes its side."""

    async def send(client: trio.SocketStream) -> None:
        await client.send_all(sent)
        await client.send_eof()

    async with await served.connect() as client, trio.open_nursery() as nursery:
        nursery.start_soon(send, client)
        return await read_all(client)
    raise AssertionError("a nursery swallows nothing")
