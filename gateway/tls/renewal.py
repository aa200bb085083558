"""A context of OpenSSL that is made of files, and made anew when they change: a new certificate, a newer list
of revoked ones.

Whoever owns it has it look now and then. What was changed is read when it has stayed the same for one more
look: certificate and key are rarely replaced in one instant. What cannot be used is said once, and the
context from before stays.
"""

import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from gateway.logger import get_logger

log = get_logger()

AnyContext = TypeVar("AnyContext", bound=ssl.SSLContext)

_Signature: TypeAlias = tuple[tuple[int, int, int], ...] | None


class RenewedContext(Generic[AnyContext]):
    """What *make* makes of *files*; it raises ValueError if they cannot be used. *told* is for the log."""

    def __init__(self, make: Callable[[], AnyContext], files: Sequence[Path], **told: str) -> None:
        """Raises ValueError if the files cannot be used."""
        self._make = make
        self._files: Final = files
        self._told = told
        self._used = self._seen = _signature(files)
        self._trouble = ""
        """Why the files cannot be used as they are. That may pass without a change of them: who may read them
        is set after they were written, a descriptor is free again."""
        self.context = make()
        """For new connections."""

    def refresh(self) -> bool:
        """Look at the files; whether there is a new context."""
        before, self._seen = self._seen, _signature(self._files)
        if self._seen != before or (self._seen == self._used and not self._trouble):
            return False
        self._used = self._seen
        trouble, self._trouble = self._trouble, ""
        try:
            self.context = self._make()
        except ValueError as error:
            self._trouble = str(error)
            if self._trouble != trouble:
                log.error("certificate not renewed", **self._told, cause=self._trouble)  # noqa: TRY400
            return False
        log.info("certificate renewed", **self._told)
        return True


def _signature(paths: Sequence[Path]) -> _Signature:
    """What changes when a file is written or replaced, also behind a link; None if one is missing."""
    try:
        stats = [os.stat(path) for path in paths]
    except OSError:
        return None
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
