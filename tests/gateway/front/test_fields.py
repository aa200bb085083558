"""Fields that the gateway writes and reads itself."""

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from gateway.front.fields import SERVER, OwnFields, http_date


@given(st.integers(0, 253402300799))
def test_dates_are_written_as_in_mails(seconds: int) -> None:
    assert http_date(seconds) == formatdate(seconds, usegmt=True).encode()


def test_own_fields_are_the_same_for_both_versions_of_http() -> None:
    """RFC 9110 6.6.1; made once a second, and anew by a clock that was set back."""
    own = OwnFields()
    date = own.date(5.0)
    line = b"%b: %b\r\n" % date
    server = b"%b: %b\r\n" % SERVER
    assert own.date(5.9)[1] is date[1]
    assert [own.lines(5.5, *has) for has in [(False, False), (True, False), (False, True), (True, True)]] == [
        line + server,
        server,
        line,
        b"",
    ]
    later = own.date(6.0)
    assert later[1] is not date[1]
    assert own.date(5.0)[1] is not later[1]
