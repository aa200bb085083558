"""One entry a line, on a terminal and elsewhere, whatever clients and applications put into it."""

import io
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import threading
import warnings
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pytest
import structlog

from gateway.errors import StartError
from gateway.logs import output
from gateway.logs.access import AccessLog
from gateway.logs.events import configure
from gateway.request import Address, Connection, Request
from gateway.runtime.log_signals import heed_log_signal
from gateway.stacks import stack_of

pytestmark = pytest.mark.usefixtures("logging_restored")

EVIL = 'a\nb\r\x1b[2J\x00\x7f\x9b\u2028\u202e\udc80"'


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def make_request(
    *,
    target: bytes = b"/a",
    query: bytes = b"",
    method: str = "GET",
    client: Address = ("127.0.0.1", 5000),
    backend: str = "",
    upstream_time: float | None = None,
) -> Request:
    request = Request(
        method=method,
        path="/",
        raw_path=target,
        query=query,
        version="1.1",
        headers=[],
        host="example.com",
        connection=Connection(client=client, server=None),
    )
    request.backend = backend
    request.upstream_time = upstream_time
    return request


# ---- events


def test_events_are_json_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    structlog.get_logger().warning("backend failed", backend="php", phase="connect", times=3)
    (entry,) = entries(stream)
    assert list(entry)[:3] == ["timestamp", "level", "event"]
    assert entry["timestamp"].endswith("Z")
    del entry["timestamp"]
    assert entry == {
        "level": "warning", "event": "backend failed", "backend": "php", "phase": "connect", "times": 3,
    }  # fmt: skip


def test_events_are_readable_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    configure(stream=stream)
    structlog.get_logger().warning("backend failed", backend="php")
    assert "\x1b[" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    configure(stream=plain)
    structlog.get_logger().warning("backend failed", backend="php")
    assert "\x1b" not in plain.getvalue()
    assert "backend failed" in plain.getvalue()
    assert plain.getvalue().endswith("backend=php\n")


@pytest.mark.parametrize(("format", "is_json"), [("json", True), ("text", False)])
def test_the_format_can_be_chosen(format: Any, is_json: bool) -> None:  # noqa: A002
    for stream in (io.StringIO(), Terminal()):
        configure(stream=stream, format=format)
        structlog.get_logger().info("ready")
        assert stream.getvalue().startswith("{") is is_json


def test_debug_events_are_dropped_unless_asked_for() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    structlog.get_logger().debug("detail")
    assert stream.getvalue() == ""
    configure(stream=stream, debug=True)
    structlog.get_logger().debug("detail")
    assert entries(stream)[0]["level"] == "debug"


def test_a_logger_in_use_follows_a_new_configuration() -> None:
    log = structlog.get_logger()
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    log.info("one")
    configure(stream=second, format="text")
    log.info("two")
    assert [entry["event"] for entry in entries(first)] == ["one"]
    assert "two" in second.getvalue()


class Phase(Enum):
    CONNECT = "connect"


def test_values_that_json_does_not_have_become_text() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    structlog.get_logger().info(
        "x", phase=Phase.CONNECT, cause=OSError(2, "no"), path=PurePosixPath("/x"), raw=b"\xff", some=[b"a"]
    )
    entry = entries(stream)[0]
    del entry["timestamp"], entry["level"], entry["event"]
    assert entry == {
        "phase": "connect",
        "cause": "[Errno 2] no",
        "path": "/x",
        "raw": "\\xff",
        "some": ["b'a'"],
    }


@pytest.mark.parametrize("format", ["json", "text"])
def test_no_value_can_forge_an_entry_or_send_control_sequences(format: Any) -> None:  # noqa: A002
    stream = io.StringIO()
    configure(stream=stream, format=format)
    structlog.get_logger().warning(EVIL, value=EVIL, some=[EVIL])
    logging.getLogger("app").warning("said %s", EVIL)
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert all(line.isprintable() for line in text.splitlines())
    if format == "json":
        assert entries(stream)[0]["value"] == EVIL


def test_text_leaves_out_what_is_not_known_and_shows_lists_as_words() -> None:
    stream = io.StringIO()
    configure(stream=stream, format="text")
    structlog.get_logger().info("ready", addresses=["http://127.0.0.1:80"], ports=[80, 81], backend=None)
    assert stream.getvalue().split("ready")[1].split(maxsplit=1) == [
        "addresses=http://127.0.0.1:80",
        "ports='80, 81'\n",
    ]


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_traceback_stands_below_its_entry(format: Any) -> None:  # noqa: A002
    stream = io.StringIO()
    configure(stream=stream, format=format)
    try:
        int("1\n2026-01-01 [error] forged \x1b[2J")
    except ValueError as error:
        error.add_note("2026-01-01 [error] forged \x1b[2J")
        structlog.get_logger().exception("application failed")
    if format == "json":
        (entry,) = entries(stream)
        assert entry["exception"].startswith("Traceback")
    else:
        first, *rest = stream.getvalue().splitlines()
        assert "application failed" in first
        assert rest[0] == "    Traceback (most recent call last):"
        assert all(line.startswith("    ") and line.isprintable() for line in rest)


@pytest.mark.parametrize("force", [False, True])
def test_application_has_the_level_that_it_asks_for(force: bool) -> None:
    stream = io.StringIO()
    logging.getLogger().handlers = []  # those of pytest
    configure(stream=stream)
    log = logging.getLogger("shop")
    log.debug("hidden")
    logging.basicConfig(level="DEBUG", format="%(message)s", force=force)
    log.debug("shown")
    assert [(entry["level"], entry["event"]) for entry in entries(stream)] == [("debug", "shown")]


def test_application_logs_where_it_likes(tmp_path: Path) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    root.handlers = []  # those of pytest
    configure(stream=stream)
    logging.basicConfig(filename=tmp_path / "shop.log", format="%(name)s: %(message)s")
    logging.getLogger("shop").info("sold")
    root.handlers[0].close()
    assert (tmp_path / "shop.log").read_text() == "shop: sold\n"
    assert stream.getvalue() == ""


@pytest.mark.parametrize("place", ["shop", "", "other"])
def test_what_an_application_writes_to_the_terminal_itself_is_not_written_twice(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handler may be the logger's own, or one above it; Django's looks at DEBUG in a filter.

    Filters on the root are not asked before their time.
    """
    shop = logging.getLogger("shop")
    monkeypatch.setattr(shop, "handlers", [])
    monkeypatch.setattr(logging.getLogger("other"), "handlers", [])
    own, ours = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", own)
    configure(stream=ours)
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    if place:
        handler.addFilter(lambda record: not record.getMessage().startswith("quiet"))
    logging.getLogger(place).addHandler(handler)
    orders = logging.getLogger("shop.orders")
    for message in ("loud", "quiet"):
        orders.info("%s", message)
        orders.warning("%s", message)
    logged = [(entry["level"], entry["event"]) for entry in entries(ours)]
    theirs = {"shop": ["loud"], "": ["loud", "quiet"], "other": []}[place]
    assert own.getvalue().splitlines() == theirs
    both = [(level, message) for message in ("loud", "quiet") for level in ("info", "warning")]
    assert logged == [each for each in both if each[0] == "info" or each[1] not in theirs]


class Sending(logging.StreamHandler[Any]):
    """Inherits the standard error, and writes elsewhere."""

    def emit(self, record: logging.LogRecord) -> None: ...


class Bare(logging.StreamHandler[Any]):
    """Has no stream at all."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    def emit(self, record: logging.LogRecord) -> None: ...


@pytest.mark.parametrize("handler", [Sending, Bare])
def test_what_handlers_of_other_kinds_do_takes_nothing_from_the_log(
    handler: type[logging.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    configure(stream=stream)
    monkeypatch.setattr(logging.getLogger("shop"), "handlers", [handler()])
    logging.getLogger("shop").warning("sold out")
    assert [entry["event"] for entry in entries(stream)] == ["sold out"]


def test_filters_of_an_application_that_count_or_change_are_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One lets everything through once; on the root it comes after our handler."""
    own, ours = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", own)
    configure(stream=ours)
    seen: set[str] = set()

    def once(record: logging.LogRecord) -> bool:
        record.msg = f"[1] {record.msg}"
        return not (record.msg in seen or seen.add(record.msg))  # type: ignore[func-returns-value]

    handler = logging.StreamHandler()
    handler.addFilter(once)
    logging.getLogger().addHandler(handler)
    logging.getLogger("shop").warning("sold out")
    assert own.getvalue() == "[1] sold out\n"


def test_filters_that_can_see_a_record_only_once_do_not_fail_in_the_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, ours = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", own)
    configure(stream=ours)
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: vars(record).pop("shown"))
    monkeypatch.setattr(logging.getLogger("shop"), "handlers", [handler])
    logging.getLogger("shop").warning("sold out", extra={"shown": True})
    assert own.getvalue() == "sold out\n"
    assert [entry["event"] for entry in entries(ours)] == ["sold out"]


def test_a_record_waits_for_no_configuration_of_loggers() -> None:
    """`logging.config` holds this lock while it waits for our handler's."""
    stream = io.StringIO()
    configure(stream=stream)
    record = logging.LogRecord("shop.never.asked.for", logging.WARNING, "shop.py", 1, "sold out", (), None)
    thread = threading.Thread(target=logging.root.handle, args=(record,), daemon=True)
    with logging._lock:  # type: ignore[attr-defined]
        thread.start()
        thread.join(10)
        assert [entry["event"] for entry in entries(stream)] == ["sold out"]
    assert record.name not in logging.root.manager.loggerDict


def test_warnings_of_python_are_entries() -> None:
    """A module that warns when it is imported must not write lines between those of the log."""
    stream, file = io.StringIO(), io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure(stream=stream)
        warnings.warn_explicit(f"old {EVIL}", DeprecationWarning, "/app.py", 7)
        warnings.showwarning("to a file", UserWarning, "/app.py", 8, file)
    (entry,) = entries(stream)
    del entry["timestamp"]
    assert entry == {
        "level": "warning",
        "event": f"old {EVIL}",
        "logger": "py.warnings",
        "category": "DeprecationWarning",
        "file": "/app.py:7",
    }
    assert file.getvalue() == "/app.py:8: UserWarning: to a file\n"


def test_exceptions_that_python_ignores_are_entries() -> None:
    """Python writes them to standard error itself, between the lines of the log."""

    class Failing:
        def __del__(self) -> None:
            raise ValueError(EVIL)

    stream = io.StringIO()
    configure(stream=stream)
    Failing()
    (entry,) = entries(stream)
    assert (entry["level"], entry["event"]) == ("error", "exception ignored")
    assert "Failing.__del__" in entry["where"]
    assert "in __del__" in entry["exception"]


def test_exceptions_that_end_threads_are_entries() -> None:
    """Python writes them to standard error itself, in pieces that the log may come between."""

    def fail() -> None:
        raise ValueError(EVIL)

    def leave() -> None:
        raise SystemExit

    stream = io.StringIO()
    configure(stream=stream)
    for target in (fail, leave):
        thread = threading.Thread(target=target, name="theirs")
        thread.start()
        thread.join()
    (entry,) = entries(stream)
    assert (entry["level"], entry["event"], entry["thread"]) == ("error", "thread failed", "theirs")
    assert "in fail" in entry["exception"]


def test_applications_may_have_a_hook_of_their_own_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = threading.ExceptHookArgs  # any callable
    monkeypatch.setattr(threading, "excepthook", hook)
    configure(stream=io.StringIO())
    assert threading.excepthook is hook


def test_what_applications_log_goes_to_the_same_output() -> None:
    stream = io.StringIO()
    logging.getLogger().handlers = []  # pytest's own fails on arguments that do not fit
    configure(stream=stream)
    logger = logging.getLogger("some.app")
    logger.debug("not this")
    logger.info("hello %s", "world")
    logger.error("bad %d %d", 1)
    try:
        os.environ["NO SUCH VARIABLE"]
    except KeyError:
        logger.exception("failed")
    found = entries(stream)
    assert [(entry["level"], entry["event"], entry["logger"]) for entry in found] == [
        ("info", "hello world", "some.app"),
        ("error", "bad %d %d (1,)", "some.app"),
        ("error", "failed", "some.app"),
    ]
    assert "KeyError: 'NO SUCH VARIABLE'" in found[2]["exception"]


def test_what_applications_give_by_extra_is_in_the_entry() -> None:
    """As structlog's ExtraAdder and python-json-logger have it; and so is what filters add."""

    def add_tenant(record: logging.LogRecord) -> bool:
        record.tenant = "acme"
        return True

    stream = io.StringIO()
    configure(stream=stream)
    logger = logging.getLogger("shop.extra")
    logger.addFilter(add_tenant)
    try:
        logger.warning(
            "sold out", extra={"item": 7, "where": [PurePosixPath("/a")], "_own": 1}, stack_info=True
        )
    finally:
        logger.removeFilter(add_tenant)
    (entry,) = entries(stream)
    assert entry.pop("stack").startswith("Stack (most recent call last):")
    del entry["timestamp"]
    assert entry == {
        "level": "warning",
        "event": "sold out",
        "logger": "shop.extra",
        "item": 7,
        "where": ["/a"],
        "tenant": "acme",
    }


def test_extra_takes_nothing_from_what_an_entry_says_itself() -> None:
    stream = io.StringIO()
    configure(stream=stream, worker=2)
    ours = ("timestamp", "level", "event", "logger", "worker", "pid", "exception", "stack")
    logging.getLogger("shop").warning("sold out", extra=dict.fromkeys(ours, "x"))
    (entry,) = entries(stream)
    assert {name: entry.pop(f"extra_{name}") for name in ours} == dict.fromkeys(ours, "x")
    del entry["timestamp"]
    assert entry == {"level": "warning", "event": "sold out", "logger": "shop", "worker": 2}


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("not now")


LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        ({"rate": float("inf")}, "{'rate': inf}"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (LOOP, "[[...]]"),
        (DEEP, "list: str() of it failed: RecursionError"),
        (Unspeakable(), "Unspeakable: str() of it failed: ValueError"),
        ([Unspeakable()], ["Unspeakable: str() of it failed: ValueError"]),
        pytest.param(10**5000, "int: str() of it failed: ValueError", id="huge"),
    ],
)
def test_a_value_that_json_does_not_have_is_text(value: Any, shown: Any) -> None:
    """Readers of logs take no NaN, and a record of an application is not lost for one of its values."""
    stream = io.StringIO()
    configure(stream=stream)
    logging.getLogger("shop").warning("sold out", extra={"value": value})
    structlog.get_logger().warning("sold out", value=value)
    assert [entry["value"] for entry in entries(stream)] == [shown, shown]


def test_a_key_sends_nothing_to_a_terminal() -> None:
    terminal = Terminal()
    configure(stream=terminal)
    logging.getLogger("shop").warning("sold out", extra={EVIL: 1})
    assert terminal.getvalue().count("\n") == 1
    assert "\x1b[2J" not in terminal.getvalue()


@pytest.mark.parametrize("format", ["json", "text"])
def test_stack_that_an_application_logs_is_told(format: Any) -> None:  # noqa: A002
    stream = io.StringIO()
    configure(stream=stream, format=format)
    logging.getLogger("some.app").warning("who asks", stack_info=True)
    structlog.get_logger().warning("who asks", stack_info=True)
    try:
        int("x")
    except ValueError:
        logging.getLogger("some.app").exception("who asks", stack_info=True)
    if format == "json":
        found = entries(stream)
        assert [entry["event"] for entry in found] == ["who asks"] * 3
        assert all("test_stack_that" in entry["stack"] for entry in found)
        assert "ValueError" in found[2]["exception"]
    else:
        lines = stream.getvalue().splitlines()
        assert sum("who asks" in line and not line.startswith(" ") for line in lines) == 3
        assert lines.count("    Stack (most recent call last):") == 3
        assert sum(line.startswith("    ") for line in lines) == len(lines) - 3
        assert any("    ValueError: " in line for line in lines)


def test_configuring_again_does_not_double_what_applications_log() -> None:
    stream = io.StringIO()
    configure(stream=io.StringIO())
    configure(stream=stream)
    logging.getLogger("app").warning("once")
    assert len(entries(stream)) == 1


def test_an_output_that_is_gone_is_no_failure() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    stream.close()
    structlog.get_logger().info("nobody hears")
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as broken:
        configure(stream=broken)
        structlog.get_logger().info("nobody hears")


def test_an_entry_larger_than_the_pipe_is_written_whole() -> None:
    """Also when somebody else made the shared pipe non-blocking."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    received = bytearray()

    def read() -> None:
        with open(read_end, "rb") as pipe:
            received.extend(pipe.read())

    reader = threading.Thread(target=read)
    reader.start()
    with open(write_end, "w") as stream:
        configure(stream=stream)
        structlog.get_logger().info("x" * 1_000_000)
        configure(stream=io.StringIO())
    reader.join()
    assert len(json.loads(received)["event"]) == 1_000_000


def test_entries_come_again_when_somebody_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PATIENCE", 0)
    read_end, write_end = os.pipe()
    with open(write_end, "w") as stream, open(read_end, "rb", buffering=0) as pipe:
        configure(stream=stream)
        for _ in range(1000):
            structlog.get_logger().info("x" * 200)
        assert os.get_blocking(write_end), "an application that writes there waits for its reader as before"
        lines = pipe.read(1 << 20).splitlines()
        assert 0 < len(lines) < 1000
        structlog.get_logger().info("read again")
        assert json.loads(pipe.read(1 << 20).splitlines()[-1])["event"] == "read again"
        configure(stream=io.StringIO())


def test_lines_that_a_full_disk_loses_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a minute, with their number."""
    stream = io.StringIO()
    configure(format="json", stream=stream)
    log = AccessLog(format="json", destination=Path("/dev/full"))
    times = iter([1e9, 1e9 + 1, 1e9 + 59, 1e9 + 60, 1e9 + 61])
    monkeypatch.setattr("gateway.logs.access.time.time", lambda: next(times))
    for _ in range(5):
        log(make_request(), 200, 0, 0.0)
    log.close()
    told = [(entry["event"], entry["path"], entry["lines"]) for entry in entries(stream)]
    event = "access log cannot be written: lines are lost"
    assert told == [(event, "/dev/full", 1), (event, "/dev/full", 3), (event, "/dev/full", 1)]


def test_an_entry_behind_one_that_was_cut_is_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """pipe(7): what is larger than PIPE_BUF may be written in part."""
    monkeypatch.setattr(output, "PATIENCE", 0)
    read_end, write_end = os.pipe()
    with open(write_end, "w") as stream, open(read_end, "rb", buffering=0) as pipe:
        configure(stream=stream)
        for _ in range(10):
            structlog.get_logger().info("x" * 10_000)
        received = pipe.read(1 << 20)
        assert not received.endswith(b"\n")
        structlog.get_logger().info("read again")
        structlog.get_logger().info("and again")
        received += pipe.read(1 << 20)
        assert [json.loads(line)["event"] for line in received.splitlines()[-2:]] == [
            "read again",
            "and again",
        ]
        configure(stream=io.StringIO())


# ---- the access log


def access_lines(tmp_path: Path, format: Any, *requests: Request) -> list[str]:  # noqa: A002
    log = AccessLog(format=format, destination=tmp_path / "access.log")
    for request in requests:
        log(request, 200, 1234, 0.0125)
    log.close()
    return (tmp_path / "access.log").read_text().splitlines()


def test_an_access_line_as_json(tmp_path: Path) -> None:
    request = make_request(query=b"q=1", backend="php", upstream_time=0.01)
    request_id = request.id
    (line,) = access_lines(tmp_path, "json", request)
    entry = json.loads(line)
    assert entry.pop("timestamp")[10:11] == "T"
    assert entry == {
        "event": "request", "client": "127.0.0.1", "method": "GET", "target": "/a?q=1", "host": "example.com",
        "status": 200, "bytes": 1234, "duration": 0.0125, "backend": "php", "upstream_time": 0.01,
        "request_id": request_id,
    }  # fmt: skip


def test_an_access_line_tells_the_server_and_the_tries(tmp_path: Path) -> None:
    once, twice = make_request(backend="php"), make_request(backend="php")
    once.upstream_address, once.tries = "127.0.0.1:9000", 1
    twice.upstream_address, twice.tries = "unix:/run/a b.sock", 2
    entries = [json.loads(line) for line in access_lines(tmp_path, "json", once, twice)]
    assert [(entry["address"], entry.get("tries")) for entry in entries] == [
        ("127.0.0.1:9000", None), ("unix:/run/a b.sock", 2)
    ]  # fmt: skip
    lines = access_lines(tmp_path, "text", once, twice)[2:]
    assert [line.partition("backend=")[2] for line in lines] == [
        "php address=127.0.0.1:9000", "php address=unix:/run/a\\x20b.sock tries=2"
    ]  # fmt: skip


def test_an_access_line_has_only_what_there_is(tmp_path: Path) -> None:
    """The id of a request is random: making one only for the log would cost and say nothing."""
    request = make_request(client=None)
    (line,) = access_lines(tmp_path, "json", request)
    assert list(json.loads(line)) == [
        "timestamp", "event", "client", "method", "target", "host", "status", "bytes", "duration",
    ]  # fmt: skip
    assert json.loads(line)["client"] is None


def test_an_access_line_as_text(tmp_path: Path) -> None:
    requests = [
        make_request(query=b"q=1", backend="php", upstream_time=0.01),
        make_request(method="POST", client=("", None)),
        make_request(client=None),
    ]
    lines = [line.partition(" ")[2] for line in access_lines(tmp_path, "text", *requests)]
    assert lines == [
        "127.0.0.1 GET /a?q=1 200 1234B 12.5ms backend=php upstream=10.0ms",
        "unix POST /a 200 1234B 12.5ms",
        "- GET /a 200 1234B 12.5ms",
    ]


def test_an_access_line_as_apache_and_nginx_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Combined Log Format."""
    monkeypatch.setattr("gateway.logs.access.time.time", lambda: 1e9)
    asked = make_request(query=b"q=1", backend="php", upstream_time=0.01)
    asked.headers = [(b"user-agent", b'A "b" \\ \xe9'), (b"referer", b"https://a/?b c")]
    other = make_request(client=("", None))
    other.version = "2"
    assert access_lines(tmp_path, "combined", asked, other) == [
        '127.0.0.1 - - [09/Sep/2001:01:46:40 +0000] "GET /a?q=1 HTTP/1.1" 200 1234 '
        r'"https://a/?b c" "A \x22b\x22 \x5C \xE9"',
        'unix - - [09/Sep/2001:01:46:40 +0000] "GET /a HTTP/2.0" 200 1234 "-" "-"',
    ]


@pytest.mark.parametrize("format", ["json", "text", "combined"])
def test_no_client_can_forge_an_access_line(tmp_path: Path, format: Any) -> None:  # noqa: A002
    evil = EVIL.encode("utf-8", "surrogateescape")
    request = make_request(
        target=b"/" + evil + b" 200", query=evil, method=EVIL, client=(EVIL, 1), backend=EVIL
    )
    request.host = EVIL
    request.headers = [(name, evil) for name in (b"referer", b"user-agent")]
    lines = access_lines(tmp_path, format, request)
    assert len(lines) == 1
    assert lines[0].isprintable()
    if format == "text":
        assert len(lines[0].split(" ")) == 8
    elif format == "combined":
        assert lines[0].count('"') == 6 + lines[0].partition(" ")[0].count('"')
    else:
        assert json.loads(lines[0])["client"] == EVIL


def test_times_are_utc_with_milliseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 59.9996, 1e9 + 0.5])
    monkeypatch.setattr("gateway.logs.access.time.time", lambda: next(times))
    lines = access_lines(tmp_path, "text", make_request(), make_request(), make_request())
    assert [line.split(" ")[0] for line in lines] == [
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:59.999Z",
        "2001-09-09T01:46:40.500Z",
    ]


def test_a_file_is_appended_to_and_not_readable_by_everyone(tmp_path: Path) -> None:
    access_lines(tmp_path, "json", make_request())
    assert len(access_lines(tmp_path, "json", make_request())) == 2
    assert (tmp_path / "access.log").stat().st_mode & 0o007 == 0


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"access log {tmp_path}: Is a directory"):
        AccessLog(format="auto", destination=tmp_path)


def numbered(log: AccessLog, number: int) -> None:
    log(make_request(), number, 0, 0.0)


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["status"] for line in path.read_text().splitlines()]


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the next line is the last of them."""
    times = [0.0]
    monkeypatch.setattr("gateway.logs.access.time.time", lambda: times[-1])
    return times


def test_a_file_that_was_renamed_is_made_anew_with_the_next_line_of_another_second(
    tmp_path: Path, seconds: list[float]
) -> None:
    """logrotate without a signal; with its `create` the file is there already."""
    path, old, older = (tmp_path / name for name in ("access.log", "access.log.1", "access.log.2"))
    log = AccessLog(format="json", destination=path)
    numbered(log, 1)
    path.rename(old)
    seconds.append(0.9)
    numbered(log, 2)
    seconds.append(1.0)
    numbered(log, 3)
    old.rename(older)
    path.rename(old)
    path.touch()
    seconds.append(2.0)
    numbered(log, 4)
    path.unlink()
    seconds.append(3.0)
    numbered(log, 5)
    log.close()
    assert [numbers(each) for each in (older, old, path)] == [[1, 2], [3], [5]]
    assert path.stat().st_mode & 0o007 == 0


def test_a_file_is_opened_anew_when_it_is_said(tmp_path: Path, seconds: list[float]) -> None:
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(format="json", destination=path)
    numbered(log, 1)
    path.rename(old)
    log.reopen()
    numbered(log, 2)
    log.close()
    assert [numbers(each) for each in (old, path)] == [[1], [2]]


def test_a_file_that_cannot_be_made_anew_is_told_of_once(tmp_path: Path, seconds: list[float]) -> None:
    """The directory is root's, for instance: what is open is written on, and it is tried again.

    Who asks for it is told each time, and not that it was done.
    """
    stream = io.StringIO()
    configure(stream=stream)
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(format="json", destination=path)
    path.rename(old)
    path.mkdir()
    for second in (1, 2, 3):
        seconds.append(second)
        numbered(log, second)
    (said,) = entries(stream)
    assert (said["level"], said["path"], said["cause"]) == ("warning", str(path), "Is a directory")
    for _ in range(2):
        heed_log_signal(signal.SIGUSR1, log.reopen)
    assert [each["cause"] for each in entries(stream)] == ["Is a directory"] * 3
    path.rmdir()
    seconds.append(4)
    numbered(log, 4)
    log.close()
    assert [numbers(each) for each in (old, path)] == [[1, 2, 3], [4]]
    assert len(entries(stream)) == 3
    assert [each for each in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{each}")
            and os.readlink(f"/proc/self/fd/{each}").startswith(str(tmp_path))] == []  # fmt: skip


def test_what_is_no_file_is_not_opened_anew(seconds: list[float]) -> None:
    log = AccessLog(format="json", destination=Path(os.devnull))
    descriptors = os.listdir("/proc/self/fd")
    log.reopen()
    numbered(log, 1)
    assert os.listdir("/proc/self/fd") == descriptors
    log.close()


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StartError, match="nobody reads from it"):
        AccessLog(format="auto", destination=tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(format="json", destination=tmp_path / "pipe")
    numbered(log, 1)
    log.close()
    assert json.loads(os.read(reader, 65536))["status"] == 1
    os.close(reader)


PROGRAM = """
import sys
from gateway.logs.access import AccessLog
from gateway.logs.events import configure
from gateway.request import Connection, Request
import structlog
connection = Connection(client=("::1", 1), server=None)
request = Request(method="GET", path="/", raw_path=b"/", query=b"", version="1.1", headers=[], host="",
                  connection=connection)
configure()
for destination in ("stdout", "stderr"):
    log = AccessLog(format="auto", destination=destination)
    log(request, 404, 0, 0.001)
    log.close()
structlog.get_logger().info("stopped")
import os
os._exit(0)  # nothing is flushed after this
"""


def test_nothing_is_lost_when_the_process_ends() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["request"]
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["request", "stopped"]


def test_standard_error_on_a_real_terminal_is_text() -> None:
    master, slave = pty.openpty()
    with open(master, "rb", buffering=0) as ours, open(slave, "wb", buffering=0) as theirs:
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=True,
            env=environment,
        )
        shown = ours.read(65536)
    assert done.stdout.startswith(b"{")
    access, stopped = shown.decode().splitlines()
    assert "GET / \x1b[33m404\x1b[0m 0B" in access
    assert "stopped" in stopped


@pytest.mark.parametrize(("status", "colour"), [(200, 32), (499, 33), (599, 31), (600, 31), (999, 31)])
def test_status_has_the_colour_of_its_class(
    status: int, colour: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is beyond the classes of RFC 9110 15 is an error as any: some servers answer 999."""
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    AccessLog(format="auto", destination="stderr")(make_request(), status, 0, 0.0)
    assert f"\x1b[{colour}m{status}\x1b[0m" in stream.getvalue()


@pytest.mark.parametrize("format", ["json", "text"])
def test_stack_of_a_thread(format: Literal["json", "text"]) -> None:  # noqa: A002 (as configure calls it)
    """In text below its entry, like a traceback."""
    stream = io.StringIO()
    configure(format=format, stream=stream)
    structlog.get_logger().warning("stuck", stack=stack_of(threading.get_ident()))
    lines = stream.getvalue().splitlines()
    assert "in test_stack_of_a_thread" in stream.getvalue()
    assert (len(lines) == 1) is (format == "json")
