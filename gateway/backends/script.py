"""Finding the script of a path below a document root: SCRIPT_FILENAME, SCRIPT_NAME, PATH_INFO.

By name only: the application may run on another machine, so the gateway does not look whether the file
exists; php-fpm answers 404 itself. The Script-URI round trip of RFC 3875 3.3 holds for every result:
requesting SCRIPT_NAME + PATH_INFO finds the same script with the same PATH_INFO.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Script:
    """Where the script is, and which part of the path is left for it."""

    filename: str
    """SCRIPT_FILENAME: the path in the file system."""
    name: str
    """The part of the path that names the script, without the mount."""
    path_info: str


def find_script(path: str, *, root: str, split: str, index: str) -> Script:
    """Split *path* (below the mount, dot segments resolved) behind the first segment ending in *split*.

    A path that names no script belongs to the *index* of its directory if it ends in ``/``, and to the
    index of the root otherwise, as front controllers expect. The comparison is by bytes: folding cases
    has made files into scripts that were none (CVE-2019-11043, GHSA-3g8v-8r37-cgjm).
    """
    start = 0
    while start < len(path):
        end = path.find("/", start + 1)
        if end < 0:
            end = len(path)
        if path.endswith(split, start, end):
            return Script(root + path[:end], path[:end], path[end:])
        start = end
    if path.endswith("/"):
        return Script(root + path + index, path + index, "")
    return Script(f"{root}/{index}", f"/{index}", path)
