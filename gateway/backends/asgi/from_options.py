"""An ASGI backend of plain options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.backends.asgi.backend import AsgiBackend
from gateway.backends.asgi.settings import WebSocketSettings
from gateway.backends.python import take_surroundings
from gateway.net.pump import Pump
from gateway.shutdown.notice import ShutdownNotice


def make_asgi(name: str, options: Mapping[str, Any], pump: Pump, notice: ShutdownNotice) -> AsgiBackend:
    """The ASGI backend called *name*; *notice* is that of the daemon's end."""
    given = dict(options)
    return AsgiBackend(
        name,
        pump=pump,
        notice=notice,
        directory=Path(given.pop("directory")),
        surroundings=take_surroundings(given),
        websocket=WebSocketSettings(**given.pop("websocket")),
        **given,
    )
