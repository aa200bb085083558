"""gateway.programs.executable: what the kernel means when it does not run a file."""

import errno
import os
import re
from pathlib import Path

import pytest

from gateway.programs.executable import check_executable, explain, shebang
from gateway.programs.process import spawn


def run(path: Path) -> OSError:
    """How the kernel refuses *path*."""
    with pytest.raises(OSError, match=r"^\[Errno") as raised:
        spawn([str(path)], env={}, directory="/", stdin=0, stdout=1, stderr=2)
    return raised.value


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"#!/no/such/perl -w\n", errno.ENOENT, "its first line does not exist: /no/such/perl"),
        (b"#! \t/no/such/perl", errno.ENOENT, "its first line does not exist: /no/such/perl"),
        (b"#!/bin/sh\r\necho\r\n", errno.ENOENT, r"CR LF: .* called /bin/sh\\r"),
        (b"#!/etc/passwd\n", errno.EACCES, "may not be run: /etc/passwd"),
        (b"print 'hello'\n", errno.ENOEXEC, "no program of this machine, nor a script with #!"),
        (b"#!\n", errno.ENOEXEC, "no program of this machine, nor a script with #!"),
        (b"", errno.ENOEXEC, "no program of this machine"),
        (b"\xef\xbb\xbf#!/bin/sh\n", errno.ENOEXEC, "byte order mark"),
    ],
)
def test_explains_what_the_kernel_refuses(tmp_path: Path, content: bytes, code: int, words: str) -> None:
    path = put(tmp_path / "x", content)
    error = run(path)
    assert error.errno == code
    assert re.search(words, explain(str(path), error))


@pytest.mark.parametrize(
    "content", [b"#!/no/such/perl\n", b"#!/bin/sh\r\n", b"print 'hello'\n", b"#!\n", b""]
)
def test_check_finds_what_the_kernel_would(tmp_path: Path, content: bytes) -> None:
    path = put(tmp_path / "x", content)
    with pytest.raises(OSError, match=r"^\[Errno") as raised:
        check_executable(str(path))
    assert raised.value.errno == run(path).errno


def test_check_passes_what_the_kernel_runs(tmp_path: Path) -> None:
    check_executable("/bin/true")
    check_executable(str(put(tmp_path / "x", b"#!/bin/sh\n")))


def test_other_errors_speak_for_themselves(tmp_path: Path) -> None:
    path = put(tmp_path / "x", b"#!/bin/sh\n")
    assert explain(str(path), OSError(errno.E2BIG, os.strerror(errno.E2BIG))) == "Argument list too long"
    path.unlink()
    gone = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    assert explain(str(path), gone) == "No such file or directory"


def test_program_for_another_system(tmp_path: Path) -> None:
    """Its loader is missing, which execve(2) tells by ENOENT as well."""
    path = put(tmp_path / "x", b"\x7fELF" + bytes(60))
    assert "another system" in explain(str(path), OSError(errno.ENOENT, "No such file or directory"))


@pytest.mark.parametrize(
    ("content", "command"),
    [
        (b"#!/bin/sh\n", (b"/bin/sh",)),
        (b"#! \t/usr/bin/env perl -w \necho", (b"/usr/bin/env", b"perl -w")),
        (b"#!/bin/sh\t-e", (b"/bin/sh", b"-e")),
        (b"#!\n", ()),
        (b"echo", ()),
    ],
)
def test_shebang_is_split_as_the_kernel_does(
    tmp_path: Path, content: bytes, command: tuple[bytes, ...]
) -> None:
    path = put(tmp_path / "x", content)
    assert shebang(os.fsencode(path)) == command


def test_file_that_cannot_be_read_has_no_shebang(tmp_path: Path) -> None:
    assert shebang(os.fsencode(tmp_path / "missing")) == ()
