"""The notice of the daemon's end; what applications make of it is in tests/conformance/test_asgi_drain.py."""

from gateway.notice import ShutdownNotice


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
