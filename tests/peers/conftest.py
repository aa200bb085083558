"""What the tests against independent programs share: finding them, running them, and the gateway itself.

The gateway runs as people run it: ``gateway serve FILE`` in a process of its own, on a port that the
kernel chooses. At the end of a test it is told to stop, and must stop cleanly.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from tests.peers.browser import Browser

RequireProgram = Callable[[str, str], str]
StartGateway = Callable[..., "Gateway"]
RunGateway = Callable[..., AbstractContextManager["Gateway"]]
Curl = Callable[..., "subprocess.CompletedProcess[bytes]"]

WAIT = 30.0
"""Seconds until a program that says nothing fails the test."""

IMPORTING = 120.0
"""Seconds until the gateway must be ready: a dozen frameworks take their time on a loaded machine."""

CHECKOUT = Path(__file__).parents[2]

SBIN = ":/usr/sbin:/usr/local/sbin"
"""Servers live there; it is not on every user's PATH."""


@pytest.fixture(scope="session")
def require_program() -> RequireProgram:
    """``require_program(name, install)``: the path of program *name*.

    Without it the test is skipped, saying *install* (the command that installs it), or fails when
    ``CI=true``: there every peer must be present.
    """

    def require(name: str, install: str) -> str:
        path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + SBIN)
        if path is not None:
            return path
        reason = f"{name} is missing: {install}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def fpm_program(require_program: RequireProgram) -> str:
    """The path of php-fpm, whose name has the version of PHP."""
    names = ("php-fpm8.2", "php-fpm8.3", "php-fpm8.4")
    name = next((name for name in names if Path("/usr/sbin", name).exists()), "php-fpm")
    return require_program(name, "apt-get install php-fpm")


@pytest.fixture
def curl(require_program: RequireProgram, tmp_path: Path) -> Curl:
    """``curl(*arguments, data=b"", status=(0,))``: its output, and on standard error what it did.

    Files are relative to ``tmp_path``; *status* are the exit statuses that it may have.
    """
    program = require_program("curl", "apt-get install curl")

    def run(
        *arguments: str, data: bytes = b"", status: Collection[int] = (0,)
    ) -> "subprocess.CompletedProcess[bytes]":
        command = [program, "--disable", "--silent", "--show-error", *arguments]
        done = subprocess.run(command, input=data, capture_output=True, timeout=WAIT, cwd=tmp_path)
        assert done.returncode in status, done.stderr.decode()
        return done

    return run


@pytest.fixture(scope="session", autouse=True)
def end_programs_when_terminated() -> Iterator[None]:
    """SIGTERM ends the tests as Ctrl-C does, with all programs that they have started."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, previous)


# ---- programs


class Program:
    """A running program whose standard error is read line by line; a context manager that ends it."""

    def __init__(self, command: list[str], *, stop: signal.Signals = signal.SIGTERM, **options: Any) -> None:
        self.lines: list[str] = []
        self._stop = stop
        self._news = threading.Condition()
        self._ended = False
        # A session of its own: no program gets signals that others send to their group.
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.pid = self._process.pid
        self.status: int | None = None
        """The exit status, once it has ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the program, by force if it does not listen, and what it left behind."""
        if self.status is not None:
            return
        self._process.send_signal(self._stop)
        try:
            self.status = self._process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.status = self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._reader.join(WAIT)

    def wait_for(self, wanted: Callable[[str], bool], seconds: float = WAIT) -> str:
        """The first line that is *wanted*; fails if the program ends, or says nothing for so long."""
        with self._news:
            seen = 0
            while True:
                for line in self.lines[seen:]:
                    if wanted(line):
                        return line
                seen = len(self.lines)
                if self._ended or not self._news.wait(seconds):
                    pytest.fail("not said:\n" + "\n".join(self.lines))

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


def start_on_socket(
    stack: ExitStack, directory: Path, name: str, command: list[str], *, stdin: bool = False
) -> None:
    """A program that inherits the listening Unix socket *name*, as ``{}`` in its command or as descriptor 0.

    The socket is there before the program: who connects early waits in its queue.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / f"{name}.sock"))
        listener.listen(128)
        stack.enter_context(
            Program(
                [word.replace("{}", str(listener.fileno())) for word in command],
                cwd=directory,
                stdin=listener if stdin else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
            )
        )


# ---- the gateway


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Gateway(Program):
    """A gateway that accepts connections."""

    def __init__(self, config: Path, **options: Any) -> None:
        super().__init__([sys.executable, "-m", "gateway", "serve", str(config)], **options)
        try:
            ready = json.loads(self.wait_for(lambda line: '"ready"' in line, IMPORTING))
        except BaseException:
            self.stop()
            raise
        self.addresses: list[str] = ready["addresses"]
        """Of its listeners, in their order."""
        self.url = self._url("http")
        """The base URL of the first listener on TCP, without a slash at the end."""
        self.host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.port = int(port)

    @property
    def https(self) -> str:
        """The base URL of the first listener with TLS."""
        return self._url("https")

    def _url(self, scheme: str) -> str:
        return next(each for each in self.addresses if each.startswith(f"{scheme}://"))

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was logged under *name* so far."""
        return [event for event in map(json.loads, list(self.lines)) if event["event"] == name]

    def connect(self) -> http.client.HTTPConnection:
        """A connection of a client; the caller closes it."""
        return http.client.HTTPConnection(self.host, self.port, timeout=WAIT)

    def request(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """One request on a connection of its own; a *body* that is no bytes is sent chunked."""
        connection = self.connect()
        try:
            chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, target, body, headers or {}, encode_chunked=chunked)
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, target: str, **headers: str) -> Response:
        """A GET request; ``user_agent="x"`` is the header field User-Agent."""
        return self.request("GET", target, None, {k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, target: str, body: bytes | Iterable[bytes], **headers: str) -> Response:
        """A POST request, sized if *body* is bytes, else chunked."""
        return self.request("POST", target, body, {k.replace("_", "-"): v for k, v in headers.items()})

    # Memory, for the tests that say it stays flat.

    def resident(self) -> int:
        """Bytes of resident memory now; the peak is counted from here."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM
        return self._memory("VmRSS")

    def peak(self) -> int:
        """The most bytes of resident memory since `resident`."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name))


@contextmanager
def _run_gateway(
    directory: Path,
    text: str,
    *,
    listeners: str = "[{http: 127.0.0.1:0}]",
    expect: Collection[str] = (),
    env: dict[str, str] | None = None,
    stdout: IO[bytes] | None = None,
    last: str = "stopped",
) -> Iterator[Gateway]:
    config = directory / "gateway.yaml"
    config.write_text(f"listeners: {listeners}\n" + dedent(text))
    with Gateway(config, cwd=directory, env={**os.environ, **(env or {})}, stdout=stdout) as gateway:
        yield gateway
    assert gateway.status == 0, gateway.lines
    assert all(line.startswith("{") for line in gateway.lines), "\n".join(gateway.lines)  # no bare traceback
    events = [json.loads(line) for line in gateway.lines]
    # Programs that the gateway has started may say something as they end.
    assert [event for event in events if event["event"] != "application output"][-1]["event"] == last
    troubles = [event for event in events if event.get("level") in ("warning", "error", "critical")]
    unexpected = [event for event in troubles if not {event["event"], event.get("logger")} & set(expect)]
    assert not unexpected, "\n".join(map(str, unexpected))


@pytest.fixture(scope="session")
def run_gateway() -> RunGateway:
    """``with run_gateway(directory, yaml) as gateway``: a gateway with a configuration of its own.

    *yaml* has no listeners (they are an option; one of them is on TCP); paths in it are relative to
    *directory*. When the block ends the gateway must stop with status 0, and must have logged no warnings or
    errors but those that *expect* names, by event or by logger; its *last* word is "stopped".
    """
    return _run_gateway


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """``start_gateway(yaml)``: a gateway for one test, with its files in ``tmp_path``."""
    with ExitStack() as stack:

        def start(text: str, **options: Any) -> Gateway:
            return stack.enter_context(_run_gateway(tmp_path, text, **options))

        yield start


@pytest.fixture(scope="module")
def browser(
    require_program: RequireProgram, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Browser"]:
    """Chromium, which trusts the `gateway` of the module."""
    from tests.peers.browser import run_browser

    program = require_program("chromium", "apt-get install chromium")
    with run_browser(program, tmp_path_factory.mktemp("chromium"), trusted=gateway.https) as running:
        yield running
