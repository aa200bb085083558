"""Python applications by what is said about them, as plain values: here, or in a process of their own.

The options are those of the backends' classes, as JSON has them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from gateway.backends.asgi import AsgiBackend
from gateway.backends.asgi.websocket import WebSocketSettings
from gateway.backends.load import Surroundings
from gateway.backends.wsgi import WsgiBackend
from gateway.intake import BodyIntake
from gateway.notice import ShutdownNotice
from gateway.pump import Pump
from gateway.slots import Slots

Kind: TypeAlias = Literal["asgi", "wsgi"]

Options: TypeAlias = dict[str, Any]


def make_asgi(
    name: str, options: Mapping[str, Any], pump: Pump, notice: ShutdownNotice | None = None
) -> AsgiBackend:
    """The ASGI backend called *name*; *notice* is that of the daemon's end."""
    given = dict(options)
    return AsgiBackend(
        name,
        pump=pump,
        notice=notice,
        directory=Path(given.pop("directory")),
        surroundings=_surroundings(given),
        websocket=WebSocketSettings(**given.pop("websocket")),
        **given,
    )


def make_wsgi(name: str, options: Mapping[str, Any], slots: Slots | None = None) -> WsgiBackend:
    """The WSGI backend called *name*."""
    given = dict(options)
    return WsgiBackend(
        name,
        directory=Path(given.pop("directory")),
        surroundings=_surroundings(given),
        intake=BodyIntake(name, **given.pop("intake")),
        slots=slots,
        **given,
    )


def _surroundings(given: Options) -> Surroundings:
    virtualenv = given.pop("virtualenv")
    return Surroundings(None if virtualenv is None else Path(virtualenv), given.pop("env"))
