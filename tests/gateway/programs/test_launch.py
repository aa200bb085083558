"""gateway.programs.launch: a program is started the same, directly or by Popen."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.programs import launch
from gateway.programs.launch import start_program
from tests.gateway.programs.starting import way_of_starting  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_leak")

ENVIRON = {b"PATH": b"/usr/bin:/bin"}


def output_of(*argv: str | bytes, env: dict[bytes, bytes] = ENVIRON, **options: Any) -> bytes:
    """What a program writes until it ends well."""
    output, theirs = os.pipe2(os.O_CLOEXEC)
    with open(output, "rb") as file, open(os.devnull) as null:
        try:
            options = {"directory": "/", "stderr": 2, **options}
            pid = start_program(argv, env=env, stdin=null.fileno(), stdout=theirs, **options)
        finally:
            os.close(theirs)
        data = file.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0
    return data


def test_popen_is_for_what_is_out_of_the_ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[object] = []

    def popen(argv: object, **options: Any) -> object:
        used.append(argv)
        return real(argv, **options)

    real: Callable[..., Any] = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    assert output_of("/bin/echo", "-n", "ordinary") == b"ordinary"
    assert bool(used) is not launch.DIRECT


def test_name_without_a_path_is_searched_for(tmp_path: Path) -> None:
    """In the PATH that the program gets."""
    program = tmp_path / "a-program"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert output_of("a-program", env={b"PATH": os.fsencode(tmp_path)}) == b"found\n"


def test_program_is_one_of_its_directory(tmp_path: Path) -> None:
    program = tmp_path / "a-program"
    program.write_text("#!/bin/sh\npwd\n")
    program.chmod(0o755)
    assert output_of("./a-program", directory=str(tmp_path)) == os.fsencode(tmp_path) + b"\n"


def test_arguments_and_variables_are_passed_on_as_they_are() -> None:
    script = 'printf "%s|" "$@" "$NAME"'
    env = {**ENVIRON, b"NAME": b"\xff=\n"}
    assert output_of("/bin/sh", "-c", script, "-", "w\udce4rts", b"\xe4", "", env=env) == (
        b"w\xe4rts|\xe4||\xff=\n|"
    )


def test_other_descriptors_are_those_that_are_named() -> None:
    one, other = os.pipe2(os.O_CLOEXEC)
    inheritable = os.dup(one)
    os.set_inheritable(inheritable, True)
    try:
        script = "import os; print(*os.listdir('/proc/self/fd'))"
        found = set(output_of(sys.executable, "-c", script, others=[other, one]).split())
    finally:
        for descriptor in (one, other, inheritable):
            os.close(descriptor)
    expected = {b"0", b"1", b"2", *(b"%d" % descriptor for descriptor in (one, other))}
    assert found - expected <= {str(min(set(range(3, 99)) - {one, other})).encode()}  # the listing itself
    assert expected <= found


@pytest.mark.parametrize("argument", ["a\0b", "a\0"])
def test_argument_has_no_nul(argument: str) -> None:
    with pytest.raises(ValueError, match="null byte"):
        output_of("/bin/echo", argument)


@pytest.mark.parametrize(
    ("program", "directory", "error", "named"),
    [
        ("/no/such/program", "/", FileNotFoundError, "/no/such/program"),
        ("/etc/passwd", "/", PermissionError, "/etc/passwd"),
        ("/etc/passwd/program", "/", NotADirectoryError, "/etc/passwd/program"),
        ("/bin/true", "/no/such/directory", FileNotFoundError, "/no/such/directory"),
        ("/bin/true", "/etc/passwd", NotADirectoryError, "/etc/passwd"),
    ],
)
def test_error_names_the_program_or_the_directory(
    program: str, directory: str, error: type[OSError], named: str
) -> None:
    with pytest.raises(error) as raised:
        output_of(program, directory=directory)
    assert raised.value.filename == named


def test_program_that_can_be_started_after_all_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has failed is tried again: what was written to at the time, for one, can be run soon after."""
    if not launch.DIRECT:
        pytest.skip("it tries once")
    fork_exec = launch._fork_exec

    def failing(argv: object, programs: object, *rest: Any) -> int:
        return int(fork_exec(argv, (b"/no/such/program",), *rest))

    monkeypatch.setattr(launch, "_fork_exec", failing)
    assert output_of("/bin/echo", "-n", "at last") == b"at last"


LOW_DESCRIPTORS = """
import os
from gateway.programs.launch import DIRECT, start_program
from gateway.programs import launch
launch.DIRECT = DIRECT and {direct}
output, theirs = os.pipe()
null = os.open(os.devnull, os.O_RDWR)
told = os.dup(1)
for number in (0, 1, 2):
    os.close(number)
pid = start_program(["/bin/echo", "alive"], env={{}}, directory="/", stdin=null, stdout=theirs, stderr=null)
os.close(theirs)
assert os.waitpid(pid, 0)[1] == 0
os.write(told, os.read(output, 100))
"""


def test_no_descriptor_of_ours_is_taken_for_one_of_its_three() -> None:
    """A daemon that is started without standard input may get its numbers for what it opens."""
    script = LOW_DESCRIPTORS.format(direct=launch.DIRECT)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert found.stdout == b"alive\n", found.stderr
