"""Events are equal by what they say, and show it."""

import pytest

from gateway.protocols.events import BodyWanted, Data, EndOfMessage, ResponseHead, Stderr


def test_equal_by_type_and_attributes() -> None:
    assert Data(b"x") == Data(b"x")
    assert Data(b"x") != Data(b"y")
    assert Data(b"x") != Stderr(b"x")
    assert EndOfMessage() == EndOfMessage([], surplus=False)
    assert BodyWanted() == BodyWanted()


def test_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(ResponseHead(200, []))


def test_shows_its_attributes() -> None:
    head = ResponseHead(404, [(b"a", b"b")], b"Not Found")
    assert repr(head) == (
        "ResponseHead(status=404, headers=[(b'a', b'b')], reason=b'Not Found', version=b'1.1')"
    )
    assert repr(BodyWanted()) == "BodyWanted()"
