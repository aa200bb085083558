"""The notice of the daemon's end; what applications make of it is in tests/conformance/test_asgi_drain.py."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.config import from_mapping
from gateway.daemon import tell_running
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
                with notice.patience("a", 60.0) as patience:
                    await trio.sleep_forever()
            assert patience.cancelled_caught
            waited.append(trio.current_time() - began)

    async def cut_off(notice: ShutdownNotice, after: float) -> None:
        await trio.sleep(after)  # noqa: TID251 - it is a time
        notice.cut_off()

    waited: list[float] = []
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert waited == [pytest.approx(waits)]


def test_the_log_tells_how_long_the_wait_for_an_application_still_is() -> None:
    """Which may be the second one after the other, of less than a second each."""
    config = from_mapping(
        {
            "listeners": [{"http": "127.0.0.1:0"}],
            "backends": {"app": {"asgi": "a:app", "shutdown_timeout": "0.8s"}, "other": {"wsgi": "a:app"}},
            "routes": [{"backend": "app"}],
        },
        "",
        ".",
    )

    running: list[Any] = [SimpleNamespace(name="app")]

    async def main() -> None:
        notice = ShutdownNotice()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_running, running, config, notice)
            for _ in range(2):
                with notice.patience("app", 0.8):
                    await trio.sleep_forever()

    with capture_logs() as logs:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    (told,) = logs
    assert (told["backends"], told["seconds"]) == (["app"], 0.6)
