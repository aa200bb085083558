"""One daemon for each group of rows, which all its tests share; a client for HTTP/1.1 or HTTP/2."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.peers.conftest import CHECKOUT, WAIT, Gateway, RunGateway
from tests.peers.frameworks.rows import ROWS, Row

APPS = CHECKOUT / "tests/peers/frameworks/apps"

Serve = Callable[..., AbstractContextManager[Gateway]]
Daemon = Callable[[Row], Gateway]
Client = Callable[..., httpx2.Client]


def config(rows: list[Row]) -> str:
    """Each row under a mount of its own, or on a host of its own."""
    # How long an application keeps the loop is the machine's affair here.
    lines = ["blocked_after: 0", "backends:"]
    lines += [f"  {row.name}: {{{row.backend}, directory: .}}" for row in rows if row.group != "http"]
    lines += [f"  {row.name}: {{{row.backend}}}" for row in rows if row.group == "http"]
    lines += ["routes:"]
    for row in rows:
        if row.mount:
            where = f"match: {{path: /{row.name}/*}}, mount: /{row.name}"
        else:
            where = f"match: {{host: {row.name}.example}}"
        more = f", {row.route}" if row.route else ""
        lines.append(f"  - {{{where}, backend: {row.name}{more}}}")
    return "\n".join(lines)


@pytest.fixture(scope="session")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the applications are imported from, and may write; Django's database is there."""
    directory = shutil.copytree(APPS, tmp_path_factory.mktemp("frameworks") / "apps")
    subprocess.run([sys.executable, "django_app.py"], cwd=directory, check=True)
    return directory


@pytest.fixture(scope="session")
def serve(run_gateway: RunGateway) -> Serve:
    """``with serve(directory, rows) as gateway``: a daemon that hosts them.

    *more* of its configuration may follow, and what its log may say besides the failures of the rows.
    """

    def start(
        directory: Path, rows: list[Row], more: str = "", expect: Collection[str] = ()
    ) -> AbstractContextManager[Gateway]:
        troubles = {"py.warnings", *expect, *(name for row in rows for name in row.logs)}
        return run_gateway(directory, f"{more}\n{config(rows)}", expect=troubles)

    return start


@pytest.fixture(scope="module")
def daemon(apps: Path, serve: Serve) -> Iterator[Daemon]:
    """``daemon(row)``: the running daemon of its group, started when it is first wanted."""
    running: dict[str, Gateway] = {}
    with ExitStack() as stack:

        def of(row: Row) -> Gateway:
            if row.group not in running:
                rows = [each for each in ROWS if each.group == row.group]
                running[row.group] = stack.enter_context(serve(apps, rows))
            return running[row.group]

        yield of


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """``client(row, http2=False)``: of the row's application, with cookies and connections of its own."""
    with ExitStack() as stack:

        def connect(row: Row, *, http2: bool = False) -> httpx2.Client:
            return stack.enter_context(
                httpx2.Client(
                    base_url=daemon(row).url + row.prefix,
                    headers={} if row.mount else {"host": f"{row.name}.example"},
                    http1=not http2,
                    http2=http2,
                    timeout=WAIT,
                    trust_env=False,
                    verify=False,  # there is no TLS, and reading authorities takes longer than a test
                )
            )

        yield connect
