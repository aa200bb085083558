"""What applications do on an asyncio loop: each path does one thing, and answers what came of it."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aiohttp
import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
from asgiref.sync import async_to_sync, sync_to_async

Action = Callable[[Any], Coroutine[Any, Any, object]]

ACTIONS: dict[str, Action] = {}
LEFT: list[Any] = []
"""What is left running, to be ended with the loop."""

ASKED: contextvars.ContextVar[str] = contextvars.ContextVar("asked", default="nothing")


def action(function: Action) -> Action:
    ACTIONS["/" + function.__name__] = function
    return function


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    try:
        said = repr(await ACTIONS[scope["path"]](scope))
    except Exception as error:
        said = repr(error)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said.encode()})


# ---- clients


def own_url(scope: Any) -> str:
    host, port = scope["server"]
    return f"http://{host}:{port}/hello"


@action
async def hello(scope: Any) -> str:
    return "hello"


@action
async def with_aiohttp(scope: Any) -> list[str]:
    async with aiohttp.ClientSession() as session:

        async def get() -> str:
            async with session.get(own_url(scope)) as response:
                return await response.text()

        return await asyncio.gather(*(get() for _ in range(5)))


@action
async def with_httpx(scope: Any) -> list[str]:
    async with httpx.AsyncClient(trust_env=False) as client:
        return [
            response.text
            for response in await asyncio.gather(*(client.get(own_url(scope)) for _ in range(5)))
        ]


@action
async def with_a_protocol(scope: Any) -> str:
    """As drivers of databases do it (asyncpg): a protocol that resolves futures, and is paused."""

    size = 3_000_000

    class Doubling(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data * 2)

    class Asking(asyncio.Protocol):
        def __init__(self) -> None:
            self.received = bytearray()
            self.waiter: asyncio.Future[None] = loop.create_future()

        def data_received(self, data: bytes) -> None:
            self.received += data
            if len(self.received) == 2 * size:
                self.waiter.set_result(None)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Doubling, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Asking, *server.sockets[0].getsockname())
    transport.write(b"x" * size)
    async with asyncio.timeout(30):
        await protocol.waiter
    transport.close()
    server.close()
    await server.wait_closed()
    return f"{len(protocol.received)} bytes"


@action
async def with_a_subprocess(scope: Any) -> tuple[bytes, int | None]:
    process = await asyncio.create_subprocess_exec("sh", "-c", "cat; exit 3", stdin=-1, stdout=-1)
    output, _ = await process.communicate(b"x" * 100_000)
    return output[-1:], process.returncode


# ---- structure


@action
async def with_a_timeout(scope: Any) -> str:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        return "in time"
    return "never"


@action
async def with_a_task_group(scope: Any) -> list[str]:
    async def fail() -> None:
        raise ValueError("one")

    said: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(asyncio.Event().wait())
            group.create_task(fail())
    except* ValueError as errors:
        said = [*map(repr, errors.exceptions), str(waiting.cancelled())]
    return said


@action
async def with_anyio(scope: Any) -> list[str]:
    said: list[str] = []

    def in_thread() -> None:
        said.append(repr(anyio.from_thread.run(hello, scope)))

    with anyio.move_on_after(0.01) as cancelled:
        await anyio.sleep_forever()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, in_thread)
    return [*said, str(cancelled.cancelled_caught)]


@action
async def with_asgiref(scope: Any) -> tuple[str, bool]:
    """Django's way there and back: the inner coroutine runs on the loop that the thread came from."""

    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def plain() -> asyncio.AbstractEventLoop:
        return async_to_sync(where)()

    return "same loop", await sync_to_async(plain)() is asyncio.get_running_loop()


@action
async def with_a_context(scope: Any) -> list[str]:
    before = ASKED.get()
    ASKED.set("something")
    return [before, await asyncio.to_thread(ASKED.get)]


# ---- what it must not


@action
async def stop(scope: Any) -> None:
    asyncio.get_running_loop().stop()


@action
async def close(scope: Any) -> None:
    asyncio.get_running_loop().close()


@action
async def run_until_complete(scope: Any) -> None:
    asyncio.get_running_loop().run_until_complete(asyncio.get_running_loop().create_future())


@action
async def have_a_signal_handler(scope: Any) -> None:
    asyncio.get_running_loop().add_signal_handler(15, print)


@action
async def stop_from_a_thread(scope: Any) -> list[str]:
    loop = asyncio.get_running_loop()
    said: list[str] = []

    def misuse() -> None:
        for function in (loop.stop, loop.close, loop.run_forever):
            try:
                function()
            except RuntimeError as error:
                said.append(str(error))

    await asyncio.to_thread(misuse)
    return said


@action
async def fail_in_a_callback(scope: Any) -> None:
    def fail() -> None:
        raise ValueError("callback")

    asyncio.get_running_loop().call_soon(fail)


@action
async def fail_in_a_task(scope: Any) -> None:
    async def fail() -> None:
        raise ValueError("task")

    await asyncio.wait([asyncio.create_task(fail())])


@action
async def block_the_loop(scope: Any) -> None:
    threading.Event().wait(0.2)


# ---- what it leaves


@action
async def leave_everything(scope: Any) -> None:
    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            print("task cancelled", flush=True)

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            print("generator closed", flush=True)

    generator = numbers()
    await anext(generator)
    LEFT.extend([asyncio.create_task(forever()), generator])
    LEFT.append(asyncio.get_running_loop().run_in_executor(None, print, "thread ran"))


@action
async def leave_a_stuck_thread(scope: Any) -> None:
    LEFT.append(asyncio.get_running_loop().run_in_executor(None, threading.Event().wait))
