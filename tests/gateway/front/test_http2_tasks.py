"""Tasks that answer one stream after the other: nothing of a stream is left in its task."""

import pytest
import trio
import trio.testing

from gateway.front.entrance import Entrance
from gateway.front.http2.connection import TASKS_KEPT
from gateway.net.resumption import current_task
from gateway.request import Request, Responder, respond
from tests.gateway.http2_client import Client, talking
from tests.gateway.served import Served, until

pytestmark = pytest.mark.usefixtures("quick_sweeper")


def living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def test_streams_one_after_the_other_are_answered_by_one_task() -> None:
    tasks: list[object] = []

    async def answer(_request: Request, responder: Responder) -> None:
        tasks.append(current_task())
        await trio.lowlevel.checkpoint()
        await respond(responder, 200, [], b"answered")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        for _ in range(3):
            assert (await client.ask()).body == b"answered"

    talking(test, answer)
    assert len(tasks) == 3
    assert all(task is tasks[0] for task in tasks)


def test_streams_side_by_side_have_a_task_each_which_ends_when_the_client_asks_for_nothing() -> None:
    clock = trio.testing.MockClock(rate=1.0)
    streams = 10
    running = 0

    async def answer(request: Request, responder: Responder) -> None:
        nonlocal running
        if request.path != "/alone":
            running += 1
            await until(lambda: running >= streams)
        await respond(responder, 200, [])

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        assert (await client.ask("/alone")).status == 200
        without = living() - 1
        asked = [await client.request() for _ in range(streams)]
        for stream_id in asked:
            assert (await client.answer(stream_id)).status == 200
        assert living() == without + streams
        clock.jump(TASKS_KEPT)
        await until(lambda: living() == without)
        assert (await client.ask("/alone")).status == 200

    talking(test, answer, clock=clock)


def test_deadline_of_a_stream_that_was_reset_is_not_that_of_the_next_one() -> None:
    clock = trio.testing.MockClock(rate=1.0)
    told = trio.Event()
    begun = trio.Event()
    late = trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        if request.path == "/reset":
            responder.on_disconnect = told.set
            await told.wait()
        else:
            begun.set()
            await late.wait()
            await respond(responder, 200, [])

    async def test(client: Client, entrance: Entrance, served: Served) -> None:
        stream_id = await client.request("/reset")
        await until(lambda: bool(entrance.running()))
        client.h2.reset_stream(stream_id)
        await client.flush()
        await until(lambda: not entrance.running())
        waiting = await client.request()
        await begun.wait()
        clock.jump(2 * served.service.timeouts.disconnect_grace)
        await trio.testing.wait_all_tasks_blocked()
        late.set()
        assert (await client.answer(waiting)).status == 200

    talking(test, answer, clock=clock)


def test_stream_behind_one_that_was_cancelled_is_answered() -> None:
    async def answer(request: Request, responder: Responder) -> None:
        if request.path == "/reset":
            with trio.CancelScope(shield=True):
                await until(lambda: responder.disconnected)
            return  # before it has heard of it
        await trio.lowlevel.checkpoint()
        await respond(responder, 200, [])

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        for _ in range(2):
            stream_id = await client.request("/reset")
            await until(lambda: bool(entrance.running()))
            client.h2.reset_stream(stream_id)
            await client.flush()
            assert (await client.ask()).status == 200

    talking(test, answer)


def test_stream_that_is_reset_with_its_request_is_not_handled() -> None:
    """CVE-2023-44487: nobody is asked, whether a task waits for it or not."""
    paths: list[str] = []

    async def answer(request: Request, responder: Responder) -> None:
        paths.append(request.path)
        await respond(responder, 200, [])

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        for path in ("/first", "/second"):
            for _ in range(2):
                stream_id = client.h2.get_next_available_stream_id()
                head = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/reset")]
                client.h2.send_headers(stream_id, head, end_stream=True)
                client.h2.reset_stream(stream_id)
            await client.flush()
            assert (await client.ask(path)).status == 200

    talking(test, answer)
    assert paths == ["/first", "/second"]
