"""What the protocols that carry variables have in common."""

import pytest

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.variables import declared_length, describe_largest, merge_repeated


@pytest.mark.parametrize(("value", "number"), [("", None), ("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_a_length_that_is_declared(value: str, number: int | None) -> None:
    """SCGI-3, CGI-5, FCGI-20; nginx sends an empty one where there is none."""
    assert declared_length({"CONTENT_LENGTH": value}) == number
    assert declared_length({"FCGI_DATA_LENGTH": value}, "FCGI_DATA_LENGTH") == number
    assert declared_length({"FCGI_DATA_LENGTH": value}) is None


@pytest.mark.parametrize("value", ["9" * 19, "-1", "+1", " 1", "1\n", "1_0", "\u00b2", "\u0661", "\udcb2"])
def test_a_length_that_is_no_number(value: str) -> None:
    """SCGI-3, CGI-5."""
    with pytest.raises(ValueError, match="FCGI_DATA_LENGTH is not a number"):
        declared_length({"FCGI_DATA_LENGTH": value}, "FCGI_DATA_LENGTH")


def test_describes_the_largest_variables() -> None:
    variables = {"A": "1", "BB": "22", "CCC": "", "D": "4444"}
    assert describe_largest({}) == ""
    assert describe_largest(variables) == "D (5), BB (4), CCC (3)"


def test_merges_fields_that_came_twice() -> None:
    """CGI-22."""
    assert merge_repeated("HTTP_X", "a", "b") == "a, b"
    assert merge_repeated("HTTP_COOKIE", "a=1", "b=2") == "a=1; b=2"
    assert merge_repeated("SERVER_NAME", "a", "a") == "a"
    with pytest.raises(RemoteProtocolError, match="'SERVER_NAME' occurs twice"):
        merge_repeated("SERVER_NAME", "a", "b")
