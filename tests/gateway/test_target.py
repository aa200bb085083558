"""The request target: decoding, dot segments, and what is refused."""

import os.path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.target import decode_path, host_of, split_target


@pytest.mark.parametrize(
    ("target", "raw_path", "query"),
    [
        (b"/", b"/", b""),
        (b"/a?b=c", b"/a", b"b=c"),
        (b"/a?", b"/a", b""),
        (b"/a?b?c=%20", b"/a", b"b?c=%20"),
        (b"/a%3Fb", b"/a%3Fb", b""),
        (b"*", b"*", b""),
    ],
)
def test_splits_the_target_at_the_first_question_mark(target: bytes, raw_path: bytes, query: bytes) -> None:
    """RFC 3986 3.4: a question mark may stand in the query."""
    assert split_target(target) == (raw_path, query)


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/", "/"),
        (b"/plain/path.html", "/plain/path.html"),
        (b"/a%20b", "/a b"),
        (b"/caf%C3%A9", "/café"),
        ("/café".encode(), "/café"),
        (b"/%2525", "/%25"),  # once, not twice
        (b"/a+b", "/a+b"),
        (b"/a%2Fb", "/a/b"),
        (b"//a//b/", "//a//b/"),
        (b"/...", "/..."),
        (b"/.hidden", "/.hidden"),
        (b"/a..b/..c", "/a..b/..c"),
        (b"*", "*"),
    ],
)
def test_decodes_a_path_once(raw_path: bytes, path: str) -> None:
    """RFC 3986 2.4; double slashes are kept."""
    assert decode_path(raw_path) == path


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/.", "/"),
        (b"/./", "/"),
        (b"/a/./b", "/a/b"),
        (b"/a/../b", "/b"),
        (b"/a/b/..", "/a/"),
        (b"/a/b/../", "/a/"),
        (b"/a/b/.", "/a/b/"),
        (b"/a/..", "/"),
        (b"/a/b/../../c", "/c"),
        (b"/a/%2e%2e/b", "/b"),
        (b"/a/.%2E/b", "/b"),
        (b"/a/..%2Fb", "/b"),
        (b"/a%2F..%2Fb", "/b"),
        (b"/a/%2e/b", "/a/b"),
    ],
)
def test_resolves_dot_segments_after_decoding(raw_path: bytes, path: str) -> None:
    """CGI-43, RFC 3986 5.2.4."""
    assert decode_path(raw_path) == path


def test_keeps_undecodable_bytes_as_surrogate_escapes() -> None:
    path = decode_path(b"/%FF\xfe%C0%AF")
    assert path.encode("utf-8", "surrogateescape") == b"/\xff\xfe\xc0\xaf"
    assert path.count("/") == 1  # an overlong slash (C0 AF) is not a slash


@pytest.mark.parametrize(
    "raw_path",
    [
        b"",
        b"a",
        b"**",
        b"http://example.com/",
        b"/..",
        b"/../",
        b"/a/../..",
        b"/%2e%2e/etc/passwd",
        b"/..%2f",
        b"/a//../b",
        b"/a%2F%2F..",
        b"/%00",
        b"/a%00.html",
        b"/a\0",
        b"/%",
        b"/%2",
        b"/%zz",
        b"/%2e%2",
    ],
)
def test_refuses_what_programs_would_understand_differently(raw_path: bytes) -> None:
    """M07, RFC 3875 9.8: NUL, broken escapes, ``..`` above the root or after an empty segment are 400."""
    with pytest.raises(RequestError) as caught:
        decode_path(raw_path)
    assert caught.value.status == 400


def test_refuses_a_fragment() -> None:
    """RFC 9112 3.2: a fragment is no part of a request target."""
    with pytest.raises(RequestError, match="fragment"):
        split_target(b"/a#b")


_PIECES = st.sampled_from(
    [
        b"/",
        b"/",
        b".",
        b"..",
        b"%2e",
        b"%2E%2E",
        b"%2f",
        b"%2F",
        b"%00",
        b"%",
        b"a",
        b"%C3",
        b"\xff",
        b"%252e",
    ]
)


def path_or_none(raw_path: bytes) -> str | None:
    """None if the path is refused, which is always a 400."""
    try:
        return decode_path(raw_path)
    except RequestError as error:
        return None if error.status == 400 else f"refused with {error.status}"


@given(st.lists(_PIECES, max_size=12).map(lambda pieces: b"/" + b"".join(pieces)))
def test_any_path_is_refused_or_stays_below_the_root(raw_path: bytes) -> None:
    """CGI-43: what comes out has no dot segments left, so joining it to a directory cannot leave that."""
    path = path_or_none(raw_path)
    if path is None:
        return
    assert path.startswith("/")
    assert not {".", ".."} & set(path.split("/"))
    assert "\0" not in path
    assert os.path.normpath("/root" + path).startswith("/root")


@given(st.binary(max_size=20))
def test_any_bytes_give_a_path_or_a_request_error(raw_path: bytes) -> None:
    path = path_or_none(raw_path)
    assert path is None or path == "*" or path.startswith("/")


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"", ""),
        (b"A.example", "a.example"),
        (b"a.example:8080", "a.example"),
        (b"a.example:", "a.example"),
        (b"[::1]", "[::1]"),
        (b"[::1]:80", "[::1]"),
        (b"a.example.", "a.example"),
        (b"a.example.:443", "a.example"),
    ],
)
def test_host_of_an_authority(authority: bytes, host: str) -> None:
    """RFC 1034 3.1: an absolute name ends with a dot; and is the same host."""
    assert host_of(authority) == host
