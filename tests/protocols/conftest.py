"""What the tests of all codecs share: feeding bytes in pieces and reading the events."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import pytest

from gateway.protocols.events import NEED_DATA, Data

Events: TypeAlias = list[Any]
Play: TypeAlias = Callable[..., Events]
"""``play(codec, data, cuts=(), end=False)``: see :func:`play_bytes`."""


def pieces(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """*data* cut at each position in *cuts*; no empty piece."""
    edges = sorted({0, len(data), *(cut for cut in cuts if 0 < cut < len(data))})
    return (data[start:stop] for start, stop in pairwise(edges))


def read_events(codec: Any) -> Iterator[Any]:
    while (event := codec.next_event()) is not NEED_DATA:
        yield event


def joined(events: Iterable[Any]) -> Events:
    """The events with neighbouring pieces of body made one: where they are split has no meaning."""
    result: Events = []
    for event in events:
        if isinstance(event, Data) and result and isinstance(result[-1], Data):
            result[-1] = Data(result[-1].data + event.data)
        else:
            result.append(event)
    return result


def play_bytes(codec: Any, data: bytes, cuts: Iterable[int] = (), end: bool = False) -> Events:
    """Give *data* to *codec* in pieces, and the end of input if *end*; return the events it gave."""

    def events() -> Iterator[Any]:
        for piece in pieces(data, cuts):
            codec.receive_data(piece)
            yield from read_events(codec)
        if end:
            codec.receive_data(b"")
            yield from read_events(codec)

    return joined(events())


def rows(table: dict[str, tuple[Events, bytes]]) -> pytest.MarkDecorator:
    """A test for each of *table*: events, and the bytes that they are."""
    return pytest.mark.parametrize(("events", "wire"), table.values(), ids=table.keys())


@pytest.fixture(scope="session")
def play() -> Play:
    return play_bytes
