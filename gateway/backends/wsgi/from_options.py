"""A WSGI backend of plain options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.backends.intake import BodyIntake
from gateway.backends.python import take_surroundings
from gateway.backends.wsgi.backend import WsgiBackend
from gateway.net.pump import Pump
from gateway.slots import Slots


def make_wsgi(name: str, options: Mapping[str, Any], pump: Pump, slots: Slots | None = None) -> WsgiBackend:
    """The WSGI backend called *name*."""
    given = dict(options)
    return WsgiBackend(
        name,
        pump=pump,
        directory=Path(given.pop("directory")),
        surroundings=take_surroundings(given),
        intake=BodyIntake(name, **given.pop("intake")),
        slots=slots,
        **given,
    )
