"""What a backend has seen of a row, however the row was sent, and how it differs from what it should have."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Seen(NamedTuple):
    """A request as a backend sees it: the path is decoded."""

    method: str
    target: str
    body: bytes = b""


@dataclass
class Recorded:
    """A request, and its fields by lower-case name with dashes."""

    seen: Seen
    fields: dict[str, str]
    facts: dict[str, str] = field(default_factory=dict)
    """What CGI variables say, by name, one character per byte, as far as the kind of backend is told."""


def wrong_requests(
    requests: list[Recorded],
    expected: tuple[Seen, ...],
    fields: Iterable[tuple[str, str | None]] = (),
    *,
    ordered: bool = True,
    certain: bool = True,
) -> list[str]:
    """What is wrong with *requests*, where *expected* should be.

    *fields* of the first one must have these values, or (None) be absent. Without *ordered* they may come in
    any order, without *certain* each may be missing.
    """
    seen = [request.seen for request in requests]
    if not certain:
        expected = tuple(each for each in expected if each in seen)
    if not ordered:
        requests = sorted(requests, key=lambda request: _place(request.seen, expected))
        seen = [request.seen for request in requests]
    if tuple(seen) != expected:
        return [f"the backend saw {seen}, not {expected}"]
    if not requests:
        return []
    found = requests[0].fields
    return [
        f"the field {name} is {found.get(name)!r}, not {value!r}"
        for name, value in fields
        if found.get(name) != value
    ]


def _place(seen: Seen, expected: tuple[Seen, ...]) -> int:
    return expected.index(seen) if seen in expected else len(expected)
