"""The chat of `socketio_app` by Flask-SocketIO, in threads."""

import logging
from typing import Any

import socketio
from flask import Flask, request, session
from flask_socketio import SocketIO, disconnect, emit, join_room

# Its own logger writes to standard error by itself: also of clients that leave while they are answered.
quiet = logging.getLogger("quiet")
quiet.setLevel(logging.CRITICAL)
app = Flask(__name__)
app.secret_key = "not a secret"
io = SocketIO(app, async_mode="threading", logger=quiet, engineio_logger=quiet)


@io.on("connect")
def connect(auth: Any) -> None:
    if not auth or "name" not in auth:
        raise socketio.exceptions.ConnectionRefusedError("who are you?")
    session["name"], session["agent"] = auth["name"], request.headers["X-Agent"]
    join_room("chat")
    emit("came", auth["name"], room="chat", include_self=False)


@io.event
def echo(*values: Any) -> Any:
    """The answer is the acknowledgement."""
    return values


@io.event
def agent() -> str:
    return str(session["agent"])


@io.event
def say(text: Any) -> None:
    emit("said", {"name": session["name"], "text": text}, room="chat")


@io.event
def leave() -> None:
    disconnect()


@io.on("disconnect")
def disconnected(reason: str) -> None:
    emit("left", session["name"], room="chat", include_self=False)
