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
    """What `state.WorkerState.describe` says. Raises ControlError."""
    described = json.loads(_ask(path, "GET", "/status"))
    assert isinstance(described, dict)
    return described


def reload(path: Path) -> tuple[list[str], int]:
    """Tell the daemon to reload, and wait: why it failed, and the exit status. Raises ControlError."""
    answer = json.loads(_ask(path, "POST", "/reload", patience=None, accepted=409))
    return answer["reasons"], answer["status"]


def stop(path: Path) -> None:
    """Tell the daemon to stop. Raises ControlError."""
    _ask(path, "POST", "/stop")


def _ask(
    path: Path, method: str, target: str, *, patience: float | None = PATIENCE, accepted: int = 200
) -> bytes:
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
    if response.status >= 300 and response.status != accepted:
        raise ControlError(f"the daemon on {path} answers {response.status}")
    return body
