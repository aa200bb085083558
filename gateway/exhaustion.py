"""What the system says when it has no descriptor or memory left: nothing is wrong with who is asked for."""

import errno
import os
import resource
from typing import Final

EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def no_room(code: int) -> str:
    """One of them in words, with the limit that was reached."""
    words = os.strerror(code)
    if code == errno.EMFILE:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        words += f": expected a higher limit than {limit} (ulimit -n, LimitNOFILE of systemd)"
    return words
