"""What programs and applications are started with: commands and environments."""

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, ValidationInfo

from gateway.config.env_file import parse_env_file
from gateway.config.values.files import (
    PATH_SCHEMA,
    absolute_path,
    base_directory,
    check_reachable,
    parse_path,
)
from gateway.config.values.parsed import Parsed, ParsedInPlace
from gateway.config.values.shapes import switch
from gateway.config.values.texts import TEXT
from gateway.config.wording import expected, expected_text, show_path
from gateway.programs.executable import PROGRAM_PATH
from gateway.reading import read_now


def parse_command(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    """A program and its arguments; a program with a slash is relative to the configuration file."""
    if not isinstance(value, list):
        raise expected("a list such as [PROGRAM, ARGUMENT]", value)
    for word in value:
        if not isinstance(word, str) or "\0" in word:
            raise expected_text(word, "a program and its arguments, each text")
    if not value or not value[0]:
        raise ValueError("expected a program and its arguments, got an empty list")
    program, *arguments = (str(word) for word in value)
    return (absolute_path(program, base_directory(info)) if "/" in program else program, *arguments)


def parse_interpreter(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    """A program that exists, with arguments or without: ``perl`` or ``[perl, -T]``."""
    program, *arguments = parse_command([value] if isinstance(value, str) else value, info)
    found = shutil.which(program, path=PROGRAM_PATH)
    if found is None:
        where = "" if "/" in program else f" in {PROGRAM_PATH}"
        raise ValueError(f"there is no program {show_path(program)}{where}")
    return (found, *arguments)


def parse_extension(value: Any) -> str:
    """How the name of a file ends, from the dot on."""
    if not isinstance(value, str) or not re.fullmatch(r"\.[^/\0-\x1f\x7f]+", value):
        raise expected("an extension such as .cgi", value)
    return str(value)


Interpreter: TypeAlias = Annotated[
    tuple[str, ...],
    ParsedInPlace(
        parse_interpreter,
        {
            "anyOf": [
                PATH_SCHEMA,
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        },
    ),
]
Extension: TypeAlias = Annotated[
    str, Parsed(parse_extension, {"type": "string", "examples": [".cgi", ".pl"]})
]
Command: TypeAlias = Annotated[
    tuple[str, ...],
    ParsedInPlace(parse_command, {"type": "array", "items": {"type": "string"}, "minItems": 1}),
]


_NAME: Final = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"


def parse_object_name(value: Any) -> str:
    """``module:attribute``, as Python servers write it."""
    if isinstance(value, str) and re.fullmatch(f"{_NAME}:{_NAME}", value):
        return str(value)
    example = "app:application"
    if isinstance(value, str):
        if file := _FILE_OF_OBJECT.fullmatch(value):
            example = f"{file[1].replace('/', '.')}:{file[2] or 'app'}"
        elif re.fullmatch(_NAME, value):  # gunicorn has a default
            example = f"{value}:application"
        elif call := _CALL.fullmatch(value):  # gunicorn, flask
            example = f"{call[1]} and factory (--factory)"
            if call[2].strip():
                example += ", of a function that takes no arguments"
    raise expected(f"module:attribute, such as {example}", value)


_FILE_OF_OBJECT: Final = re.compile(r"(?:\./)*(\w+(?:/\w+)*)\.py(?::(\w+))?")
_CALL: Final = re.compile(rf"({_NAME}:{_NAME})\((.*)\)", re.DOTALL)


ObjectName: TypeAlias = Annotated[
    str,
    Parsed(parse_object_name, {"type": "string", "pattern": r"^[^:]+:[^:]+$|\$\{.+\}"}),
]


def parse_stop_signal(value: Any) -> signal.Signals:
    """The name of a signal that asks a process to end: TERM, or SIGTERM."""
    name = value.upper().removeprefix("SIG") if isinstance(value, str) else ""
    if name not in _STOP_SIGNALS:
        raise expected(f"a signal ({', '.join(_STOP_SIGNALS)})", value)
    return signal.Signals[f"SIG{name}"]


_STOP_SIGNALS: Final = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH")
StopSignal: TypeAlias = Annotated[
    signal.Signals,
    Parsed(parse_stop_signal, {"enum": [*_STOP_SIGNALS, *(f"SIG{name}" for name in _STOP_SIGNALS)]}),
]
Lifespan: TypeAlias = Annotated[Literal["auto", "on", "off"], BeforeValidator(switch)]


# ---- environments


def parse_virtual_environment(value: Any, info: ValidationInfo) -> Path:
    """The directory of a virtual environment (PEP 405)."""
    path = parse_path(value, info)
    python = path / "bin" / "python"
    if not os.access(python, os.X_OK):
        check_reachable(python)
        if python.is_symlink():  # of pyenv or uv: below a home directory that other users may not enter
            target = show_path(os.path.realpath(python))
            raise ValueError(
                f"{show_path(path)}: its bin/python is a link to {target}, "
                "which is not there, or which this user may not run"
            )
        raise ValueError(f"{show_path(path)} is not a virtual environment: there is no bin/python")
    return path


VirtualEnvironment: TypeAlias = Annotated[Path, ParsedInPlace(parse_virtual_environment, PATH_SCHEMA)]


def parse_env_file_value(value: Any, info: ValidationInfo) -> dict[str, str]:
    """The variables in a file of ``NAME=VALUE`` lines; see `gateway.config.env_file`."""
    path = parse_path(value, info)
    try:
        return parse_env_file(read_now(path).decode("utf-8"))
    except OSError as error:
        raise ValueError(f"{show_path(path)} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{show_path(path)}: {error}") from None


EnvFile: TypeAlias = Annotated[dict[str, str], ParsedInPlace(parse_env_file_value, PATH_SCHEMA)]


def parse_passed_variable(value: Any) -> str:
    """The name of a variable, or the beginning of several and ``*``."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?|\*", value, re.ASCII):
        raise expected("the name of a variable such as LANG, or LC_*", value)
    return str(value)


PassedVariable: TypeAlias = Annotated[str, Parsed(parse_passed_variable, {"type": "string"})]


def parse_variable_name(value: Any) -> str:
    """The name of a variable of the application's environment."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value, re.ASCII):
        raise expected("a variable name such as APP_ENV", value)
    return str(value)


VariableName: TypeAlias = Annotated[str, Parsed(parse_variable_name, TEXT)]


def parse_variable_value(value: Any) -> str:
    """Its value: any text but with NUL, which is the end of one (environ(7))."""
    if not isinstance(value, str):
        raise expected_text(value)
    if "\0" in value:
        raise expected("text without NUL", value)
    return str(value)


Environment: TypeAlias = dict[VariableName, Annotated[str, Parsed(parse_variable_value, TEXT)]]
