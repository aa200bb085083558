"""The contract of `rows.py` by Falcon, on WSGI."""

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import falcon
from falcon import Request, Response

go = threading.Event()
both = threading.Barrier(2)


class Item:
    def on_get(self, req: Request, resp: Response, number: int) -> None:
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
    def on_post(self, req: Request, resp: Response) -> None:
        resp.media = req.get_media()


class Json:
    def on_post(self, req: Request, resp: Response) -> None:
        resp.media = {"got": req.get_media()}


class Upload:
    def on_post(self, req: Request, resp: Response) -> None:
        for part in req.get_media():
            sha256, size = hashlib.sha256(), 0
            while piece := part.stream.read(65536):
                sha256.update(piece)
                size += len(piece)
            resp.media = {"name": part.filename, "size": size, "sha256": sha256.hexdigest()}


class Login:
    def on_post(self, req: Request, resp: Response) -> None:
        # Cookies of Falcon are ASCII.
        name = req.get_media()["name"].encode().hex()
        resp.set_cookie("session", name, secure=False)
        raise falcon.HTTPSeeOther(f"{req.root_path}/whoami")


class WhoAmI:
    def on_get(self, req: Request, resp: Response) -> None:
        name = req.cookies.get("session")
        resp.media = {"name": name and bytes.fromhex(name).decode()}


class Stream:
    def on_get(self, req: Request, resp: Response) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"first,"
            go.wait(60)
            yield b"second"

        go.clear()
        resp.content_type = "text/plain"
        resp.stream = pieces()


class Go:
    def on_get(self, req: Request, resp: Response) -> None:
        go.set()
        resp.text = "gone"


class Fail:
    def on_get(self, req: Request, resp: Response) -> None:
        raise RuntimeError("this view is broken")


class Together:
    def on_get(self, req: Request, resp: Response) -> None:
        """Answers only when two requests are here at the same time."""
        both.wait(60)
        resp.media = {"main": threading.current_thread() is threading.main_thread()}


app: Any = falcon.App()
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
    "/together": Together(),
}.items():
    app.add_route(path, resource)
