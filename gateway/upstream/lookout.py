"""Whether a server that keeps a request waiting is frozen, or only takes its time.

A server that is frozen (stopped, swapping, deadlocked) accepts connections and answers nobody; one that works
on a long request answers others meanwhile. So a request does not wait for ``timeouts.first_byte`` where it
could be answered elsewhere: now and then it looks whether anybody has got an answer of this server since.

Peers: nginx tries another server after proxy_read_timeout only (60 s), HAProxy if told to (``retry-on
response-timeout``), Envoy after per_try_timeout if that is set; each whether others are answered or not.
"""

from collections.abc import Sequence

from gateway.upstream.group import ServerGroup
from gateway.upstream.server import Server


class Lookout:
    """For one try, at *server* of *group*, from *now* on; those that were *tried* have failed already."""

    __slots__ = ("_group", "_looked_at", "_server", "_tried", "_until", "seconds")

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
        """A look each so many *seconds*; not beyond *until*, when another try may not begin any more."""
        self._group = group
        self._server = server
        self._tried = tried
        self._looked_at = now
        self._until = until
        self.seconds = seconds

    def is_frozen(self, now: float) -> bool:
        """Whether nobody has got an answer since the last look, and another server can be asked."""
        if now >= self._until:
            return False
        silent = self._server.answered_at < self._looked_at
        self._looked_at = now
        return silent and self._group.has_another(self._server, self._tried)

    def looks_again(self, now: float) -> bool:
        """Whether there is a next look after one *now*."""
        return now + self.seconds < self._until
