"""gateway.spawn, with real processes on real sockets."""

import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.errors import BackendError, Cause, Phase, StartError
from gateway.programs.restarts import FIRST_PAUSE, LONGEST_PAUSE
from gateway.shutdown.notice import ShutdownNotice
from gateway.spawn import Processes, Recycling, SpawnedApplication
from gateway.spawn.processes import RESTART_PATIENCE
from tests.gateway.served import LAST_GET, gateway_of, response

# Accepts on descriptor 0 and answers each connection with its number and a line of its own.
SERVER = """
import os, socket, sys
listener = socket.socket(fileno=0)
while True:
    connection, _ = listener.accept()
    with connection:
        command = connection.makefile().readline()
        exec(command)
"""


def python(script: str) -> list[str]:
    return [sys.executable, "-u", "-c", script]


def exactly(number: int) -> Processes:
    return Processes(number, number, spare=0, idle_time=60.0)


def spawned(command: list[str] | None = None, **options: Any) -> SpawnedApplication:
    """An application with *options* in place of what most tests want."""
    usual: dict[str, Any] = {
        "processes": exactly(1),
        "directory": ".",
        "virtualenv": None,
        "env": {},
        "pass_env": None,
        "user": None,
        "limits": None,
        "startup_time": 60,
        "stop_time": 60,
        "give_up": None,
        "recycling": Recycling(
            max_requests=0, max_requests_jitter=0, max_age=0.0, max_age_jitter=0.0, max_memory=0
        ),
        "notice": ShutdownNotice(),
    }
    return SpawnedApplication("blog", protocol="scgi", command=command, **{**usual, **options})


async def running(application: SpawnedApplication, test: Callable[[], Awaitable[None]]) -> None:
    """Run *test* while *application* runs."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(application.run)
            await test()
            nursery.cancel_scope.cancel()


async def ask(application: SpawnedApplication, command: str) -> bytes:
    """What one of the processes writes to the connection when it runs *command*."""
    stream = await trio.open_unix_socket(path_of(application))
    async with stream:
        await stream.send_all(command.encode() + b"\n")
        answer = b""
        try:
            async for piece in stream:
                answer += piece
        except trio.BrokenResourceError:  # it died while it was being asked
            pass
        return answer


def path_of(application: SpawnedApplication) -> str:
    return str(application.address).removeprefix("unix:")


def events(logs: list[Any], event: str) -> list[Any]:
    return [entry for entry in logs if entry["event"] == event]


PID = "connection.sendall(str(os.getpid()).encode())"


def test_processes_accept_on_descriptor_0(tmp_path: Path) -> None:
    """FCGI-23."""
    application = spawned(python(SERVER), processes=exactly(2), directory=tmp_path, env={"COLOUR": "grün"})

    async def test() -> None:
        path = path_of(application)
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        facts = "repr((os.getcwd(), os.environ['COLOUR'], listener.getsockopt(1, 30))).encode()"
        facts = f"connection.sendall({facts})"
        assert await ask(application, facts) == repr((str(tmp_path), "grün", 1)).encode()

    trio.run(running, application, test)


def test_processes_share_the_socket() -> None:
    application = spawned(python(SERVER), processes=exactly(2))

    async def test() -> None:
        # One process is kept busy, so the other must answer.
        first = await trio.open_unix_socket(path_of(application))
        async with first:
            await first.send_all(f"{PID}; connection.recv(1)\n".encode())
            pid = await first.receive_some()
            assert await ask(application, PID) != pid

    trio.run(running, application, test)


def test_second_signal_to_the_gateway_ends_the_wait_for_a_process() -> None:
    """caddy#3818: whatever time it has been given, and does not use."""
    notice = ShutdownNotice()
    script = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN){SERVER}"
    application = spawned(python(script), stop_time=3600, notice=notice)

    async def test() -> None:
        assert await ask(application, PID)
        notice.cut_off()

    trio.run(running, application, test)


def test_process_inherits_nothing_else() -> None:
    """Complaint 29; the gateway's sockets are not the application's."""
    command = python(
        SERVER.replace("while True", "descriptors = sorted(os.listdir('/proc/self/fd'))\nwhile True")
    )
    application = spawned(command)

    async def test() -> None:
        answer = await ask(application, "connection.sendall(' '.join(descriptors).encode())")
        assert answer == b"0 1 2 3"  # 3: the listing

    with socket.socket() as other:
        other.set_inheritable(True)
        trio.run(running, application, test)


def test_environment_is_ours_without_what_speaks_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("FLAVOUR", "sweet")
    application = spawned(python(SERVER))

    async def test() -> None:
        names = ("NOTIFY_SOCKET", "LISTEN_FDS", "FLAVOUR")
        command = f"connection.sendall(repr([os.environ.get(n) for n in {names}]).encode())"
        assert await ask(application, command) == b"[None, None, 'sweet']"

    trio.run(running, application, test)


def test_output_is_logged_by_line() -> None:
    script = "import sys; print('one\\ntwo'); sys.stderr.write('thr'); sys.stderr.write('ee\\nlast')" + SERVER
    application = spawned(python(script))

    async def test() -> None:
        await ask(application, PID)

    with capture_logs() as logs:
        trio.run(running, application, test)
    lines = {(entry["stream"], entry["line"]) for entry in events(logs, "application output")}
    assert lines == {("stdout", "one"), ("stdout", "two"), ("stderr", "three"), ("stderr", "last")}
    (started,) = events(logs, "application process started")
    for entry in events(logs, "application output"):
        assert (entry["backend"], entry["pid"]) == ("blog", started["pid"])


def test_all_that_a_process_has_written_is_logged_when_it_ends() -> None:
    """What was behind the first part of it was lost, and with it the reason."""
    application = spawned(python(SERVER))

    async def test() -> None:
        await ask(application, PID)
        pid = application.pool.members[0].running.pid
        stream = await trio.open_unix_socket(path_of(application))
        await stream.send_all(b"os.write(2, b'.' * 60000 + b'\\nthe reason\\n'); os._exit(3)\n")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - so nothing is read meanwhile
        while application.pool.last_end != "exit status 3":
            await application.pool.changed.wait()
        await stream.aclose()

    with capture_logs() as logs:
        trio.run(running, application, test)
    assert [entry["line"] for entry in events(logs, "application output")][-1] == "the reason"


def test_process_that_dies_is_started_again() -> None:
    """Connections wait in the backlog meanwhile: none is refused."""
    application = spawned(python(SERVER))

    async def test() -> None:
        first = await ask(application, PID)
        assert await ask(application, "os._exit(3)") == b""
        second = await ask(application, PID)
        assert second.isdigit()
        assert second != first
        assert await ask(application, "os.kill(os.getpid(), 9)") == b""
        assert (await ask(application, PID)).isdigit()

    with capture_logs() as logs:
        trio.run(running, application, test)
    ends = events(logs, "application process ended")
    assert [entry["end"] for entry in ends] == ["exit status 3", "signal 9 (SIGKILL)"]
    assert [entry["restart_in"] for entry in ends] == [FIRST_PAUSE, 2 * FIRST_PAUSE]


def test_program_that_vanishes_is_waited_for(tmp_path: Path) -> None:
    program = tmp_path / "program"

    def install() -> None:
        program.write_text(f"#!{sys.executable} -u\n{SERVER}")
        program.chmod(0o755)

    def follow(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if entry["event"] == "application process cannot be started":
            failed.set()
        return entry

    install()
    failed = trio.Event()
    application = spawned([str(program)])

    async def test() -> None:
        first = await ask(application, "os.remove(sys.argv[0]); " + PID)
        assert await ask(application, "os._exit(0)") == b""
        await failed.wait()
        install()
        assert (await ask(application, PID)) != first

    with capture_logs(processors=[follow]) as logs:
        trio.run(running, application, test)
    (failure, *_) = events(logs, "application process cannot be started")
    assert "No such file" in failure["cause"]


def test_one_that_is_to_be_stopped_and_has_ended_by_itself_is_not_in_the_way_of_the_next() -> None:
    """As programs end that count their requests: then two are stopped at the same time."""
    processes = Processes(least=1, most=3, spare=0, idle_time=0.0)
    application = spawned(python(SERVER), processes=processes, stop_time=0.2)

    async def test() -> None:
        pool = application.pool

        async def until(condition: Callable[[], bool]) -> None:
            while not condition():
                await pool.changed.wait()

        for _ in range(3):
            await application.enter()
        await until(lambda: sum(member.ready for member in pool.members) == 3)
        application.leave()
        application.leave()
        pool.changed.set()
        await until(lambda: any(member.stopping for member in pool.members))
        (stopping,) = (member for member in pool.members if member.stopping)
        os.kill(stopping.running.pid, signal.SIGKILL)
        await until(lambda: len(pool.members) == 1)
        await application.enter()
        application.leave()
        application.leave()

    trio.run(running, application, test)


def test_stop_is_polite_and_waits(tmp_path: Path) -> None:
    """FCGI-24."""
    polite = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(0)))"
    application = spawned(python(polite + SERVER), processes=exactly(2))

    async def test() -> None:
        assert await ask(application, PID)

    with capture_logs() as logs:
        trio.run(running, application, test)
    pids = {entry["pid"] for entry in events(logs, "application output") if entry["line"] == "bye"}
    answered = {entry["pid"] for entry in events(logs, "application process started")}
    assert pids, "at least the one that has answered had its handler in place"
    assert pids <= answered


def test_stop_kills_what_does_not_listen() -> None:
    """With its group: the test ends only if nobody keeps the pipes open."""
    deaf = "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    deaf += "subprocess.Popen(['sleep', '1000']);"
    application = spawned(python(deaf + SERVER), stop_time=0)

    async def test() -> None:
        assert await ask(application, PID)

    trio.run(running, application, test)


@pytest.mark.parametrize("deaf", [False, True])
def test_process_that_does_not_end_in_its_time_is_named(deaf: bool) -> None:
    """Whoever waits for the end is to know for whom."""
    script = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN){SERVER}" if deaf else SERVER
    application = spawned(python(script), stop_time=0.1 if deaf else 3600)

    async def test() -> None:
        assert await ask(application, PID)

    with capture_logs() as logs:
        trio.run(running, application, test)
    (started,) = events(logs, "application process started")
    killed = [
        (entry["backend"], entry["pid"])
        for entry in events(logs, "application process does not end: it is killed")
    ]
    assert killed == ([("blog", started["pid"])] if deaf else [])


@pytest.mark.parametrize(
    ("command", "directory", "problem"),
    [
        (["/no/such/program"], "/", r"blog: /no/such/program: no such command"),
        (["no-such-program-anywhere"], "/", r"no-such-program-anywhere: no such command"),
        (["./app"], "/", r"/\./app: no such command"),
        (["/etc/passwd"], "/", r"not executable"),
        (["sh"], "/no/such/directory", r"/no/such/directory: no such directory"),
    ],
)
def test_rejects_what_cannot_be_started(command: list[str], directory: str, problem: str) -> None:
    async def main() -> None:
        with pytest.raises(StartError, match=problem):
            await spawned(command, directory=directory).run()

    trio.run(main)


def test_rejects_a_program_without_interpreter(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)

    async def main() -> None:
        with pytest.raises(
            StartError, match="cannot be started: the interpreter in its first line does not exist"
        ):
            await spawned([str(program)], processes=exactly(3)).run()

    trio.run(main)


def test_rejects_a_directory_that_is_too_long_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))

    async def main() -> None:
        with pytest.raises(StartError, match="AF_UNIX path too long"):
            await spawned(python(SERVER)).run()

    trio.run(main)
    assert list(deep.iterdir()) == []


# ---- what backends ask

DYING = ["/bin/sh", "-c", "echo the password is wrong >&2; exit 3"]


@pytest.mark.parametrize("kind", ["fastcgi", "scgi", "uwsgi"])
def test_application_that_keeps_dying_is_a_503(kind: str) -> None:
    """H-18: while no process is alive and the next is far, requests do not wait for one: neither those that
    are in the backlog already, nor those that come.
    """
    config = {
        "debug": True,
        "backends": {"app": {kind: {"spawn": {"command": DYING}}}},
        "routes": [{"backend": "app"}],
    }

    async def main() -> None:
        async with gateway_of(config) as served:
            for _ in range(3):
                found = response(await served.ask(LAST_GET))
                assert found.status == 503
                assert 1 <= int(found.headers["retry-after"]) <= LONGEST_PAUSE
                assert "error=destination_unavailable" in found.headers["proxy-status"]
                assert b"exit status 3" in found.body
                assert b"the password is wrong" in found.body

    with capture_logs() as logs:
        trio.run(main)
    assert [entry["phase"] for entry in events(logs, "backend failed")] == ["spawn"] * 3


def test_application_that_recovers_is_asked_again(tmp_path: Path) -> None:
    """It dies four times, until the pause is long, and serves then."""
    counter = tmp_path / "starts"
    script = f"import os; path = {str(counter)!r}; open(path, 'a').write('.')\n"
    script += "if os.path.getsize(path) < 5: os._exit(3)\n" + SERVER
    application = spawned(python(script))

    async def test() -> None:
        refused: BackendError | None = None
        while refused is None:
            try:
                await application.enter()
                application.leave()
            except BackendError as error:
                refused = error
            await trio.lowlevel.checkpoint()
        assert (refused.cause, refused.phase) == (Cause.UNAVAILABLE, Phase.SPAWN)
        assert refused.retry_after is not None
        assert RESTART_PATIENCE < refused.retry_after <= LONGEST_PAUSE
        assert (await ask(application, PID)).isdigit()
        await application.enter()
        application.leave()

    trio.run(running, application, test)


def test_one_process_of_several_is_enough() -> None:
    application = spawned(python(SERVER), processes=exactly(2))

    async def test() -> None:
        await ask(application, "os._exit(3)")
        await application.enter()
        application.leave()
        assert (await ask(application, PID)).isdigit()

    trio.run(running, application, test)


def test_last_lines_explain_a_failure() -> None:
    application = spawned(python("import sys; sys.stderr.write('a hint\\n')" + SERVER))
    late = BackendError(Cause.READ_TIMEOUT, "late", backend="blog", address="unix:/x", phase=Phase.FIRST_BYTE)

    async def test() -> None:
        while not late.last_words:
            assert application.explain(late) is late
            await trio.lowlevel.checkpoint()

    trio.run(running, application, test)
    assert late.last_words == ["a hint"]


def test_address_is_known_before_the_start() -> None:
    application = spawned(["sh"])
    assert path_of(application).startswith(f"{tempfile.gettempdir()}/gateway-")
    assert application.address != spawned(["sh"]).address
