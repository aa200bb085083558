"""Connections to an application's processes, which each have a socket of their own beside the common one.

A request goes to the process that has the fewest, in turn among equals: each connection is known to lead to
one. On the common socket, whoever is awake would take a connection, and many of them, and keep them.

While none has a socket that answers, because all of them start or have ended, connections wait on the common
one for the first that is there. They lead to nobody knows whom, and are not kept.
"""

from collections.abc import Callable, Sequence

from gateway.errors import BackendError, Cause
from gateway.net.address import UnixAddress
from gateway.net.pump import Pump
from gateway.net.stream import PumpStream
from gateway.protocols.codec import ClientCodec
from gateway.request import Request
from gateway.upstream.dial import Dialer
from gateway.upstream.pool import Pool, PoolPolicy, UpstreamConnection


class Seat(Pool):
    """The connections to one process."""

    __slots__ = ("gone", "in_flight", "turn")

    def __init__(self, pump: Pump, dialer: Dialer, policy: PoolPolicy) -> None:
        super().__init__(pump, dialer, policy)
        self.in_flight = 0
        """Connections that are being made or used."""
        self.turn = 0
        """Which of all that were entered it was when it was for the last time."""
        self.gone = False
        """The process takes no more of them."""

    def add(self, stream: PumpStream, codec: ClientCodec) -> UpstreamConnection:
        return SeatedConnection(
            stream, codec, epoch=self.epoch, retires_at=self._pump.now + self._policy.age, seat=self
        )


class SeatedConnection(UpstreamConnection):
    """A connection to a process that is known. It is in use at first."""

    __slots__ = ("in_use", "seat")

    def __init__(
        self, stream: PumpStream, codec: ClientCodec, *, epoch: int, retires_at: float, seat: Seat
    ) -> None:
        super().__init__(stream, codec, epoch=epoch, retires_at=retires_at)
        self.seat = seat
        self.in_use = True

    def leave(self) -> None:
        """It is in use no more, if it was."""
        if self.in_use:
            self.in_use = False
            self.seat.in_flight -= 1

    def close(self) -> None:
        self.leave()
        super().close()


class SeatedPool(Pool):
    """Implements `Pool` for an application of several processes. `follow` tells of them.

    *make_dialer* makes what connects to one of them, by its address.

    The number of its connections is not limited: none has to be closed for another (`close_oldest`).
    """

    __slots__ = ("_entered", "_make_dialer", "_seats")

    def __init__(
        self, pump: Pump, dialer: Dialer, policy: PoolPolicy, make_dialer: Callable[[UnixAddress], Dialer]
    ) -> None:
        super().__init__(pump, dialer, policy)
        self._make_dialer = make_dialer
        self._seats: list[Seat] = []
        self._entered = 0

    def follow(self, addresses: Sequence[UnixAddress]) -> None:
        """These are the processes that take requests."""
        known = {seat.dialer.address: seat for seat in self._seats}
        seats = []
        for address in addresses:
            seat = known.pop(address, None)
            seats.append(seat or Seat(self._pump, self._make_dialer(address), self._policy))
        self._seats = seats
        for seat in known.values():
            _dismiss(seat)

    @property
    def idle(self) -> int:
        return sum([seat.idle for seat in self._seats])

    def take(self) -> UpstreamConnection | None:
        seat = self._choose()
        connection = None if seat is None else seat.take()
        if connection is not None:
            assert isinstance(connection, SeatedConnection)
            connection.in_use = True
            self._enter(connection.seat)
        return connection

    async def dial(self, codec: ClientCodec, request: Request) -> UpstreamConnection:
        while (seat := self._choose()) is not None:
            self._enter(seat)  # others that choose meanwhile see it
            try:
                return seat.add(await seat.dialer.dial(request), codec)
            except BackendError as error:
                seat.in_flight -= 1
                if error.cause is not Cause.REFUSED:
                    raise
                # It has ended, or is about to, which we have not been told yet.
                self._drop(seat)
            except BaseException:
                seat.in_flight -= 1
                raise
        return self.add(await self.dialer.dial(request), codec)

    def give_back(self, connection: UpstreamConnection) -> None:
        if not isinstance(connection, SeatedConnection) or connection.seat.gone:
            connection.close()
            return
        connection.leave()
        connection.seat.give_back(connection)

    def _choose(self) -> Seat | None:
        """The one with the fewest requests; None if there is none."""
        best: Seat | None = None
        for seat in self._seats:
            if (
                best is None
                or seat.in_flight < best.in_flight
                or (seat.in_flight == best.in_flight and seat.turn < best.turn)
            ):
                best = seat
        return best

    def _enter(self, seat: Seat) -> None:
        seat.in_flight += 1
        self._entered += 1
        seat.turn = self._entered

    def find_ended(self, connection: UpstreamConnection) -> None:
        # unix(7): it is connected to until the last of its descriptors is closed.
        if isinstance(connection, SeatedConnection):
            self._drop(connection.seat)

    def _drop(self, seat: Seat) -> None:
        self._seats = [each for each in self._seats if each is not seat]
        _dismiss(seat)

    def close_expired(self) -> None:
        for seat in self._seats:
            seat.close_expired()

    def renew(self) -> None:
        for seat in self._seats:
            seat.renew()

    def close(self) -> None:
        for seat in self._seats:
            seat.close()


def _dismiss(seat: Seat) -> None:
    """Its process takes no more connections: close those that it does not use."""
    seat.gone = True
    seat.close()
