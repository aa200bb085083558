"""PHP scripts through php-fpm: what they see, bodies of any size, and a gateway whose memory stays flat."""

import hashlib
import http.client
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.peers.conftest import Gateway, Program, RunGateway

RECIPES = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
MIB = 1024 * 1024
LARGE = 100_000_000
"""Bytes of a large upload or download."""
ALLOWED = 60
"""MiB of memory that the gateway may take for one of them."""

SCRIPTS = {
    "hello.php": "<?php header('X-Test: 1'); echo 'Hello, ', $_GET['name'];",
    "post.php": "<?php echo $_SERVER['REQUEST_METHOD'], ' ', $_POST['a'], ' ', $_POST['b'];",
    "variables.php": "<?php foreach (['SCRIPT_NAME', 'PATH_INFO', 'SCRIPT_FILENAME', 'DOCUMENT_ROOT', "
    "'QUERY_STRING', 'REQUEST_URI', 'CONTENT_LENGTH', 'PHP_SELF'] as $name) "
    "echo $name, '=', $_SERVER[$name] ?? '-', \"\\n\";",
    "sub/index.php": "<?php echo 'index ', $_SERVER['SCRIPT_NAME'];",
    "upload.php": """<?php
        $hash = hash_init('md5'); $size = 0; $body = fopen('php://input', 'r');
        while (($piece = fread($body, 65536)) !== false && $piece !== '') {
            hash_update($hash, $piece); $size += strlen($piece);
        }
        echo $size, ' ', hash_final($hash);""",
    "file.php": "<?php $f = $_FILES['f']; echo $f['name'], ' ', $f['size'], ' ', md5_file($f['tmp_name']);",
    "download.php": """<?php
        header('Content-Type: application/octet-stream');
        $block = str_repeat('0123456789', 10000);
        for ($i = 0; $i < 1000; $i++) { echo $block; flush(); }""",
    "fields.php": "<?php foreach ($_SERVER as $k => $v) if (str_starts_with($k, 'HTTP_')) echo \"$k=$v\\n\";",
    "session.php": "<?php setcookie('a', '1'); setcookie('b', '2'); http_response_code(418); echo 'tea';",
}

CONFIG = """
access_log: false
backends:
  site: {fastcgi: unix:php.sock, root: www, preset: php-fpm}
  in-memory: {fastcgi: unix:php.sock, root: www, preset: php-fpm, spool_memory: 200MiB}
  limited: {fastcgi: unix:php.sock, root: www, preset: php-fpm, pool: {connections: 2, queue_time: 30s}}
  kept:
    fastcgi: unix:php.sock
    root: www
    preset: php-fpm
    keep_connection: true
    pool: {connections: 2, queue_time: 30s, idle_time: 100ms}
routes:
  - match: {path: /limited/*}
    mount: /limited
    backend: limited
  - match: {path: /kept/*}
    mount: /kept
    backend: kept
  - match: {path: /shop/*}
    mount: /shop
    backend: site
  - match: {path: /in-memory/*}
    mount: /in-memory
    backend: in-memory
  - backend: site
"""


def pieces(size: int) -> Iterator[bytes]:
    """*size* bytes in blocks that differ."""
    block = bytes(range(256)) * 256
    while size > 0:
        yield block[:size]
        size -= len(block)
        block = block[1:] + block[:1]


def digest(size: int) -> str:
    """What upload.php says about these bytes."""
    md5 = hashlib.md5()
    for piece in pieces(size):
        md5.update(piece)
    return f"{size} {md5.hexdigest()}"


@pytest.fixture(scope="module")
def php(fpm_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """php-fpm with two processes; the directory with its socket and the scripts."""
    directory = tmp_path_factory.mktemp("php")
    for script, text in SCRIPTS.items():
        path = directory / "www" / script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    config = directory / "php-fpm.conf"
    config.write_text(
        f"[global]\nerror_log = /proc/self/fd/2\ndaemonize = no\n[www]\nlisten = {directory}/php.sock\n"
        "pm = static\npm.max_children = 2\nping.path = /alive\nuser = root\ngroup = root\n"
    )
    limits = ("post_max_size=200M", "upload_max_filesize=200M", f"upload_tmp_dir={directory}")
    command = [fpm_program, "-n", "-y", str(config), *(["-R"] if os.geteuid() == 0 else [])]
    with Program(command + [word for limit in limits for word in ("-d", limit)]) as fpm:
        fpm.wait_for(lambda line: "ready to handle connections" in line)
        yield directory


@pytest.fixture(scope="module")
def gateway(php: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    with run_gateway(php, CONFIG, expect=["application stderr"]) as running:
        yield running


@pytest.fixture
def fresh_gateway(php: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    """One that has served nothing yet, so that its memory is what it has when idle."""
    with run_gateway(php, CONFIG) as running:
        yield running


def test_health_check(php: Path, run_gateway: RunGateway) -> None:
    """E08: php-fpm answers to its ping.path, which is no script; no request goes there before."""
    config = """
    access_log: false
    backends:
      site: {fastcgi: unix:php.sock, root: www, preset: php-fpm,
             health: {check: {path: /alive, body: pong, start: down}}}
    routes: [{backend: site}]
    """
    with run_gateway(php, config) as gateway:
        gateway.wait_for(lambda line: '"server is up"' in line)
        assert gateway.get("/hello.php?name=World").text == "Hello, World"


def test_get(gateway: Gateway) -> None:
    response = gateway.get("/hello.php?name=World")
    assert (response.status, response.text) == (200, "Hello, World")
    assert response.headers["X-Test"] == "1"


def test_status_and_repeated_fields(gateway: Gateway) -> None:
    """CGI-30: Status decides; each Set-Cookie stays a field of its own."""
    response = gateway.get("/session.php")
    assert (response.status, response.text) == (418, "tea")
    assert response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert response.headers["Status"] is None


def test_what_a_client_may_not_say_cannot_be_said_with_dots(gateway: Gateway) -> None:
    """php makes HTTP_X_FORWARDED_FOR of HTTP_X.FORWARDED.FOR; FWD-7."""
    fields = {"X.Forwarded.For": "192.0.2.1", "Remote.User": "a", "X-A": "b"}
    lines = gateway.request("GET", "/fields.php", headers=fields).text.splitlines()
    seen = {line.partition("=")[0] for line in lines}
    assert "HTTP_X_A" in seen
    assert seen.isdisjoint({"HTTP_X_FORWARDED_FOR", "HTTP_REMOTE_USER"})


def test_a_missing_script_is_not_found(gateway: Gateway) -> None:
    response = gateway.get("/none.php")
    assert (response.status, response.text) == (404, "File not found.\n")
    assert '"backend": "site"' in gateway.wait_for(lambda line: "Primary script unknown" in line)


@pytest.mark.parametrize("mount", ["", "/shop"])
def test_path_info_is_split_behind_the_script(gateway: Gateway, mount: str) -> None:
    """CGI-6, caddy#2208: SCRIPT_NAME and PATH_INFO together are the path of the request."""
    lines = gateway.get(f"{mount}/variables.php/a%20b/c?q=1").text.splitlines()
    seen = dict(line.split("=", 1) for line in lines)
    root = seen["DOCUMENT_ROOT"]
    assert seen == {
        "SCRIPT_NAME": f"{mount}/variables.php",
        "PATH_INFO": "/a b/c",
        "SCRIPT_FILENAME": f"{root}/variables.php",
        "DOCUMENT_ROOT": root,
        "QUERY_STRING": "q=1",
        "REQUEST_URI": f"{mount}/variables.php/a%20b/c?q=1",
        "CONTENT_LENGTH": "-",
        "PHP_SELF": f"{mount}/variables.php/a b/c",
    }


def test_a_directory_means_its_index(gateway: Gateway) -> None:
    assert gateway.get("/sub/").text == "index /sub/index.php"


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("/", 200, "front /"),
        ("/2001/02/hello/?p=1", 200, "front /2001/02/hello/?p=1"),
        ("/robots.txt", 200, "front /robots.txt"),
        ("/wp-sitemap.xml", 200, "front /wp-sitemap.xml"),
        ("/wp-login.php?a", 200, "login"),
        ("/wp-admin/", 200, "admin"),
        ("/wp-admin/network/", 200, "network"),
        ("/wp-admin/css/a.css", 200, "css"),
        ("/wp-content/themes/a/font.ttf", 200, "font"),
        ("/wp-content/uploads/a.php", 200, "<?php echo 1;"),
        ("/wp-admin", 308, "308 Permanent Redirect"),
    ],
)
def test_recipe_of_wordpress(pretty: Gateway, target: str, status: int, text: str) -> None:
    """What WordPress makes by itself reaches it, what is a file is served, and uploads are not run."""
    response = pretty.get(target)
    assert (response.status, response.text.strip()) == (status, text)


@pytest.fixture(scope="module")
def pretty(php: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    files = {
        "index.php": "<?php echo 'front ', $_SERVER['REQUEST_URI'];",
        "wp-login.php": "<?php echo 'login';",
        "wp-admin/index.php": "<?php echo 'admin';",
        "wp-admin/network/index.php": "<?php echo 'network';",
        "wp-admin/css/a.css": "css",
        "wp-content/themes/a/font.ttf": "font",
        "wp-content/uploads/a.php": "<?php echo 1;",
    }
    for name, text in files.items():
        path = php / "wordpress" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    title = "PHP with pretty URLs: WordPress, Laravel, Symfony"
    (recipe,) = re.findall(
        r"^```yaml\nlisteners: .*\n([^`]*)^```$",
        RECIPES.split(f"\n## {title}\n")[1].split("\n## ")[0],
        re.MULTILINE,
    )
    recipe = recipe.replace("/srv/www", f"{php}/wordpress").replace(
        "/run/php/php-fpm.sock", f"{php}/php.sock"
    )
    with run_gateway(php, recipe) as running:
        yield running


FORM = urlencode({"a": "1 2", "b": "ü"}).encode()


@pytest.mark.parametrize("body", [FORM, [FORM[:3], FORM[3:]]], ids=["sized", "chunked"])
def test_post_form(gateway: Gateway, body: bytes | list[bytes]) -> None:
    """php-src#7509: php-fpm gives the script no body without CONTENT_LENGTH; chunked gets one."""
    response = gateway.post("/post.php", body, content_type="application/x-www-form-urlencoded")
    assert response.text == "POST 1 2 ü"


def test_post_file(gateway: Gateway) -> None:
    content = b"".join(pieces(3 * MIB))
    body = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    response = gateway.post("/file.php", body, content_type="multipart/form-data; boundary=x")
    assert response.text == f"a.bin {3 * MIB} {hashlib.md5(content).hexdigest()}"


def send_sized(connection: http.client.HTTPConnection, target: str) -> None:
    connection.putrequest("POST", target)
    connection.putheader("Content-Length", str(LARGE))
    connection.putheader("Content-Type", "application/octet-stream")
    connection.endheaders()
    for piece in pieces(LARGE):
        connection.send(piece)


def send_chunked(connection: http.client.HTTPConnection, target: str) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    connection.request("POST", target, pieces(LARGE), headers, encode_chunked=True)


class Memory:
    """How much more memory than idle the gateway takes at its peak, in MiB."""

    def __init__(self, gateway: Gateway, record_property: Callable[[str, object], None]) -> None:
        self._gateway = gateway
        self._record = record_property
        self._idle = gateway.resident()

    def above_idle(self) -> float:
        more = (self._gateway.peak() - self._idle) / MIB
        self._record("MiB above idle", round(more, 1))
        print(f"{more:.1f} MiB above the idle gateway's {self._idle / MIB:.1f} MiB")
        return more


@pytest.fixture
def memory(fresh_gateway: Gateway, record_property: Callable[[str, object], None]) -> Memory:
    return Memory(fresh_gateway, record_property)


@pytest.mark.parametrize("send", [send_sized, send_chunked])
def test_large_upload(
    fresh_gateway: Gateway, send: Callable[[http.client.HTTPConnection, str], None], memory: Memory
) -> None:
    """rules.md 14.5: 100 MB pass through; what has no length is kept on disk, not in memory."""
    connection = fresh_gateway.connect()
    try:
        send(connection, "/upload.php")
        response = connection.getresponse()
        assert (response.status, response.read().decode()) == (200, digest(LARGE))
    finally:
        connection.close()
    assert memory.above_idle() < ALLOWED


def test_large_upload_kept_in_memory(fresh_gateway: Gateway, memory: Memory) -> None:
    """The measure sees what it should: with spool_memory for all of it, all of it is in memory."""
    connection = fresh_gateway.connect()
    try:
        send_chunked(connection, "/in-memory/upload.php")
        assert connection.getresponse().read().decode() == digest(LARGE)
    finally:
        connection.close()
    assert memory.above_idle() > LARGE / MIB


def test_large_download(fresh_gateway: Gateway, memory: Memory) -> None:
    """rules.md 14.5: the script waits for the client; nothing is collected in between."""
    md5, size = hashlib.md5(), 0
    connection = fresh_gateway.connect()
    try:
        connection.request("GET", "/download.php")
        response = connection.getresponse()
        while piece := response.read(65536):
            md5.update(piece)
            size += len(piece)
    finally:
        connection.close()
    assert (size, md5.hexdigest()) == (LARGE, hashlib.md5(b"0123456789" * (LARGE // 10)).hexdigest())
    assert memory.above_idle() < ALLOWED


def test_more_clients_than_processes(gateway: Gateway) -> None:
    """haproxy#2936: kept connections would block php-fpm's two processes; none is kept, so none fails."""
    start = threading.Barrier(20)

    def client(number: int) -> set[tuple[int, str]]:
        connection = gateway.connect()
        try:
            start.wait()
            seen = set()
            for _ in range(20):
                connection.request("GET", f"/hello.php?name={number}")
                response = connection.getresponse()
                seen.add((response.status, response.read().decode()))
            return seen
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as clients:
        for number, seen in enumerate(clients.map(client, range(20))):
            assert seen == {(200, f"Hello, {number}")}


@pytest.mark.parametrize("backend", ["limited", "kept"])
def test_many_more_clients_than_processes_wait_in_the_queue(gateway: Gateway, backend: str) -> None:
    """haproxy#2936: never more connections than processes, kept ones among them: nobody is stalled or
    refused."""
    clients = 50
    start = threading.Barrier(clients)

    def client(number: int) -> set[tuple[int, str]]:
        connection = gateway.connect()
        try:
            start.wait()
            seen = set()
            for _ in range(4):
                connection.request("GET", f"/{backend}/hello.php?name={number}")
                response = connection.getresponse()
                seen.add((response.status, response.read().decode()))
            return seen
        finally:
            connection.close()

    with ThreadPoolExecutor(clients) as threads:
        for number, seen in enumerate(threads.map(client, range(clients))):
            assert seen == {(200, f"Hello, {number}")}
