"""Every key of the language means something, or is refused with a word why; contradictions are found."""

# ruff: noqa: E501 - one row is one case

import json
import os
import pwd
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from gateway.config import AccessLog, Config, ConfigError, from_mapping, load, load_text, schema
from gateway.config.backends.application import FastCGIBackend
from gateway.config.backends.kinds import KINDS
from gateway.config.base import Model
from gateway.config.descriptions import descriptions
from gateway.config.spawn import SpawnedApp

DESIGN = """\
listeners:
  - http: 127.0.0.1:8080
  - http: unix:/run/gateway/http.sock
    mode: "0660"
workers: 1
access_log: true
debug: false
trusted_proxies: [127.0.0.0/8, unix]
timeouts: {header: 10s, body: 30s, keep_alive: 75s, shutdown: 30s}
limits: {request_line: 8KiB, headers: 64KiB, header_count: 100, body: 1GiB}
backends:
  site:   {fastcgi: unix:/run/php/php-fpm.sock, root: /srv/www, preset: php-fpm}
  shop:   {uwsgi: [127.0.0.1:3031, 127.0.0.1:3032], balance: round-robin,
           timeouts: {connect: 5s, send: 30s, first_byte: 60s, read: 60s}}
  search: {fastcgi: 127.0.0.1:9000, keep_connection: true, pool: {idle: 32, idle_time: 60s}}
  tools:  {cgi: /}
  node:   {http: "http://127.0.0.1:3000"}
  legacy: {scgi: 127.0.0.1:4000}
  api:    {asgi: "api.main:app", directory: ./api, loop: asyncio}
  admin:  {wsgi: "admin:application", directory: ./admin, threads: 8}
  blog:   {fastcgi: {spawn: {wsgi: "blog:app", processes: 2}}}
  perl:   {fastcgi: {spawn: {command: [./app.fcgi], processes: 4}}}
routes:
  - match: {host: [api.example.com, "*.api.example.com"], method: [GET, POST]}
    backend: api
  - match: {path: /admin/*}
    mount: /admin
    backend: admin
  - match: {path: /assets/*}
    static: ./public
  - match: {path: /old/*}
    redirect: {to: "/new/{path.rest}", status: 308}
  - match: {path: /healthz}
    respond: {status: 200, body: "ok\\n"}
  - backend: site
"""


def make(**changes: Any) -> Config:
    base = {"listeners": [{"http": ":8000"}], "routes": [{"respond": {}}]}
    return from_mapping(base | changes, "", "/")


def mistakes(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    return [f"{mistake.path}: {mistake.message}" for mistake in caught.value.mistakes]


def backend(**settings: Any) -> Any:
    return make(backends={"b": settings}).backends["b"]


def refused_backend(**settings: Any) -> list[str]:
    return [text.removeprefix("backends.b") for text in mistakes(backends={"b": settings})]


def refused_route(**settings: Any) -> list[str]:
    return [
        text.removeprefix("routes[0]")
        for text in mistakes(backends={"b": {"scgi": "a:1"}}, routes=[settings])
    ]


def test_the_example_of_the_design(tmp_path: Path) -> None:
    for name in ("api", "admin", "public"):
        (tmp_path / name).mkdir()
    config = load_text(DESIGN, "gateway.yaml", tmp_path)
    assert [type(backend).kind for backend in config.backends.values()] == [
        "fastcgi", "uwsgi", "fastcgi", "cgi", "http", "scgi", "asgi", "wsgi", "fastcgi", "fastcgi",
    ]  # fmt: skip
    assert config.timeouts.keep_alive == 75.0
    assert config.limits.body == 2**30
    assert config.listeners[1].mode == 0o660
    perl = config.backends["perl"]
    assert isinstance(perl, FastCGIBackend)
    assert perl.servers == ()
    assert perl.spawn == SpawnedApp.model_validate(
        {"command": ["./app.fcgi"], "processes": 4}, context={"directory": str(tmp_path)}
    )
    assert config.routes[2].static is not None
    assert config.routes[2].static.index == ("index.html",)


def test_who_the_client_is() -> None:
    config = make()
    assert (config.trusted_proxies, config.forwarded, config.via) == ((), "x-forwarded", "gateway")
    assert config.listeners[0].proxy_protocol is False
    listeners = [{"http": ":1", "proxy_protocol": True}]
    config = make(listeners=listeners, trusted_proxies=["unix", "::1"], forwarded="forwarded", via="edge")
    assert (len(config.trusted_proxies), config.forwarded, config.via) == (2, "forwarded", "edge")
    assert config.listeners[0].proxy_protocol is True
    assert mistakes(forwarded="both") == ["forwarded: expected x-forwarded or forwarded, got 'both'"]
    assert mistakes(via="a b") == ["via: expected a name of letters, digits, '-', '_' and '.', got 'a b'"]
    assert mistakes(trusted_proxies="10.0.0.1/8") == [
        "trusted_proxies: '10.0.0.1/8' has bits set below its mask: did you mean 10.0.0.0/8?"
    ]
    assert backend(http="http://a", forwarded="off").forwarded == "off"
    assert refused_backend(http="http://a", forwarded="on") == [
        ".forwarded: expected x-forwarded, forwarded, both or off, got 'on'"
    ]


@pytest.mark.parametrize("trusted", [{}, {"trusted_proxies": []}, {"trusted_proxies": None}])
def test_headers_that_nobody_may_send(trusted: dict[str, Any]) -> None:
    """PP-1: with nobody to trust every connection would be closed."""
    listeners = [{"http": ":1"}, {"http": ":2", "proxy_protocol": True}]
    assert mistakes(listeners=listeners, **trusted)[0] == (
        "listeners[1].proxy_protocol: nobody is trusted to send PROXY headers: "
        "expected trusted_proxies with the load balancer"
    )


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make().workers = 2


def test_the_access_log_is_a_switch_or_a_mapping() -> None:
    assert make().access_log == AccessLog()
    assert make(access_log=True).access_log == AccessLog()
    assert make(access_log=False).access_log is None
    log = make(access_log={"format": "json", "destination": "access.log"}).access_log
    assert log is not None
    assert (log.format, log.destination) == ("json", Path("/access.log"))
    assert mistakes(access_log="yes") == [
        "access_log: expected true, false or a mapping with format and destination, got 'yes'"
    ]


@pytest.mark.parametrize("number", [8000, 8001])
def test_two_listeners_cannot_have_one_address(number: int) -> None:
    listeners = [{"http": f"127.0.0.1:{port}"} for port in (8000, number)] + [{"http": ":0"}, {"http": ":0"}]
    if number == 8000:
        assert mistakes(listeners=listeners) == [
            "listeners[1].http: listeners[0] has the address '127.0.0.1:8000' already"
        ]
    else:
        assert len(make(listeners=listeners).listeners) == 4


@pytest.mark.parametrize(
    ("listener", "found"),
    [
        ({"tls": {}, "http": ":1"}, [".tls: expected one of certificate, certificates or development, got none"]),
        ({"tls": "on", "http": ":1"}, [".tls: expected development, a mapping with certificate and key, or a list of such, got 'on'"]),
        ({"tls": {"development": True, "min_version": 1.1}, "http": ":1"}, [".tls.min_version: expected 1.2 or 1.3, got 1.1"]),
        ({"tls": {"development": True, "ciphers": "ROT13"}, "http": ":1"}, [".tls.ciphers: OpenSSL knows no cipher of 'ROT13'"]),
        ({"tls": {"development": True, "ciphers": 5}, "http": ":1"}, [".tls.ciphers: expected a list of OpenSSL's names of ciphers, such as ECDHE+AESGCM:ECDHE+CHACHA20, got 5"]),
        ({"tls": {"development": True, "client_certificates": "required"}, "http": ":1"}, [".tls.client_certificates: nothing could verify them: expected client_ca"]),
        ({"tls": {"development": True, "client_certificates": "sometimes"}, "http": ":1"}, [".tls.client_certificates: expected off, optional or required, got 'sometimes'"]),
        ({"tls": {"certificate": "/none.pem", "key": "/none.key"}, "http": ":1"}, [".tls.certificate: /none.pem cannot be read: No such file or directory", ".tls.key: /none.key cannot be read: No such file or directory"]),
        ({"tls": [{"certificate": "/none.pem"}], "http": ":1"}, [".tls[0].certificate: /none.pem cannot be read: No such file or directory", ".tls[0].key: is missing"]),
        ({"http": ":1", "hsts": {}}, [".hsts: clients must not believe it in clear text (RFC 6797 8.1): expected tls"]),
        ({"http": ":1", "tls": "development", "hsts": {"preload": True}}, [".hsts.preload: lists of browsers take hosts with subdomains: true and max_age: 365d only"]),
        ({"http": ":1", "tls": "development", "redirect_https": 443}, [".redirect_https: this listener has tls: it would redirect to itself"]),
        ({"http": ":1", "redirect_https": True}, [".redirect_https: no listener has tls: expected the port of https"]),
        ({"http": ":1", "redirect_https": 0}, [".redirect_https: expected true, false, or the port of https, such as 443, got 0"]),
        ({"uwsgi": "unix:/x"}, [".http: is missing", ".uwsgi: uwsgi listeners are not supported yet"]),
        ({"fastcgi": ":1"}, [".http: is missing", ".fastcgi: FastCGI listeners are not supported yet"]),
        ({"scgi": ":1"}, [".http: is missing", ".scgi: SCGI listeners are not supported yet"]),
        ({}, [".http: is missing"]),
        ({"htp": ":1"}, [".http: is missing", ".htp: unknown key; did you mean http?"]),
        ({"http": ":1", "mode": "0600"}, [".mode: permissions belong to a Unix socket (unix:/path), not to ':1'"]),
        (":8000", [": expected a mapping such as {http: 127.0.0.1:8080}, got ':8000'"]),
    ],
)  # fmt: skip
def test_refuses_listeners(listener: Any, found: list[str]) -> None:
    assert mistakes(listeners=[listener]) == [f"listeners[0]{text}" for text in found]


def test_a_file_needs_listeners_and_routes() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("{}", "gateway.yaml", "/")
    assert str(caught.value) == "gateway.yaml:1: listeners: is missing\ngateway.yaml:1: routes: is missing"
    assert sorted(mistakes(listeners=[], routes=[], tests=[])) == [
        "listeners: expected at least one, got an empty list",
        "routes: expected at least one, got an empty list",
        "tests: tests in the configuration are not supported yet",
    ]


# ---- backends


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, [": expected a kind of backend (cgi, fastcgi, scgi, uwsgi, ajp, http, asgi or wsgi)"]),
        ({"fastcig": "a:1"}, [": expected a kind of backend (cgi, fastcgi, scgi, uwsgi, ajp, http, asgi or wsgi); did you mean fastcgi?"]),
        ({"scgi": "a:1", "wsgi": "a:b"}, [": a backend is of one kind, got scgi and wsgi"]),
        ({"scgi": "a:1", "balance": "best"}, [".balance: expected round-robin, least-connections or power-of-two, got 'best'"]),
        ({"scgi": "a:1", "balance": {"hash": "user"}}, [".balance.hash: expected client, path, host, header.NAME, cookie.NAME or query.NAME, got 'user'"]),
        ({"scgi": "a:1", "balance": {"hash": "path.x"}}, [".balance.hash: expected client, path, host, header.NAME, cookie.NAME or query.NAME, got 'path.x'"]),
        ({"scgi": "a:1", "health": {"check": {}, "max_ejected": "101%"}}, [
            ".health.check: expected the path that is asked for",
            ".health.max_ejected: expected a percentage such as 50%, got '101%'",
        ]),
        ({"http": "http://a", "health": {"check": {"path": "a b", "status": "399-200", "host": "a b", "rise": 0}}}, [
            ".health.check.path: expected a path such as /healthz, percent-encoded, got 'a b'",
            ".health.check.host: expected a host such as example.com, got 'a b'",
            ".health.check.status: expected the lower status first, got '399-200'",
            ".health.check.rise: expected a number of at least 1, got 0",
        ]),
        ({"http": "http://a", "health": {"check": {"path": "/%zz", "status": ["1xx", True]}}}, [
            ".health.check.path: no server understands '/%zz': the path has a broken percent escape",
            ".health.check.status[0]: expected a status such as 200, or 200-399 or 2xx, got '1xx'",
            ".health.check.status[1]: expected a status such as 200, or 200-399 or 2xx, got true",
        ]),
        ({"uwsgi": "a:1", "drop_headers": ["Connection", "a b"]}, [
            ".drop_headers[0]: applications are not told connection anyway",
            ".drop_headers[1]: expected the name of a header, got 'a b'",
        ]),
        ({"fastcgi": "a:1", "health": {"check": {"ping": True}}}, [".health.check.ping: this protocol has no pings: expected path"]),
        ({"uwsgi": "a:1", "health": {"check": {"ping": True, "path": "/"}}}, [".health.check.ping: a ping asks for no path: expected one of the two"]),
        ({"uwsgi": "a:1", "health": {"check": {"ping": False}}}, [".health.check: expected the path that is asked for"]),
        ({"uwsgi": "a:1", "health": {"check": {"status": 200}}}, [".health.check.status: a ping has none: expected path"]),
        ({"scgi": {"spawn": {"command": ["a"]}}, "health": {"check": "/"}}, [".health.check: the gateway watches the processes that it starts: expected an address in place of spawn"]),
        ({"scgi": "a:1", "health": {"failures": 0, "slow": "1s"}}, [".health.slow: with failures: 0 no server is ever left out"]),
        ({"scgi": "a:1", "retry": {"tries": 1, "status": 503}}, [".retry.status: there is no second try: expected tries: 2 or more"]),
        ({"scgi": "a:1", "retry": {"status": [200]}}, [".retry.status[0]: expected a number of at least 400, got 200"]),
        ({"scgi": "a:1", "sticky": {"cookie": "a b", "secret": "short"}}, [
            ".sticky.cookie: expected the name of a cookie, got 'a b'",
            ".sticky.secret: expected text of at least 16 characters, best from a variable: ${SECRET}",
        ]),
        ({"scgi": "a:1", "pool": {"queue": 3}}, [".pool.queue: without connections no request waits"]),
        ({"scgi": "a:1", "pool": {"idle": 3}}, [".pool.idle: unknown key; expected one of connections, queue, queue_time"]),
        ({"scgi": ["a:1", {"address": "a:1"}]}, [".scgi[1]: 'a:1' is there already: expected a weight in place of two"]),
        ({"http": ["http://a", "http://a"]}, [".http[1]: 'http://a' is there already: expected a weight in place of two"]),
        ({"uwsgi": {"address": "a:1", "backup": True}}, [".uwsgi: every server is a backup: expected one that is not"]),
        ({"http": [{"url": "http://a", "weight": 0}]}, [".http[0].weight: expected a number of at least 1, got 0"]),
        ({"scgi": []}, [".scgi: expected at least one, got an empty list"]),
        ({"scgi": {"spwn": {}}}, [".scgi.spawn: is missing", ".scgi.spwn: unknown key; did you mean spawn?"]),
        ({"http": {"spawn": {"wsgi": "a:b"}}}, [".http.spawn.wsgi: is served by fastcgi, scgi or uwsgi: expected one of them, or a command that serves HTTP"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "address": "a:1"}}}, [".scgi.spawn.address: a wsgi application listens where the gateway says: leave it out"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "processes": {"min": 3, "max": 2}}}}, [".scgi.spawn.processes.max: expected at least min (3), got 2"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "processes": 0}}}, [".scgi.spawn.processes: expected a number of at least 1, got 0"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "processes": {"idle_time": 0}}}}, [".scgi.spawn.processes.idle_time: expected a duration longer than 0, such as 30s, got 0"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "max_requests_jitter": 3}}}, [".scgi.spawn.max_requests_jitter: there is nothing to vary: expected max_requests"]),
        ({"http": {"spawn": {"command": ["a", "{port}"], "processes": 2}}}, [".http.spawn.processes: a program with a socket of its own ({port}) is one process"]),
        ({"scgi": {"spawn": {"command": ["a"], "address": "a:1", "processes": {"max": 2}}}}, [".scgi.spawn.processes: a program with a socket of its own (address) is one process"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "stop_signal": "KILL"}}}, [".scgi.spawn.stop_signal: expected a signal (TERM, INT, QUIT, HUP, USR1, USR2, WINCH), got 'KILL'"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "pass_env": "A B"}}}, [".scgi.spawn.pass_env: expected the name of a variable such as LANG, or LC_*, got 'A B'"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "virtualenv": "/nowhere"}}}, [".scgi.spawn.virtualenv: '/nowhere' is not a virtual environment: there is no bin/python"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "env_file": "/nowhere"}}}, [".scgi.spawn.env_file: '/nowhere' cannot be read: No such file or directory"]),
        ({"scgi": {"spawn": {}}}, [".scgi.spawn: expected exactly one of command or wsgi, got none"]),
        ({"scgi": {"spawn": {"wsgi": "a:b", "command": ["a"]}}}, [".scgi.spawn: expected exactly one of command or wsgi, got both"]),
        ({"fastcgi": "a:1", "split": ".php", "index": "x"}, [
            ".split: scripts are looked for below a root: split needs root",
            ".index: scripts are looked for below a root: index needs root",
        ]),
        ({"fastcgi": "a:1", "pool": {"queue": 1}}, [".pool.queue: without connections no request waits"]),
        ({"fastcgi": "a:1", "pool": {"idle": 1}}, [".pool.idle: without keep_connection: true no connection is kept"]),
        ({"fastcgi": "a:1", "multiplex": True}, [".multiplex: only a connection that is kept can be shared: expected keep_connection: true"]),
        ({"fastcgi": "a:1", "multiplex": "yes"}, [
            ".multiplex: only a connection that is kept can be shared: expected keep_connection: true",
            ".multiplex: expected true, false or a mapping with requests, buffer or stall, got 'yes'",
        ]),
        ({"fastcgi": "a:1", "keep_connection": True, "multiplex": 16}, [".multiplex: expected true, false or a mapping with requests, buffer or stall, got 16"]),
        ({"fastcgi": "a:1", "keep_connection": True, "multiplex": {"requests": 0, "buffer": 0, "stall": 0}}, [
            ".multiplex.requests: expected a number of at least 1, got 0",
            ".multiplex.buffer: expected a size larger than 0, got 0",
            ".multiplex.stall: expected a duration longer than 0, such as 30s, got 0",
        ]),
        ({"fastcgi": "a:1", "root": "/", "preset": "php-fpm", "keep_connection": True, "multiplex": True}, [
            ".multiplex: a process of php-fpm takes one request at a time, on a connection of its own",
        ]),
        ({"fastcgi": "a:1", "preset": "php-fpm"}, [".preset: php-fpm runs scripts below a root: expected root"]),
        ({"fastcgi": "a:1", "preset": "php"}, [".preset: expected php-fpm, the only choice, got 'php'"]),
        ({"http": "http://a", "body": "spool"}, [".body: unknown key; expected one of tls, balance, timeouts, sticky, retry, hold, health, headers, x_sendfile, x_accel_redirect, http, host, rewrite_location, cookies, forwarded, proxy_protocol, pool, upgrade"]),
        ({"uwsgi": "a:1", "modifier1": 256}, [".modifier1: expected a number of at most 255, got 256"]),
        ({"ajp": "a:1", "variables": {"NOTE": "x", "AJP_NOTE": "x", "HTTP_A": "x", "HTTPS": "on", "JVM_ROUTE": "a", "SSL_CIPHER_USEKEYSIZE": "1"}}, [
            ".variables.NOTE: AJP has no place for it: expected AJP_NOTE, which is the request attribute NOTE",
        ]),
        ({"ajp": {"spawn": {"wsgi": "a:b"}}}, [".ajp.address: is missing", ".ajp.spawn: unknown key; expected one of address, weight, backup"]),
        ({"ajp": "a:1", "ping": "1s", "pool": {"idle": 0}}, [".ping: without a pool no connection is used again"]),
        ({"ajp": "a:1", "secret": 42, "packet_size": "4KiB"}, [
            ".secret: expected a text of printable ASCII characters, in quotes",
            ".packet_size: expected a size from 8KiB to 64KiB, as containers can be configured to, got '4KiB'",
        ]),
        ({"wsgi": "a:b", "directory": "/", "threads": 1.5}, [".threads: expected a whole number, got 1.5"]),
        ({"wsgi": "a:b", "directory": "/", "factory": 1}, [".factory: expected true or false, got 1"]),
        ({"http": "http://a", "upgrade": ["websocket", "h2c"]}, [".upgrade[1]: a tunnel of 'h2c' would carry requests past the routes"]),
        ({"http": "http://a", "rewrite_location": {"begin": "x", "to": "/y"}}, [".rewrite_location.begin: expected the beginning of a URL such as http://app.internal/ or /, got 'x'"]),
        ({"http": "http://a", "rewrite_location": "perhaps"}, [".rewrite_location: expected true or false, got 'perhaps'"]),
        ({"http": "http://a", "cookies": {"path": {"/a;": "/"}, "domain": {"a": "b c"}, "same_site": "none"}}, [
            ".cookies.same_site: browsers refuse none without Secure: expected secure: true",
            ".cookies.path['/a;']: expected a path such as /app/, got '/a;'",
            ".cookies.domain.a: expected a domain such as example.com, got 'b c'",
        ]),
        ({"http": "http://a", "cookies": {"path": "on"}}, [".cookies.path: expected auto, the only choice, got 'on'"]),
        ({"http": "http://a", "proxy_protocol": "v2", "pool": {"idle": 3}}, [".pool.idle: with proxy_protocol no connection is kept: each is one client's"]),
        ({"http": {"spawn": {"command": ["a"]}}, "proxy_protocol": "v1"}, [".proxy_protocol: what is spawned is told of the client by the fields of the request"]),
        ({"http": "http://a", "tls": True}, [".tls: no server has TLS: expected an https URL"]),
        ({"http": ["http://a", "https://unix:/x"]}, [".tls: a Unix socket has no name that its certificate is compared with: expected server_name"]),
        ({"scgi": "unix:/x", "tls": True}, [".tls: a Unix socket has no name that its certificate is compared with: expected server_name"]),
        ({"scgi": {"spawn": {"command": ["a"]}}, "tls": True}, [".tls: what is spawned is on this machine, and reached without TLS"]),
        ({"http": {"spawn": {"command": ["a"]}}, "tls": {"verify": False}}, [".tls: what is spawned is on this machine, and reached without TLS"]),
        ({"http": "https://a", "tls": "on"}, [".tls: expected true, false or a mapping with verify and server_name, got 'on'"]),
        ({"http": "https://a", "tls": {"verify": False, "ca": "/none.pem", "crl": "/none.crl"}}, [
            ".tls.ca: with verify: false no certificate is looked at",
            ".tls.crl: with verify: false no certificate is looked at",
            ".tls.ca: /none.pem cannot be read: No such file or directory",
            ".tls.crl: /none.crl cannot be read: No such file or directory",
        ]),
        ({"http": "https://a", "tls": {"crl": __file__}}, [f".tls.crl: {__file__} has no certificate revocation list in PEM form"]),
        ({"http": "https://a", "tls": {"key": "/none.pem"}}, [
            ".tls: certificate and key go together: certificate is missing",
            ".tls.key: /none.pem cannot be read: No such file or directory",
        ]),
        ({"http": "http://a", "upgrade": "HTTP/2.0"}, [".upgrade: a tunnel of 'HTTP/2.0' would carry requests past the routes"]),
        ({"uwsgi": "a:1", "upgrade": "a/b/c"}, [".upgrade: expected a protocol such as websocket, got 'a/b/c'"]),
        ({"asgi": "a:b", "directory": "/", "websocket": {"max_message": "x", "ping_timeout": 0, "ping": 1}}, [
            ".websocket.max_message: expected a size such as 64KiB, 10MiB or a number of bytes, got 'x'",
            ".websocket.ping_timeout: expected a duration longer than 0, such as 30s, got 0",
            ".websocket.ping: unknown key; expected one of max_message, ping_interval, ping_timeout, compression",
        ]),
        ({"asgi": "a:b", "directory": "/", "loop": "uvloop"}, [".loop: expected asyncio or trio, got 'uvloop'"]),
        ({"asgi": "a:b", "directory": "/", "loop": "trio", "asyncio_debug": True}, [
            ".asyncio_debug: the application runs on trio",
        ]),
        ({"scgi": "a:1", "variables": {"A B": "x", "C": "{nope}"}}, None),
    ],
)  # fmt: skip
def test_refuses_backends(settings: dict[str, Any], found: list[str] | None) -> None:
    refused = refused_backend(**settings)
    if found is None:
        assert refused[0] == ".variables['A B']: expected a variable name such as APP_ENV, got 'A B'"
        assert refused[1].startswith(".variables.C: unknown placeholder {nope}; ")
    else:
        assert refused == found


def test_a_python_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    """As of pyenv and uv, below a home directory that was left, or that only its owner may enter."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(tmp_path / "gone/python3")
    (mistake,) = mistakes(backends={"app": {"wsgi": "a:b", "directory": "/", "virtualenv": str(tmp_path)}})
    assert mistake == (
        f"backends.app.virtualenv: '{tmp_path}': its bin/python is a link to '{tmp_path}/gone/python3', which is "
        "not there, or which this user may not run"
    )


def test_a_backend_that_is_no_mapping() -> None:
    assert mistakes(backends={"b": "127.0.0.1:9000"}) == [
        "backends.b: expected a mapping with a kind of backend (cgi, fastcgi, scgi, uwsgi, ajp, http, asgi or "
        "wsgi), got '127.0.0.1:9000'"
    ]


def test_php_fpm_never_streams_a_body_without_length() -> None:
    """php-src#7509: php-fpm gives the script an empty body when CONTENT_LENGTH is absent."""
    settings = {"fastcgi": "a:1", "root": "/", "preset": "php-fpm"}
    assert refused_backend(**settings, body="stream") == [
        ".body: php-fpm loses a body that has no length: expected spool or reject"
    ]
    assert backend(**settings, body="reject").body == "reject"


def test_scripts_are_split_only_below_a_root() -> None:
    plain, rooted = backend(fastcgi="a:1"), backend(fastcgi="a:1", root="/r")
    assert (plain.script_split, plain.script_index) == (None, None)
    assert (rooted.script_split, rooted.script_index) == (".php", "index.php")
    other = backend(fastcgi="a:1", root="/r", split=".pl", index="main.pl")
    assert (other.script_split, other.script_index) == (".pl", "main.pl")


def test_fastcgi_connections_are_not_kept_by_default() -> None:
    """haproxy#2936: idle connections block php-fpm's workers."""
    assert backend(fastcgi="a:1").keep_connection is False
    assert backend(fastcgi="a:1", get_values=True, pool={"queue": 2}).pool.connections is None
    assert backend(fastcgi="a:1", multiplex=False).multiplex is None
    shared = backend(fastcgi="a:1", keep_connection=True, multiplex=True, pool={"queue": 2}).multiplex
    assert (shared.requests, shared.buffer, shared.stall) == (16, 256 * 1024, 5.0)
    assert backend(fastcgi="a:1", keep_connection=True, pool={"idle": 2}).pool.idle == 2
    assert backend(fastcgi="a:1", pool={"connections": 2}).pool.connections == 2


# ---- routes


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, [": expected exactly one action (backend, static, redirect, respond or connect), got none"]),
        ({"backend": "b", "static": "/"}, [": expected exactly one action (backend, static, redirect, respond or connect), got backend and static"]),
        ({"backend": None}, [".backend: expected a value, got nothing"]),
        ({"backend": "bb"}, [".backend: there is no backend 'bb'; did you mean b?"]),
        ({"backend": "other"}, [".backend: there is no backend 'other'; expected one of b"]),
        ({"backend": "b", "mount": "/x", "match": {"path": ["/x", "/x/*", "/y"]}}, [".match.path[2]: '/y' is not below the route's mount '/x'"]),
        ({"backend": "b", "mount": "/x", "match": {"path": "/xy"}}, [".match.path: '/xy' is not below the route's mount '/x'"]),
        ({"backend": "b", "mount": "x"}, [".mount: expected a path such as /admin, without / at its end, got 'x'"]),
        ({"respond": {}, "mount": "/x"}, [".mount: has no meaning for respond: expected backend or static beside it"]),
        ({"redirect": {"to": "/"}, "mount": "/x"}, [".mount: has no meaning for redirect: expected backend or static beside it"]),
        ({"redirect": {}}, [".redirect.to: is missing"]),
        ({"redirect": {"to": "/", "status": 200}}, [".redirect.status: expected 301, 302, 303, 307 or 308, got 200"]),
        ({"respond": {"status": 101}}, [".respond.status: expected a number of at least 200, got 101"]),
        ({"respond": {"status": 204, "body": "x"}}, [".respond.body: a response with status 204 has no body"]),
        ({"respond": {"headers": {"Content-Length": "1"}}}, [".respond.headers.Content-Length: content-length is set by the gateway"]),
        ({"static": {"symlinks": "follow"}}, [".static.root: is missing"]),
        ({"static": {"root": "/", "fallback": "a/b"}}, [".static.fallback: expected the name of a file, without directories, got 'a/b'"]),
        ({"static": "/nonexistent"}, [".static: '/nonexistent' does not exist: expected a directory"]),
        ({"backend": "b", "headers": {"response": {"set": {"Content-Length": "1"}, "remove": ["te", "a b"]}}}, [
            ".headers.response.set.Content-Length: content-length is set by the gateway",
            ".headers.response.remove[0]: te is set by the gateway",
            ".headers.response.remove[1]: expected the name of a header, or a pattern such as X-Debug-*, got 'a b'",
        ]),
        ({"backend": "b", "limit_rate_after": "1KiB"}, [".limit_rate_after: nothing is limited: expected limit_rate beside it"]),
        ({"backend": {"b": 1, "c": 2}}, [".backend.c: there is no backend 'c'; expected one of b"]),
        ({"backend": "b", "split_by": "{client}"}, [".split_by: there is nothing to choose from: expected several backends"]),
        ({"backend": "b", "authorize": "b"}, [".authorize: 'b' is not a fastcgi backend with role: authorizer"]),
        ({"backend": "b", "mirror": "x", "forward_auth": {"backend": "y"}}, [
            ".forward_auth.backend: there is no backend 'y'; expected one of b",
            ".mirror: there is no backend 'x'; expected one of b",
        ]),
        ({"backend": "b", "buffering": "yes please"}, [".buffering: expected true, false or a mapping with memory and file, got 'yes please'"]),
        ({"static": 1}, [".static: expected a directory or a mapping with root, got 1"]),
        ({"backend": "b", "mirror": ["b"]}, [".mirror: expected the name of a backend or a mapping with backend, got a list"]),
        ({"backend": "b", "match": {"cookie": {}}}, [".match.cookie: matching cookies is not supported yet: match the header"]),
        ({"backend": "b", "match": {"paht": "/"}}, [".match.paht: unknown key; did you mean path?"]),
        ({"backend": "b", "match": {"path": []}}, [".match.path: expected at least one, got an empty list"]),
        ({"backend": "b", "match": {"scheme": "ftp"}}, [".match.scheme: expected http or https, got 'ftp'"]),
        ({"backend": "b", "match": {"header": {"X": "~a"}}}, [".match.header.X: regular expressions are not supported here yet, got '~a'"]),
    ],
)  # fmt: skip
def test_refuses_routes(settings: dict[str, Any], found: list[str]) -> None:
    assert refused_route(**settings) == found


@pytest.mark.parametrize(
    "match",
    [{}, {"host": "a.example"}, {"path": "/x/y"}, {"path": "/*"}, {"path": "*.php"}, {"path": "~^/x/[0-9]"}],
)
def test_a_mount_goes_with_anything_that_can_lie_below_it(match: dict[str, Any]) -> None:
    config = make(backends={"b": {"scgi": "a:1"}}, routes=[{"backend": "b", "mount": "/x", "match": match}])
    assert config.routes[0].mount == "/x"


def test_bodies_larger_than_clients_may_send_are_not_promised() -> None:
    """`limits.body` comes first, whatever a backend or a filter would take."""
    backends = {"b": {"scgi": "a:1", "max_body": "20KiB"}, "c": {"scgi": "a:1", "max_body": "10KiB"}}
    routes = [{"backend": "b", "mirror": {"backend": "c", "max_body": "11KiB"}, "request_buffering": True}]
    less = "clients may send less: expected at most limits.body"
    assert mistakes(backends=backends, routes=routes, limits={"body": "10KiB"}) == [
        f"backends.b.max_body: {less} (10KiB), got '20KiB'",
        f"routes[0].mirror.max_body: {less} (10KiB), got '11KiB'",
    ]
    routes = [{"backend": "c", "request_buffering": {"max_body": "2GiB"}}]
    assert mistakes(backends={"c": backends["c"]}, routes=routes) == [
        f"routes[0].request_buffering.max_body: {less} (1GiB by default), got '2GiB'",
    ]


def test_without_backends_a_route_cannot_name_one() -> None:
    assert mistakes(routes=[{"backend": "b"}]) == [
        "routes[0].backend: there is no backend 'b'; there are no backends"
    ]


def test_connect_is_a_target_a_list_or_a_mapping() -> None:
    def found(connect: Any) -> Any:
        (route,) = make(routes=[{"connect": connect}]).routes
        return route.connect

    assert found("a.example:443") == found(["a.example:443"]) == found({"to": "a.example:443"})
    assert found("a.example:443").timeout == 10.0


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (
            {"connect": 443},
            [
                ".connect: expected a host and port such as example.com:443, a list of such, or a mapping with to, "
                "got 443"
            ],
        ),
        ({"connect": []}, [".connect: expected at least one, got an empty list"]),
        (
            {"connect": {"timeout": "0"}},
            [
                ".connect.to: is missing",
                ".connect.timeout: expected a duration longer than 0, such as 30s, got '0'",
            ],
        ),
        ({"connect": "*:1", "mount": "/x"}, [".mount: has no meaning for connect"]),
        (
            {"connect": "*:1", "headers": {}, "buffering": True},
            [".headers: has no meaning for connect", ".buffering: has no meaning for connect"],
        ),
        (
            {"connect": "*:1", "match": {"path": "/", "query": {"a": None}}},
            [
                ".match.path: CONNECT has no path: expected host, client, header or scheme",
                ".match.query: CONNECT has no query: expected host, client, header or scheme",
            ],
        ),
        (
            {"connect": "*:1", "match": {"method": ["CONNECT", "GET"]}},
            [".match.method: a route with connect gets CONNECT and nothing else"],
        ),
        (
            {"respond": {}, "match": {"method": ["CONNECT", "GET"]}},
            [".match.method: CONNECT is for routes with connect: others never get it"],
        ),
        (
            {"respond": {}, "match": {"method": "CONNECT"}},
            [".match.method: CONNECT is for routes with connect: others never get it"],
        ),
    ],
)
def test_refuses_connect(settings: dict[str, Any], found: list[str]) -> None:
    assert refused_route(**settings) == found


@pytest.mark.parametrize(
    "match",
    [
        {"method": "CONNECT"},
        {"method": ["CONNECT"], "host": "a", "client": "::1"},
        {"scheme": "https", "header": {"x": None}},
        None,
    ],
)
def test_what_connect_may_match(match: Any) -> None:
    given = {} if match is None else {"match": match}
    assert make(routes=[{"connect": "*:443", **given}]).routes[0].connect is not None


def test_static_is_a_path_or_a_mapping() -> None:
    short, long = make(
        routes=[{"static": "/"}, {"static": {"root": "/", "index": "a", "symlinks": "refuse"}}]
    ).routes
    assert short.static is not None
    assert long.static is not None
    assert (short.static.root, short.static.symlinks) == (Path("/"), "inside")
    assert (long.static.index, long.static.symlinks) == (("a",), "refuse")


def test_header_and_query_values_may_be_anything_present() -> None:
    match = (
        make(
            routes=[
                {"respond": {}, "match": {"header": {"X-A": None, "X-B": "b"}, "query": {"q": ["1", "2"]}}}
            ]
        )
        .routes[0]
        .match
    )
    assert match.header == {"x-a": None, "x-b": ("b",)}
    assert match.query == {"q": ("1", "2")}


# ---- documentation


def all_models(model: type[Model] = Model) -> Iterator[type[Model]]:
    for child in model.__subclasses__():
        yield child
        yield from all_models(child)


def test_every_field_of_every_model_is_described() -> None:
    kinds = {kind.model for kind in KINDS.values()}
    models = list(all_models())
    assert kinds < set(models)
    missing = [
        f"{model.__name__}.{name}"
        for model in models
        if not model.__name__.startswith("_")
        for name in model.model_fields
        if not descriptions(model).get(name)
    ]
    assert missing == []


def test_the_schema_is_valid_and_says_what_fields_mean() -> None:
    made = json.loads(json.dumps(schema()))
    Draft202012Validator.check_schema(made)
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(made["properties"]) == set(Config.keys())
    assert made["$defs"]["ClientTimeouts"]["properties"]["header"]["default"] == "10s"
    for definition in [made, *made["$defs"].values()]:
        assert definition["additionalProperties"] is False
        for settings in definition["properties"].values():
            assert settings["description"]
            assert "title" not in settings  # a key says as much


def test_the_schema_accepts_the_example_and_refuses_mistakes() -> None:
    validator = Draft202012Validator(schema())
    data = yaml.safe_load(DESIGN)
    assert list(validator.iter_errors(data)) == []
    for path, value in [
        ("workers", "many"),
        ("acess_log", True),
        ("listeners", []),
        ("timeouts", {"header": 10}),
    ]:
        assert list(validator.iter_errors(data | {path: value}))
    variables = {"workers": "${N}", "debug": "${D:-no}", "limits": {"body": "${S}", "header_count": "${C}"}}
    assert list(validator.iter_errors(data | variables)) == []


EXAMPLE = Path(__file__).parents[3] / "config.example.yaml"


def test_the_example_file_is_sound() -> None:
    if not EXAMPLE.exists():
        pytest.skip("config.example.yaml is not part of this copy")
    assert load(EXAMPLE).routes
    data = yaml.safe_load(EXAMPLE.read_text())
    assert list(Draft202012Validator(schema()).iter_errors(data)) == []


# ---- who programs are, and what they may use


def as_somebody(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.mark.parametrize(("user", "group"), [("nobody", None), (65534, None), ("65534", "nogroup")])
def test_user_has_its_groups(monkeypatch: pytest.MonkeyPatch, user: Any, group: Any) -> None:
    as_somebody(monkeypatch, 0)
    settings = {"cgi": "/", "user": user, **({"group": group} if group else {})}
    found = backend(**settings)
    nobody = pwd.getpwnam("nobody")
    assert (found.user.uid, found.user.gid) == (nobody.pw_uid, nobody.pw_gid)
    assert set(found.user.groups) == set(os.getgrouplist("nobody", nobody.pw_gid))
    assert found.confinement.wrap(["/x"])[-1] == "/x"


def test_without_user_and_limits_nothing_stands_before_the_program() -> None:
    assert backend(cgi="/").confinement is None


def test_limits_of_programs() -> None:
    limits = {"cpu": "1500ms", "memory": "256MiB", "open_files": 64, "file_size": 0, "core": 0}
    _, *options, program = backend(cgi="/", limits=limits).confinement.wrap(["/x"])
    assert options == ["--cpu=2:7", "--as=268435456:268435456", "--nofile=64:64", "--fsize=0:0", "--core=0:0"]
    assert program == "/x"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"user": "no-such-user"}, ".user: there is no user 'no-such-user' on this machine"),
        ({"user": 3999999999}, ".user: there is no user 3999999999 on this machine"),
        ({"user": True}, ".user: expected the name or number of a user, got true"),
        ({"group": "no-such-group"}, ".group: there is no group 'no-such-group' on this machine"),
        ({"group": []}, ".group: expected the name or number of a group, got a list"),
        (
            {"limits": {"processes": 5}},
            ".limits.processes: root's are not limited (setrlimit(2)): expected user",
        ),
        ({"limits": {"memory": 0}}, ".limits.memory: expected a size larger than 0, got 0"),
    ],
)
def test_refuses_users_and_limits(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    as_somebody(monkeypatch, 0)
    assert refused_backend(cgi="/", **settings) == [message]


def test_only_root_may_change_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by `gateway check`, not by the first request."""
    as_somebody(monkeypatch, 1000)
    assert refused_backend(cgi="/", user="nobody", group="nogroup") == [
        ".user: only root can run programs as 'nobody': start the gateway as root",
        ".group: only root can run programs as 'nogroup': start the gateway as root",
    ]


def test_limits_are_no_more_than_the_system_allows() -> None:
    """Told by `gateway check`; root has a limit, too, and in most containers may raise none."""
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    message = f"expected at most {ours}, which the gateway has itself: the system refuses more"
    (refused,) = refused_backend(cgi="/", limits={"open_files": most + 1})
    assert refused == f".limits.open_files: {message} (CAP_SYS_RESOURCE, fs.nr_open)"


# ---- which files are programs


def test_interpreters_are_found(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    found = backend(cgi="/", interpreter={".a": "sh", ".b": ["sh", "-e"], ".c": str(script)})
    sh = shutil.which("sh", path="/usr/local/bin:/usr/bin:/bin")
    assert found.interpreter == {".a": (sh,), ".b": (sh, "-e"), ".c": (str(script),)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interpreter": {"php": "sh"}}, ".interpreter.php: expected an extension such as .cgi, got 'php'"),
        (
            {"interpreter": {".x": "no-such-program"}},
            ".interpreter['.x']: there is no program 'no-such-program' in /usr/local/bin:/usr/bin:/bin",
        ),
        ({"interpreter": {".x": "/no/such"}}, ".interpreter['.x']: there is no program '/no/such'"),
        ({"extensions": "cgi"}, ".extensions: expected an extension such as .cgi, got 'cgi'"),
        ({"queue": 5}, ".queue: without max_processes no request waits"),
        ({"queue_time": "5s"}, ".queue_time: without max_processes no request waits"),
        (
            {"catch_stderr": "("},
            ".catch_stderr: '(' is no regular expression: missing ), unterminated subpattern at position 0",
        ),
        ({"catch_stderr": ""}, ".catch_stderr: expected a regular expression, got ''"),
        ({"execute": "always"}, ".execute: expected auto, x-only or shebang, got 'always'"),
    ],
)
def test_refuses_programs_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    assert refused_backend(cgi="/", **settings) == [message]


def test_one_program_must_be_executable_unless_it_is_interpreted(tmp_path: Path) -> None:
    script = tmp_path / "x.note"
    script.write_text("#!/bin/sh\n")
    refusal = f".cgi: {str(script)!r} is not executable: chmod +x it"
    assert refused_backend(cgi=str(script)) == [refusal]
    assert backend(cgi=str(script), interpreter={".note": "sh"}).path == script
    assert backend(cgi=str(script), execute="shebang").path == script
    assert refused_backend(cgi=str(script), interpreter={".note": "sh"}, execute="x-only") == [refusal]


def test_transcript_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "debug.log"
    short, long = (
        backend(cgi="/", transcript=value).transcript for value in (str(path), {"file": str(path)})
    )
    assert short == long
    assert (short.file, short.size, short.always, short.excerpt) == (path, 10 * 2**20, False, 1024)
