"""Whether a server that keeps a request waiting is frozen, or only takes its time.

A server that is frozen (stopped, swapping, deadlocked) accepts connections and answers nobody; one that works
on a long request answers others meanwhile. So a request does not wait for ``timeouts.first_byte`` where it
could be answered elsewhere: it goes there when nobody has got an answer of this server for some seconds.

Peers: nginx tries another server after proxy_read_timeout only (60 s), HAProxy if told to (``retry-on
response-timeout``), Envoy after per_try_timeout if that is set; each whether others are answered or not.
"""

from collections.abc import Sequence
from math import inf

from gateway.upstream.group import ServerGroup
from gateway.upstream.server import Server


class Lookout:
    """For one try, at *server* of *group*, from *now* on; those that were *tried* have failed already."""

    __slots__ = ("_began", "_group", "_server", "_tried", "_until", "seconds")

    def __init__(
        self,
        group: ServerGroup,
        server: Server,
        tried: Sequence[Server],
        *,
        seconds: float,
        now: float,
        until: float,
    ) -> None:
        """A server that is silent for so many *seconds* is frozen; from *until* on no other is tried."""
        self._group = group
        self._server = server
        self._tried = tried
        self._began = now
        self._until = until
        self.seconds = seconds

    def is_frozen(self, now: float) -> bool:
        """Whether nobody has got an answer for long enough, and another server can be asked."""
        return self._due() <= now < self._until and self._group.has_another(self._server, self._tried)

    def next_look(self, now: float) -> float:
        """When to look again; inf if that is too late for another try."""
        due = self._due()
        if due <= now:
            due = now + self.seconds  # it is silent, and nobody else can be asked
        return due if due < self._until else inf

    def _due(self) -> float:
        """When it has been silent for long enough, if it says nothing until then."""
        return max(self._began, self._server.answered_at) + self.seconds
