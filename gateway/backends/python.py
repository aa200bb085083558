"""Python applications by what is said about them, as plain values: here, or in a process of their own.

The options are those of the backends' classes, as JSON has them; ``from_options`` of `gateway.backends.asgi`
and `gateway.backends.wsgi` makes the backends.
"""

from pathlib import Path
from typing import Any, Literal, TypeAlias

from gateway.backends.load import Surroundings

Kind: TypeAlias = Literal["asgi", "wsgi"]

Options: TypeAlias = dict[str, Any]


def take_surroundings(options: Options) -> Surroundings:
    """What *options* say of the surroundings, taken out of them."""
    virtualenv = options.pop("virtualenv")
    return Surroundings(None if virtualenv is None else Path(virtualenv), options.pop("env"))
