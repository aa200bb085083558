"""A sign of life from an idle connection before a request is entrusted to it (AJP-9, Apache's ``ping``).

A container that was restarted, or is behind a firewall that forgets, has left connections that only look
alive; a request that is lost on one cannot be sent again unless it is harmless. Nothing is lost with a ping.
"""

import trio

from gateway.net.pump import Pump
from gateway.protocols.ajp import AjpClient
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.events import NEED_DATA
from gateway.upstream.pool import Pool, UpstreamConnection


async def take_living(pool: Pool, pump: Pump, within: float) -> UpstreamConnection | None:
    """An idle connection that has given a sign of life in *within* seconds, or None. Others are closed: all,
    if one is silent.
    """
    while (connection := pool.take()) is not None:
        living = False
        try:
            living = await _answers(connection, pump.now + within)
        except trio.TooSlowError:
            # Those that were idle for longer are no better, and the request would wait as long for each.
            pool.close()
        finally:
            if not living:
                connection.close()
        if living:
            return connection
    return None


async def _answers(connection: UpstreamConnection, deadline: float) -> bool:
    """Raises TooSlowError if nothing is known by *deadline*."""
    stream, codec = connection.stream, connection.codec
    assert isinstance(codec, AjpClient)  # no other protocol has signs of life
    stream.write_deadline = stream.read_deadline = deadline
    try:
        await stream.send_all(codec.ping())
        while codec.awaits_pong:
            data = await stream.receive_some()
            codec.receive_data(data)
            if not data or codec.next_event() is not NEED_DATA:
                return False
    except (trio.BrokenResourceError, RemoteProtocolError):
        return False
    return codec.reusable
