"""`gateway serve` with several workers, with a control socket, or with --reload."""

import sys
from collections.abc import Callable

import trio

from gateway.config import Config
from gateway.config.document import Document
from gateway.errors import StartError
from gateway.logs.events import configure
from gateway.supervisor.all_workers import AllWorkers
from gateway.supervisor.control import ControlService
from gateway.supervisor.generation import WorkerError
from gateway.supervisor.supervisor import Supervisor
from gateway.supervisor.watch import Watched


def serve(
    document: Document,
    config: Config,
    read: Callable[[], Document],
    *,
    workers: int | None = None,
    watched: Watched | None = None,
) -> int:
    """Run the daemon until a signal ends it; the exit status of the command. `Supervisor` has the arguments.

    0 after a stop signal, 1 if something could not start or workers do not stay alive.
    """
    configure(debug=config.debug)

    async def run() -> None:
        supervisor = Supervisor(document, config, read, workers=workers, watched=watched)
        await supervisor.run(ControlService(AllWorkers(supervisor)))

    try:
        trio.run(run)
    except StartError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    except WorkerError as error:
        for reason in error.reasons:
            print(f"gateway: {reason}", file=sys.stderr)
        return error.status
    return 0
