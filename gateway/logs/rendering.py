"""What an entry of the log of events looks like: a line of JSON, or lines to read."""

import json
from enum import Enum
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

from gateway.escape import printable
from gateway.stacks import name_of


def plain(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Values as JSON has them; what else there is (addresses, paths, errors) as its text."""
    for key, value in event.items():
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, bytes):
            event[key] = value.decode("utf-8", "backslashreplace")
        else:
            event[key] = value if value is None or isinstance(value, str) else _data(value)
    return event


def _data(value: Any) -> Any:
    """Strictly as JSON has it: NaN, a loop, or a key that is no text, makes a text of the whole.

    Whatever the code of an application makes of the question, nothing is raised.
    """
    try:
        return json.loads(json.dumps(value, default=_text, allow_nan=False))
    except Exception:
        return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as wrong:
        return f"{type(value).__name__}: str() of it failed: {name_of(wrong)}"


def as_json(_logger: object, _method: str, event: EventDict) -> str:
    """One line of ASCII; JSON escapes all control characters."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    return json.dumps({**first, **event})


def json_within(longest: int) -> Processor:
    """As `as_json`, with values cut in the middle where it takes *longest* bytes."""

    def render(logger: object, method: str, event: EventDict) -> EventDict | str:
        line = as_json(logger, method, {**event})
        room = longest
        while len(line) >= longest and room > _SHORT:
            room //= 2
            line = as_json(logger, method, {key: _cut(value, room) for key, value in event.items()})
        return line

    return render


_SHORT: Final = 128
"""Characters of a value, or fewer, that are not worth cutting."""


def _cut(value: Any, room: int) -> Any:
    """*value*, without its middle beyond *room* characters: of a traceback both ends matter."""
    if isinstance(value, list | tuple | dict):
        value = json.dumps(value)
    if not isinstance(value, str) or len(value) <= room:
        return value
    return f"{value[: room // 2]} [... {len(value) - room} characters ...] {value[-room // 2 :]}"


def readable(colours: bool) -> list[Processor]:
    """For people, with *colours* or without."""
    # A plain traceback: the pretty ones show local variables, and with them secrets.
    return [
        _brief,
        _harmless,
        structlog.dev.ConsoleRenderer(
            colors=colours, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _brief(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Without what is not known; lists as words, so that an address can be copied, or clicked on."""
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in event.items()
        if value is not None
    }


def _harmless(_logger: object, _method: str, event: EventDict) -> EventDict:
    """No key and no value can begin a line or send a control sequence; a traceback stands indented below."""
    event = {printable(key): _harmless_value(key, value) for key, value in event.items()}
    if "stack" in event and "exception" in event:  # between the two, structlog would draw a line
        event["stack"] += "\n" + event.pop("exception")
    return event


def _harmless_value(key: str, value: Any) -> Any:
    if key in ("exception", "stack"):
        return "\n".join(f"    {printable(line)}" for line in str(value).splitlines())
    return printable(value) if isinstance(value, str) else value
