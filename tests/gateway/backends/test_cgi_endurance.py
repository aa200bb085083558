"""Hundreds of bad programs, bodies and clients in a row: nothing is left running, open or on the disk."""

import os
import random
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from structlog.testing import capture_logs

from gateway.backends.cgi import CgiBackend
from gateway.errors import ClientGone, GatewayError, RequestError
from gateway.net.pump import Pump
from gateway.programs.confinement import Confinement, ResourceLimits
from gateway.request import Request, Responder
from gateway.slots import Slots
from gateway.template import Template
from tests.gateway.backends.cgi_harness import make_backend, transcript
from tests.gateway.conftest import BytesBody, FailingBody, RecordingResponder, make_intake, make_request
from tests.gateway.served import pumping

ROUNDS: Final = 300

OK: Final = "printf 'Content-Type: text/plain\\n\\nhello'"

PROGRAMS: Final = {
    "well": OK,
    "well-reads": f"cat > /dev/null; {OK}",
    "echoes": "printf 'Content-Type: text/plain\\n\\n'; exec cat",
    "silent": "exit 3",
    "killed": f"{OK}; kill -9 $$",
    "stopped": f"{OK}; kill -STOP $$",
    "no-header": "echo no header; exec cat /dev/zero",
    "half-a-head": "printf 'Content-Type: text'; exec sleep 1000",
    "endless-head": "while :; do echo 'X-More: and more'; done",
    "endless-body": "printf 'Content-Type: text/plain\\n\\n'; exec cat /dev/zero",
    "endless-stderr": f"{OK}; exec cat /dev/zero >&2",
    "too-short": "printf 'Content-Type: text/plain\\nContent-Length: 10\\n\\nfive!'",
    "too-long": "printf 'Content-Type: text/plain\\nContent-Length: 1\\n\\nfive!'",
    "ignores-term": "trap '' TERM; while :; do sleep 1000; done",
    "children-hold-the-output": f"{OK}; for i in 1 2 3; do sleep 1000 & done",
    "children-hold-stderr": f"{OK}; (sleep 1000 >&- &); exec sleep 1000 >&-",
    "children-ignore-term": f"{OK}; (trap '' TERM; sleep 1000) & sleep 1000",
    "closes-all": "exec <&- >&- 2>&-; exec sleep 1000",
    "closes-its-input": f"exec <&-; {OK}",
    "reads-one-byte": f"head -c1 > /dev/null; {OK}",
    "redirects": "printf 'Location: /elsewhere\\n\\n'",
    "no-interpreter": None,
}
"""Shell scripts; None for a file whose interpreter is missing."""


class Client(RecordingResponder):
    """Takes so many bytes, and goes at its *patience*-th flush."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self._patience = patience
        self._taken = 0

    def write(self, data: bytes) -> None:
        self._taken += len(data)  # kept nowhere: there may be much

    async def flush(self) -> None:
        await super().flush()
        self._patience -= 1
        if self._patience < 0 or self._taken > 1 << 20:
            raise ClientGone("reset")


class Stalling(BytesBody):
    """A client that sends no further."""

    async def read(self) -> bytes:
        if self._pieces:
            return await super().read()
        await trio.sleep_forever()
        raise AssertionError


BODIES: Final[tuple[Callable[[], Any], ...]] = (
    lambda: BytesBody(),
    lambda: BytesBody(b"b" * 10),
    lambda: BytesBody(*[b"b" * 50_000] * 6, waits=True),
    lambda: BytesBody(*[b"b" * 50_000] * 6, sized=False),
    lambda: BytesBody(b"b" * 2_000_000, sized=False),
    lambda: FailingBody(b"b" * 1000, error=ClientGone("reset")),
    lambda: FailingBody(b"b" * 1000, error=RequestError(400, "bad chunk")),
    lambda: Stalling(b"b" * 100_000, waits=True),
)


def marked(mark: str) -> list[int]:
    """The processes with *mark* in their environment, zombies aside."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            environ = Path("/proc", name, "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in environ:
            found.append(int(name))
    return found


async def gone(pid: int) -> None:
    """Wait until a process that was killed has disappeared."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with trio.fail_after(60):
            await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


async def answer_elsewhere(request: Request, responder: Responder) -> None:
    responder.start(200, [])
    responder.end()
    await responder.flush()


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CGI-31, civetweb#529, Plack#238: whatever programs do, and whatever clients do meanwhile."""
    choice = random.Random(7)
    mark = secrets.token_hex(8)
    spooled, programs = tmp_path / "spooled", tmp_path / "cgi-bin"
    spooled.mkdir()
    programs.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spooled))
    for name, script in PROGRAMS.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\n{script}\n" if script else "#!/no/such/interpreter\n")
        path.chmod(0o755)

    def backend(number: int, pump: Pump) -> CgiBackend:
        confinement = Confinement(limits=ResourceLimits(core=0)) if number else None
        return make_backend(
            programs,
            pump,
            dispatch=answer_elsewhere,
            timeout=0.05,
            kill_after=0.01,
            confinement=confinement,
            intake=make_intake("stream" if number else "spool", spool_memory=1000, max_body=1_000_000),
            slots=Slots(2, queue=2, queue_time=60, backend="tools", running="programs run")
            if number
            else None,
            transcript=transcript(tmp_path / "transcript") if number else None,
            variables={"MARK": Template.parse(mark)},
        )

    async def one(backends: list[CgiBackend]) -> None:
        name = choice.choice(list(PROGRAMS))
        client = Client(choice.choice([0, 1, 1000]))
        request = make_request(f"/{name}".encode(), method="POST", body=choice.choice(BODIES)())
        leaves_after = choice.choice([0.001, 0.02, 60])
        with trio.move_on_after(leaves_after):
            try:
                await choice.choice(backends).handle(request, client)
            except GatewayError:
                pass

    async def main() -> None:
        async with pumping() as pump, trio.open_nursery() as nursery:
            backends = [backend(0, pump), backend(1, pump)]
            for each in backends:
                await nursery.start(each.run)
            await one(backends)  # what is opened once, such as trio's own descriptors
            before = set(os.listdir("/proc/self/fd"))
            for _ in range(ROUNDS // 3):
                async with trio.open_nursery() as requests:
                    for _ in range(3):
                        requests.start_soon(one, backends)
            assert set(os.listdir("/proc/self/fd")) <= before  # garbage of earlier tests may have gone
            for pid in marked(mark):
                await gone(pid)
            nursery.cancel_scope.cancel()

    with capture_logs():
        trio.run(main)
    assert marked(mark) == []
    assert list(spooled.iterdir()) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
