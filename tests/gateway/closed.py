"""A directory that is another user's alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_SOMEBODY = 65534


@contextmanager
def closed_directory() -> Iterator[Path]:
    """It has another one in it, ``there``. Root may look everywhere, and is somebody else meanwhile."""
    # Not pytest's: those of root are closed themselves.
    with TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        closed = Path(os.path.realpath(made), "closed")
        (closed / "there").mkdir(parents=True)
        closed.chmod(0)
        own = os.geteuid()
        if not own:
            os.seteuid(_SOMEBODY)
        try:
            yield closed
        finally:
            os.seteuid(own)
            closed.chmod(0o700)
