"""Loads applications into the daemon.

Every mistake is a StartError of one line that names the backend and what to look at; it has the traceback of
an application's own code, for the log.

Applications of one process share what a process has: `sys.path`, `sys.modules`, `os.environ`. So what one of
them needs there is in place before it is imported; what two of them need differently is refused.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.backends.start_watch import StartWatch
from gateway.errors import StartError
from gateway.loading import LoadError, load_object
from gateway.runtime import forked
from gateway.runtime.standard_files import keep_standard_files
from gateway.shutdown.signals import interruptible
from gateway.virtualenv import add_site_packages


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an application needs of its process: packages of *virtualenv*, the variables *env*."""

    virtualenv: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)


_set: Final[dict[str, tuple[str, str]]] = {}
"""Variables that applications have set: their values, and whose they are."""


def load_application(
    target: str,
    *,
    directory: Path | None,
    factory: bool,
    backend: str,
    surroundings: Surroundings,
) -> Any:
    """As `gateway.loading.load_object`, with its *surroundings* in place first.

    Raises StartError, and Interrupted when a signal has said that the process is to stop.
    """
    try:
        _prepare(surroundings, backend)
        with StartWatch(backend, "loading", below=load_object):
            application = interruptible(lambda: _load(target, directory, factory=factory))
    except LoadError as error:
        forked.end_child(error.__cause__ or error)
        # The traceback is the application's own, without the way through the gateway.
        raised = error.__cause__ if error.own else None
        raise StartError(f"backend {backend}: {error}", backend=backend, raised=raised) from error
    finally:
        keep_standard_files()  # the application may have closed some
    forked.end_returned()
    return application


def _load(target: str, directory: Path | None, *, factory: bool) -> Any:
    application = load_object(target, directory=directory, factory=factory)
    _check_threads(target)
    return application


def _check_threads(target: str) -> None:
    """No threads can be started any more if they are green ones: the loop that would run them is not here.

    Without this the daemon would wait for the first of them for ever, and hear no signal.
    """
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        library = "gevent"
    elif eventlet is not None and eventlet.is_monkey_patched("thread"):
        library = "eventlet"
    else:
        return
    raise LoadError(
        f"{target} has {library} replace the threads of its process, which the gateway needs itself; "
        f"expected a server of its own, such as http: {{spawn: {{command: [gunicorn, -k, {library}, …]}}}}"
    )


def _prepare(surroundings: Surroundings, backend: str) -> None:
    for name, value in surroundings.env.items():
        owner, other = _set.get(name, (backend, value))
        if owner != backend and other != value:
            raise LoadError(
                f"the variable {name} has another value for backend {owner}, and applications inside one "
                "process share their environment: expected process: own for one of them"
            )
    for name, value in surroundings.env.items():
        _set[name] = backend, value
        os.environ[name] = value
    if surroundings.virtualenv is not None:
        try:
            add_site_packages(surroundings.virtualenv)
        except ValueError as error:
            raise LoadError(f"virtualenv: {error}") from error
