"""A bounded memory of what the same bytes mean.

Peers say the same again and again: an application its response head, a client its header fields. What
was parsed and checked once need not be parsed and checked when exactly the same bytes come again; that
is a tenth of the cost. Nothing is assumed: another byte, another entry.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

LONGEST_HEAD: Final = 1024
"""Bytes of a head worth keeping: longer ones carry cookies and tokens, and do not come again."""


class Memo(dict[Key, Value], Generic[Key, Value]):
    """At most *size* entries; when it is full it begins anew, which costs less than choosing."""

    __slots__ = ("_size",)

    def __init__(self, size: int = 256) -> None:
        super().__init__()
        self._size = size

    def keep(self, key: Key, value: Value) -> None:
        """Remember *value* under *key*."""
        if len(self) >= self._size:
            self.clear()
        self[key] = value


def is_personal(head: bytes) -> bool:
    """Whether the response head *head* sets a cookie: it is one client's, and does not come again."""
    return b"set-cookie" in head.lower()
