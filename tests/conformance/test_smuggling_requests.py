"""Every row of `smuggling_requests` through the gateway to every kind of backend.

A backend sees exactly the requests that a reader of RFC 9112 sees, or nothing.
"""

import pytest

from tests.conformance.reader import read_responses
from tests.conformance.recording import ANSWER, KINDS, RecordingGateway
from tests.conformance.seen import wrong_requests
from tests.conformance.smuggling_requests import ROWS, Row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_backends_see_what_a_reader_sees(row: Row, recording: RecordingGateway) -> None:
    """RFC 9112 11.2; H-1 to H-10, H1-1 to H1-20: the same requests for every kind, the right answers."""
    received = recording.converse(row.sent)
    wrong = {kind: what_is_wrong(row, kind, received[kind], recording) for kind in KINDS}
    assert not (found := {kind: what for kind, what in wrong.items() if what}), found


def what_is_wrong(row: Row, kind: str, received: bytes, recording: RecordingGateway) -> list[str]:
    requests, errors = recording.take(kind)
    wrong = errors + wrong_requests(requests, row.seen, row.fields)
    answers = read_responses(received, [request.method for request in row.seen])
    statuses = tuple(int(answer.start[0]) for answer in answers)
    if statuses != row.statuses:
        wrong.append(f"the client got {statuses}, not {row.statuses}")
    for request, answer in zip(row.seen, answers, strict=False):
        if answer.start[0] == b"200" and answer.body != (b"" if request.method == "HEAD" else ANSWER):
            wrong.append(f"the answer is {answer.body!r}")
    return wrong


def test_ids_are_unique() -> None:
    """Each row can be run by its name."""
    assert len({row.id for row in ROWS}) == len(ROWS) >= 150
