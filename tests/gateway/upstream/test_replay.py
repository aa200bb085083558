"""Bodies that are sent a second time are the same, whatever was read of them the first time."""

import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway.request import NO_BODY, Body
from gateway.spool import spool
from gateway.upstream.replay import KEPT_BYTES, can_rewind, keep, rewind
from tests.gateway.conftest import BytesBody


async def read(body: Body, pieces: int | None = None) -> bytes:
    found = []
    while pieces is None or pieces > 0:
        piece = body.read_nowait()
        if piece is None:
            piece = await body.read()
        if not piece:
            break
        found.append(piece)
        pieces = None if pieces is None else pieces - 1
    return b"".join(found)


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1), st.lists(st.integers(0, 9)), st.booleans())
def test_small_body_can_be_read_again_and_again(pieces: list[bytes], reads: list[int], waits: bool) -> None:
    async def main() -> None:
        body = keep(BytesBody(*pieces, waits=waits))
        assert can_rewind(body)
        assert body.length == sum(map(len, pieces))
        for count in reads:
            assert await read(body, count) == b"".join(pieces[:count])
            rewind(body)
        assert await read(body) == b"".join(pieces)
        assert await body.read() == b""

    trio.run(main)


def test_spooled_body_is_kept_already() -> None:
    async def main() -> None:
        body = await spool(BytesBody(b"a" * 100_000, sized=False), memory=10, max_body=10**6)
        with body:
            assert keep(body) is body
            assert can_rewind(body)
            assert len(await read(body)) == 100_000
            rewind(body)
            assert len(await read(body)) == 100_000

    trio.run(main)


def test_bodies_that_are_not_kept() -> None:
    large, endless = BytesBody(b"x" * (KEPT_BYTES + 1)), BytesBody(b"x", sized=False)
    assert keep(large) is large
    assert keep(endless) is endless
    assert [can_rewind(large), can_rewind(endless)] == [False, False]


def test_no_body_can_always_be_sent_again() -> None:
    assert keep(NO_BODY) is NO_BODY
    assert can_rewind(NO_BODY)
    rewind(NO_BODY)
