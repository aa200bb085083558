"""Paths: of files, directories and programs, and what is read from a file at once."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import ValidationInfo

from gateway.config.values.parsed import Parsed, ParsedInPlace
from gateway.config.values.texts import TEXT
from gateway.config.wording import expected, show_path
from gateway.failure.pages import ErrorPage, page_constants
from gateway.reading import read_now
from gateway.static.mime import content_type
from gateway.template import Template


def base_directory(info: ValidationInfo) -> Path:
    """The directory that relative paths start from."""
    context = info.context or {}
    return Path(context.get("directory", "."))


def absolute_path(path: str, base: Path) -> str:
    """*path*, from *base* if it is relative."""
    return os.path.abspath(base / path)


def parse_path(value: Any, info: ValidationInfo) -> Path:
    """A path, made absolute: relative ones start at the directory of the configuration file."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise expected("a path", value)
    return Path(absolute_path(value, base_directory(info)))


def parse_directory(value: Any, info: ValidationInfo) -> Path:
    """A directory that exists."""
    path = parse_path(value, info)
    if not os.path.isdir(path):
        raise ValueError(_missing(path, "a directory"))
    return path


def parse_program_or_directory(value: Any, info: ValidationInfo) -> Path:
    """A program, or a directory of programs."""
    path = parse_path(value, info)
    if os.path.isdir(path) or os.path.isfile(path):
        return path
    raise ValueError(_missing(path, "a program or a directory of programs"))


def check_runnable(path: Path) -> None:
    """Raises ValueError for a file that is not executable."""
    if os.path.isfile(path) and not os.access(path, os.X_OK):
        raise ValueError(f"{show_path(path)} is not executable: chmod +x it")


def _missing(path: Path, kind: str) -> str:
    check_reachable(path)
    what = "is not" if os.path.lexists(path) else "does not exist: expected"
    return f"{show_path(path)} {what} {kind}"


def check_reachable(path: Path) -> None:
    """Raises ValueError if what is at *path* cannot be seen: what is below a home is its owner's alone."""
    real = Path(os.path.realpath(path))
    for each in (*reversed(real.parents), real):
        try:
            os.stat(each)
        except PermissionError:
            closed = f"{show_path(each.parent)} is closed to the user that this runs as"
            raise ValueError(f"{show_path(path)} cannot be reached: {closed}") from None
        except OSError:
            return


PATH_SCHEMA: Final = {"type": "string", "minLength": 1}
FilePath: TypeAlias = Annotated[Path, ParsedInPlace(parse_path, PATH_SCHEMA)]
Directory: TypeAlias = Annotated[Path, ParsedInPlace(parse_directory, PATH_SCHEMA)]
ProgramOrDirectory: TypeAlias = Annotated[Path, ParsedInPlace(parse_program_or_directory, PATH_SCHEMA)]


def parse_destination(value: Any, info: ValidationInfo) -> Path | Literal["stdout", "stderr"]:
    """Where a log goes."""
    # Where they are sockets, as of services of systemd, those of /dev cannot be opened.
    if value in ("stdout", "/dev/stdout"):
        return "stdout"
    if value in ("stderr", "/dev/stderr"):
        return "stderr"
    if value == "-":  # gunicorn: standard output
        raise expected("stderr, stdout or the path of a file", value)
    return parse_path(value, info)


Destination: TypeAlias = Annotated[
    Path | Literal["stdout", "stderr"],
    ParsedInPlace(
        parse_destination, {"type": "string", "examples": ["stderr", "stdout", "/var/log/gateway/access.log"]}
    ),
]


def parse_file_mode(value: Any) -> int:
    """Permission bits from octal digits in quotes: YAML reads 0660 and 660 as two different numbers."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise expected('permissions in quotes, such as "0660"', value)
    return int(value, 8)


FileMode: TypeAlias = Annotated[
    int,
    Parsed(parse_file_mode, {"type": "string", "pattern": r"^0?[0-7]{3}$|\$\{.+\}"}),
]


def parse_file_name(value: Any) -> str:
    """The name of a file, without directories; or a suffix or a glob of one."""
    if not isinstance(value, str) or value in {"", ".", ".."} or re.search(r"[/\0-\x1f\x7f]", value):
        raise expected("the name of a file, without directories", value)
    return str(value)


FileName: TypeAlias = Annotated[str, Parsed(parse_file_name, TEXT)]


# ---- error pages


LARGEST_PAGE: Final = 2**20
"""Bytes of an error page: it is kept in memory, and sent to clients that did not get what they wanted."""


def parse_status_pattern(value: Any) -> str:
    """A status that tells of an error, ``404``, or all of a class, ``5xx``."""
    if not isinstance(value, str) or not re.fullmatch(r"[45]([0-9][0-9]|xx)", value, re.ASCII):
        raise expected("a status such as 404, or 4xx or 5xx", value)
    return str(value)


def parse_error_page(value: Any, info: ValidationInfo) -> ErrorPage:
    """The page in a file: a template, whose type the name of the file tells."""
    path = parse_path(value, info)
    try:
        content = read_now(path, LARGEST_PAGE + 1)
    except OSError as error:
        raise ValueError(f"{show_path(path)} cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_PAGE:
        raise ValueError(f"{show_path(path)} is larger than {LARGEST_PAGE} bytes")
    try:
        text = content.decode("utf-8")
        Template.parse(text, page_constants(500))
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise ValueError(f"{show_path(path)} is not UTF-8 text: byte 0x{byte:02x}") from None
    except ValueError as error:
        raise ValueError(f"{show_path(path)}: {error}") from None
    return ErrorPage(text, content_type(path.name))


StatusPattern: TypeAlias = Annotated[str, Parsed(parse_status_pattern, TEXT)]
ErrorPageFile: TypeAlias = Annotated[ErrorPage, ParsedInPlace(parse_error_page, PATH_SCHEMA)]
