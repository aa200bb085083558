"""Answers requests with files from a directory.

The file is found by the path below the mount: without a mount ``/assets/x`` is ``ROOT/assets/x`` (as
nginx's ``root``), with ``mount: /assets`` it is ``ROOT/x`` (as ``alias``). GET and HEAD only. A directory is
answered by its index file, never by a listing, and only under its name with a slash at the end; links in
its pages would lead elsewhere otherwise. A fallback stands for all that is not there, as the last of nginx's
`try_files`, but not for names that are never served.

Files are opened and read in the loop's own thread, as nginx does by default: for a file in the page cache
that takes microseconds, and handing it to a thread takes longer. On a network file system that hangs, the
worker hangs with it. Small files leave with their head in one system call, large ones by the kernel
(``sendfile``). Nothing is cached: each answer is about the file that is there now.
"""

import os
import stat
import time
from collections.abc import Sequence
from typing import Final

from gateway.errors import RequestError
from gateway.front.pieces import file_too_short, file_unreadable, read_piece
from gateway.protocols.events import Headers
from gateway.request import Request, Responder, respond
from gateway.static.conditional import conditional_fields, failed_precondition, http_date, range_is_current
from gateway.static.mime import content_type
from gateway.static.ranges import ByteRange, Multipart, parse_range
from gateway.static.resolve import Symlinks, Tree, check_names
from gateway.template import quote_path, quote_query

SMALL: Final = 32 * 1024
"""Bytes up to which copying a file costs less than the second system call of ``sendfile``."""

_ALLOW: Final = (b"allow", b"GET, HEAD, OPTIONS")
_ACCEPT_RANGES: Final = (b"accept-ranges", b"bytes")


class StaticFiles:
    """Serves the files below *root*."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        index: Sequence[str],
        fallback: str | None,
        symlinks: Symlinks,
    ) -> None:
        """*index*: names that stand for their directory, the first that is there; *fallback*: what a path
        without a file gets. Raises ValueError.
        """
        given = [("index", name) for name in index]
        if fallback is not None:
            given.append(("fallback", fallback))
        for key, name in given:
            if not name or "/" in name or "\0" in name:
                raise ValueError(f"{key}: expected the name of a file, got {name!r}")
        self._tree = Tree(root, symlinks=symlinks)
        self._index = tuple(index)
        self._fallback = fallback

    async def handle(self, request: Request, responder: Responder) -> None:
        if request.method not in ("GET", "HEAD"):
            await self._refuse_method(request, responder)
            return
        rest = request.rest
        check_names(request.raw_path, rest)
        try:
            descriptor, facts, name = self._find_or_fall_back(rest)
        except OSError as error:
            raise file_unreadable(error) from error
        try:
            if stat.S_ISDIR(facts.st_mode):
                await _add_slash(request, responder)
            else:
                await send_file(
                    descriptor, facts, name, request.headers, responder, head=request.method == "HEAD"
                )
        finally:
            os.close(descriptor)

    def _find_or_fall_back(self, rest: str) -> tuple[int, os.stat_result, str]:
        """As `_find`; where there is no file, the one that stands for all others."""
        try:
            return self._find(rest)
        except RequestError as error:
            if error.status != 404 or self._fallback is None:
                raise
        return self._find_one_of(("/" + self._fallback,))

    def _find(self, rest: str) -> tuple[int, os.stat_result, str]:
        """The open file, or the directory whose name lacks its slash; and the name that has its type."""
        if not rest.endswith("/"):
            return *self._tree.open(rest), rest
        return self._find_one_of([rest + name for name in self._index])

    def _find_one_of(self, names: Sequence[str]) -> tuple[int, os.stat_result, str]:
        """The first that is a file."""
        for name in names:
            try:
                descriptor, facts = self._tree.open(name)
            except RequestError as error:
                if error.status != 404:
                    raise
                continue
            if stat.S_ISREG(facts.st_mode):
                return descriptor, facts, name
            os.close(descriptor)
        raise RequestError(404, "no such file")

    async def _refuse_method(self, request: Request, responder: Responder) -> None:
        if request.method == "OPTIONS":
            await respond(responder, 204, [_ALLOW])
            return
        raise RequestError(405, "files can only be read", headers=[_ALLOW])


async def _add_slash(request: Request, responder: Responder) -> None:
    """A directory is asked for without its slash."""
    # The path cannot begin with `//`, which would be another host: check_names refused empty segments.
    location = quote_path(request.path) + "/"
    if request.query:
        location += "?" + quote_query(request.query)
    headers = [(b"location", location.encode("ascii")), (b"content-type", b"text/plain; charset=utf-8")]
    await respond(responder, 308, headers, b"308 Permanent Redirect\n")


async def send_file(
    descriptor: int,
    facts: os.stat_result,
    name: str,
    asked: Headers,
    responder: Responder,
    *,
    head: bool,
) -> None:
    """Answer with an open regular file; *facts* are its own, *name* has its type.

    *asked* are the fields of a GET, or of a HEAD with *head*: what they want of the file. Raises RequestError
    (412, 416).
    """
    size = facts.st_size
    now = time.time()
    # RFC 9110 8.8.2.1: no Last-Modified in the future.
    modified = max(0, min(facts.st_mtime_ns // 1_000_000_000, int(now)))
    etag = b'"%x-%x"' % (facts.st_mtime_ns, size)
    kind = content_type(name)
    validators: Headers = [(b"last-modified", http_date(modified)), (b"etag", etag), _ACCEPT_RANGES]
    fields = conditional_fields(asked)
    if fields:
        status = failed_precondition(fields, etag, modified)
        if status == 304:
            await respond(responder, 304, [(b"etag", etag)])  # RFC 9110 15.4.5: all that is needed
            return
        if status is not None:
            raise RequestError(status, "the file is another one than the request is about")
        # RFC 9110 14.2: Range has a meaning for GET only.
        if b"range" in fields and not head and range_is_current(fields, etag, modified, now):
            ranges = parse_range(fields[b"range"], size)
            if ranges is not None:
                await _send_ranges(descriptor, ranges, size, kind, validators, responder)
                return
    headers = [(b"content-type", kind), (b"content-length", b"%d" % size), *validators]
    if not head and size <= SMALL:
        content = read_piece(descriptor, 0, size)
        if len(content) < size:
            raise file_too_short()
        await respond(responder, 200, headers, content)
        return
    responder.start(200, headers)
    if not head:
        await _write(descriptor, ByteRange(0, size), responder)
    responder.end()
    await responder.flush()


async def _send_ranges(
    descriptor: int,
    ranges: list[ByteRange],
    size: int,
    kind: bytes,
    validators: Headers,
    responder: Responder,
) -> None:
    if not ranges:
        whole = (b"content-range", b"bytes */%d" % size)
        raise RequestError(416, f"the file has {size} bytes", headers=[whole, _ACCEPT_RANGES])
    if len(ranges) == 1:
        # RFC 9110 15.3.7.2: one part is never sent as multipart.
        part = ranges[0]
        described = [(b"content-type", kind), (b"content-range", part.content_range(size))]
        responder.start(206, [*described, (b"content-length", b"%d" % part.length), *validators])
        await _write(descriptor, part, responder)
    else:
        multipart = Multipart(ranges, size, kind)
        described = [(b"content-type", multipart.content_type)]
        responder.start(206, [*described, (b"content-length", b"%d" % multipart.length), *validators])
        for head, part in zip(multipart.heads, ranges, strict=True):
            responder.write(head)
            await _write(descriptor, part, responder)
        responder.write(multipart.end)
    responder.end()
    await responder.flush()


async def _write(descriptor: int, part: ByteRange, responder: Responder) -> None:
    """Raises ResponseAborted, now or at the end, if the file has become shorter."""
    if part.length > SMALL:
        await responder.write_file(descriptor, part.first, part.length)
    elif part.length:
        responder.write(read_piece(descriptor, part.first, part.length))
