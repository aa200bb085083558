"""Closing in stages (RFC 9112 9.6): no more from us, read what still comes for a while, and only then close.

Closing at once would make the kernel answer what still comes with a reset, which eats what is on its way to
the client: one that sends a large body reads our refusal only after it. So the bound is time and not bytes:
many clients take seconds to send what fits into a link's buffers.
"""

from math import inf

import trio

from gateway.front.service import Service
from gateway.net.stream import PumpStream


async def linger(stream: PumpStream, service: Service, *, most: float = inf) -> None:
    """Half-close, and read until the client closes its side, or is silent for ``timeouts.linger``, for
    ``timeouts.linger_total`` at most, ``timeouts.stopping`` when the daemon stops, and no more than *most*
    seconds. The stream is the caller's to close.
    """
    timeouts = service.timeouts
    stream.on_hangup = None
    stream.hangup_deadline = inf
    try:
        stream.write_deadline = trio.current_time() + timeouts.send
        await stream.send_eof()
        now = trio.current_time()
        end = now + min(timeouts.linger_total, most, timeouts.stopping if service.draining else inf)
        while now < end:
            stream.read_deadline = min(now + timeouts.linger, end)
            if not await stream.receive_some():
                break
            now = trio.current_time()
    except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass
