"""The configuration of applications that the gateway runs itself (`spawn:`)."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from gateway.config.base import Model, Place, written
from gateway.config.confined import Confined
from gateway.config.env_file import merged
from gateway.config.values.addresses import Connect
from gateway.config.values.files import Directory
from gateway.config.values.numbers import MOST_PROCESSES, Count, CountOrNone, Processes, ProcessesOrNone
from gateway.config.values.programs import (
    Command,
    EnvFile,
    Environment,
    ObjectName,
    PassedVariable,
    StopSignal,
    VirtualEnvironment,
)
from gateway.config.values.quantities import Duration, Limit, Timeout
from gateway.config.values.shapes import Many, Short
from gateway.config.wording import show


class SpawnedProcesses(Model):
    """How many processes there are: a number, or bounds between which they follow the requests."""

    min: ProcessesOrNone = 1
    """How many there are at least; 0: the first request starts one, and waits for it."""
    max: Processes = 1
    """How many there are at most; one is busy for each request that runs."""
    spare: ProcessesOrNone = 1
    """How many more than the busy ones are kept ready, while there are requests."""
    idle_time: Timeout = written("60s")
    """How long one that is not needed is kept."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        least, most = (data.get(key, cls.model_fields[key].default) for key in ("min", "max"))
        if isinstance(least, int) and isinstance(most, int) and least > most:
            yield ("max",), f"expected at least min ({least}), got {show(most)}"


class GiveUp(Model):
    """When processes that keep dying are not started again."""

    deaths: Count = 10
    """After so many of them ..."""
    within: Timeout = written("60s")
    """... within this time."""


class Supervised(Confined):
    """Processes that the gateway starts, restarts when they die, and stops."""

    processes: Annotated[
        SpawnedProcesses,
        Short(lambda value: _processes(value), {"type": "integer", "minimum": 1, "maximum": MOST_PROCESSES}),
    ] = written(1)
    """How many of them accept on the socket: a number, or a mapping with min and max."""
    pass_env: Annotated[tuple[PassedVariable, ...], Many()] | None = None
    """Names of the gateway's own variables that they get, LC_* for all that begin so; by default all."""
    stop_time: Duration = written("30s")
    """From the stop signal to SIGKILL, which the whole process group gets. After a second
    signal to the gateway at most 5 seconds are left."""
    give_up: GiveUp | None = None
    """When processes that keep dying are not started again; by default never."""
    max_requests: CountOrNone = 0
    """Requests after which a process is replaced; 0: any number."""
    max_requests_jitter: CountOrNone = 0
    """Up to so many more, by chance, so that processes are not all replaced together."""
    max_age: Duration = written(0)
    """The age at which a process is replaced; 0: any."""
    max_age_jitter: Duration = written(0)
    """Up to so much more, by chance."""
    max_memory: Limit | None = None
    """Resident memory of one process, without its children, at which it is replaced."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from super().contradictions(data)
        for jitter in ("max_requests_jitter", "max_age_jitter"):
            base = jitter.removesuffix("_jitter")
            if data.get(jitter) and not data.get(base):
                yield (jitter,), f"there is nothing to vary: expected {base}"


class SpawnedApp(Supervised):
    """An application of any kind in processes of its own."""

    command: Command | None = None
    """A program and its arguments; it gets its listening socket as file descriptor 0, or a place to open one
    by {socket} or {port}."""
    wsgi: ObjectName | None = None
    """A WSGI application, module:attribute, served in processes of its own."""
    address: Connect | None = None
    """Where a command listens that opens its own socket."""
    directory: Directory = written(".")
    """Their working directory, where modules are imported from; by default the directory of this file."""
    virtualenv: VirtualEnvironment | None = None
    """The virtual environment that they run in; its Python serves wsgi."""
    env: Environment = Field(default_factory=dict)
    """Variables added to their environment."""
    env_file: Annotated[tuple[EnvFile, ...], Many()] = ()
    """Files of NAME=VALUE lines (.env) that are added too; later files and env win."""
    startup_time: Timeout = written("60s")
    """To become ready; then a process is ended and counts as failed."""
    stop_signal: StopSignal = written("TERM")
    """What asks one process to finish its requests and end."""

    @property
    def variables(self) -> dict[str, str]:
        """All that is added to their environment."""
        return merged(*self.env_file, self.env)

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from super().contradictions(data)
        if ("command" in data) == ("wsgi" in data):
            yield (), f"expected exactly one of command or wsgi, got {'both' if 'wsgi' in data else 'none'}"
        if "wsgi" in data and "address" in data:
            yield ("address",), "a wsgi application listens where the gateway says: leave it out"
        own = _own_socket(data)
        processes = data.get("processes", 1)
        most = processes.get("max", 1) if isinstance(processes, dict) else processes
        if own and isinstance(most, int) and most > 1:
            yield ("processes",), f"a program with a socket of its own ({own}) is one process"


def _own_socket(data: dict[str, Any]) -> str:
    """What says that a program opens its own socket, or nothing."""
    if data.get("address") is not None:
        return "address"
    command, env = data.get("command"), data.get("env")
    words = [
        *(command if isinstance(command, list) else ()),
        *(env.values() if isinstance(env, dict) else ()),
    ]
    text = "\0".join(word for word in words if isinstance(word, str))
    return next((found for found in ("{socket}", "{port}") if found in text), "")


def _processes(value: Any) -> Any:
    if isinstance(value, dict | SpawnedProcesses):
        return value
    return {"min": value, "max": value, "spare": 0}


class Spawn(Model):
    """An application that the gateway runs itself."""

    spawn: SpawnedApp
    """The application to start and supervise."""
