"""Programs that are started for each request."""

import re

from gateway.backends.cgi import CgiBackend
from gateway.backends.cgi.exchange import ExchangeSettings
from gateway.backends.cgi.program import ProgramRules
from gateway.backends.cgi.transcript import Transcript
from gateway.build.parts import Parts, templates
from gateway.config.backends import cgi as models
from gateway.shutdown.signals import on_terminal
from gateway.slots import Slots


def make(parts: Parts, name: str, config: models.CGIBackend) -> CgiBackend:
    """The backend called *name*; nothing of it is started."""
    return CgiBackend(
        name,
        path=config.path,
        pump=parts.pump,
        settings=ExchangeSettings(
            timeout=config.timeout,
            kill_after=config.kill_after,
            confinement=config.confinement,
            catch_stderr=re.compile(config.catch_stderr) if config.catch_stderr else None,
            session=on_terminal(),
        ),
        slots=_slots(name, config),
        transcript=_transcript(config.transcript),
        variables=templates(config.variables),
        rules=ProgramRules(
            index=config.index,
            interpreters=config.interpreter,
            extensions=config.extensions,
            execute=config.execute,
            indexed_query=config.indexed_query,
        ),
        pass_env=config.pass_env,
        pass_authorization=config.pass_authorization,
        nph=config.nph,
        intake=parts.intake(name, config),
        dispatch=parts.dispatch,
    )


def _slots(name: str, config: models.CGIBackend) -> Slots | None:
    """For the programs."""
    if config.max_processes is None:
        return None
    return Slots(
        config.max_processes,
        queue=config.queue,
        queue_time=config.queue_time,
        backend=name,
        running="programs run, the most that max_processes allows",
    )


def _transcript(config: models.Transcript | None) -> Transcript | None:
    if config is None:
        return None
    return Transcript(str(config.file), size=config.size, always=config.always, excerpt=config.excerpt)
