"""Certificates whose files change while the daemon runs, and files that cannot be used."""

import os
import resource
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
import trio
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.errors import StartError
from gateway.request import Request, Responder, respond
from gateway.tls import context
from gateway.tls.context import Certificates
from gateway.tls.files import CertificateFiles, check_ciphers, check_pair
from gateway.tls.trust import ClientOptions
from gateway.tls.trust import client_context as client_context_of
from tests.gateway.served import LAST_GET, run, until
from tests.gateway.tls.secured import (
    AUTHORITY,
    Secured,
    authority_file,
    certificate,
    client_context,
    secured,
    tls_options,
)


async def hello(_request: Request, responder: Responder) -> None:
    await respond(responder, 200, [], b"hello")


async def shown(served: Secured, host: str = "localhost") -> int:
    """The serial number of the certificate that a client is shown."""
    tls = client_context()
    tls.check_hostname = False
    client = await served.hello(host, tls)
    try:
        return int(client.getpeercert()["serialNumber"], 16)
    finally:
        await trio.aclose_forcefully(client)


def test_renewed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(hello, [certificate(tmp_path, "localhost")]) as served:
            before = await shown(served)
            running = await served.hello()
            certificate(tmp_path, "localhost", "other.example")
            with structlog.testing.capture_logs() as logged:
                served.certificates.refresh()
                assert await shown(served) == before  # it may be half written
                served.certificates.refresh()
                served.certificates.refresh()
            assert [line["event"] for line in logged] == ["certificate renewed"]
            assert await shown(served) != before
            await running.send_all(LAST_GET)
            assert (await running.receive_some()).startswith(b"HTTP/1.1 200")
            await trio.aclose_forcefully(running)

    run(main)


def test_link_that_is_changed_is_noticed(tmp_path: Path) -> None:
    """As certbot renews: live/site/fullchain.pem points to another file."""
    first, second = (certificate(tmp_path, "localhost", file=name) for name in ("one", "two"))
    live = CertificateFiles(tmp_path / "live.pem", tmp_path / "live-key.pem")

    def point(to: CertificateFiles) -> None:
        for link, target in ((live.certificate, to.certificate), (live.key, to.key)):
            (tmp_path / "new").symlink_to(target)
            os.replace(tmp_path / "new", link)

    async def main() -> None:
        point(first)
        async with secured(hello, [live]) as served:
            before = await shown(served)
            point(second)
            served.certificates.refresh()
            served.certificates.refresh()
            assert await shown(served) != before

    run(main)


@pytest.mark.parametrize("trouble", ["missing", "garbage", "key of another"])
def test_broken_files_keep_the_certificate_and_are_logged_once(trouble: str, tmp_path: Path) -> None:
    files = [certificate(tmp_path, "localhost"), certificate(tmp_path, "a.example", file="a")]

    async def main() -> None:
        async with secured(hello, files) as served:
            before = await shown(served)
            match trouble:
                case "missing":
                    files[0].certificate.unlink()
                case "garbage":
                    files[0].certificate.write_text("-----BEGIN CERTIFICATE-----\nno\n")
                case _:
                    files[0].key.write_bytes(files[1].key.read_bytes())
            with structlog.testing.capture_logs() as logged:
                for _ in range(5):
                    served.certificates.refresh()
            (line,) = logged
            assert line["event"] == "certificate not renewed"
            assert line["log_level"] == "error"
            assert str(files[0].certificate) in line["certificate"]
            assert await shown(served) == before
            await shown(served, "a.example")
            certificate(tmp_path, "localhost")
            served.certificates.refresh()
            served.certificates.refresh()
            assert await shown(served) != before

    run(main)


def test_what_could_not_be_read_for_a_while_is_read_then(tmp_path: Path) -> None:
    """The reason says nothing of the files: these do not change any more (as by chown behind the copy)."""
    files = certificate(tmp_path, "localhost")
    certificates = Certificates(tls_options(), [files])
    before = certificates.context
    certificate(tmp_path, "localhost")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with structlog.testing.capture_logs() as logged:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            for _ in range(4):
                certificates.refresh()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert certificates.context is before
        for _ in range(4):
            certificates.refresh()
    assert certificates.context is not before
    assert [line["event"] for line in logged] == ["certificate not renewed", "certificate renewed"]
    assert logged[0]["cause"].endswith("cannot be read: Too many open files")


def test_authorities_of_clients_that_cannot_be_used(tmp_path: Path) -> None:
    """OpenSSL reads more of the file than certificates: revocations, trust."""
    files = certificate(tmp_path, "localhost")
    authorities = authority_file(tmp_path, AUTHORITY)
    options = tls_options(client_certificates="required", client_ca=authorities)
    certificates = Certificates(options, [files])
    before = certificates.context
    broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    authorities.write_bytes(AUTHORITY.cert_pem.bytes() + broken.encode())
    message = f"{authorities} has something in PEM form that OpenSSL cannot read"
    with structlog.testing.capture_logs() as logged:
        for _ in range(4):
            certificates.refresh()
    assert [line["cause"] for line in logged] == [message]
    assert certificates.context is before
    with pytest.raises(StartError, match=message):
        Certificates(options, [files])
    with pytest.raises(ValueError, match=message):
        client_context_of(
            ClientOptions(verify=True, ca=authorities, crl=None, files=None, min_version="1.2", ciphers=None)
        )


def test_names_of_a_renewed_certificate_count(tmp_path: Path) -> None:
    files = [certificate(tmp_path, "localhost"), certificate(tmp_path, "a.example", file="a")]

    async def main() -> None:
        async with secured(hello, files) as served:
            default = await shown(served)
            assert await shown(served, "b.example") == default
            certificate(tmp_path, "b.example", file="a")
            served.certificates.refresh()
            served.certificates.refresh()
            assert await shown(served, "b.example") != default
            assert await shown(served, "a.example") == default

    run(main)


def test_files_are_looked_at_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "LOOK_INTERVAL", 0.001)
    files = certificate(tmp_path, "localhost")

    async def main() -> None:
        certificates = Certificates(tls_options(), [files])
        before = certificates.context
        async with trio.open_nursery() as nursery:
            await nursery.start(certificates.run)
            certificate(tmp_path, "localhost")
            await until(lambda: certificates.context is not before)
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize(("days", "problem"), [(-1, "expired"), (3, "not valid before")])
def test_certificate_out_of_its_time_is_a_warning(days: int, problem: str, tmp_path: Path) -> None:
    """The client decides; a server that does not start is worse."""
    now = datetime.now(UTC)
    leaf = AUTHORITY.issue_cert(
        "localhost", not_before=now + timedelta(days=days - 1), not_after=now + timedelta(days=days)
    )
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "site.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    with structlog.testing.capture_logs() as logged:
        Certificates(tls_options(), [CertificateFiles(tmp_path / "site.pem", tmp_path / "key.pem")])
    (line,) = logged
    assert line["log_level"] == "warning"
    assert line["problem"].startswith(problem)


def encrypt(key: Path) -> None:
    loaded = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("no certificate", "site.pem has no certificate in PEM form"),
        ("no key", "site-key.pem has no private key in PEM form"),
        ("encrypted", "site-key.pem is encrypted"),
        ("other key", "site-key.pem is not the key of"),
        ("missing", "site.pem cannot be read: No such file or directory"),
        ("directory", "site-key.pem cannot be read: Is a directory"),
    ],
)
def test_files_that_cannot_be_used(trouble: str, message: str, tmp_path: Path) -> None:
    files = certificate(tmp_path, "localhost")
    match trouble:
        case "no certificate":
            files.certificate.write_text("hello")
        case "no key":
            files.key.write_bytes(files.certificate.read_bytes())
        case "encrypted":
            encrypt(files.key)
        case "other key":
            AUTHORITY.issue_cert("localhost").private_key_pem.write_to_path(files.key)
        case "missing":
            files.certificate.unlink()
        case _:
            files.key.unlink()
            files.key.mkdir()
    with pytest.raises(ValueError, match=message):
        check_pair(files)
    with pytest.raises(StartError, match=message):
        Certificates(tls_options(), [files])


def test_names_without_an_alternative_name(tmp_path: Path) -> None:
    """Old certificates have a common name only."""
    files = certificate(tmp_path, "localhost")
    common = AUTHORITY.issue_cert(common_name="Old.Example")
    (tmp_path / "old-key.pem").write_bytes(common.private_key_pem.bytes())
    (tmp_path / "old.pem").write_bytes(common.cert_chain_pems[0].bytes())
    certificates = Certificates(
        tls_options(), [files, CertificateFiles(tmp_path / "old.pem", tmp_path / "old-key.pem")]
    )
    found = certificates.find("localhost")
    assert found is certificates.context
    assert certificates.find("elsewhere") is None


def test_ciphers_are_checked() -> None:
    check_ciphers("ECDHE+AESGCM")
    with pytest.raises(ValueError, match="no cipher"):
        check_ciphers("ROT13")


def test_renegotiation_is_off(tmp_path: Path) -> None:
    certificates = Certificates(tls_options(), [certificate(tmp_path, "localhost")])
    assert certificates.context.options & ssl.OP_NO_RENEGOTIATION
