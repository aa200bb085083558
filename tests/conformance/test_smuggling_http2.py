"""Every row of `smuggling_http2` through the gateway to every kind of backend.

A backend sees exactly the requests that a reader of RFC 9113 sees, or nothing.
"""

import pytest
from h2.errors import ErrorCodes

from tests.conformance.http2_wire import read_answers
from tests.conformance.recording import ANSWER, KINDS, RecordingGateway
from tests.conformance.seen import wrong_requests
from tests.conformance.smuggling_http2 import ROWS, Row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_backends_see_what_a_reader_sees(row: Row, recording: RecordingGateway) -> None:
    """RFC 9113 10.3; H2-1 to H2-6, H2-14 to H2-16: at once, and each piece when the last was read."""
    for pieces in dict.fromkeys(((b"".join(row.sent),), row.sent)):
        received = recording.converse_http2(pieces)
        wrong = {kind: what_is_wrong(row, kind, received[kind], recording) for kind in KINDS}
        assert not (found := {kind: what for kind, what in wrong.items() if what}), found


def what_is_wrong(row: Row, kind: str, received: bytes, recording: RecordingGateway) -> list[str]:
    requests, errors = recording.take(kind)
    sound = row.broken_by is ErrorCodes.NO_ERROR
    early = any(request.seen == row.early for request in requests)
    expected = (row.early, *row.seen) if early and row.early else row.seen
    wrong = errors + wrong_requests(requests, expected, row.fields, ordered=False, certain=sound)
    answers, broken_by = read_answers(received)
    if broken_by is not row.broken_by:
        wrong.append(f"the connection ended with {broken_by!r}, not {row.broken_by!r}")
    if sound:
        outcomes = {stream_id: answer.outcome for stream_id, answer in answers.items()}
        due = {**row.outcomes, 1: 200} if early and outcomes.get(1) == 200 else row.outcomes
        if outcomes != due:
            wrong.append(f"the client got {outcomes}, not {due}")
    elif len([answer for answer in answers.values() if answer.status == 200]) > len(row.seen):
        wrong.append(f"the client got {answers}")
    for stream_id, answer in answers.items():
        if answer.outcome == 200 and answer.body != (b"" if stream_id in row.bodiless else ANSWER):
            wrong.append(f"the answer is {answer.body!r}")
    return wrong


def test_ids_are_unique() -> None:
    """Each row can be run by its name."""
    assert len({row.id for row in ROWS}) == len(ROWS) >= 200
