"""What a process is started with: the kind of the application and its options, as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

from gateway.backend import Backend
from gateway.backends.python import Kind, Options
from gateway.net.pump import Pump
from gateway.shutdown.notice import ShutdownNotice
from gateway.virtualenv import stand_in


def encode(
    kind: Kind,
    options: Options,
    *,
    disconnect_grace: float,
    blocked_after: float,
    stop_time: float,
    debug: bool,
) -> str:
    """For the command line. Secrets do not belong there; variables come by the environment."""
    return json.dumps(
        {
            "kind": kind,
            "options": options,
            "disconnect_grace": disconnect_grace,
            "blocked_after": blocked_after,
            "stop_time": stop_time,
            "debug": debug,
        }
    )


@dataclass(frozen=True, slots=True)
class Hosted:
    """What `encode` was told.

    *disconnect_grace* is the seconds that an application has after it was told that its client has gone;
    *blocked_after* is in seconds, 0 for never (`gateway.runtime.watchdog`), *stop_time* those that the
    process has to end; *debug*: debug events are logged.
    """

    kind: Kind
    options: Options
    disconnect_grace: float
    blocked_after: float
    stop_time: float
    debug: bool

    @classmethod
    def decode(cls, text: str) -> "Hosted":
        return cls(**json.loads(text))

    def make_backend(self, name: str, pump: Pump, notice: ShutdownNotice) -> Backend:
        """The backend called *name*; *notice* is that of the end."""
        if (virtualenv := self.options["virtualenv"]) is not None:
            stand_in(Path(virtualenv))
        # The process has one application: what the other kind takes is not loaded.
        if self.kind == "asgi":
            from gateway.backends.asgi.from_options import make_asgi

            return make_asgi(name, self.options, pump, notice)
        from gateway.backends.wsgi.from_options import make_wsgi

        return make_wsgi(name, self.options, pump)
