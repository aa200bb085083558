"""A daemon with one WSGI application, whose process is looked at from without."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.gateway.test_daemon import daemon


@contextmanager
def hosting(directory: Path, source: str, process: str) -> Iterator[str]:
    """The address of ``app`` in *source*, in a *process* that is ``shared`` or its ``own``."""
    (directory / "hosted.py").write_text(source)
    config = (
        "listeners: [{http: '127.0.0.1:0'}]\n"
        f"backends: {{app: {{wsgi: 'hosted:app', process: {process}}}}}\n"
        "routes: [{backend: app}]\n"
    )
    with daemon(directory, config) as running:
        (address,) = running.ready()
        yield address
        running.process.terminate()
        running.end()
