"""Text from elsewhere, made fit to be shown."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.escape import printable


def test_leaves_readable_text_alone() -> None:
    assert printable("grüße 世界 a b") == "grüße 世界 a b"


def test_escapes_controls_separators_directions_and_surrogates() -> None:
    assert printable("\x1b\n\x85\udc80\u202e") == "\\x1b\\n\\x85\\udc80\\u202e"


@given(st.text(st.characters()))
def test_the_result_is_one_line_that_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
