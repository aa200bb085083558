"""The listening sockets of the daemon: opened once, and kept as long as a configuration has their address."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.config import Config, ListenAddress, Listener
from gateway.errors import StartError
from gateway.listener import ListeningSocket, open_listener, own_listener
from gateway.net.address import UnixAddress


@dataclass(frozen=True, slots=True)
class Opened:
    """The sockets of one configuration, each beside the number of its listener."""

    listeners: list[tuple[int, ListeningSocket]]
    control: list[ListeningSocket]
    metrics: list[ListeningSocket]

    def all(self) -> list[ListeningSocket]:
        """All of them, those of the listeners first."""
        return [*(listening for _, listening in self.listeners), *self.control, *self.metrics]


_Key: TypeAlias = tuple[str, str, int]
"""What the socket is for, its address, and how many there are before it with that address (port 0)."""


class Sockets:
    """What is open."""

    def __init__(self) -> None:
        self._held: dict[_Key, list[ListeningSocket]] = {}
        self._lost: list[ListeningSocket] = []
        """Those in whose place there are others: somebody has removed their files."""

    def open(self, config: Config) -> Opened:
        """The sockets for *config*; those that are open already are used again. Raises StartError."""
        before = dict(self._held)
        seen: Counter[str] = Counter()
        listeners = []
        try:
            for number, listener in enumerate(config.listeners):
                address = str(listener.address)
                found = self._get(("listener", address, seen[address]), listener)
                listeners += [(number, listening) for listening in found]
                seen[address] += 1
            return Opened(
                listeners, self._own("control", config.control), self._own("metrics", config.metrics)
            )
        except BaseException:
            self._close(key for key, held in self._held.items() if before.get(key) is not held)
            raise

    def keep(self, wanted: Opened) -> None:
        """Close what *wanted* does not have."""
        kept = {id(listening) for listening in wanted.all()}
        self._close(key for key, held in self._held.items() if id(held[0]) not in kept)
        self._forget_lost(kept)

    def close_listeners(self) -> None:
        """Close those for clients, which are refused from now on."""
        self._close(key for key in self._held if key[0] == "listener")

    def close(self) -> None:
        """Close all."""
        self._close(self._held)
        self._forget_lost(set())

    def _own(self, purpose: str, address: ListenAddress | None) -> list[ListeningSocket]:
        if address is None:
            return []
        mode = 0o600 if purpose == "control" else None
        return self._get((purpose, str(address), 0), own_listener(address, mode=mode))

    def _get(self, key: _Key, listener: Listener) -> list[ListeningSocket]:
        if key in self._held and self._held[key][0].lost:
            # What serves may have connections of it that wait.
            self._lost += self._held.pop(key)
        if key not in self._held:
            self._held[key] = open_listener(listener)
        elif isinstance(listener.address, UnixAddress) and listener.mode is not None:
            try:
                os.chmod(listener.address.path, listener.mode)
            except OSError as error:
                raise StartError(f"cannot listen on {listener.address}: {error.strerror}") from error
        for listening in self._held[key]:
            listening.listener = listener
            listening.sock.listen(listener.backlog)
        return self._held[key]

    def _close(self, keys: Iterable[_Key]) -> None:
        for key in list(keys):
            for listening in self._held.pop(key):
                listening.close()

    def _forget_lost(self, kept: set[int]) -> None:
        for listening in self._lost:
            if id(listening) not in kept:
                listening.close()
        self._lost = [listening for listening in self._lost if id(listening) in kept]
