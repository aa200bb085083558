"""Path patterns, their rests, and the mount."""

import pytest

from gateway.path_pattern import find_rest_of, first_segments_of, mount_of


@pytest.mark.parametrize(
    ("pattern", "path", "rest"),
    [
        ("/exact", "/exact", ""),
        ("/exact", "/exact/", None),
        ("/exact", "/exac", None),
        ("/", "/", ""),
        ("/", "/a", None),
        ("/prefix/*", "/prefix", ""),
        ("/prefix/*", "/prefix/", ""),
        ("/prefix/*", "/prefix/a/b", "a/b"),
        ("/prefix/*", "/prefix//a", "/a"),
        ("/prefix/*", "/prefixed", None),
        ("/prefix/*", "//prefix/a", None),
        ("/a/b/*", "/a/b/c", "c"),
        ("/a/b/*", "/a/c", None),
        ("/*", "/", ""),
        ("/*", "/a/b", "a/b"),
        ("/*", "*", None),
        ("*.php", "/x/index.php", "/x/index"),
        ("*.php", "/index.php/info", None),
        ("*.php", "/index.PHP", None),
        (r"~\.php(?=/|$)", "/a.php/info", "/info"),
        (r"~^/u/(\d+)", "/u/17/x", "/x"),
        (r"~^/u/(\d+)", "/v/u/17", None),
        (r"~/u/", "/v/u/17", "17"),  # unanchored, as nginx's ~
        (r"~^/u/(?P<rest>[^/]+)/end$", "/u/17/end", "17"),
        (r"~^/u(?P<rest>/x)?$", "/u", ""),
        ("~(?i)^/U$", "/u", ""),
        ("~ ^/u$", "/u", ""),  # as nginx writes it
    ],
)
def test_pattern_gives_the_rest_of_what_it_matches(pattern: str, path: str, rest: str | None) -> None:
    assert find_rest_of([pattern], "")(path) == rest


def test_no_pattern_matches_every_path() -> None:
    find_rest = find_rest_of([], "")
    assert find_rest("/a/b") == "a/b"
    assert find_rest("*") == ""


def test_several_patterns_match_any_and_the_first_gives_the_rest() -> None:
    find_rest = find_rest_of(["/a/b/*", "/a/*", "*.php"], "")
    assert find_rest("/a/b/c") == "c"
    assert find_rest("/a/x.php") == "x.php"
    assert find_rest("/x.php") == "/x"
    assert find_rest("/x") is None


@pytest.mark.parametrize(
    ("patterns", "path", "rest"),
    [
        ([], "/m", ""),
        ([], "/m/", ""),
        ([], "/m/x/y", "x/y"),
        ([], "/mx", None),
        ([], "/", None),
        ([], "*", None),
        (["/m/*"], "/m/x", "x"),
        (["/*"], "/m/x", "m/x"),
        (["/*"], "/mx", None),
        (["/m/x"], "/m/x", ""),
        (["*.php"], "/m/x.php", "/m/x"),
        (["*.php"], "/mx.php", None),
        (["~x$"], "/m/x", ""),
        (["~x$"], "/mx", None),
    ],
)
def test_only_paths_at_or_below_the_mount_match(patterns: list[str], path: str, rest: str | None) -> None:
    """CGI-24: SCRIPT_NAME and PATH_INFO are the path again only at a segment boundary."""
    assert find_rest_of(patterns, "/m")(path) == rest


def test_a_pattern_above_the_mount_is_bounded_by_it() -> None:
    find_rest = find_rest_of(["/a/*"], "/a/b")
    assert find_rest("/a/b/c") == "b/c"
    assert find_rest("/a/c") is None


@pytest.mark.parametrize(
    "pattern",
    ["", "exact", "*", "/a*", "/a*/b", "/a/*/b", "/*/b/*", "*a*", "/a/../b", "/./*", "~(", "/a/*b/*"],
)
def test_rejects_patterns_that_mean_nothing(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"path: "):
        find_rest_of([pattern], "")


@pytest.mark.parametrize("pattern", ["/n", "/mx/*", "/n/*", "/"])
def test_rejects_patterns_outside_the_mount(pattern: str) -> None:
    with pytest.raises(ValueError, match="not below the mount '/m'"):
        find_rest_of([pattern], "/m")


@pytest.mark.parametrize(
    ("text", "mount"), [("", ""), ("/", ""), ("/a", "/a"), ("/a/", "/a"), ("/a/b", "/a/b")]
)
def test_mount_has_no_slash_at_its_end(text: str, mount: str) -> None:
    assert mount_of(text) == mount


@pytest.mark.parametrize("text", ["a", "a/b", "/a//b", "/a/*", "/a/../b", "//a"])
def test_rejects_mounts_that_no_path_has(text: str) -> None:
    with pytest.raises(ValueError, match=r"mount: "):
        mount_of(text)


@pytest.mark.parametrize(
    ("patterns", "mount", "segments"),
    [
        ([], "", None),
        (["/a/*", "/b"], "", {"/a", "/b"}),
        (["/a/b/c/*"], "", {"/a"}),
        (["/a/*", "*.php"], "", None),
        (["/a/*", "/*"], "", None),
        (["~x"], "", None),
        (["/"], "", {"/"}),
        (["~x"], "/m/n", {"/m"}),
        ([], "/m", {"/m"}),
    ],
)
def test_first_segments_are_those_of_all_paths_that_match(
    patterns: list[str], mount: str, segments: set[str] | None
) -> None:
    assert first_segments_of(patterns, mount) == segments
