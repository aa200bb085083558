"""A response is sent at its rate. Time is virtual: the clock jumps over waits."""

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from gateway.filters.limit_rate import RateFilter
from gateway.request import Request, Responder, respond
from tests.gateway.conftest import RecordingResponder, make_request
from tests.gateway.served import Answer, Answering


def seconds(
    answer: Answer, *, rate: int, after: int = 0, method: str = "GET"
) -> tuple[float, RecordingResponder]:
    """How long *answer* takes through the filter, and what came of it."""
    recorder = RecordingResponder(method=method)

    async def main() -> float:
        began = trio.current_time()
        await RateFilter(Answering(answer), rate=rate, after=after).handle(
            make_request(method=method), recorder
        )
        return trio.current_time() - began

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)), recorder


async def whole(request: Request, responder: Responder) -> None:
    await respond(responder, 200, [(b"content-length", b"10000")], b"x" * 10000)


async def in_pieces(request: Request, responder: Responder) -> None:
    responder.start(200, [])
    for _ in range(10):
        responder.write(b"x" * 1000)
        await responder.flush()
    responder.end()
    await responder.flush()


@pytest.mark.parametrize("answer", [whole, in_pieces])
def test_takes_as_long_as_the_rate_says(answer: Answer) -> None:
    took, recorder = seconds(answer, rate=1000)
    assert took == pytest.approx(10.0, abs=0.2)
    assert recorder.body == b"x" * 10000
    assert recorder.ended


@pytest.mark.parametrize("answer", [whole, in_pieces])
def test_begins_after_what_is_free(answer: Answer) -> None:
    took, recorder = seconds(answer, rate=1000, after=8000)
    assert took == pytest.approx(2.0, abs=0.2)
    assert recorder.body == b"x" * 10000


def test_flows_evenly() -> None:
    """No piece is more than a tenth of a second's bytes."""
    _, recorder = seconds(whole, rate=1000)
    assert max(map(len, recorder.pieces)) == 100


def test_small_response_leaves_at_once() -> None:
    async def small(request: Request, responder: Responder) -> None:
        assert responder.try_respond(200, [], b"x" * 50)

    took, recorder = seconds(small, rate=1000)
    assert (took, recorder.body, recorder.ended) == (0.0, b"x" * 50, True)


def test_files_are_sent_at_the_rate(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"y" * 5000)

    async def from_file(request: Request, responder: Responder) -> None:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            responder.start(200, [(b"content-length", b"5000")])
            await responder.write_file(descriptor, 0, 5000)
            responder.end()
            await responder.flush()
        finally:
            os.close(descriptor)

    took, recorder = seconds(from_file, rate=1000)
    assert took == pytest.approx(5.0, abs=0.2)
    assert recorder.body == b"y" * 5000


def test_no_body_takes_no_time() -> None:
    took, recorder = seconds(whole, rate=10, method="HEAD")
    assert (took, recorder.body, recorder.ended) == (0.0, b"", True)


def test_withdrawn_answer_leaves_nothing() -> None:
    async def fails(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"x" * 500)
        assert responder.withdraw()
        assert responder.try_respond(500, [], b"failed")

    _, recorder = seconds(fails, rate=1000)
    assert (recorder.status, recorder.body) == (500, b"failed")
