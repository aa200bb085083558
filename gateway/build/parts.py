"""What backends of all kinds, and routes, are made with, and what comes of it beside them."""

import secrets
from collections.abc import Sequence
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

from gateway.backend import Runnable
from gateway.config import Config
from gateway.config.backends.common import WithLength
from gateway.environ import variable_name
from gateway.front.service import Service
from gateway.net.pump import Pump
from gateway.request import Request, Responder
from gateway.shutdown.notice import ShutdownNotice
from gateway.slots import Slots
from gateway.template import Template

if TYPE_CHECKING:
    from gateway.backends.intake import BodyIntake
    from gateway.net.resolver import Resolver


class Parts:
    """What is the same for all backends and routes of a worker."""

    def __init__(self, config: Config, pump: Pump, notice: ShutdownNotice) -> None:
        """*notice* is that of the daemon's end."""
        self.config = config
        self.pump = pump
        self.notice = notice
        # RFC 9110 7.6.3: a pseudonym in Via; the random part is how this gateway recognises a loop.
        self.pseudonym = f"{config.via}-{secrets.token_hex(4)}"
        self.tunnel_timeout = config.timeouts.tunnel or inf
        """Seconds; infinity for none."""
        self.spawned: list[Runnable] = []
        """The applications that have to be started for backends."""
        self.slots: dict[str, Slots] = {}
        """By the name of a backend: how many requests it has at the same time, if it does not see to it."""
        self.service: Service
        """The whole service, which is made after the backends."""

    @cached_property
    def resolver(self) -> "Resolver":
        """One for all names that are looked up; without any it is not imported."""
        from gateway.net.resolver import Resolver

        return Resolver(self.config.resolver)

    async def dispatch(self, request: Request, responder: Responder) -> None:
        """Answer a local redirect."""
        await self.service.dispatch(request, responder)

    def intake(self, name: str, config: WithLength) -> "BodyIntake":
        """How the backend called *name* takes bodies."""
        from gateway.backends.intake import BodyIntake

        return BodyIntake(
            name,
            config.body,
            spool_memory=config.spool_memory,
            max_body=self.config.largest_body(config.max_body),
        )


def templates(variables: dict[str, str]) -> dict[str, Template]:
    """*variables* to be filled in for each request."""
    return {name: Template.parse(text) for name, text in variables.items()}


def droppable(headers: Sequence[str]) -> list[str]:
    """The variables of header fields that may be left out of a request that is too large."""
    return [name for name in map(variable_name, (header.encode("ascii") for header in headers)) if name]
