"""The contract of `rows.py` by Tornado: a web server of its own, on the socket that is its descriptor 0.

`python tornado_app.py wsgi` has the Flask application in its WSGI container instead.
"""

import asyncio
import hashlib
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler, url
from tornado.websocket import WebSocketHandler
from tornado.wsgi import WSGIContainer

go = asyncio.Event()
release = asyncio.Event()
released = asyncio.Event()
closed = asyncio.Event()
codes: list[int | None] = []


class Item(RequestHandler):
    def get(self, number: str) -> None:
        link = self.reverse_url("item", number)
        self.set_cookie("seen", number)
        self.write(
            {
                "number": int(number),
                "q": self.get_argument("q"),
                "tag": self.request.headers["X-Tag"],
                "cookie": self.get_cookie("who"),
                "link": link,
                "absolute": f"{self.request.protocol}://{self.request.host}{link}",
            }
        )


class Form(RequestHandler):
    def post(self) -> None:
        # Tornado's own parser leaves empty fields out.
        self.write(dict(parse_qsl(self.request.body.decode(), keep_blank_values=True)))


class Json(RequestHandler):
    def post(self) -> None:
        self.write({"got": json.loads(self.request.body)})


class Upload(RequestHandler):
    def post(self) -> None:
        (file,) = self.request.files["f"]
        content = file["body"]
        sha256 = hashlib.sha256(content).hexdigest()
        self.write({"name": file["filename"], "size": len(content), "sha256": sha256})


class Login(RequestHandler):
    def post(self) -> None:
        self.set_signed_cookie("session", self.get_body_argument("name"))
        self.redirect(self.reverse_url("whoami"), status=303)


class WhoAmI(RequestHandler):
    def get(self) -> None:
        name = self.get_signed_cookie("session")
        self.write({"name": name and name.decode()})


class Stream(RequestHandler):
    async def get(self) -> None:
        go.clear()
        self.write("first,")
        await self.flush()
        await go.wait()
        self.write("second")


class Go(RequestHandler):
    def get(self) -> None:
        go.set()
        self.write("gone")


class Fail(RequestHandler):
    def get(self) -> None:
        raise RuntimeError("this view is broken")


class Background(RequestHandler):
    async def get(self) -> None:
        release.clear()
        released.clear()
        await self.finish("started")
        await release.wait()
        released.set()


class Release(RequestHandler):
    async def get(self) -> None:
        early = released.is_set()
        release.set()
        await released.wait()
        self.write("too early" if early else "done")


class Echo(WebSocketHandler):
    def select_subprotocol(self, subprotocols: list[str]) -> str:
        return subprotocols[0]

    def open(self) -> None:
        closed.clear()

    async def on_message(self, message: str | bytes) -> None:
        if message == "bye":
            self.close(4001, "it said bye")
        else:
            await self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        codes.append(self.close_code)
        closed.set()


class Closed(RequestHandler):
    async def get(self) -> None:
        await closed.wait()
        self.write({"code": codes[-1]})


class Refuse(WebSocketHandler):
    def prepare(self) -> None:
        self.send_error(403)


async def main(kind: str) -> None:
    application: Any
    if kind == "wsgi":
        application = WSGIContainer(import_module("flask_app").app, ThreadPoolExecutor())
    else:
        application = Application(
            [
                url("/items/([0-9]+)", Item, name="item"),
                ("/form", Form),
                ("/json", Json),
                ("/upload", Upload),
                ("/login", Login),
                url("/whoami", WhoAmI, name="whoami"),
                ("/stream", Stream),
                ("/go", Go),
                ("/fail", Fail),
                ("/background", Background),
                ("/background/release", Release),
                ("/echo", Echo),
                ("/closed", Closed),
                ("/refuse", Refuse),
            ],
            cookie_secret="not a secret",
        )
    listener = socket.socket(fileno=0)
    listener.setblocking(False)
    HTTPServer(application, xheaders=True).add_socket(listener)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
