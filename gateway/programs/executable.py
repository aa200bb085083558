"""Why a file that was found cannot be run.

execve(2) answers with one number where people need a sentence: ENOENT for a program that is there means its
interpreter, and a first line from Windows names one that nobody can see is wrong.
"""

import errno
import os
from typing import Final

PROGRAM_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
"""PATH for CGI programs unless configured: where the system's interpreters are."""

_FIRST_LINE: Final = 256
"""Bytes of the first line that the kernel looks at (BINPRM_BUF_SIZE)."""

_ELF: Final = b"\x7fELF"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def check_executable(filename: str | bytes) -> None:
    """Raises the OSError that execve(2) would give for *filename*, as far as its beginning tells.

    For programs that are run through another one, whose exec cannot fail: what it finds out itself it
    would only print, and a file that is no program it would give to a shell (execvp(3)).
    """
    head = _read_head(filename)
    interpreter = _interpreter_of(head)
    if interpreter is not None:
        os.stat(interpreter)
    elif not head.startswith(_ELF):
        raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC), filename)


def shebang(filename: bytes) -> tuple[bytes, ...]:
    """The interpreter in the first line of *filename*, and its argument if it has one; nothing if none.

    As execve(2) splits it: all that follows the interpreter is one argument.
    """
    try:
        head = _read_head(filename)
    except OSError:
        return ()
    interpreter = _interpreter_of(head)
    if interpreter is None:
        return ()
    argument = _line(head)[len(interpreter) :].strip(b" \t")
    return (interpreter, argument) if argument else (interpreter,)


def explain(filename: str | bytes, error: OSError) -> str:
    """Why execve(2) of *filename*, which exists, failed with *error*."""
    try:
        head = _read_head(filename)
    except OSError:
        return error.strerror or str(error)
    interpreter = _interpreter_of(head)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR if interpreter is not None:
            if interpreter.endswith(b"\r"):
                name = _show(interpreter.rstrip(b"\r"))
                return f"its lines end with CR LF: the system looks for an interpreter called {name}\\r"
            return f"the interpreter in its first line does not exist: {_show(interpreter)}"
        case errno.ENOENT if head.startswith(_ELF):
            return "the loader that it was linked for does not exist: it is from another system"
        case errno.EACCES if interpreter is not None:
            return f"it, or the interpreter in its first line, may not be run: {_show(interpreter)}"
        case errno.ENOEXEC if head.startswith(_BYTE_ORDER_MARK + b"#!"):
            return "a byte order mark stands before the #! of its first line"
        case errno.ENOEXEC if interpreter is not None:
            return f"the interpreter in its first line is no program: {_show(interpreter)}"
        case errno.ENOEXEC:
            return "it is no program of this machine, nor a script with #! in its first line"
        case _:
            return error.strerror or str(error)


def _read_head(filename: str | bytes) -> bytes:
    descriptor = os.open(filename, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(descriptor, _FIRST_LINE)
    finally:
        os.close(descriptor)


def _interpreter_of(head: bytes) -> bytes | None:
    """The interpreter as execve(2) reads it: up to a blank, or to the end of the line."""
    if not head.startswith(b"#!"):
        return None
    return _line(head).replace(b"\t", b" ").partition(b" ")[0] or None


def _line(head: bytes) -> bytes:
    """What stands behind ``#!``."""
    return head[2:].partition(b"\n")[0].strip(b" \t")


def _show(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
