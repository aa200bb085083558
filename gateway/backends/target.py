"""The target that an upstream is asked for: what the client has sent, below the mount (RFC 9110 7.7)."""

from gateway.request import Request
from gateway.target import encode_path, has_dot_segments


def target_below_mount(request: Request) -> bytes:
    """The request target for the upstream: as sent, without the mount."""
    path = request.raw_path
    if has_dot_segments(path, request.path):
        # The routes have judged the path without them, so that is the one to ask for.
        path = encode_path(request.rest or "/")
    elif request.mount:
        # Where the mount is spelled plainly it is cut off; otherwise the rest is encoded anew.
        mount = request.mount.encode()
        if path.startswith(mount) and path[len(mount) : len(mount) + 1] in (b"/", b""):
            path = path[len(mount) :] or b"/"
        else:
            path = encode_path(request.rest or "/")
    return path + b"?" + request.query if request.query else path
