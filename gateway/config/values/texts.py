"""Names, secrets, regular expressions and templates. All stay text: they are checked here and compiled
where they are used.
"""

import re
from typing import Annotated, Any, Final, TypeAlias

from gateway.config.values.parsed import Parsed
from gateway.config.wording import expected, expected_text, show
from gateway.template import Template

TEXT: Final = {"type": "string"}


def parse_name(value: Any) -> str:
    """The name of a backend: what logs, metrics and Proxy-Status call it (RFC 9209 2)."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", value, re.ASCII):
        raise expected("a name of letters, digits, '-', '_' and '.'", value)
    return str(value)


Name: TypeAlias = Annotated[str, Parsed(parse_name, TEXT)]


def parse_secret(value: Any) -> str:
    """A secret. What is wrong with it is said without it."""
    if not isinstance(value, str) or len(value) < 16:
        raise ValueError("expected text of at least 16 characters, best from a variable: ${SECRET}")
    return str(value)


Secret: TypeAlias = Annotated[str, Parsed(parse_secret, {"type": "string", "minLength": 7})]


def parse_shared_secret(value: Any) -> str:
    """What two programs know of each other; no message shows it."""
    if not isinstance(value, str) or not value or not (value.isprintable() and value.isascii()):
        raise ValueError("expected a text of printable ASCII characters, in quotes")
    return value


SharedSecret: TypeAlias = Annotated[str, Parsed(parse_shared_secret, {"type": "string"})]


def parse_regex(value: Any) -> str:
    """A regular expression of Python's re."""
    if not isinstance(value, str) or not value:
        raise expected("a regular expression", value)
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{show(value)} is no regular expression: {error}") from None
    return str(value)


Regex: TypeAlias = Annotated[str, Parsed(parse_regex, TEXT)]


# ---- templates


def parse_template(value: Any) -> str:
    """Text with placeholders such as ``{path}``; see `gateway.template`."""
    if not isinstance(value, str):
        raise expected_text(value)
    Template.parse(value)
    return str(value)


def parse_line_template(value: Any) -> str:
    """A template that stays on one line: header values, variables, redirect targets."""
    text = parse_template(value)
    # RFC 9110 5.5: CR, LF and NUL end or break a header field.
    if re.search(r"[\0-\x08\x0a-\x1f\x7f]", text):
        raise expected("text without control characters", value)
    return text


def parse_target(value: Any) -> str:
    """Where a redirect leads: a path, a URL, or a template of one."""
    text = parse_line_template(value)
    if not re.match(r"/|\{|[A-Za-z][A-Za-z0-9+.-]*://", text) or re.search(r"\s", text):
        raise expected("a path such as /new/{path.rest} or a URL", value)
    return text


def parse_path_target(value: Any) -> str:
    """A path with a query if need be, or a template of one."""
    text = parse_line_template(value)
    if not text.startswith("/") or re.search(r"[\s#]", text):
        raise expected("a path such as /verify?path={path}", value)
    return text


TemplateText: TypeAlias = Annotated[str, Parsed(parse_template, TEXT)]
LineTemplateText: TypeAlias = Annotated[str, Parsed(parse_line_template, TEXT)]
Target: TypeAlias = Annotated[
    str,
    Parsed(parse_target, {"type": "string", "examples": ["/new/{path.rest}", "https://{host}{path}"]}),
]
PathTarget: TypeAlias = Annotated[
    str,
    Parsed(parse_path_target, {"type": "string", "examples": ["/verify", "/verify?path={path}"]}),
]
