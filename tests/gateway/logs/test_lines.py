"""What programs write, in lines fit for a log."""

from gateway.logs.lines import LINE_LIMIT, LineSplitter


def test_lines_are_found_over_pieces_and_the_last_one_at_the_end() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\r\ntw") == ["one"]
    assert splitter.feed(b"o\n\nth") == ["two"]
    assert splitter.end() == ["th"]
    assert splitter.end() == []


def test_lines_are_bounded() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"x" * LINE_LIMIT) == ["x" * LINE_LIMIT]
    assert splitter.feed(b"y" * (LINE_LIMIT + 1) + b"\n") == ["y" * LINE_LIMIT, "y"]
    assert splitter.end() == []


def test_lines_have_no_control_characters() -> None:
    """A terminal that shows the log would act on them."""
    splitter = LineSplitter()
    assert splitter.feed(b"\x1b[2J\ta\x00\xff\xc2\x9b\n") == ["\\x1b[2J\ta\\x00\\xff\\x9b"]
