"""Fields that the gateway writes and reads itself."""

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from gateway.front.fields import http_date


@given(st.integers(0, 253402300799))
def test_dates_are_written_as_in_mails(seconds: int) -> None:
    assert http_date(seconds) == formatdate(seconds, usegmt=True).encode()
