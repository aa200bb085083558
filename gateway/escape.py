"""Text from elsewhere, made fit to be shown to people."""

import json
from collections.abc import Callable
from typing import Final

_ENTITIES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
"""As html.escape has them; its module takes long to load, and cannot be where no file can be opened."""


def printable(text: str) -> str:
    """*text* with everything escaped that is not a visible character or a space: always one line."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def markup(text: str) -> str:
    """*text* as HTML and XML have it: nothing in it acts as markup."""
    return text.translate(_ENTITIES)


def quoting(content_type: bytes) -> Callable[[str], str] | None:
    """How a value is written inside a document of that type, so that it stays a value; None for as it is."""
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type == b"text/html" or media_type.endswith(b"xml"):
        return markup
    if media_type.endswith(b"json"):
        return lambda value: json.dumps(value)[1:-1]
    return None
