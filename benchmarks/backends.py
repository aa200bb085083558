"""What runs behind the servers of a scenario, and the files that they serve.

Backends run on the core of the load and are not measured. They are quick and patient enough never to be
what is compared: each request they answer costs them less than it costs the servers in front of them.
"""

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from benchmarks.peers import Commands, Need, Place, file, program
from benchmarks.process import APPS, HOST
from benchmarks.webservers import NGINX, UWSGI, UWSGI_PYTHON, command, nginx_commands, uwsgi_application

HELLO: Final = b"Hello, world!"

_BUILD: Final = Path(__file__).with_name(".build")
_SPARE: Final = 32
"""Threads beyond one for each connection of the load: a server may open a new connection to its backend
before it has closed an old one, and so does the one that checks whether it answers."""


class BuildError(Exception):
    """A program of a scenario cannot be compiled."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A program behind the servers of a scenario."""

    name: str
    start: Callable[[Place], Commands]
    """``Place.backend`` says where it listens."""
    needs: tuple[Need, ...]
    unix: bool = True
    """Whether it listens on a Unix socket."""


# ---- C programs

CC: Final = program("cc", "gcc libc6-dev", "--version")
LIBFCGI: Final = file("/usr/include/fcgiapp.h", "libfcgi-dev")


def build(name: str, *libraries: str) -> Path:
    """Compile ``apps/NAME.c`` unless that was done before. Raises :class:`BuildError`."""
    source, target = APPS / f"{name}.c", _BUILD / name
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    _BUILD.mkdir(exist_ok=True)
    done = subprocess.run(
        ["cc", "-O2", "-o", str(target), str(source), *(f"-l{library}" for library in libraries)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"{source.name} cannot be compiled:\n{done.stderr.strip()}")
    return target


def _libfcgi(place: Place) -> Commands:
    path = build("hello_fcgi", "fcgi", "pthread")
    return [[str(path), place.backend, str(place.connections + _SPARE)]]


FASTCGI: Final = Backend("a C program on libfcgi", _libfcgi, (CC, LIBFCGI))


# ---- php-fpm

_PHP_PROCESSES: Final = 8

_PHP: Final = """\
[global]
daemonize = no
error_log = {directory}/php-fpm.log
log_level = error
[app]
listen = {socket}
listen.mode = 0666
{user}
pm = static
pm.max_children = {processes}
"""


def _php_fpm_name() -> str:
    """Debian names the program by its version; the newest is taken."""
    versions = sorted(path.name for path in Path("/usr/sbin").glob("php-fpm[0-9]*"))
    return versions[-1] if versions else "php-fpm"


PHP_FPM: Final = program(_php_fpm_name(), "php-fpm", "-v")


def _php(place: Place) -> Commands:
    text = _PHP.format(
        directory=place.directory,
        socket=place.backend,
        user="user = nobody\ngroup = nogroup" if os.geteuid() == 0 else "",
        processes=_PHP_PROCESSES,
    )
    return [[command(PHP_FPM.what), "--nodaemonize", "--fpm-config", place.write("php-fpm.conf", text)]]


PHP: Final = Backend("php-fpm", _php, (PHP_FPM,))


# ---- uWSGI and nginx

_UWSGI_PROCESSES: Final = 2


def _uwsgi(place: Place) -> Commands:
    socket = [f"--socket={place.backend}", "--chmod-socket=666"]
    return [[command("uwsgi"), "--plugin=python3", *socket, *uwsgi_application(_UWSGI_PROCESSES)]]


UWSGI_APP: Final = Backend("uWSGI", _uwsgi, (UWSGI, UWSGI_PYTHON))

HTTP: Final = Backend(
    "nginx", lambda place: nginx_commands(place, f'return 200 "{HELLO.decode()}";'), (NGINX,), unix=False
)
HTTP_FILES: Final = Backend("nginx", lambda place: nginx_commands(place, ""), (NGINX,), unix=False)


# ---- content

SMALL: Final = 1024
LARGE: Final = 10 * 2**20


def noise(size: int) -> bytes:
    """The same incompressible bytes each time."""
    return random.Random(size).randbytes(size)


def put_noise(name: str, size: int) -> Callable[[Path], None]:
    """Content: one file of *size* bytes."""
    return lambda directory: _put(directory / name, noise(size), 0o644)


def put_large(directory: Path) -> None:
    """Content: ``hello``, and ``large``, 1 GiB of zeros that take no room on the disk."""
    _put(directory / "hello", HELLO, 0o644)
    _put(directory / "large", b"", 0o644)
    os.truncate(directory / "large", 1 << 30)


def put_php(directory: Path) -> None:
    """Content: the PHP script."""
    _put(directory / "hello.php", (APPS / "hello.php").read_bytes(), 0o644)


def put_cgi(directory: Path) -> None:
    """Content: the CGI program. Raises :class:`BuildError`."""
    _put(directory / "hello_cgi", build("hello_cgi").read_bytes(), 0o755)


def put_certificate(directory: Path) -> None:
    """Content: a certificate for the loopback address, and its key."""
    certificate = trustme.CA().issue_cert(HOST)
    _put(directory / "certificate.pem", b"".join(pem.bytes() for pem in certificate.cert_chain_pems), 0o644)
    _put(directory / "key.pem", certificate.private_key_pem.bytes(), 0o644)


def put_nothing(directory: Path) -> None:
    """Content: none."""


def _put(path: Path, data: bytes, mode: int) -> None:
    path.write_bytes(data)
    path.chmod(mode)  # servers that drop their privileges read it too
