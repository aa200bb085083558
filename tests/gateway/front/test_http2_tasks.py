"""Tasks that answer one stream after the other: nothing of a stream is left in its task."""

import pytest
import trio
import trio.testing

from gateway.front.entrance import Entrance
from gateway.front.http2.connection import TASKS_KEPT
from gateway.net.resumption import current_task
from gateway.request import Request, Responder, respond
from tests.gateway.http2_client import Client, entering, talking
from tests.gateway.served import Served, run, serving, until

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


def test_tasks_that_are_not_needed_end() -> None:
    """Beside a stream that stays open, and one that comes now and then, too."""
    clock = trio.testing.MockClock()  # which stands still: none ends but for a jump
    streams = 10
    running = 0

    async def answer(request: Request, responder: Responder) -> None:
        nonlocal running
        if request.path == "/stay":
            await trio.sleep_forever()
        if request.path == "/together":
            running += 1
            await until(lambda: running >= streams)
        await respond(responder, 200, [])

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.request("/stay")
        assert (await client.ask()).status == 200
        least = living()
        asked = [await client.request("/together") for _ in range(streams)]
        for stream_id in asked:
            assert (await client.answer(stream_id)).status == 200
        assert living() == least + streams - 1
        while living() > least:
            assert (await client.ask()).status == 200
            clock.jump(TASKS_KEPT)
            await trio.testing.wait_all_tasks_blocked()
        clock.jump(TASKS_KEPT)
        await until(lambda: living() == least - 1)
        assert (await client.ask()).status == 200

    talking(test, answer, seconds=600, clock=clock)


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


def test_pushed_stream_is_not_answered_within_the_step_that_promises_it() -> None:
    """That may be one of asyncio's: an application on trio would find itself in that loop."""
    seen: list[str] = []
    waiting = 0

    async def answer(request: Request, responder: Responder) -> None:
        nonlocal waiting
        if request.path == "/together":
            waiting += 1
            await until(lambda: waiting == 2)
        elif request.path == "/page":
            assert request.push is not None
            assert request.push(b"/pushed", [])
            seen.append("promised")
        else:
            seen.append(request.path)
        await respond(responder, 200, [])

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        for stream_id in [await client.request("/together") for _ in range(2)]:
            await client.answer(stream_id)
        page = await client.ask("/page")
        ((pushed, _),) = page.pushed
        assert (await client.answer(pushed)).status == 200

    talking(test, answer, settings={"enable_push": 1}, clock=trio.testing.MockClock())
    assert seen == ["promised", "/pushed"]


def test_nothing_is_pushed_when_the_connection_is_cancelled() -> None:
    """By a handler that takes its time to end."""
    pushed: list[bool] = []

    async def answer(request: Request, _responder: Responder) -> None:
        assert request.push is not None
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            pushed.append(request.push(b"/pushed", []))

    async def main() -> None:
        async with serving(answer) as served:
            async with entering(served) as entrance:
                client = Client(await served.connect())
                await client.begin(enable_push=1)
                await client.request()
                await until(lambda: bool(entrance.running()))
            await client.stream.aclose()

    run(main)
    assert pushed == [False]
