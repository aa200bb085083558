"""`tls: development`: certificates that this machine trusts, after one command.

A certificate authority is made at first use and kept, so that trusting it once is enough; its key can
sign a certificate for any host, so nobody but the user may read it. The certificate of the listener is
made anew at each start, for localhost and the hosts of the routes.
"""

import fcntl
import getpass
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import idna
import trustme
from cryptography import x509

from gateway.errors import StartError
from gateway.logger import get_logger
from gateway.tls.context import TlsContext, TlsOptions, describe, make_context

log = get_logger()

LOCAL: Final = ("localhost", "127.0.0.1", "::1")

_VALID: Final = timedelta(days=397)
"""Browsers refuse certificates that are valid for longer than 398 days."""


def directory() -> Path:
    """Where the authority is kept (XDG Base Directory Specification). Raises StartError if nowhere."""
    for cache in os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"):
        if os.path.isabs(cache):  # `~` stays what it is for users whom nobody knows, as in containers
            return Path(cache, "gateway", "development-ca")
    raise StartError("tls: development: this user has no home; expected HOME or XDG_CACHE_HOME to name one")


def development_context(options: TlsOptions, hosts: Iterable[str]) -> TlsContext:
    """A context for localhost and *hosts*; says in the log how to trust it. Raises StartError."""
    hosts = (host.strip("[]") for host in hosts)
    names = list(dict.fromkeys([*LOCAL, *filter(_is_nameable, hosts)]))
    kept = directory()
    try:
        authority = _authority(kept)
    except OSError as error:
        raise StartError(f"tls: development: {error.filename or kept}: {error.strerror}") from error
    except ValueError as error:
        raise StartError(f"tls: development: {kept} has no usable authority: remove it ({error})") from error
    now = datetime.now(UTC)
    leaf = authority.issue_cert(
        *names,
        organization_name="Gateway development",
        not_before=now - timedelta(days=1),
        not_after=now + _VALID,
    )
    context = make_context(options)
    leaf.configure_cert(context)
    describe(context, x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()))
    certificate = kept / "ca.pem"
    log.info(
        "development certificate: let browsers and clients trust its authority, once",
        authority=str(certificate),
        example=f"curl --cacert {certificate}",
        hosts=names,
    )
    return context


def _is_nameable(host: str) -> bool:
    """Whether a certificate can have the name, as trustme sees it: no underscore, for instance."""
    try:
        ip_address(host)
    except ValueError:
        try:
            idna.encode(host.removeprefix("*."))
        except idna.IDNAError:
            return False
    return True


def _authority(kept: Path) -> trustme.CA:
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    if kept.stat().st_mode & 0o077:  # it was there already; that of another user cannot be used
        kept.chmod(0o700)
    certificate, key = kept / "ca.pem", kept / "ca-key.pem"
    with _locked(kept / "lock"):
        if not certificate.exists():
            authority = trustme.CA(
                organization_name="Gateway development",
                organization_unit_name=f"{_user()}@{socket.gethostname()}",
            )
            # The certificate last: where it is, the key is too.
            _write(key, authority.private_key_pem.bytes())
            _write(certificate, authority.cert_pem.bytes())
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    temporary.rename(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Of two daemons that start at once, one makes the authority."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
