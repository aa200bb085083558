"""A chat by Socket.IO."""

import logging
from typing import Any

import socketio

# Its own logger writes to standard error by itself: also of clients that leave while they are answered.
quiet = logging.getLogger("quiet")
quiet.setLevel(logging.CRITICAL)
sio = socketio.AsyncServer(async_mode="asgi", logger=quiet, engineio_logger=quiet)
app = socketio.ASGIApp(sio, socketio_path="/socketio/socket.io")


@sio.event
async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
    if not auth or "name" not in auth:
        raise socketio.exceptions.ConnectionRefusedError("who are you?")
    await sio.save_session(sid, {"name": auth["name"], "agent": environ["HTTP_X_AGENT"]})
    await sio.enter_room(sid, "chat")
    await sio.emit("came", auth["name"], room="chat", skip_sid=sid)


@sio.event
async def echo(sid: str, *values: Any) -> Any:
    """The answer is the acknowledgement."""
    return values


@sio.event
async def agent(sid: str) -> str:
    return str((await sio.get_session(sid))["agent"])


@sio.event
async def say(sid: str, text: Any) -> None:
    name = (await sio.get_session(sid))["name"]
    await sio.emit("said", {"name": name, "text": text}, room="chat")


@sio.event
async def leave(sid: str) -> None:
    await sio.disconnect(sid)


@sio.event
async def disconnect(sid: str, reason: str) -> None:
    name = (await sio.get_session(sid))["name"]
    await sio.emit("left", name, room="chat", skip_sid=sid)
