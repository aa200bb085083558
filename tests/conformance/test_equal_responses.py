"""The same response of every kind of backend is the same to its client, over HTTP/1.1 and HTTP/2 (14.2)."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.asking import Answer, asking
from tests.conformance.background import in_thread
from tests.conformance.faulty import KINDS, SOCKETS
from tests.conformance.saying import BODILESS, SAID, TRAILING, Response, says
from tests.gateway.http2_client import entering
from tests.gateway.served import Served, backend, gateway_of

NAMES: Final = ("x-one", "x-two", "set-cookie", "cache-control", "etag", "link")
TRAILERS: Final = ("x-checksum", "x-more")
OURS: Final = frozenset({b"date", b"server", b"connection", b"transfer-encoding"})
"""Fields of the gateway's own connection."""


@dataclass
class Saying:
    """A gateway before servers of every kind."""

    served: Served
    token: trio.lowlevel.TrioToken
    file: Path
    """What the CGI program says."""

    def ask_each(self, response: Response, method: str) -> dict[tuple[str, str], Answer]:
        """The answers, by kind and version."""
        SAID.response = response
        self.file.write_bytes(response.cgi())
        return trio.from_thread.run(self._ask_each, method, trio_token=self.token)

    async def _ask_each(self, method: str) -> dict[tuple[str, str], Answer]:
        answers: dict[tuple[str, str], Answer] = {}

        async def ask(version: str) -> None:
            async with asking(version, self.served) as client:
                for kind in KINDS:
                    # HTTP/1.1: said for this connection only (RFC 9110 10.1.4)
                    hop = [("connection", "TE")] if version == "1.1" else []
                    await client.send(f"/{kind}", 0, b"", ("te", "trailers"), *hop, method=method)
                    answers[kind, version] = await client.answer()

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, "1.1")
                nursery.start_soon(ask, "2")
        return answers


@pytest.fixture(scope="module")
def saying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saying]:
    """The gateway, running until the end of this module."""
    directory = tmp_path_factory.mktemp("saying")
    program, file = directory / "say", directory / "said"
    program.write_text('#!/bin/sh\nexec cat "$SAID"\n')
    program.chmod(0o755)

    @asynccontextmanager
    async def running() -> AsyncIterator[Saying]:
        async with AsyncExitStack() as stack:
            here = "tests.conformance.saying"
            backends: dict[str, Any] = {
                "cgi": {"cgi": str(program), "variables": {"SAID": str(file)}},
                "wsgi": {"wsgi": f"{here}:wsgi"},
                "asgi-trio": {"asgi": f"{here}:asgi", "loop": "trio"},
                "asgi-asyncio": {"asgi": f"{here}:asgi", "loop": "asyncio"},
            }
            for kind in SOCKETS:
                address = (await stack.enter_async_context(backend(says(kind)))).address
                backends[kind] = {kind: f"http://{address}" if kind == "http" else address}
            routes = [{"match": {"path": f"/{kind}"}, "backend": kind} for kind in KINDS]
            accepting = await stack.enter_async_context(gateway_of({"backends": backends, "routes": routes}))
            served = Served(accepting.service, None)
            await stack.enter_async_context(entering(served))
            yield Saying(served, trio.lowlevel.current_trio_token(), file)

    with in_thread(running) as made:
        yield made


values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=40
).map(str.strip)


def _possible(drawn: Response) -> Response:
    """Without what its status or its length rules out (RFC 9110 6.4.1, RFC 9112 7.1)."""
    if drawn.status in BODILESS:
        return Response(drawn.status, drawn.headers)
    return replace(drawn, trailers=[]) if drawn.sized else drawn


statuses = st.one_of(st.sampled_from([200, 204, 304, 404, 500]), st.integers(200, 599))
responses = st.builds(
    Response,
    status=statuses,
    headers=st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=6),
    pieces=st.lists(st.binary(min_size=1, max_size=3000), max_size=4),
    sized=st.booleans(),
    trailers=st.lists(st.tuples(st.sampled_from(TRAILERS), values), max_size=2),
).map(_possible)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(response=responses, method=st.sampled_from(["GET", "HEAD"]))
def test_every_kind_gives_the_same(response: Response, method: str, saying: Saying) -> None:
    """14.2; HEAD has the fields of GET, and nothing behind them (RFC 9110 9.3.2)."""
    body = b"" if method == "HEAD" else response.body
    expected = sorted([(b"content-type", b"text/plain"), *response.fields])
    for (kind, version), answer in saying.ask_each(response, method).items():
        fields = [(name.lower(), value) for name, value in answer.headers if name.lower() not in OURS]
        if not response.sized:
            # A short response is sent with its length, whoever has not said it.
            fields = [field for field in fields if field[0] != b"content-length"]
        assert (answer.status, answer.whole, answer.body) == (response.status, True, body), (
            kind,
            version,
        )
        assert sorted(fields) == expected, (kind, version)
        trailers = response.trailing if kind in TRAILING and method == "GET" else []
        assert answer.trailers == trailers, (kind, version)
