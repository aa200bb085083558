r"""Files of environment variables, ``.env``: what shells, Docker and the libraries of that name agree on.

::

    # a comment
    export NAME=value            # the rest of the line is one, too
    NAME="with \\n, \\t, \\", \\\\ and \\$, over several lines"
    NAME='nothing is special here, but the end'

Nothing is expanded: ``$`` is a character like others.
"""

import re
from collections.abc import Mapping
from typing import Final

_LINE: Final = re.compile(
    r"""
    [ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
    (?: "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>[^']*)' | (?P<plain>[^'"\n#][^\n]*)? )
    (?P<rest>[^\n]*)(?:\n|\Z)
    """,
    re.ASCII | re.VERBOSE | re.DOTALL,
)
_NOTHING: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_COMMENT: Final = re.compile(r"[ \t]*(?:#.*)?", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


def parse_env_file(text: str) -> dict[str, str]:
    """The variables; of several with one name the last. Raises ValueError, with the number of the line."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        if nothing := _NOTHING.match(text, position):
            position = nothing.end()
            continue
        line = _LINE.match(text, position)
        if line is None or not _COMMENT.fullmatch(line["rest"]):
            raise ValueError(f"line {text.count(chr(10), 0, position) + 1}: expected NAME=VALUE")
        value = _value(line)
        if "\0" in value:
            raise ValueError(f"line {text.count(chr(10), 0, position) + 1}: NUL ends no variable")
        found[line["name"]] = value
        position = line.end()
    return found


def merged(*sources: Mapping[str, str]) -> dict[str, str]:
    """The variables of all *sources*; later ones win."""
    found: dict[str, str] = {}
    for source in sources:
        found.update(source)
    return found


def _value(line: re.Match[str]) -> str:
    if line["double"] is not None:
        return re.sub(
            r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), line["double"], flags=re.DOTALL
        )
    if line["single"] is not None:
        return line["single"]
    # A comment begins after white space: a `#` may be part of a password.
    return re.sub(r"[ \t]+#.*", "", line["plain"] or "").rstrip()
