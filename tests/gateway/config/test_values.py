"""Durations, sizes, addresses, patterns: what is accepted, what it means, and what is said otherwise."""

# ruff: noqa: E501 - one row is one case

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config.backends import ajp
from gateway.config.values import (
    addresses,
    files,
    numbers,
    programs,
    quantities,
    requests,
    shapes,
    targets,
    texts,
)
from gateway.config.values.numbers import FromEnvironment
from gateway.connect.allowed import AllowedHost, AllowedNetwork
from gateway.net.address import FdAddress, Origin, ServiceAddress, TcpAddress, UnixAddress
from tests.gateway.closed import closed_directory


def read(kind: Any, value: Any, directory: Path | str = "/base") -> Any:
    return TypeAdapter(kind).validate_python(value, context={"directory": str(directory)})


def refusal(kind: Any, value: Any, directory: Path | str = "/base") -> str:
    with pytest.raises(ValidationError) as caught:
        read(kind, value, directory)
    (details,) = caught.value.errors()
    return str(details["ctx"]["error"])


@pytest.mark.parametrize(
    ("kind", "value", "meaning"),
    [
        (quantities.Duration, "30s", 30.0),
        (quantities.Duration, "250ms", 0.25),
        (quantities.Duration, "5m", 300.0),
        (quantities.Duration, "1h", 3600.0),
        (quantities.Duration, "1.5h", 5400.0),
        (quantities.Duration, "2d", 172800.0),
        (quantities.Duration, "0s", 0.0),
        (quantities.Duration, 0, 0.0),
        (quantities.Duration, "0", 0.0),
        (quantities.Timeout, "1ms", 0.001),
        (quantities.Size, "64KiB", 65536),
        (quantities.Size, "10MiB", 10485760),
        (quantities.Size, "1GiB", 1073741824),
        (quantities.Size, "2TiB", 2199023255552),
        (quantities.Size, "7B", 7),
        (quantities.Size, 4096, 4096),
        (quantities.Size, 0, 0),
        (quantities.Size, FromEnvironment("4096"), 4096),
        (quantities.Limit, 1, 1),
        (quantities.BufferSize, "32KiB", 32768),
        (quantities.BufferSize, 65535, 65535),
        (numbers.Workers, 3, 3),
        (numbers.Workers, "auto", len(os.sched_getaffinity(0))),
        (numbers.Workers, FromEnvironment("4"), 4),
        (files.FileMode, "0660", 0o660),
        (files.FileMode, "600", 0o600),
        (numbers.Flag, FromEnvironment("Yes"), True),
        (numbers.Flag, FromEnvironment("off"), False),
        (numbers.Count, FromEnvironment(" 12 "), 12),
        (programs.Lifespan, True, "on"),
        (programs.Lifespan, False, "off"),
        (programs.Lifespan, "auto", "auto"),
        (addresses.Listen, "127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        (addresses.Listen, ":8000", TcpAddress("", 8000)),
        (addresses.Listen, "LocalHost:0", TcpAddress("localhost", 0)),
        (addresses.Listen, "[::1]:8000", TcpAddress("::1", 8000)),
        (addresses.Listen, "[0:0::1]:8000", TcpAddress("::1", 8000)),
        (addresses.Listen, "unix:/run/app.sock", UnixAddress("/run/app.sock")),
        (addresses.Listen, "unix:../app.sock", UnixAddress("/app.sock")),
        (addresses.Listen, "fd:3", FdAddress(3)),
        (addresses.Connect, "app-1.internal:9000", TcpAddress("app-1.internal", 9000)),
        (addresses.Connect, "unix:app.sock", UnixAddress("/base/app.sock")),
        (addresses.ConnectServer, "unix:app.sock", UnixAddress("/base/app.sock")),
        (addresses.ConnectServer, "srv:_App._tcp.example.com.", ServiceAddress("_app._tcp.example.com.")),
        (addresses.ServerUrl, "http://srv:_app._tcp.example", Origin(ServiceAddress("_app._tcp.example"))),
        (addresses.Nameserver, "10.0.0.2", TcpAddress("10.0.0.2", 53)),
        (addresses.Nameserver, "[::1]:5353", TcpAddress("::1", 5353)),
        (addresses.ServerUrl, "http://127.0.0.1:3000", Origin(TcpAddress("127.0.0.1", 3000))),
        (addresses.ServerUrl, "HTTP://example.com/", Origin(TcpAddress("example.com", 80))),
        (addresses.ServerUrl, "http://[::1]", Origin(TcpAddress("::1", 80))),
        (addresses.ServerUrl, "http://[::1]:81", Origin(TcpAddress("::1", 81))),
        (addresses.ServerUrl, "http://unix:/run/app.sock", Origin(UnixAddress("/run/app.sock"))),
        (addresses.ServerUrl, "http://unix:/run/app.sock:", Origin(UnixAddress("/run/app.sock"))),
        (addresses.ServerUrl, "https://app.example", Origin(TcpAddress("app.example", 443), secure=True)),
        (addresses.ServerUrl, "HTTPS://[::1]:8443", Origin(TcpAddress("::1", 8443), secure=True)),
        (
            addresses.ServerUrl,
            "https://unix:/run/app.sock",
            Origin(UnixAddress("/run/app.sock"), secure=True),
        ),
        (requests.ServerName, "app.example", "app.example"),
        (requests.ServerName, "app.example.", "app.example."),
        (requests.ServerName, "2001:db8::1", "2001:db8::1"),
        (requests.HostPolicy, "upstream", "upstream"),
        (requests.HostPolicy, "app.example:81", "app.example:81"),
        (addresses.Client, "10.0.0.0/8", ip_network("10.0.0.0/8")),
        (targets.Target, "Example.com:443", AllowedHost("example.com", range(443, 444))),
        (targets.Target, "*.example.com:80-81", AllowedHost("*.example.com", range(80, 82))),
        (targets.Target, "*:*", AllowedHost("*", range(1, 65536))),
        (targets.Target, "10.0.0.0/8:65535", AllowedNetwork(ip_network("10.0.0.0/8"), range(65535, 65536))),
        (targets.Target, "10.1.2.3:1", AllowedNetwork(ip_network("10.1.2.3"), range(1, 2))),
        (targets.Target, "[fd00::/8]:443", AllowedNetwork(ip_network("fd00::/8"), range(443, 444))),
        (targets.Target, "[::1]:443", AllowedNetwork(ip_network("::1"), range(443, 444))),
        (targets.Target, "[::ffff:10.0.0.0/104]:1", AllowedNetwork(ip_network("10.0.0.0/8"), range(1, 2))),
        (targets.Target, "[::/0]:1", AllowedNetwork(ip_network("::/0"), range(1, 2))),
        (addresses.Client, "::1", ip_network("::1/128")),
        (addresses.Client, "unix", "unix"),
        (files.FilePath, "x/../y", Path("/base/y")),
        (files.FilePath, "/x", Path("/x")),
        (files.Destination, "stdout", "stdout"),
        (files.Destination, "stderr", "stderr"),
        (files.Destination, "access.log", Path("/base/access.log")),
        (programs.Command, ["./app.fcgi", "-x", "./y"], ("/base/app.fcgi", "-x", "./y")),
        (programs.Command, ["php-cgi"], ("php-cgi",)),
        (programs.ObjectName, "api.main:app", "api.main:app"),
        (programs.ObjectName, "app:factory.make", "app:factory.make"),
        (requests.PathPattern, "/", "/"),
        (requests.PathPattern, "/*", "/*"),
        (requests.PathPattern, "/a b/ü/*", "/a b/ü/*"),
        (requests.PathPattern, "*.php", "*.php"),
        (requests.PathPattern, r"~^/u/(?P<rest>[0-9]+)\Z", r"~^/u/(?P<rest>[0-9]+)\Z"),
        (requests.HostPattern, "API.example.com", "api.example.com"),
        (requests.HostPattern, "*.example.com", "*.example.com"),
        (requests.HostPattern, "[::1]", "[::1]"),
        (requests.Method, "PROPFIND", "PROPFIND"),
        (requests.HeaderName, "X-Kind", "x-kind"),
        (requests.Mount, "/x/y", "/x/y"),
        (texts.TemplateText, "a\n{path.rest} {header.X-Y}", "a\n{path.rest} {header.X-Y}"),
        (texts.TemplateText, '{"ok": true}', '{"ok": true}'),
        (texts.Target, "https://{host}{path}", "https://{host}{path}"),
        (texts.PathTarget, "/verify?path={path}", "/verify?path={path}"),
        (texts.Target, "{scheme}://new{path}", "{scheme}://new{path}"),
        (texts.Name, "php-8.2_a", "php-8.2_a"),
        (files.FileName, "nph-*", "nph-*"),
    ],
)
def test_reads(kind: Any, value: Any, meaning: Any) -> None:
    result = read(kind, value)
    assert result == meaning
    assert type(result) is type(meaning)


LISTEN = "expected an address such as 127.0.0.1:8000, [::1]:8000, :8000, unix:/run/app.sock or fd:3, got "
TARGET = "expected a host or network with a port, such as example.com:443, *.example.com:443 or 10.0.0.0/8:8443, got "
CONNECT = "expected an address such as 127.0.0.1:9000, [::1]:9000 or unix:/run/app.sock, got "
URL = "expected a URL such as http://127.0.0.1:3000, https://app.example or http://unix:/run/app.sock, got "
DURATION = "expected a duration such as 30s or 250ms, got "
SIZE = "expected a size such as 64KiB, 10MiB or a number of bytes, got "
NETWORK = "expected a network such as 10.0.0.0/8, an address, or unix, got "
OBJECT = "expected module:attribute, such as app:application, got "
HOST = "expected a host such as example.com or *.example.com, got "


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (quantities.Duration, "abc", DURATION + "'abc'"),
        (quantities.Duration, 30, DURATION + "30"),
        (quantities.Duration, "30", DURATION + "'30'"),
        (quantities.Duration, "30 s", DURATION + "'30 s'"),
        (quantities.Duration, "-1s", DURATION + "'-1s'"),
        (quantities.Duration, "1s\n", DURATION + "'1s\\n'"),
        (quantities.Duration, "١s", DURATION + "'١s'"),
        (quantities.Duration, False, DURATION + "false"),
        (quantities.Duration, [], DURATION + "a list"),
        (quantities.Duration, "999d", "expected a duration of at most 365d, got '999d'"),
        (quantities.Timeout, 0, "expected a duration longer than 0, such as 30s, got 0"),
        (quantities.Size, "8KB", SIZE + "'8KB'"),
        (quantities.Size, "8", SIZE + "'8'"),
        (quantities.Size, 1.5, SIZE + "1.5"),
        (quantities.Size, True, SIZE + "true"),
        (quantities.Size, -1, "expected a size between 0 and 8388607TiB, got -1"),
        (quantities.Size, "99999999TiB", "expected a size between 0 and 8388607TiB, got '99999999TiB'"),
        (quantities.Size, "9" * 40 + "B", "expected a size between 0 and 8388607TiB, got '" + "9" * 40 + "B'"),
        (quantities.Limit, 0, "expected a size larger than 0, got 0"),
        (quantities.BufferSize, "64KiB", "expected a size from 1 to 65535 bytes, the most that uwsgi can express, got '64KiB'"),
        (ajp.PacketSize, 65537, "expected a size from 8KiB to 64KiB, as containers can be configured to, got 65537"),
        (texts.SharedSecret, "", "expected a text of printable ASCII characters, in quotes"),
        (texts.SharedSecret, "a\nb", "expected a text of printable ASCII characters, in quotes"),
        (texts.SharedSecret, "ä", "expected a text of printable ASCII characters, in quotes"),
        (numbers.Workers, True, "expected a number of at least 1, or auto, got true"),
        (files.FileMode, 0o660, 'expected permissions in quotes, such as "0660", got 432'),
        (files.FileMode, "0990", 'expected permissions in quotes, such as "0660", got \'0990\''),
        (addresses.Listen, 8080, LISTEN + "8080"),
        (addresses.Listen, "8080", LISTEN + "'8080'"),
        (addresses.Listen, "::1:8000", LISTEN + "'::1:8000'"),
        (addresses.Listen, "unix:", LISTEN + "'unix:'"),
        (addresses.Listen, "fd:x", LISTEN + "'fd:x'"),
        (addresses.Listen, "http://a:1", LISTEN + "'http://a:1'"),
        (addresses.Listen, "[::g]:1", "expected an IPv6 address between the brackets, got '[::g]:1'"),
        (addresses.Listen, ":65536", "expected a port of at most 65535, got ':65536'"),
        (addresses.Listen, "unix:@x", "abstract sockets are not supported: expected a path, got 'unix:@x'"),
        (addresses.Listen, "unix:/" + "x" * 107, "expected a socket path of at most 107 bytes, got 108"),
        (addresses.Connect, ":9000", "a backend needs a host: write 127.0.0.1:9000, got ':9000'"),
        (addresses.Connect, "a:0", "port 0 is for listeners only: expected the backend's port, got 'a:0'"),
        (addresses.Connect, "fd:3", "fd: is an inherited listening socket; a backend needs an address to connect to"),
        (addresses.Connect, "tcp://a:1", "expected an address without a scheme, such as 127.0.0.1:9000, got 'tcp://a:1'"),
        (addresses.Connect, None, CONNECT + "nothing"),
        (targets.Target, 443, TARGET + "443"),
        (targets.Target, "example.com", TARGET + "'example.com'"),
        (targets.Target, ":443", TARGET + "':443'"),
        (targets.Target, "a:b:443", TARGET + "'a:b:443'"),
        (targets.Target, "::1:443", TARGET + "'::1:443'"),
        (targets.Target, "[::1]", TARGET + "'[::1]'"),
        (targets.Target, "[a]:1", TARGET + "'[a]:1'"),
        (targets.Target, "a/8:443", TARGET + "'a/8:443'"),
        (targets.Target, "a:http", TARGET + "'a:http'"),
        (targets.Target, "a:0", "expected a port from 1 to 65535, or two in order, got '0'"),
        (targets.Target, "a:2-1", "expected a port from 1 to 65535, or two in order, got '2-1'"),
        (targets.Target, "a:1-65536", "expected a port from 1 to 65535, or two in order, got '1-65536'"),
        (targets.Target, "10.1.0.0/8:1", "'10.1.0.0/8' has bits set below its mask: did you mean 10.0.0.0/8?"),
        (targets.Target, "1.2.3:1", TARGET + "'1.2.3:1'"),
        (targets.Target, "*.:443", "expected a host such as example.com or *.example.com, got '*.'"),
        (addresses.Connect, "example.com", CONNECT + "'example.com'"),
        (addresses.Connect, "srv:_app._tcp.example", "expected an address such as 127.0.0.1:9000, [::1]:9000 or unix:/run/app.sock, got 'srv:_app._tcp.example'"),
        (addresses.ConnectServer, "srv:app", "expected the name of SRV records such as srv:_app._tcp.example.com, got 'srv:app'"),
        (addresses.ConnectServer, 9000, "expected an address such as 127.0.0.1:9000, [::1]:9000 or unix:/run/app.sock, got 9000"),
        (addresses.Nameserver, "dns.example", "expected the numeric address of a name server, such as 10.0.0.2 or 127.0.0.1:5353, got 'dns.example'"),
        (addresses.Nameserver, 53, "expected the numeric address of a name server, such as 10.0.0.2 or 127.0.0.1:5353, got 53"),
        (addresses.ServerUrl, "127.0.0.1:3000", URL + "'127.0.0.1:3000'"),
        (addresses.ServerUrl, 3000, URL + "3000"),
        (addresses.ServerUrl, "ftp://a", URL + "'ftp://a'"),
        (addresses.ServerUrl, "http://", "a backend needs a host: write 127.0.0.1:80, got 'http://'"),
        (addresses.ServerUrl, "https://a/b", "expected a URL without a path (mount strips prefixes), got 'https://a/b'"),
        (requests.ServerName, "a b", "expected a host such as app.example, got 'a b'"),
        (requests.ServerName, 3, "expected a host such as app.example, got 3"),
        (requests.ServerName, ".example", "expected a host such as app.example, got '.example'"),
        (requests.ServerName, "a..b", "expected a host such as app.example, got 'a..b'"),
        (requests.HostPolicy, "a/b", "expected preserve, upstream, or a host such as app.example, got 'a/b'"),
        (requests.HostPolicy, True, "expected preserve, upstream, or a host such as app.example, got true"),
        (addresses.ServerUrl, "http://a/b", "expected a URL without a path (mount strips prefixes), got 'http://a/b'"),
        (addresses.ServerUrl, "http://a?b", "expected a URL without a path (mount strips prefixes), got 'http://a?b'"),
        (addresses.ServerUrl, "http://u:p@a", "expected a URL without user and password"),
        (addresses.Client, "10.0.0.1/8", "'10.0.0.1/8' has bits set below its mask: did you mean 10.0.0.0/8?"),
        (addresses.Client, "localhost", NETWORK + "'localhost'"),
        (addresses.Client, 10, NETWORK + "10"),
        (files.FilePath, "", "expected a path, got ''"),
        (files.FilePath, "a\0b", "expected a path, got 'a\\x00b'"),
        (programs.Command, "./app", "expected a list such as [PROGRAM, ARGUMENT], got './app'"),
        (programs.Command, ["a", 1], "expected a program and its arguments, each text, got 1 (put it in quotes)"),
        (programs.Command, [], "expected a program and its arguments, got an empty list"),
        (programs.ObjectName, "app", OBJECT + "'app'"),
        (programs.ObjectName, "a b:c", OBJECT + "'a b:c'"),
        (programs.ObjectName, "app.py:", OBJECT + "'app.py:'"),
        (programs.ObjectName, "app.py", "expected module:attribute, such as app:app, got 'app.py'"),
        (programs.ObjectName, "./a/b.py:c", "expected module:attribute, such as a.b:c, got './a/b.py:c'"),
        (programs.ObjectName, "site.wsgi", "expected module:attribute, such as site.wsgi:application, got 'site.wsgi'"),
        (programs.ObjectName, "a.b:make()", "expected module:attribute, such as a.b:make and factory (--factory), got 'a.b:make()'"),
        (programs.ObjectName, "a:make('x')", "expected module:attribute, such as a:make and factory (--factory), of a function that takes no arguments, got \"a:make('x')\""),
        (requests.PathPattern, 5, "expected a path pattern such as /exact, /prefix/*, *.php or ~^/user/[0-9]+$, got 5"),
        (requests.PathPattern, "/a?b", "expected a path without a query (match it by query:), got '/a?b'"),
        (requests.PathPattern, "/a%20b", "paths are compared decoded: write '/a%20b' without percent signs"),
        (requests.PathPattern, "/a\tb", "no request has such a path: . and .. are resolved before, got '/a\\tb'"),
        (requests.HostPattern, "a:80", "hosts are compared without their port, got 'a:80'"),
        (requests.HostPattern, "bücher.de", "expected the ASCII form of the host (xn--…), got 'bücher.de'"),
        (requests.HostPattern, "a.*", HOST + "'a.*'"),
        (requests.HostPattern, "http://a", HOST + "'http://a'"),
        (requests.HostPattern, 1, HOST + "1"),
        (requests.Method, "post", "methods are case-sensitive: did you mean POST?"),
        (requests.Method, "A B", "expected a method such as GET, got 'A B'"),
        (requests.HeaderName, "a:b", "expected the name of a header, got 'a:b'"),
        (requests.ResponseHeaderName, "Transfer-Encoding", "transfer-encoding is set by the gateway"),
        (requests.WantedValue, 1, "expected text, got 1 (put it in quotes)"),
        (requests.WantedValue, "~a", "regular expressions are not supported here yet, got '~a'"),
        (requests.Mount, "admin", "expected a path such as /admin, without / at its end, got 'admin'"),
        (requests.Mount, "/admin/", "expected a path such as /admin, without / at its end, got '/admin/'"),
        (requests.Mount, "/admin/*", "expected a path such as /admin, without / at its end, got '/admin/*'"),
        (requests.Mount, "/a//b", "expected a path without empty segments, got '/a//b'"),
        (requests.Mount, "/a/../b", "no request has such a path: . and .. are resolved before, got '/a/../b'"),
        (programs.Environment, {"A": "b\0c"}, "expected text without NUL, got 'b\\x00c'"),
        (programs.Environment, {"A": 1}, "expected text, got 1 (put it in quotes)"),
        (programs.VariableName, "A-B", "expected a variable name such as APP_ENV, got 'A-B'"),
        (texts.Name, "a b", "expected a name of letters, digits, '-', '_' and '.', got 'a b'"),
        (files.FileName, "a/b", "expected the name of a file, without directories, got 'a/b'"),
        (files.FileName, "..", "expected the name of a file, without directories, got '..'"),
        (texts.TemplateText, 5, "expected text, got 5 (put it in quotes)"),
        (texts.LineTemplateText, "a\r\nb", "expected text without control characters, got 'a\\r\\nb'"),
        (texts.Target, "new", "expected a path such as /new/{path.rest} or a URL, got 'new'"),
        (texts.PathTarget, "http://a/b", "expected a path such as /verify?path={path}, got 'http://a/b'"),
        (texts.PathTarget, "/a#b", "expected a path such as /verify?path={path}, got '/a#b'"),
        (texts.PathTarget, "{path}", "expected a path such as /verify?path={path}, got '{path}'"),
        (texts.Target, "/a b", "expected a path such as /new/{path.rest} or a URL, got '/a b'"),
    ],
)  # fmt: skip
def test_refuses(kind: Any, value: Any, message: str) -> None:
    assert refusal(kind, value) == message


@pytest.mark.parametrize("pattern", ["x", "*", "*a*", "/a*", "/a/*/b", "~(", "/a/../b", ""])
def test_refuses_path_patterns_that_the_router_would(pattern: str) -> None:
    assert repr(pattern) in refusal(requests.PathPattern, pattern)


def test_refuses_unknown_placeholders() -> None:
    assert refusal(texts.TemplateText, "{pth}").startswith("unknown placeholder {pth}; ")


def test_directories_must_exist(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read(files.Directory, ".", tmp_path) == tmp_path
    assert refusal(files.Directory, "x", tmp_path) == f"'{tmp_path}/x' does not exist: expected a directory"
    assert refusal(files.Directory, "file", tmp_path) == f"'{tmp_path}/file' is not a directory"


def test_directories_that_cannot_be_reached_are_not_said_to_be_missing() -> None:
    """Below a home, for instance, which is its owner's alone."""
    with closed_directory() as closed:
        base = closed.parent
        why = f"cannot be reached: '{closed}' is closed to the user that this runs as"
        for path in "closed/there", "closed/absent/too":
            assert refusal(files.Directory, path, base) == f"'{base}/{path}' {why}"
        python = f"'{base}/closed/there/bin/python'"
        assert refusal(programs.VirtualEnvironment, "closed/there", base) == f"{python} {why}"


def test_cgi_programs_must_be_executable(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch()
    kind = files.ProgramOrDirectory
    assert read(kind, "program", tmp_path) == program
    assert read(kind, ".", tmp_path) == tmp_path
    files.check_runnable(tmp_path)
    with pytest.raises(ValueError, match="is not executable: chmod \\+x it"):
        files.check_runnable(program)
    program.chmod(0o755)
    files.check_runnable(program)
    assert refusal(kind, "x", tmp_path).endswith(
        "does not exist: expected a program or a directory of programs"
    )


def test_addresses_print_as_they_are_written() -> None:
    for text in ["127.0.0.1:8000", "[::1]:8000", ":8000", "unix:/run/app.sock", "fd:3"]:
        assert str(read(addresses.Listen, text)) == text


def test_one_value_stands_for_a_list_of_one() -> None:
    kind = Annotated[tuple[requests.Method, ...], shapes.AtLeastOne(), shapes.Many()]
    assert read(kind, "GET") == ("GET",)
    assert read(kind, ["GET", "POST"]) == ("GET", "POST")
    assert refusal(kind, []) == "expected at least one, got an empty list"
