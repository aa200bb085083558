"""The addresses of one backend: whose turn it is, a connection to it, one exchange, and what then.

Connections are reused where the codec says that it is safe. A reused connection that turns out to be
dead before the answer began is replaced once by a fresh one, if asking again can do no harm
(RFC 9110 9.2.2; complaints.md 35, 36).
"""

from collections.abc import Callable
from typing import Final

import trio

from gateway.errors import BackendError, Cause, Phase
from gateway.pump import Pump
from gateway.request import Request, Responder
from gateway.upstream.dial import Dialer, SocketAddress
from gateway.upstream.exchange import Exchange, StaleConnectionError, UpstreamTimeouts
from gateway.upstream.pool import Pool, UpstreamConnection
from gateway.upstream.tunnel import Switch
from protocols.codec import ClientCodec
from protocols.events import LocalRedirect, RequestHead, RequestVariables

EXPIRY_INTERVAL: Final = 5.0
"""Seconds between two looks at idle connections."""


class Upstream:
    """One for each backend behind sockets."""

    def __init__(
        self,
        backend: str,
        *,
        pump: Pump,
        addresses: list[SocketAddress],
        make_codec: Callable[[], ClientCodec],
        timeouts: UpstreamTimeouts,
        pool_idle: int,
        pool_idle_time: float,
    ) -> None:
        self._backend = backend
        self._pump = pump
        self._make_codec = make_codec
        self._timeouts = timeouts
        self._pools = [
            Pool(
                pump,
                Dialer(pump, address, backend=backend, timeout=timeouts.connect),
                idle=pool_idle,
                idle_time=pool_idle_time,
            )
            for address in addresses
        ]
        self._turn = 0

    @property
    def authority(self) -> bytes:
        """The first address as a Host field's value; ``localhost`` for a Unix socket."""
        address = str(self._pools[0].dialer.address)
        return b"localhost" if address.startswith("unix:") else address.encode()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Close idle connections that grow old, until cancelled; then all of them."""
        task_status.started()
        try:
            while True:
                await trio.sleep(EXPIRY_INTERVAL)  # noqa: TID251 - the clock of the pools
                for pool in self._pools:
                    pool.close_expired()
        finally:
            for pool in self._pools:
                pool.close()

    def renew(self) -> None:
        """Use no connection again that is open now."""
        for pool in self._pools:
            pool.renew()

    async def exchange(
        self,
        request: Request,
        responder: Responder,
        head: RequestHead | RequestVariables,
        *,
        replayable: bool,
        awaits_continue: bool = False,
        switch: Switch | None = None,
    ) -> LocalRedirect | None:
        """Send *head* and the request's body, pass the answer on; a local redirect is returned.

        With *switch* the head carries the client's offer of another protocol: it goes over a fresh
        connection, which becomes a tunnel if the upstream accepts.

        Raises GatewayError, and LocalProtocolError if the protocol cannot express the request.
        """
        pool = self._next_pool()
        started = self._pump.now
        connection = pool.take() if switch is None else None
        while True:
            reusable = False
            try:
                if connection is None:
                    stream = await pool.dialer.dial()
                    connection = UpstreamConnection(stream, self._make_codec(), epoch=pool.epoch)
                exchange = Exchange(
                    connection,
                    request,
                    responder,
                    pump=self._pump,
                    timeouts=self._timeouts,
                    backend=self._backend,
                    address=pool.dialer.address,
                    switch=switch,
                )
                redirect = await exchange.run(head, awaits_continue)
                reusable = exchange.sent and connection.codec.reusable
                return redirect  # noqa: TRY300 - the loop goes on after the except
            except StaleConnectionError as error:
                if not replayable:
                    raise self._not_replayable(pool) from error
            finally:
                request.upstream_time = self._pump.now - started
                if reusable:
                    assert connection is not None
                    pool.give_back(connection)
                elif connection is not None:
                    connection.close()
            connection = None  # Once more, on a fresh one: that cannot be stale.

    def _not_replayable(self, pool: Pool) -> BackendError:
        return BackendError(
            Cause.TERMINATED,
            "the reused connection was closed, and the request cannot be sent again",
            backend=self._backend,
            address=str(pool.dialer.address),
            phase=Phase.FIRST_BYTE,
        )

    def _next_pool(self) -> Pool:
        pools = self._pools
        if len(pools) == 1:
            return pools[0]
        self._turn = (self._turn + 1) % len(pools)
        return pools[self._turn]
