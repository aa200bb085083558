"""The HTTP/2 front under any frames: nothing is left, and nothing is logged as a crash."""

import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.front.service import Limits, Timeouts
from gateway.protocols.http2 import PREFACE
from gateway.request import Request, Responder, respond
from tests.gateway.http2_client import entering
from tests.gateway.served import read_while, run, serving
from tests.protocols.http2_peer import settings as settings_frame
from tests.protocols.test_http2_properties import frames


async def answer(request: Request, responder: Responder) -> None:
    if request.upgrade is not None:
        duplex = await request.upgrade.accept([])
        await duplex.send(await duplex.receive())
        return
    size = 0
    while piece := await request.body.read():
        size += len(piece)
    await respond(responder, 200, [], b"x" * (size + 10))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(frames, max_size=12), st.integers(1, 200))
def test_any_frames(pieces: list[bytes], step: int) -> None:
    async def main() -> None:
        timeouts = Timeouts(disconnect_grace=0.0)
        async with (
            serving(answer, timeouts=timeouts, limits=Limits(streams=2)) as served,
            entering(served) as entrance,
            await served.connect() as client,
        ):
            data = PREFACE + settings_frame() + b"".join(pieces)

            async def send() -> None:
                for start in range(0, len(data), step):
                    await client.send_all(data[start : start + step])
                await client.send_eof()

            received = await read_while(client, send)
            assert received[3] == 4
            assert entrance.drain() == 0

    with structlog.testing.capture_logs() as logs:
        run(main)
    assert [entry for entry in logs if entry["log_level"] == "error"] == []
