"""Path patterns of routes, compiled to functions that tell the rest of a path.

A pattern is compared with the decoded path (``Request.path``). Its *rest* is ``{path.rest}`` of templates:

================  ====================================  ===========================================
pattern           matches                               rest
================  ====================================  ===========================================
``/exact``        that path only                        nothing
``/prefix/*``     ``/prefix`` and all that is below     what follows ``/prefix/``
``*.php``         any path that ends so                 what comes before the suffix
``~regex``        as ``re.search`` does: unanchored     the group named ``rest``, else what follows
                                                        the match
none              any path at or below the mount        what follows the mount's slash
================  ====================================  ===========================================

Promises: whatever the pattern, only paths at or below the mount match, at a segment boundary. A pattern
that is none of these, or that lies outside the mount, is a ValueError that says so.
"""

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

FindRest: TypeAlias = Callable[[str], str | None]
"""The rest of a path by one pattern; None if the pattern does not match."""


def mount_of(text: str) -> str:
    """*text* in the form of ``Request.mount``: empty, or ``/x/y`` without a slash at its end."""
    mount = text.rstrip("/")
    if mount and (mount[0] != "/" or "//" in mount or "*" in mount or _has_dots(mount)):
        raise ValueError(f"mount: expected a path like '/app', got {text!r}")
    return mount


def find_rest_of(patterns: Sequence[str], mount: str) -> FindRest:
    """The function for a route with these patterns, of which any may match, below *mount*."""
    finders = [_compile(pattern, mount) for pattern in patterns]
    if not finders:
        # Without a mount too, really all paths match, `*` (OPTIONS) among them.
        return _prefix(mount) if mount else _anything
    return finders[0] if len(finders) == 1 else _first_of(finders)


def first_segments_of(patterns: Sequence[str], mount: str) -> frozenset[str] | None:
    """The first segments (``/x``) of all paths that can match; None if they cannot be listed."""
    if mount:
        return frozenset({_first_segment(mount)})
    fixed = [_prefix_of(pattern) if pattern[:1] == "/" else "" for pattern in patterns]
    if not fixed or "" in fixed:
        return None
    return frozenset(map(_first_segment, fixed))


def _first_segment(path: str) -> str:
    return "/" + path.split("/", 2)[1]


def _compile(pattern: str, mount: str) -> FindRest:
    if pattern.startswith("~"):
        # `~ ^/x`, as nginx has it, is meant to match: no path begins with a blank.
        return _below(mount, _search(pattern[1:].lstrip(" ")))
    if pattern.startswith("*") and pattern != "*" and "*" not in pattern[1:]:
        return _below(mount, _suffix(pattern[1:]))
    if not pattern.startswith("/"):
        raise ValueError(f"path: expected '/exact', '/prefix/*', '*.suffix' or '~regex', got {pattern!r}")
    if _has_dots(pattern):
        raise ValueError(f"path: {pattern!r} has dot segments, which no request path has")
    prefix = _prefix_of(pattern)
    if "*" in prefix:
        raise ValueError(
            f"path: {pattern!r}: '*' stands for all that follows '/' ('/prefix/*') or all before a suffix "
            "('*.php'); use '~regex' for more"
        )
    is_prefix = prefix != pattern
    if _is_below(prefix, mount):
        return _prefix(prefix) if is_prefix else _exact(pattern)
    if is_prefix and _is_below(mount, prefix):
        return _below(mount, _prefix(prefix))
    raise ValueError(f"path: {pattern!r} is not below the mount {mount!r}")


def _prefix_of(pattern: str) -> str:
    """``/prefix`` of ``/prefix/*``; an exact path is its own."""
    return pattern.removesuffix("/*")


def _is_below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount + "/")


def _has_dots(path: str) -> bool:
    return any(segment in (".", "..") for segment in path.split("/"))


def _anything(path: str) -> str:
    return path[1:]


def _exact(text: str) -> FindRest:
    return lambda path: "" if path == text else None


def _prefix(prefix: str) -> FindRest:
    slashed = prefix + "/"
    size = len(slashed)

    def find_rest(path: str) -> str | None:
        if path.startswith(slashed):
            return path[size:]
        return "" if path == prefix else None

    return find_rest


def _suffix(suffix: str) -> FindRest:
    size = len(suffix)
    return lambda path: path[:-size] if path.endswith(suffix) else None


def _search(regex: str) -> FindRest:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        # nginx: `~*` disregards case.
        hint = "; regardless of case is '~(?i)'" if regex.startswith("*") else ""
        raise ValueError(f"path: '~{regex}' is not a regular expression: {error}{hint}") from error
    has_rest = "rest" in pattern.groupindex

    def find_rest(path: str) -> str | None:
        found = pattern.search(path)
        if found is None:
            return None
        return (found["rest"] or "") if has_rest else path[found.end() :]

    return find_rest


def _below(mount: str, find_rest: FindRest) -> FindRest:
    if not mount:
        return find_rest
    slashed = mount + "/"
    return lambda path: find_rest(path) if path.startswith(slashed) or path == mount else None


def _first_of(finders: Sequence[FindRest]) -> FindRest:
    def find_rest(path: str) -> str | None:
        for finder in finders:
            rest = finder(path)
            if rest is not None:
                return rest
        return None

    return find_rest
