"""The notice of the daemon's end; what applications make of it is in tests/conformance/test_asgi_drain.py."""

import pytest
import trio
import trio.testing

from gateway.shutdown.notice import ShutdownNotice


def test_each_step_is_told_once() -> None:
    notice = ShutdownNotice()
    told: list[tuple[str, bool]] = []
    notice.listen("a", lambda urgent: told.append(("a", urgent)))
    assert (notice.begun, notice.urgent) == (False, False)
    notice.begin()
    notice.begin()
    notice.listen("b", lambda urgent: told.append(("b", urgent)))
    assert (notice.begun, notice.urgent) == (True, False)
    notice.hurry()
    notice.hurry()
    assert told == [("a", False), ("a", True), ("b", True)]


def test_listener_may_leave_while_others_are_told() -> None:
    notice = ShutdownNotice()
    told: list[str] = []

    def first(_urgent: bool) -> None:
        told.append("first")
        notice.leave("first")
        notice.leave("unknown")

    notice.listen("first", first)
    notice.listen("second", lambda _urgent: told.append("second"))
    notice.begin()
    notice.hurry()
    assert told == ["first", "second", "second"]
    assert notice.listeners == 1


@pytest.mark.parametrize(("hurried", "waits"), [(None, 60.0), (0.0, 1.0), (5.0, 6.0), (59.5, 60.0)])
def test_patience_is_cut_short_by_a_second_signal(hurried: float | None, waits: float) -> None:
    """What was waited for already, and what comes to be, is over a second later."""

    async def main() -> None:
        notice = ShutdownNotice()
        if hurried == 0.0:
            notice.cut_off()
        async with trio.open_nursery() as nursery:
            if hurried:
                nursery.start_soon(cut_off, notice, hurried)
            began = trio.current_time()
            with trio.CancelScope() as outer:
                outer.cancel()
                with notice.patience(60.0) as patience:
                    await trio.sleep_forever()
            assert patience.cancelled_caught
            waited.append(trio.current_time() - began)

    async def cut_off(notice: ShutdownNotice, after: float) -> None:
        await trio.sleep(after)  # noqa: TID251 - it is a time
        notice.cut_off()

    waited: list[float] = []
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert waited == [pytest.approx(waits)]
