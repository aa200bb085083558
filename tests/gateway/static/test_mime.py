"""Content types."""

import pytest

from gateway.static.mime import content_type


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/a.html", b"text/html; charset=utf-8"),
        ("/A.HTML", b"text/html; charset=utf-8"),
        ("/a.mjs", b"text/javascript; charset=utf-8"),
        ("/a.md", b"text/markdown; charset=utf-8"),
        ("/a.json", b"application/json"),
        ("/a.webmanifest", b"application/manifest+json"),
        ("/a.wasm", b"application/wasm"),
        ("/a.webp", b"image/webp"),
        ("/a.avif", b"image/avif"),
        ("/a.woff2", b"font/woff2"),
        ("/a.svg", b"image/svg+xml"),
        ("/a.tar.gz", b"application/gzip"),
        ("/a.unknown", b"application/octet-stream"),
        ("/a.", b"application/octet-stream"),
        ("/a", b"application/octet-stream"),
        ("/b.html/a", b"application/octet-stream"),
    ],
)
def test_type_follows_the_last_extension(path: str, kind: bytes) -> None:
    assert content_type(path) == kind
