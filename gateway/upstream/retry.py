"""Whether a request is tried once more after a failure: a plain decision.

Nothing is repeated of which the client has seen a byte. A connection that failed has carried nothing, so the
next server may be tried for any method. Once the request may have been acted on, only what is meant to be
repeatable is repeated (RFC 9110 9.2.2, H-14), and unless it is configured otherwise only
once: a failed retry is not retried.
"""

from dataclasses import dataclass

from gateway.errors import BackendError, Cause, Phase
from gateway.request import IDEMPOTENT
from gateway.upstream.health import is_ours


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how long, and what."""

    tries: int | None
    """In all; None: each server once."""
    time: float
    """Seconds from the first in which another may begin."""
    status: frozenset[int]
    """Statuses of responses that count as failures."""
    all_methods: bool
    """Also those that are not idempotent."""
    per_try: float
    """Seconds that a server may be silent, to everybody, before another is asked; 0: any."""

    def allows(
        self,
        failure: BackendError,
        *,
        tries: int,
        sent: int,
        servers: int,
        seconds: float,
        method: str,
        replayable: bool,
    ) -> bool:
        """Whether there is another try after *failure*.

        *tries* have been made, *sent* of them have sent something; *seconds* have passed since the first.
        *replayable*: the body can be sent again.
        """
        if seconds >= self.time or tries >= (self.tries or servers) or is_ours(failure):
            return False
        if failure.phase is Phase.CONNECT:
            return True
        if not replayable:
            return False
        if failure.cause is Cause.OVERLOADED:
            return True  # FCGI-14: what was refused was not acted on.
        return self.may_repeat(method) and (self.tries is not None or sent <= 1)

    def may_repeat(self, method: str) -> bool:
        """Whether a request that may have been acted on may be sent again, as far as its method goes."""
        return self.all_methods or method in IDEMPOTENT
