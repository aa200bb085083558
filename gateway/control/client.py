"""The commands' end of the control socket."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final

PATIENCE: Final = 10.0
"""Seconds that a daemon may take to answer."""


class ControlError(Exception):
    """The daemon cannot be talked to; the message says why, for the operator."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, patience: float | None) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def status(path: Path) -> dict[str, Any]:
    """What `supervisor.all_workers` says. Raises ControlError."""
    return _read(path, _ask(path, "GET", "/status", 200), "workers")


def reload(path: Path) -> tuple[list[str], int]:
    """Tell the daemon to reload, and wait: why it failed, and the exit status. Raises ControlError."""
    answer = _read(path, _ask(path, "POST", "/reload", 200, 409, patience=None), "reasons", "status")
    return answer["reasons"], answer["status"]


def stop(path: Path) -> None:
    """Tell the daemon to stop. Raises ControlError."""
    _ask(path, "POST", "/stop", 202)


def _read(path: Path, answer: bytes, *keys: str) -> dict[str, Any]:
    """The mapping with *keys* that *answer* is, if a gateway has given it."""
    try:
        value = json.loads(answer)
    except ValueError:
        value = None
    if isinstance(value, dict) and value.keys() >= {*keys}:
        return value
    raise ControlError(f"what listens on {path} does not answer as a gateway does")


def _ask(path: Path, method: str, target: str, *accepted: int, patience: float | None = PATIENCE) -> bytes:
    connection = _UnixConnection(path, patience)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ControlError(f"no daemon listens on {path}: {error.strerror}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ControlError(f"the daemon on {path} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status not in accepted:
        raise ControlError(f"the daemon on {path} answers {response.status}")
    return body
