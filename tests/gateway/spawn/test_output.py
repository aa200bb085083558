"""What processes write, as the log and the developer see it."""

from collections import deque

from structlog.testing import capture_logs

from gateway.spawn.output import LINES_PER_SECOND, Output


def test_the_last_lines_of_a_flood_are_kept() -> None:
    """They are not logged, but say why the process has ended."""
    last_lines: deque[str] = deque(maxlen=3)
    output = Output("blog", 7, "stderr", last_lines)
    with capture_logs() as logs:
        output.feed(b"first\n" * LINES_PER_SECOND, 1.0)
        for number in range(5000):
            output.feed(b"line %d\nli" % number, 1.1)
            output.feed(b"ne\n", 1.2)
        output.feed(b"Traceback\nthe rea", 1.3)
        output.feed(b"son\n", 1.4)
        output.end(1.5)
    assert list(last_lines) == ["line", "Traceback", "the reason"]
    assert [entry["event"] for entry in logs].count("application output") == LINES_PER_SECOND
    assert logs[-1]["event"] == "application output dropped"
    assert logs[-1]["lines"] == 10_002


def test_what_is_logged_again_behind_a_flood_is_what_is_kept() -> None:
    last_lines: deque[str] = deque(maxlen=3)
    output = Output("blog", 7, "stderr", last_lines)
    with capture_logs():
        output.feed(b"first\n" * LINES_PER_SECOND, 1.0)
        output.feed(b"lost\n", 1.1)
        output.feed(b"one\ntwo\nthree\nfour", 2.0)
        output.end(2.1)
    assert list(last_lines) == ["two", "three", "four"]


def test_what_is_said_beside_a_flood_is_what_is_kept() -> None:
    """A program that prints much has its traceback on standard error."""
    last_lines: deque[str] = deque(maxlen=3)
    stdout, stderr = (Output("blog", 7, stream, last_lines) for stream in ("stdout", "stderr"))
    with capture_logs():
        for _ in range(3):
            stdout.feed(b"much\n" * LINES_PER_SECOND, 1.0)
        stderr.feed(b"Traceback\nthe reason\n", 1.1)
        for output in (stdout, stderr):
            output.end(1.2)
    assert list(last_lines) == ["much", "Traceback", "the reason"]
