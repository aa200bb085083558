"""What the system says when it has no descriptor or memory left: nothing is wrong with who is asked for."""

import errno
from typing import Final

EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
