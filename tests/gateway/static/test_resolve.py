"""Opening files below a directory, and nothing else."""

import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.static.resolve import Symlinks, Tree, check_names
from gateway.target import decode_path
from tests.gateway.static.conftest import Unprivileged

SECRET = b"secret"
PUBLIC = b"public"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory to serve, beside things that must not be served."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(SECRET)
    (tmp_path / "site-sibling").write_bytes(SECRET)
    root = tmp_path / "site"
    (root / "dir" / "deep").mkdir(parents=True)
    (root / "file").write_bytes(PUBLIC)
    (root / "dir" / "deep" / "file").write_bytes(PUBLIC)
    (root / "to-file").symlink_to("file")
    (root / "to-dir").symlink_to(root / "dir")
    (root / "up").symlink_to("..")
    (root / "out-file").symlink_to("../outside/file")
    (root / "out-dir").symlink_to(tmp_path / "outside")
    (root / "out-sibling").symlink_to("../site-sibling")
    (root / "loop").symlink_to("loop")
    (root / "out-and-in").symlink_to("../site/file")
    return root


def read(tree: Tree, rest: str) -> bytes | None:
    """The content of a file; None for a directory."""
    descriptor, facts = tree.open(rest)
    try:
        assert os.fstat(descriptor).st_ino == facts.st_ino
        return None if os.path.isdir(f"/proc/self/fd/{descriptor}") else os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def status_of(tree: Tree, rest: str) -> int:
    with pytest.raises(RequestError) as caught:
        tree.open(rest)
    return caught.value.status


@pytest.mark.parametrize("symlinks", ["inside", "follow", "refuse"])
def test_opens_files_and_directories(site: Path, symlinks: Symlinks) -> None:
    tree = Tree(site, symlinks=symlinks)
    assert read(tree, "/file") == PUBLIC
    assert read(tree, "/dir/deep/file") == PUBLIC
    assert read(tree, "/dir") is None
    assert read(tree, "/dir/") is None
    assert read(tree, "/") is None
    assert read(tree, "") is None


@pytest.mark.parametrize(
    "rest", ["/none", "/none/x", "/file/", "/file/x", "/loop", "/" + "x" * 300, "/x" * 3000]
)
def test_what_is_not_there_is_404(site: Path, rest: str) -> None:
    assert status_of(Tree(site), rest) == 404


INSIDE = {"to-file", "to-dir/deep/file", "out-and-in", "up/site/file"}
OUTSIDE = {"out-file", "out-dir/file", "out-sibling"}


@pytest.mark.parametrize(
    ("symlinks", "served"),
    [("inside", INSIDE), ("refuse", set()), ("follow", INSIDE | OUTSIDE)],
)
def test_symbolic_links_lead_where_the_policy_lets_them(
    site: Path, symlinks: Symlinks, served: set[str]
) -> None:
    tree = Tree(site, symlinks=symlinks)
    for link in INSIDE | OUTSIDE:
        if link in served:
            assert read(tree, "/" + link) in (PUBLIC, SECRET), link
        else:
            assert status_of(tree, "/" + link) == 404, link


def test_a_linked_directory_is_refused_too(site: Path) -> None:
    assert status_of(Tree(site), "/out-dir") == 404
    assert status_of(Tree(site, symlinks="refuse"), "/to-dir") == 404
    assert read(Tree(site), "/to-dir") is None


@pytest.mark.parametrize("symlinks", ["inside", "refuse"])
def test_the_root_may_be_reached_by_links_and_exchanged(
    site: Path, tmp_path: Path, symlinks: Symlinks
) -> None:
    """Deployment by a link: `current` is pointed to the next release while the daemon runs."""
    current = tmp_path / "current"
    current.symlink_to(site)
    tree = Tree(current, symlinks=symlinks)
    assert read(tree, "/file") == PUBLIC
    release = tmp_path / "release-2"
    release.mkdir()
    (release / "file").write_bytes(b"second")
    (release / "old").symlink_to(site / "file")
    (tmp_path / "next").symlink_to(release)
    (tmp_path / "next").rename(current)
    assert read(tree, "/file") == b"second"
    assert status_of(tree, "/old") == 404


def test_a_root_with_dots_or_slashes_is_the_directory_it_names(site: Path) -> None:
    assert read(Tree(f"{site}//"), "/file") == PUBLIC
    assert read(Tree(site / "dir" / ".."), "/file") == PUBLIC
    assert status_of(Tree(site / "dir" / ".."), "/out-file") == 404


def test_a_relative_root_is_that_of_the_start(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.parent)
    tree = Tree("site")
    monkeypatch.chdir("/")
    assert read(tree, "/file") == PUBLIC


@pytest.mark.parametrize("symlinks", ["inside", "follow", "refuse"])
def test_the_root_directory_may_be_served(site: Path, symlinks: Symlinks) -> None:
    tree = Tree("/", symlinks=symlinks)
    assert read(tree, str(site.resolve() / "file")) == PUBLIC
    assert read(tree, "/") is None
    assert read(tree, "") is None


def test_a_root_that_is_not_there_is_404(tmp_path: Path) -> None:
    assert status_of(Tree(tmp_path / "none"), "/x") == 404


def test_names_of_any_bytes_can_be_opened(site: Path) -> None:
    path = "/" + b"caf\xc3\xa9\xff\n".decode("utf-8", "surrogateescape")
    (site / path[1:]).write_bytes(PUBLIC)
    assert read(Tree(site), path) == PUBLIC


def test_a_fifo_neither_blocks_nor_is_served(site: Path) -> None:
    os.mkfifo(site / "fifo")
    assert status_of(Tree(site), "/fifo") == 404


def test_a_socket_is_not_served(site: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site / "socket"))
        assert status_of(Tree(site), "/socket") == 404


def test_a_device_is_not_served(site: Path) -> None:
    (site / "null").symlink_to("/dev/null")
    assert status_of(Tree(site, symlinks="follow"), "/null") == 404


def test_a_file_that_may_not_be_read_is_403(site: Path, unprivileged: Unprivileged) -> None:
    (site / "file").chmod(0)
    with unprivileged():
        assert status_of(Tree(site), "/file") == 403


def test_no_descriptor_is_left_open(site: Path) -> None:
    os.mkfifo(site / "fifo")
    tree = Tree(site)
    before = set(os.listdir("/proc/self/fd"))
    for rest in ["/fifo", "/out-file", "/out-dir/", "/none"]:
        assert status_of(tree, rest) == 404
    assert set(os.listdir("/proc/self/fd")) <= before  # garbage of earlier tests may have gone


def test_a_link_that_is_exchanged_meanwhile_never_leads_outside(site: Path) -> None:
    """What was opened is judged, not a name that changes between two looks."""
    tree = Tree(site)
    stop = threading.Event()

    def exchange() -> None:
        targets = ["dir/deep", "../outside"]
        while not stop.is_set():
            targets.reverse()
            (site / "next").symlink_to(targets[0])
            (site / "next").rename(site / "swapped")

    thread = threading.Thread(target=exchange)
    (site / "swapped").symlink_to("dir/deep")
    thread.start()
    try:
        for _ in range(2000):
            try:
                content = read(tree, "/swapped/file")
            except RequestError:
                continue
            assert content == PUBLIC
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("raw_path", "rest"),
    [
        (b"/a%2Fb", "/a/b"),
        (b"/a%2fb", "/a/b"),
        (b"/m%2f", ""),
        (b"//a", "//a"),
        (b"/a//", "/a//"),
        (b"/.git/config", "/.git/config"),
        (b"/a/.env", "/a/.env"),
        (b"/%2Eenv", "/.env"),
        (b"/.well-known", "/.well-known"),
        (b"/.well-knownx", "/.well-knownx"),
        (b"/.well-known/.git", "/.well-known/.git"),
        (b"/.well-known/a/.git", "/.well-known/a/.git"),
        (b"/a/.well-known/b", "/a/.well-known/b"),
        (b"*", "*"),
    ],
)
def test_names_that_are_never_served(raw_path: bytes, rest: str) -> None:
    """CGI-8, and no way round a route by a second name for a file."""
    with pytest.raises(RequestError) as caught:
        check_names(raw_path, rest)
    assert caught.value.status == 404


@pytest.mark.parametrize("rest", ["", "/", "/a.b/c.d", "/a..b", "/.well-known/acme-challenge/x"])
def test_other_names_may_be_served(rest: str) -> None:
    check_names(rest.encode(), rest)


_DOTS = ["/", "/", ".", "..", "%2e", "%2e%2e", "%2f", "%00"]
_NAMES = ["file", "dir", "deep", "up", "out-dir", "out-file", "to-dir", "outside", "site", "-sibling"]
_PIECES = st.sampled_from(_DOTS + _NAMES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(_PIECES, max_size=10), symlinks=st.sampled_from(["inside", "refuse"]))
def test_no_path_reads_outside_the_root(site: Path, pieces: list[str], symlinks: Symlinks) -> None:
    raw_path = "/" + "".join(pieces)
    try:
        path = decode_path(raw_path.encode())
        check_names(raw_path.encode(), path)
        content = read(Tree(site, symlinks=symlinks), path)
    except RequestError:
        return
    assert content in (None, PUBLIC)
