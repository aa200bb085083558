"""`tls: development`: an authority that is made once, for nobody else to read."""

import os
import ssl
import stat
from pathlib import Path

import pytest
import structlog

from gateway.errors import StartError
from gateway.tls.context import TlsContext
from gateway.tls.development import development_context, directory
from tests.gateway.tls.secured import tls_options

KEPT = Path("gateway/development-ca")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def shake_hands(server: TlsContext, host: str, authority: Path) -> None:
    """Raises SSLError if a client that trusts *authority* would not accept the certificate for *host*."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    trusting = ssl.create_default_context(cafile=str(authority))
    theirs = trusting.wrap_bio(to_client, to_server, server_hostname=host)
    waiting = {ours, theirs}
    for side in (theirs, ours) * 4:
        try:
            side.do_handshake()
            waiting.discard(side)
        except ssl.SSLWantReadError:
            pass
    assert not waiting


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "::1", "app.example", "x.example.com", "192.0.2.1", "2001:db8::1"]
)
def test_certificate_for_the_hosts_of_the_routes(host: str, cache: Path) -> None:
    hosts = [
        "app.example",
        "*.example.com",
        "192.0.2.1",
        "[2001:db8::1]",
        "under_score.example",
        "xn--a.example",
        "ab--cd.example",
        ".".join(["a" * 60] * 5),
        "app.example",
    ]
    with structlog.testing.capture_logs() as logged:
        context = development_context(tls_options(), hosts)
    assert logged[0]["hosts"][3:] == ["app.example", "*.example.com", "192.0.2.1", "2001:db8::1"]
    shake_hands(context, host, cache / KEPT / "ca.pem")
    with pytest.raises(ssl.SSLError):
        shake_hands(context, "other.example", cache / KEPT / "ca.pem")


def test_authority_is_kept_and_private(cache: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        development_context(tls_options(), [])
    (line,) = logged
    authority = cache / KEPT / "ca.pem"
    assert line["authority"] == str(authority)
    assert line["example"] == f"curl --cacert {authority}"
    first = authority.read_bytes()
    development_context(tls_options(), [])
    assert authority.read_bytes() == first
    assert stat.S_IMODE(os.stat(cache / KEPT).st_mode) == 0o700
    for file in (cache / KEPT).iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_directory_that_others_may_read(cache: Path) -> None:
    """Made by hand, or copied: the key is in there."""
    (cache / KEPT).mkdir(parents=True)
    (cache / KEPT).chmod(0o755)
    development_context(tls_options(), [])
    assert stat.S_IMODE(os.stat(cache / KEPT).st_mode) == 0o700


def test_home_without_cache_directory_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert directory() == tmp_path / ".cache/gateway/development-ca"


def test_relative_cache_directory_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the specification has it; it would be another one for each working directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert directory() == tmp_path / ".cache/gateway/development-ca"


def test_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a number: nothing called ``~`` is made where it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(StartError, match="this user has no home; expected HOME or XDG_CACHE_HOME"):
        development_context(tls_options(), [])
    assert list(tmp_path.iterdir()) == []


def test_authority_that_cannot_be_used(cache: Path) -> None:
    development_context(tls_options(), [])
    (cache / KEPT / "ca-key.pem").write_text("spoiled")
    with pytest.raises(StartError, match="has no usable authority: remove it"):
        development_context(tls_options(), [])


def test_cache_that_cannot_be_written(cache: Path) -> None:
    (cache / "gateway").write_text("a file in the way")
    with pytest.raises(StartError, match=r"gateway.*: Not a directory"):
        development_context(tls_options(), [])
