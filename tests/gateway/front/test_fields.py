"""Fields that the gateway writes and reads itself."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.front.entrance import Entrance
from gateway.front.fields import SERVER, OwnFields, http_date
from gateway.request import Request, Responder, respond
from tests.gateway.http2_client import Client, talking
from tests.gateway.served import LAST_GET, Served, response


@given(st.integers(0, 253402300799))
def test_dates_are_written_as_in_mails(seconds: int) -> None:
    assert http_date(seconds) == formatdate(seconds, usegmt=True).encode()


def test_own_fields_are_the_same_for_both_versions_of_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 6.6.1; made once a second, and anew by a clock that was set back."""
    clock = 5.2
    monkeypatch.setattr("gateway.front.fields.time", lambda: clock)
    own = OwnFields()
    date = own.date()
    assert date == (b"date", http_date(5))
    line = b"%b: %b\r\n" % date
    server = b"%b: %b\r\n" % SERVER
    clock = 5.9
    assert own.date()[1] is date[1]
    assert [own.lines(*has) for has in [(False, False), (True, False), (False, True), (True, True)]] == [
        line + server,
        server,
        line,
        b"",
    ]
    for later in (6.1, 5.0):
        clock = later
        assert own.date() == (b"date", http_date(later))


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_date_is_that_of_the_response(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 6.6.1: of when the message was made, not of when it was asked for."""
    clock = 1000.0
    monkeypatch.setattr("gateway.front.fields.time", lambda: clock)

    async def answer(request: Request, responder: Responder) -> None:
        nonlocal clock
        clock += float(request.path[1:])
        await respond(responder, 200, [])

    async def test(client: Client, _entrance: Entrance, served: Served) -> None:
        for seconds in (0, 60):
            if version == "2":
                date = (await client.ask(f"/{seconds}")).header(b"date")
            else:
                request = LAST_GET.replace(b" / ", b" /%d " % seconds)
                date = response(await served.ask(request)).headers["date"].encode()
            assert date == http_date(clock)

    talking(test, answer)
