"""Static files as answers: heads, bodies, conditions and ranges."""

import errno
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.errors import MachineError, RequestError, ResponseAborted
from gateway.protocols.events import Headers
from gateway.static.conditional import parse_date
from gateway.static.handler import SMALL, StaticFiles
from tests.gateway.conftest import RecordingResponder, make_request
from tests.gateway.static.conftest import Unprivileged

MTIME = 784111777
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_bytes(b"<p>home</p>")
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    os.utime(tmp_path / "a.txt", ns=(0, MTIME * 1_000_000_000 + 5))
    (tmp_path / "empty.css").write_bytes(b"")
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * 256)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "index.htm").write_bytes(b"<p>dir</p>")
    (tmp_path / "bare").mkdir()
    (tmp_path / "odd name?").mkdir()
    return tmp_path


def files(root: Path, **options: Any) -> StaticFiles:
    """The files below *root*, with *options* in place of what most tests want."""
    return StaticFiles(root, **{"index": ["index.html"], "fallback": None, "symlinks": "inside", **options})


def get(
    handler: StaticFiles,
    target: bytes,
    headers: Headers | None = None,
    *,
    method: str = "GET",
    mount: str = "",
) -> RecordingResponder:
    """The whole response, which must have been ended and flushed."""
    request = make_request(target, method=method, headers=headers, mount=mount)
    recorder = RecordingResponder(method=method)
    trio.run(handler.handle, request, recorder)
    assert recorder.ended
    assert not recorder.unflushed
    return recorder


def refused(handler: StaticFiles, target: bytes, headers: Headers | None = None) -> int:
    with pytest.raises(RequestError) as caught:
        get(handler, target, headers)
    return caught.value.status


def test_fallback_stands_for_what_is_not_there(root: Path) -> None:
    handler = files(root, fallback="index.html")
    for target in (b"/users/3", b"/bare/", b"/a.txt/x", b"/index.html"):
        page = get(handler, target)
        assert (page.status, page.body) == (200, b"<p>home</p>")
        assert page.header(b"content-type") == b"text/html; charset=utf-8"
    assert get(handler, b"/a.txt").body == b"0123456789"
    assert get(handler, b"/bare").status == 308
    assert get(handler, b"/users/3", method="HEAD").body == b""
    assert get(handler, b"/users/3", [(b"if-none-match", page.header(b"etag") or b"")]).status == 304


def test_fallback_does_not_stand_for_what_is_never_served(root: Path) -> None:
    (root / ".git").mkdir()
    handler = files(root, fallback="index.html")
    for target in (b"/.git/config", b"/a%2Fb", b"//a"):
        assert refused(handler, target) == 404
    assert refused(files(root, fallback="absent.html"), b"/x") == 404


def test_serves_a_file_with_its_facts(root: Path) -> None:
    response = get(files(root), b"/a.txt")
    assert response.status == 200
    assert response.body == b"0123456789"
    assert response.headers == [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"10"),
        (b"last-modified", DATE),
        (b"etag", b'"%x-a"' % (MTIME * 1_000_000_000 + 5)),
        (b"accept-ranges", b"bytes"),
    ]


def test_a_small_file_leaves_with_its_head(root: Path) -> None:
    (root / "small").write_bytes(b"x" * SMALL)
    response = get(files(root), b"/small")
    assert (response.pieces, response.files, response.flushes) == ([b"x" * SMALL], [], 1)


def test_a_large_file_is_sent_by_the_kernel(root: Path) -> None:
    response = get(files(root), b"/large.bin")
    assert response.files == [(0, 65536)]
    assert response.body == (root / "large.bin").read_bytes()


def test_an_empty_file_is_an_empty_body(root: Path) -> None:
    response = get(files(root), b"/empty.css", [(b"range", b"bytes=0-")])
    assert (response.status, response.header(b"content-length"), response.body) == (200, b"0", b"")


@pytest.mark.parametrize("target", [b"/a.txt", b"/large.bin"])
def test_head_has_the_fields_of_get_and_reads_nothing(root: Path, target: bytes) -> None:
    """RFC 9110 9.3.2."""
    handler = files(root)
    response = get(handler, target, method="HEAD")
    assert response.headers == get(handler, target).headers
    assert (response.pieces, response.files) == ([], [])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "get", "PROPFIND"])
def test_other_methods_are_405(root: Path, method: str) -> None:
    """RFC 9110 15.5.6: with Allow."""
    with pytest.raises(RequestError) as caught:
        get(files(root), b"/a.txt", method=method)
    assert (caught.value.status, caught.value.headers) == (405, [(b"allow", b"GET, HEAD, OPTIONS")])


@pytest.mark.parametrize("target", [b"/a.txt", b"*"])
def test_options_tells_the_methods(root: Path, target: bytes) -> None:
    """RFC 9110 9.3.7."""
    response = get(files(root), target, method="OPTIONS")
    assert (response.status, response.headers) == (204, [(b"allow", b"GET, HEAD, OPTIONS")])


def test_the_file_is_found_below_the_mount(root: Path) -> None:
    handler = files(root)
    assert get(handler, b"/m/a.txt", mount="/m").body == b"0123456789"
    assert refused(handler, b"/m/a.txt") == 404


@pytest.mark.parametrize(
    "target",
    [b"/none", b"/a.txt/", b"/none/", b"/bare/", b"/dir%2Findex.htm", b"//a.txt", b"/dir//index.htm"],
)
def test_what_is_not_served_is_404(root: Path, target: bytes) -> None:
    assert refused(files(root), target) == 404


def test_hidden_files_are_not_served(root: Path) -> None:
    (root / ".env").write_bytes(b"KEY=1")
    (root / ".well-known").mkdir()
    (root / ".well-known" / "security.txt").write_bytes(b"contact")
    handler = files(root)
    assert refused(handler, b"/.env") == 404
    assert refused(handler, b"/%2eenv") == 404
    assert get(handler, b"/.well-known/security.txt").body == b"contact"


# Directories


def test_a_directory_is_answered_by_its_index(root: Path) -> None:
    handler = files(root)
    response = get(handler, b"/")
    assert response.body == b"<p>home</p>"
    assert response.header(b"content-type") == b"text/html; charset=utf-8"
    assert get(handler, b"/m/", mount="/m").body == b"<p>home</p>"


def test_the_first_index_that_is_a_file_wins(root: Path) -> None:
    (root / "dir" / "a").mkdir()
    handler = files(root, index=["none.html", "a", "index.htm", "other"])
    assert get(handler, b"/dir/").body == b"<p>dir</p>"


def test_an_index_that_leads_outside_is_not_served(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "page"
    outside.write_bytes(b"secret")
    (root / "bare" / "index.html").symlink_to(outside)
    assert refused(files(root), b"/bare/") == 404
    assert get(files(root, symlinks="follow"), b"/bare/").body == b"secret"


def test_an_index_that_may_not_be_read_hides_the_next(root: Path, unprivileged: Unprivileged) -> None:
    """Its page is forbidden; another one is not its page."""
    (root / "index.html").chmod(0)
    handler = files(root, index=["index.html", "a.txt"])
    with unprivileged():
        assert refused(handler, b"/") == 403


def test_no_index_no_listing(root: Path) -> None:
    assert refused(files(root, index=()), b"/") == 404


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a\0b"])
def test_rejects_an_index_that_is_no_file_name(root: Path, name: str) -> None:
    with pytest.raises(ValueError, match="index: "):
        files(root, index=[name])
    with pytest.raises(ValueError, match="fallback: "):
        files(root, fallback=name)


@pytest.mark.parametrize(
    ("target", "mount", "location"),
    [
        (b"/dir", "", b"/dir/"),
        (b"/dir?a=b%20c", "", b"/dir/?a=b%20c"),
        (b"/odd%20name%3F", "", b"/odd%20name%3F/"),
        (b"/m", "/m", b"/m/"),
        (b"/m/dir", "/m", b"/m/dir/"),
        (b"/x/../dir", "", b"/dir/"),
    ],
)
def test_a_directory_without_its_slash_is_redirected(
    root: Path, target: bytes, mount: str, location: bytes
) -> None:
    response = get(files(root), target, mount=mount)
    assert (response.status, response.header(b"location")) == (308, location)


def test_the_redirect_never_leads_to_another_host(root: Path) -> None:
    (root / "evil.example").mkdir()
    assert refused(files(root), b"//evil.example") == 404
    assert refused(files(root), b"/%2Fevil.example") == 404


# Conditions (each rule has its own test in test_conditional.py)


def test_not_modified_has_the_etag_and_no_body(root: Path) -> None:
    """RFC 9110 15.4.5."""
    handler = files(root)
    etag = get(handler, b"/a.txt").header(b"etag")
    assert etag is not None
    response = get(handler, b"/a.txt", [(b"if-none-match", b"W/" + etag)])
    assert (response.status, response.headers, response.body) == (304, [(b"etag", etag)], b"")
    assert get(handler, b"/a.txt", [(b"if-modified-since", DATE)]).status == 304
    assert get(handler, b"/a.txt", [(b"if-modified-since", DATE)], method="HEAD").status == 304


def test_a_failed_precondition_is_412(root: Path) -> None:
    """RFC 9110 15.5.13."""
    assert refused(files(root), b"/a.txt", [(b"if-match", b'"other"')]) == 412


def test_the_etag_changes_with_the_file(root: Path) -> None:
    handler = files(root)
    first = get(handler, b"/a.txt").header(b"etag")
    os.utime(root / "a.txt", ns=(0, MTIME * 1_000_000_000 + 6))
    second = get(handler, b"/a.txt").header(b"etag")
    (root / "a.txt").write_bytes(b"012345678")
    os.utime(root / "a.txt", ns=(0, MTIME * 1_000_000_000 + 6))
    third = get(handler, b"/a.txt").header(b"etag")
    assert len({first, second, third}) == 3


def test_last_modified_is_never_in_the_future(root: Path) -> None:
    """RFC 9110 8.8.2.1."""
    before = int(time.time())
    os.utime(root / "a.txt", (before + 1000, before + 1000))
    modified = parse_date(get(files(root), b"/a.txt").header(b"last-modified") or b"")
    assert modified is not None
    assert before <= modified <= time.time()


def test_dates_before_the_epoch_are_the_epoch(root: Path) -> None:
    os.utime(root / "a.txt", (-5, -5))
    response = get(files(root), b"/a.txt")
    assert response.header(b"last-modified") == b"Thu, 01 Jan 1970 00:00:00 GMT"


# Ranges (each rule has its own test in test_ranges.py)


def test_a_range_is_206_with_its_part(root: Path) -> None:
    """RFC 9110 15.3.7.1."""
    response = get(files(root), b"/a.txt", [(b"range", b"bytes=2-4")])
    assert (response.status, response.body) == (206, b"234")
    assert response.header(b"content-range") == b"bytes 2-4/10"
    assert response.header(b"content-length") == b"3"
    assert response.header(b"content-type") == b"text/plain; charset=utf-8"
    assert response.header(b"last-modified") == DATE


def test_a_large_range_is_sent_by_the_kernel(root: Path) -> None:
    response = get(files(root), b"/large.bin", [(b"range", b"bytes=1-40000")])
    assert response.files == [(1, 40000)]
    assert response.body == (root / "large.bin").read_bytes()[1:40001]


def test_several_ranges_are_multipart(root: Path) -> None:
    """RFC 9110 15.3.7.2."""
    response = get(files(root), b"/a.txt", [(b"range", b"bytes=0-1, -2")])
    assert response.status == 206
    assert response.header(b"content-range") is None
    assert response.header(b"content-length") == str(len(response.body)).encode()
    kind = response.header(b"content-type") or b""
    boundary = b"--" + kind.removeprefix(b"multipart/byteranges; boundary=")
    parts = response.body.split(boundary)
    assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == [b"01\r\n", b"89\r\n"]
    assert b"content-range: bytes 8-9/10" in parts[2]
    assert parts[3] == b"--\r\n"


def test_an_unsatisfiable_range_is_416(root: Path) -> None:
    """RFC 9110 15.5.17: with the length there is."""
    with pytest.raises(RequestError) as caught:
        get(files(root), b"/a.txt", [(b"range", b"bytes=10-")])
    assert caught.value.status == 416
    assert (b"content-range", b"bytes */10") in caught.value.headers


def test_a_range_of_head_is_ignored(root: Path) -> None:
    """RFC 9110 14.2."""
    response = get(files(root), b"/a.txt", [(b"range", b"bytes=2-4")], method="HEAD")
    assert (response.status, response.header(b"content-length")) == (200, b"10")


def test_a_range_of_another_version_is_the_whole_file(root: Path) -> None:
    """RFC 9110 13.1.5."""
    handler = files(root)
    etag = get(handler, b"/a.txt").header(b"etag") or b""
    range_field = (b"range", b"bytes=2-4")
    assert get(handler, b"/a.txt", [range_field, (b"if-range", b'"other"')]).status == 200
    assert get(handler, b"/a.txt", [range_field, (b"if-range", etag)]).status == 206
    assert get(handler, b"/a.txt", [range_field, (b"if-range", DATE)]).status == 206


def test_a_condition_is_judged_before_a_range(root: Path) -> None:
    """RFC 9110 13.2.2 step 5 comes last; an unsatisfiable range is not looked at."""
    fields = [(b"if-modified-since", DATE), (b"range", b"bytes=99-")]
    assert get(files(root), b"/a.txt", fields).status == 304


# The machine


def test_no_descriptors_left_is_503(root: Path) -> None:
    handler = files(root)
    request, recorder = make_request(b"/a.txt"), RecordingResponder()

    async def main() -> None:
        free = os.open("/", os.O_PATH)
        os.close(free)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            with pytest.raises(MachineError) as caught:
                await handler.handle(request, recorder)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (caught.value.status, caught.value.cause.errno) == (503, errno.EMFILE)
        assert str(root) not in caught.value.detail

    trio.run(main)
    assert not recorder.started


class ShrinkingResponder(RecordingResponder):
    """The file becomes shorter at the moment the head is queued."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        super().start(status, headers, reason)
        os.truncate(self._path, 3)


def test_a_file_that_becomes_shorter_aborts_the_response(root: Path) -> None:
    """Of a large file, that is; a small one is read before its response begins."""
    recorder = ShrinkingResponder(root / "large.bin")
    with pytest.raises(ResponseAborted):
        trio.run(files(root).handle, make_request(b"/large.bin"), recorder)
    assert not recorder.ended


def test_every_descriptor_is_closed(root: Path) -> None:
    handler = files(root)
    before = set(os.listdir("/proc/self/fd"))
    for target in [b"/a.txt", b"/large.bin", b"/dir", b"/"]:
        get(handler, target)
    refused(handler, b"/a.txt", [(b"if-match", b'"other"')])
    assert set(os.listdir("/proc/self/fd")) <= before  # garbage of earlier tests may have gone
