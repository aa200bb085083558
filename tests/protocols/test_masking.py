"""Masks of WebSocket frames, each way that they are taken off (RFC 6455 5.3)."""

import random
from collections.abc import Callable

import pytest

from gateway.protocols.websocket.masking import unmask, unmask_whole, unmask_words

SIZES = [*range(35), 125, 126, 127, 511, 512, 513, 65_535, 65_543]


@pytest.mark.parametrize("way", [unmask, unmask_whole, unmask_words])
@pytest.mark.parametrize("size", SIZES)
def test_each_byte_is_xored_with_its_byte_of_the_mask(
    way: Callable[[bytes, bytes], bytes], size: int
) -> None:
    chance = random.Random(size)
    payload = chance.randbytes(size)
    for mask in (chance.randbytes(4), b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x80\x01\x7f\xfe"):
        assert way(payload, mask) == bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@pytest.mark.parametrize("way", [unmask, unmask_whole, unmask_words])
def test_a_mask_put_on_twice_is_taken_off(way: Callable[[bytes, bytes], bytes]) -> None:
    payload = b"\x81\x85 a frame within a frame"
    assert way(way(payload, b"mask"), b"mask") == payload
