"""BodyIntake: what is taken, stored, bounded and refused. The backends' tests show it at work."""

import pytest
import trio

from gateway.errors import RequestError
from gateway.request import NO_BODY, Body
from gateway.spool import BodyPolicy
from tests.gateway.conftest import BytesBody, make_intake


async def read_all(body: Body) -> bytes:
    data = b""
    while piece := await body.read():
        data += piece
    return data


@pytest.mark.parametrize("policy", ["spool", "stream", "reject"])
def test_body_of_known_length_is_passed_on_as_it_is(policy: BodyPolicy) -> None:
    intake = make_intake(policy, max_body=10)
    body = BytesBody(b"x" * 10)
    assert intake.take(body) is body
    assert intake.take(NO_BODY) is NO_BODY
    with pytest.raises(RequestError) as raised:
        intake.take(BytesBody(b"x" * 11))
    assert raised.value.status == 413


def test_refusal_says_what_to_change() -> None:
    """caddy#5236."""
    with pytest.raises(RequestError, match=r"backend app .*body: spool") as raised:
        make_intake("reject").take(BytesBody(b"x", sized=False))
    assert raised.value.status == 411


def test_stored_body_has_its_length() -> None:
    async def main() -> None:
        intake = make_intake()
        body = BytesBody(b"abc", b"de", sized=False)
        assert intake.take(body) is None
        with await intake.store(body) as stored:
            assert (stored.length, await read_all(stored)) == (5, b"abcde")

    trio.run(main)


@pytest.mark.parametrize("waits", [True, False])
def test_streamed_body_may_be_as_large_as_is_allowed(waits: bool) -> None:
    taken = make_intake("stream", max_body=5).take(BytesBody(b"abc", b"de", sized=False, waits=waits))
    assert taken is not None
    assert (taken.length, taken.trailers) == (None, [])
    assert taken.read_nowait() == (None if waits else b"abc")
    assert trio.run(read_all, taken) == (b"abcde" if waits else b"de")


def test_streamed_body_ends_where_it_is_too_large() -> None:
    for waits in (True, False):
        body = BytesBody(b"abc", b"de", sized=False, waits=waits)
        taken = make_intake("stream", max_body=4).take(body)
        assert taken is not None
        assert (trio.run(taken.read) if waits else taken.read_nowait()) == b"abc"
        with pytest.raises(RequestError, match="larger than 4 bytes") as raised:
            trio.run(read_all, taken)
        assert (raised.value.status, raised.value.close) == (413, True)


def test_streamed_body_ends_where_it_is_too_large_without_waiting() -> None:
    taken = make_intake("stream", max_body=4).take(BytesBody(b"abcde", sized=False))
    assert taken is not None
    with pytest.raises(RequestError, match="larger than 4 bytes"):
        taken.read_nowait()
