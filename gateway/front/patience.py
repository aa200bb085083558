"""How long a client may keep the gateway waiting: a bound on silence and on dribbling at once.

A bound on the time between two reads alone lets a client hold a request for ever with one byte now and
then (slowloris). So waiting spends from a store of seconds, and what the client sends or takes refills it at
a minimum rate, never above where it began: Apache's ``RequestReadTimeout body=20,MinRate=500``, but what
came quickly at first is no credit for dribbling later. Only waiting counts, not the time that an
application takes.

It keeps no clock and sets no timer: the caller says how long it waited.
"""

from gateway.net.pump import OVERSLEPT


class Patience:
    """The seconds that are left for waiting in one body."""

    __slots__ = ("_left", "_most", "_rate")

    def __init__(self, most: float, rate: int) -> None:
        """*most* seconds of silence; *rate* in bytes per second, 0 for no minimum."""
        self._most = self._left = most
        self._rate = rate

    @property
    def left(self) -> float:
        """Seconds that the next wait may take, none if the client was too slow already."""
        return max(0.0, self._left)  # a deadline in the past would look `overslept`, for ever

    def spend(self, waited: float, moved: int) -> None:
        """*waited* seconds have gone by, in which *moved* bytes came or went."""
        if self._rate:
            if waited > self.left + OVERSLEPT:
                waited = 0.0  # Nobody waits so long: the gateway was stopped meanwhile (`overslept`).
            self._left = min(self._most, self._left - waited + moved / self._rate)
