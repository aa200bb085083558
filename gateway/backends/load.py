"""Loads applications into the daemon.

Every mistake is a StartError of one line that names the backend and what to look at; the traceback of
an application's own code goes to the log.
"""

from pathlib import Path
from typing import Any

import structlog

from gateway.backend import StartError
from gateway.loading import LoadError, load_object

log = structlog.get_logger()


def load_application(target: str, *, directory: Path | None, factory: bool, backend: str) -> Any:
    """As `gateway.loading.load_object`; raises StartError."""
    try:
        return load_object(target, directory=directory, factory=factory)
    except LoadError as error:
        if error.own:
            # The traceback is the application's own, without the way through the gateway.
            log.error("application cannot be loaded", backend=backend, exc_info=error.__cause__)  # noqa: TRY400
        raise StartError(f"backend {backend}: {error}") from error
