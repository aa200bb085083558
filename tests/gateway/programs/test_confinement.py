"""programs.confinement: real children with limits, and with other users where the tests run as root."""

import errno
import grp
import os
import pwd
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
import trio

from gateway.programs.confinement import Confinement, ResourceLimits, User, may_change_user
from gateway.programs.process import spawn

pytestmark = pytest.mark.usefixtures("no_leak")

MIB = 1 << 20

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users: run the tests as root")


def run(argv: list[str], confinement: Confinement) -> tuple[int, bytes]:
    """How a child ended, and what it wrote to both outputs."""

    async def main() -> tuple[int, bytes]:
        output, end = os.pipe2(os.O_CLOEXEC)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        data = b""
        try:
            process = spawn(
                argv, env={b"A": b"b"}, directory="/", stdin=null, stdout=end, stderr=end,
                confinement=confinement,
            )  # fmt: skip
            os.close(end)
            with trio.fail_after(60):
                while True:
                    await trio.lowlevel.wait_readable(output)
                    piece = os.read(output, 65536)
                    if not piece:
                        return await process.wait(), data
                    data += piece
        except OSError:
            os.close(end)
            raise
        finally:
            os.close(output)
            os.close(null)

    return trio.run(main)


def python(script: str, confinement: Confinement, program: str = sys.executable) -> tuple[int, bytes]:
    return run([program, "-IS", "-c", script], confinement)


def python_of_all() -> str:
    """Our own may be where other users cannot look."""
    program = shutil.which("python3", path="/usr/bin:/bin")
    if program is None:
        pytest.skip("there is no python3 for all users")
    return program


def test_limits_are_the_childs_and_not_ours() -> None:
    ours = {number: resource.getrlimit(number) for number in range(16)}
    limits = ResourceLimits(cpu=9.5, memory=900 * MIB, open_files=64, file_size=1 * MIB, core=0)
    status, output = run(["/bin/cat", "/proc/self/limits"], Confinement(limits=limits))
    assert status == 0
    found = {line[:26].strip(): line[26:].split()[:2] for line in output.decode().splitlines()[1:]}
    assert found["Max cpu time"] == ["10", "15"]
    assert found["Max address space"] == [str(900 * MIB)] * 2
    assert found["Max open files"] == ["64", "64"]
    assert found["Max file size"] == [str(MIB)] * 2
    assert found["Max core file size"] == ["0", "0"]
    assert {number: resource.getrlimit(number) for number in ours} == ours


def test_environment_arguments_and_descriptors_are_as_without() -> None:
    script = "import os, sys; print(dict(os.environb), sys.argv[1:], sorted(os.listdir('/proc/self/fd')))"
    limits = ResourceLimits(open_files=64)
    status, output = run([sys.executable, "-IS", "-c", script, "--cpu=1", "é"], Confinement(limits=limits))
    variables = {b"A": b"b", b"LC_CTYPE": b"C.UTF-8"}  # the second is CPython's own (PEP 538)
    assert (status, output.decode()) == (0, f"{variables} ['--cpu=1', 'é'] ['0', '1', '2', '3']\n")


def test_cpu_time_ends_by_a_signal() -> None:
    status, _ = python("while True: pass", Confinement(limits=ResourceLimits(cpu=0.2)))
    assert status == -signal.SIGXCPU


def test_memory_is_address_space() -> None:
    limits = ResourceLimits(memory=200 * MIB)
    status, output = python("bytearray(400 << 20)", Confinement(limits=limits))
    assert (status, b"MemoryError" in output) == (1, True)


def test_file_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    limits = ResourceLimits(file_size=1000)
    status, _ = run(["/usr/bin/head", "-c5000", "/dev/zero"], Confinement(limits=limits))
    assert status == 0  # a pipe is no file
    run(["/bin/dd", "if=/dev/zero", f"of={path}", "bs=5000", "count=1"], Confinement(limits=limits))
    assert path.stat().st_size == 1000


@as_root
def test_processes_of_a_user_are_bounded() -> None:
    """A fork bomb: the fork fails in the program, and nobody else notices."""
    script = """
import os, time
started = []
try:
    for _ in range(50):
        pid = os.fork()
        if not pid:
            time.sleep(1000)
        started.append(pid)
except OSError as error:
    print(error.errno, len(started))
for pid in started:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
"""
    user = User(54321, 54321)  # a number of nobody's: it has no process
    status, output = python(script, Confinement(user, ResourceLimits(processes=5)), python_of_all())
    assert (status, output) == (0, b"%d 4\n" % errno.EAGAIN)


@as_root
def test_user_with_its_groups() -> None:
    nobody = pwd.getpwnam("nobody")
    audio = grp.getgrnam("audio").gr_gid
    script = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
    user = User(nobody.pw_uid, nobody.pw_gid, (nobody.pw_gid, audio))
    status, output = python(script, Confinement(user), python_of_all())
    uid, gid = nobody.pw_uid, nobody.pw_gid
    groups = sorted([gid, audio])
    assert (status, output.decode()) == (0, f"({uid}, {uid}, {uid}) ({gid}, {gid}, {gid}) {groups}\n")


@as_root
def test_group_alone() -> None:
    script = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
    done = python(script, Confinement(User(None, 54321)), python_of_all())
    assert done == (0, b"(0, 0, 0) (54321, 54321, 54321) []\n")


@as_root
def test_program_need_not_be_readable_for_its_user(tmp_path: Path) -> None:
    """As long as it is no script: setpriv(1) runs it with root's right to, and without any other."""
    path = tmp_path / "x"
    shutil.copy("/usr/bin/id", path)
    path.chmod(0o700)
    assert run([str(path), "-u"], Confinement(User(54321, 54321))) == (0, b"54321\n")
    path.write_text("#!/bin/sh\n")
    status, output = run([str(path)], Confinement(User(54321, 54321)))
    assert status != 0
    assert b"Permission denied" in output


def test_file_that_is_no_program_is_not_given_to_a_shell(tmp_path: Path) -> None:
    """execvp(3) would, and prlimit(1) uses it."""
    path = tmp_path / "x"
    path.write_text("echo ran\n")
    path.chmod(0o755)
    with pytest.raises(OSError, match="Exec format error") as raised:
        run([str(path)], Confinement(limits=ResourceLimits(core=0)))
    assert raised.value.errno == errno.ENOEXEC


@pytest.mark.parametrize("beyond", ["ours", "of the system", "of its numbers"])
def test_limits_that_cannot_be_given_are_found(beyond: str) -> None:
    """What is found is what prlimit(1) cannot do; root may raise ours, with CAP_SYS_RESOURCE."""
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    assert list(ResourceLimits(open_files=ours[1], core=0).refused()) == []
    limits = ResourceLimits(open_files={"ours": ours[1], "of the system": most}.get(beyond, 2**64) + 1)
    refused = run(["/bin/true"], Confinement(limits=limits))[0] != 0
    assert refused or beyond == "ours"
    assert list(limits.refused()) == ([("open_files", ours[1])] if refused else [])
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == ours


def test_root_may_change_users() -> None:
    assert may_change_user() == (os.geteuid() == 0)
