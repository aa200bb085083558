"""How mistakes are worded: one plain sentence each, in the terms of the file, never of the library.

Nothing in here knows a particular setting.
"""

from collections.abc import Iterable
from typing import Any

from pydantic_core import ErrorDetails

NOT_YET = "not supported yet"

LONGEST_VALUE = 60
"""Characters of a wrong value that a message shows."""

LONGEST_PATH = 4096
"""Those of a path: none is longer (PATH_MAX), and its end is what tells it from others."""


def show(value: Any, longest: int = LONGEST_VALUE) -> str:
    """*value* as a message shows it: short, on one line, without control characters."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            # Built from str: a subclass may have another repr.
            return repr(value[:longest] + "…" if len(value) > longest else str(value))
        case _:
            return str(value)


def show_path(path: object) -> str:
    """A path, or the name of a program, as a message shows it."""
    return show(str(path), LONGEST_PATH)


def expected(what: str, value: Any) -> ValueError:
    """The error for *value* where *what* should be."""
    return ValueError(f"expected {what}, got {show(value)}")


def expected_text(value: Any, what: str = "text") -> ValueError:
    """The error for *value*, which YAML has read as something else than text."""
    hint = " (put it in quotes)" if isinstance(value, bool | int | float) else ""
    return ValueError(f"{expected(what, value)}{hint}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """``did you mean …?`` if *word* looks like one of *known*, else nothing."""
    import difflib  # most files have no mistakes

    for close in difflib.get_close_matches(word, list(known), n=3, cutoff=0.6):
        # A slip of the fingers is seldom in the first letter: `threads` is not meant to be `headers`.
        if close[:1] == word[:1] or difflib.SequenceMatcher(None, word, close).ratio() >= 0.75:
            return f"did you mean {close}?"
    return ""


def alternatives(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *rest, last = words
    return f"{', '.join(rest)} or {last}" if rest else last


def describe(error: ErrorDetails) -> str:
    """The message for one error of the validation library."""
    kind = error["type"]
    value = error["input"]
    context = error.get("ctx", {})
    match kind:
        case "value_error":
            return str(context["error"])
        case "missing":
            return "is missing"
        case "greater_than_equal":
            return str(expected(f"a number of at least {context['ge']}", value))
        case "less_than_equal":
            return str(expected(f"a number of at most {context['le']}", value))
        case "literal_error":
            # pydantic lists the values as 'a', 'b' or 'c'.
            words = str(context["expected"]).replace("'", "")
            return str(expected(words if " or " in words else f"{words}, the only choice", value))
        case "string_type":
            return str(expected_text(value))
        case "bool_type" | "bool_parsing":
            return str(expected("true or false", value))
        case _ if kind.startswith("int_"):
            return str(expected("a whole number", value))
        case "tuple_type" | "list_type":
            return str(expected("a list", value))
        case "dict_type" | "model_type" | "model_attributes_type":
            return str(expected("a mapping", value))
        case _:
            return f"is not valid here, got {show(value)}"
