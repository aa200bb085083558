"""The contract of `rows.py` by Falcon, on ASGI."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import falcon.asgi
from falcon.asgi import Request, Response, WebSocket

go = asyncio.Event()
release = asyncio.Event()
released = asyncio.Event()
state: dict[str, str] = {}
closed = asyncio.Event()
codes: list[int | None] = []


class Lifespan:
    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        state["greeting"] = "from the start on asyncio"

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        Path("falcon-asgi-asyncio.ended").touch()


class Item:
    async def on_get(self, req: Request, resp: Response, number: int) -> None:
        resp.set_cookie("seen", str(number), secure=False)
        resp.media = {
            "number": number,
            "q": req.get_param("q", required=True),
            "tag": req.get_header("X-Tag", required=True),
            "cookie": req.cookies["who"],
            "link": f"{req.root_path}/items/{number}",
            "absolute": f"{req.prefix}/items/{number}",
        }


class Form:
    async def on_post(self, req: Request, resp: Response) -> None:
        resp.media = await req.get_media()


class Json:
    async def on_post(self, req: Request, resp: Response) -> None:
        resp.media = {"got": await req.get_media()}


class Upload:
    async def on_post(self, req: Request, resp: Response) -> None:
        async for part in await req.get_media():
            sha256, size = hashlib.sha256(), 0
            async for piece in part.stream:
                sha256.update(piece)
                size += len(piece)
            resp.media = {"name": part.filename, "size": size, "sha256": sha256.hexdigest()}


class Login:
    async def on_post(self, req: Request, resp: Response) -> None:
        # Cookies of Falcon are ASCII.
        name = (await req.get_media())["name"].encode().hex()
        resp.set_cookie("session", name, secure=False)
        raise falcon.HTTPSeeOther(f"{req.root_path}/whoami")


class WhoAmI:
    async def on_get(self, req: Request, resp: Response) -> None:
        name = req.cookies.get("session")
        resp.media = {"name": name and bytes.fromhex(name).decode()}


class Stream:
    async def on_get(self, req: Request, resp: Response) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first,"
            await go.wait()
            yield b"second"

        go.clear()
        resp.content_type = "text/plain"
        resp.stream = pieces()


class Go:
    async def on_get(self, req: Request, resp: Response) -> None:
        go.set()
        resp.text = "gone"


class Fail:
    async def on_get(self, req: Request, resp: Response) -> None:
        raise RuntimeError("this view is broken")


class Background:
    async def on_get(self, req: Request, resp: Response) -> None:
        async def work() -> None:
            await release.wait()
            released.set()

        release.clear()
        released.clear()
        resp.schedule(work)
        resp.text = "started"

    async def on_get_release(self, req: Request, resp: Response) -> None:
        early = released.is_set()
        release.set()
        await released.wait()
        resp.text = "too early" if early else "done"


class State:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.text = state["greeting"]


class Echo:
    async def on_websocket(self, req: Request, ws: WebSocket) -> None:
        """Text and bytes in turn: Falcon asks for the one or the other."""
        closed.clear()
        await ws.accept(subprotocol=ws.subprotocols[0])
        try:
            while (text := await ws.receive_text()) != "bye":
                await ws.send_text(text)
                await ws.send_data(await ws.receive_data())
            await ws.close(4001, "it said bye")
        except falcon.WebSocketDisconnected as gone:
            codes.append(gone.code)
            closed.set()

    async def on_get_closed(self, req: Request, resp: Response) -> None:
        await closed.wait()
        resp.media = {"code": codes[-1]}


class Refuse:
    async def on_websocket(self, req: Request, ws: WebSocket) -> None:
        await ws.close()


lifespan: Any = Lifespan()
app: Any = falcon.asgi.App(middleware=[lifespan])
for path, resource in {
    "/items/{number:int}": Item(),
    "/form": Form(),
    "/json": Json(),
    "/upload": Upload(),
    "/login": Login(),
    "/whoami": WhoAmI(),
    "/stream": Stream(),
    "/go": Go(),
    "/fail": Fail(),
    "/background": Background(),
    "/state": State(),
    "/echo": Echo(),
    "/refuse": Refuse(),
}.items():
    app.add_route(path, resource)
app.add_route("/background/release", Background(), suffix="release")
app.add_route("/closed", Echo(), suffix="closed")
