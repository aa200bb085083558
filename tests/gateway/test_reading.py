"""What is read at once, and what nobody waits for."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from gateway.reading import read_now


def test_a_file_is_read_whole_or_as_far_as_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"A=1\n")
    assert (read_now(tmp_path / "file"), read_now(tmp_path / "file", 2)) == (b"A=1\n", b"A=")
    assert read_now(os.devnull) == b""


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """As `<(…)` of a shell is, from a program that takes its time."""
    program = ["sh", "-c", "read begun; echo A=1"]  # once its input is closed
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        start = threading.Thread(target=writer.stdin.close)
        start.start()
        try:
            assert read_now(f"/dev/fd/{writer.stdout.fileno()}") == b"A=1\n"
        finally:
            start.join()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("pipe", "nobody writes to this pipe"),
        ("device", "it is not a regular file"),
        ("directory", "Is a directory"),
        ("nothing", "No such file or directory"),
    ],
)
def test_what_would_be_waited_for_is_an_error(tmp_path: Path, kind: str, why: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match=why):
        read_now("/dev/zero" if kind == "device" else tmp_path / kind)
