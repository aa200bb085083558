"""Files and texts to Config, or to every mistake in them."""

# ruff: noqa: E501 - one row is one case

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gateway
from gateway.config import Config, ConfigError, load, load_text
from gateway.config.backends.application import FastCGIBackend, SCGIBackend
from gateway.config.backends.cgi import CGIBackend
from gateway.config.backends.python import ASGIBackend

GOOD = """\
listeners:
  - http: 127.0.0.1:8080
backends:
  app: {fastcgi: 127.0.0.1:9000}
routes:
  - match: {path: /app/*}
    backend: app
  - respond: {body: hello}
"""


def mistakes(text: str, directory: Path | str = "/", environment: dict[str, str] | None = None) -> list[str]:
    """All mistakes of a text, as they are printed."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, "gateway.yaml", directory, environment or {})
    assert str(caught.value) == "\n".join(map(str, caught.value.mistakes))
    return [str(mistake) for mistake in caught.value.mistakes]


def test_reads_a_file_and_starts_relative_paths_at_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "public").mkdir(parents=True)
    path = tmp_path / "conf" / "gateway.yaml"
    path.write_text("listeners: [{http: 'unix:run.sock'}]\nroutes: [{static: public}]\n")
    monkeypatch.chdir(tmp_path)
    config = load("conf/gateway.yaml")
    assert str(config.listeners[0].address) == f"unix:{tmp_path}/conf/run.sock"
    static = config.routes[0].static
    assert static is not None
    assert static.root == tmp_path / "conf" / "public"


def test_a_byte_order_mark_is_not_content(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(path).routes[0].backend == "app"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: the file is empty: expected listeners and routes"),
        (b"# nothing\n", ":1: the file is empty: expected listeners and routes"),
        (b"a: 1\nb: \xff\n", ":2: not UTF-8 text: byte 0xff"),
        (b"a: 1\nb: \x00\x01\n", ":2: not a text file: it has control characters"),
        (b"\x7fELF\x02\x01\x01\x00", ":1: not a text file: it has control characters"),
        (b"- 1\n", ":1: expected a mapping, got a list"),
        (
            b"hello\n",
            ":1: expected a mapping, got 'hello'; docs/migrating.md has the words of other programs' files for one of the gateway",
        ),
        (b"[" * 1000 + b"]" * 1000, ":1: nested deeper than 50 levels"),
        (b"[" * 500_000, ":1: nested deeper than 50 levels"),
        (b"{a: " * 100_000, ":1: nested deeper than 50 levels"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
def test_refuses_files_that_are_no_configuration(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}{message}"


def test_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in [
        (str(tmp_path / "absent.yaml"), "No such file or directory"),
        (str(tmp_path), "Is a directory"),
        ("a\0b", "embedded null byte"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load(path)
        shown = path.replace("\0", "\\x00")
        assert str(caught.value) == f"{shown}: cannot be read: {reason}"


def test_refuses_a_huge_file(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="larger than 16777216 bytes"):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [\n\n", "3: not YAML: while parsing a flow node, did not find expected node content"),
        ("a: b: c", "1: not YAML: mapping values are not allowed in this context; is the line indented as those before it are? Text with a colon and a space needs quotes"),
        ("a:\n\t- x", "2: not YAML: while scanning for the next token, found character that cannot start any token; lines are indented by spaces, not by tabs"),
        ("[uwsgi]\nmodule = app\n", "2: not YAML: did not find expected <document start>; docs/migrating.md has the words of other programs' files for one of the gateway"),
        ("a: @x", "1: not YAML: while scanning for the next token, found character that cannot start any token; what begins with '@' needs quotes"),
        ("a: [::1]:80", "1: not YAML: while parsing a flow node, did not find expected node content; text that begins with [ or { needs quotes"),
        ("a:\n  - b: c\n   d: e\n", "3: not YAML: while parsing a block collection, did not find expected '-' indicator (begun in line 2); is the line indented as those before it are?"),
        ("a: 'x\n", "2: not YAML: while scanning a quoted scalar, found unexpected end of stream (begun in line 1)"),
        ("a: 1\n---\nb: 2\n", "2: not YAML: expected a single document in the stream, but found another document (begun in line 1)"),
        ("a: *x\n", "1: not YAML: found undefined alias; what begins with * needs quotes"),
        ("a: *:443\n", "1: not YAML: while scanning an alias, did not find expected alphabetic or numeric character; what begins with * needs quotes"),
    ],
)  # fmt: skip
def test_names_the_line_of_a_syntax_error(text: str, message: str) -> None:
    assert mistakes(text) == [f"gateway.yaml:{message}"]


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    text = """\
listeners: [{http: ":0", tls: {certificate: pipe, key: pipe}}]
error_pages: {404: pipe}
backends: {a: {asgi: "a:b", env_file: pipe}}
routes: [{backend: a}]
"""
    with pytest.raises(ConfigError) as raised:
        load_text(text, "gateway.yaml", tmp_path)
    no_file = f"{tmp_path}/pipe is read more than once: expected a regular file"
    silent = f"'{tmp_path}/pipe' cannot be read: nobody writes to this pipe"
    assert [str(mistake) for mistake in raised.value.mistakes] == [
        f"gateway.yaml:1: listeners[0].tls.certificate: {no_file}",
        f"gateway.yaml:1: listeners[0].tls.key: {no_file}",
        f"gateway.yaml:2: error_pages['404']: {silent}",
        f"gateway.yaml:3: backends.a.env_file: {silent}",
    ]
    with pytest.raises(ConfigError, match="nobody writes to this pipe"):
        load(tmp_path / "pipe")


def test_standard_output_is_no_file() -> None:
    """Of a service of systemd it is a socket, which cannot be opened by its name."""
    for name in ("stdout", "stderr"):
        text = GOOD + f"access_log: {{destination: /dev/{name}}}\n"
        log = load_text(text, "gateway.yaml", ".").access_log
        assert log is not None
        assert log.destination == name


def test_counts_are_not_larger_than_what_takes_them() -> None:
    """listen(2) has an int of C for the one, HTTP/2 32 bits for the other; processes and threads are started."""
    text = """\
listeners: [{http: ":0", backlog: 99999999999}]
limits: {streams: 4294967296}
workers: 99999999999
backends:
  a: {wsgi: "a:b", threads: 10001}
  b: {scgi: "a:1", retry: {tries: 1000}}
  c: {scgi: {spawn: {command: [/bin/true], processes: {min: 0, max: 1025}}}}
  d: {scgi: {spawn: {command: [/bin/true], processes: 1025}}}
  e: {asgi: "a:b", process: {processes: 1025}}
routes: [{respond: {}}]
"""
    assert mistakes(text) == [
        "gateway.yaml:1: listeners[0].backlog: expected a number of at most 2147483647, got 99999999999",
        "gateway.yaml:2: limits.streams: expected a number of at most 2147483647, got 4294967296",
        "gateway.yaml:3: workers: expected a number of at most 1024, or auto, got 99999999999",
        "gateway.yaml:5: backends.a.threads: expected a number of at most 10000, got 10001",
        "gateway.yaml:6: backends.b.retry.tries: expected a number of at most 100, got 1000",
        "gateway.yaml:7: backends.c.scgi.spawn.processes.max: expected a number of at most 1024, got 1025",
        "gateway.yaml:8: backends.d.scgi.spawn.processes: expected a number of at most 1024, got 1025",
        "gateway.yaml:9: backends.e.process.processes: expected a number of at most 1024, got 1025",
    ]


def test_finds_all_mistakes_at_once() -> None:
    """The models' own, those of their fields and those of YAML, in order of lines."""
    text = """\
listeners:
  - http: 127.0.0.1:99999
    backlog: 0
worker: 2
timeouts: {header: 10}
backends:
  one: {fastcgi: 127.0.0.1:9000, split: .php, body: stram}
  one: {scgi: 127.0.0.1:9000}
  two: {asgi: app, threads: 3}
routes:
  - match: {path: nowhere, method: get}
    backend: on
  - match: {header: {Accept: !x text}}
    respond: {body: "${NOWHERE}"}
    redirect: {}
"""
    assert mistakes(text) == [
        "gateway.yaml:2: listeners[0].http: expected a port of at most 65535, got '127.0.0.1:99999'",
        "gateway.yaml:3: listeners[0].backlog: expected a number of at least 1, got 0",
        "gateway.yaml:4: worker: unknown key; did you mean workers?",
        "gateway.yaml:5: timeouts.header: expected a duration such as 30s or 250ms, got 10",
        "gateway.yaml:7: backends.one.split: scripts are looked for below a root: split needs root",
        "gateway.yaml:7: backends.one.body: expected spool, stream or reject, got 'stram'",
        "gateway.yaml:8: backends.one: the key is there twice, first in line 7",
        "gateway.yaml:9: backends.two.asgi: expected module:attribute, such as app:application, got 'app'",
        "gateway.yaml:9: backends.two.threads: unknown key; here it is concurrency",
        "gateway.yaml:11: routes[0].match.path: expected '/exact', '/prefix/*', '*.suffix' or '~regex', "
        "got 'nowhere'",
        "gateway.yaml:11: routes[0].match.method: methods are case-sensitive: did you mean GET?",
        "gateway.yaml:12: routes[0].backend: expected text, got true (put it in quotes)",
        "gateway.yaml:13: routes[1].match.header.Accept: the tag '!x' has no meaning here",
        "gateway.yaml:13: routes[1]: expected exactly one action (backend, static, redirect, respond or "
        "connect), got redirect and respond",
        "gateway.yaml:14: routes[1].respond.body: the environment variable NOWHERE is not set, and there "
        "is no default",
        "gateway.yaml:15: routes[1].redirect.to: is missing",
    ]


def test_messages_show_values_short_and_without_control_characters() -> None:
    (line,) = mistakes(GOOD + 'workers: "\\e[2J\\n' + "x" * 500 + '"\n')
    assert line == (
        f"gateway.yaml:9: workers: expected a number of at least 1, or auto, got '\\x1b[2J\\n{'x' * 55}…'"
    )


def test_paths_with_odd_keys_are_quoted() -> None:
    found = mistakes(GOOD + '"a b\\n": 1\n')
    assert found[0].startswith("gateway.yaml:9: 'a b\\n': unknown key; expected one of ")


# ---- variables


def test_variables_are_replaced_in_values_of_any_depth() -> None:
    text = """\
listeners: [{http: "${HOST:-127.0.0.1}:${PORT}"}]
workers: ${WORKERS}
debug: ${DEBUG:-yes}
backends:
  app: {cgi: "${DIR}", variables: {A: "$$${PORT}$", B: "${EMPTY}", C: "${EMPTY:-filled}", D: "${UNSET:-}"}}
routes: [{backend: app}, {match: {path: '~\\.cgi$'}, backend: app}]
"""
    environment = {"PORT": "8000", "WORKERS": "3", "DIR": "/", "EMPTY": ""}
    config = load_text(text, "gateway.yaml", "/", environment)
    assert str(config.listeners[0].address) == "127.0.0.1:8000"
    assert (config.workers, config.debug) == (3, True)
    backend = config.backends["app"]
    assert isinstance(backend, CGIBackend)
    assert backend.variables == {"A": "$8000$", "B": "", "C": "filled", "D": ""}
    assert config.routes[1].match.path == (r"~\.cgi$",)


def test_variables_cannot_bring_structure() -> None:
    text = "listeners: [{http: ':1'}]\nroutes: [{respond: {body: '${BODY}', status: '${STATUS}'}}]\n"
    config = load_text(text, "gateway.yaml", "/", {"BODY": "x}, status: 500 # *a\n- b", "STATUS": "201"})
    assert config.routes[0].respond is not None
    assert config.routes[0].respond.body == "x}, status: 500 # *a\n- b"
    assert config.routes[0].respond.status == 201


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${}", "expected ${NAME} or ${NAME:-default}, got '${}' ($$ is a dollar sign)"),
        ("${A B}", "expected ${NAME} or ${NAME:-default}, got '${A B}' ($$ is a dollar sign)"),
        ("${A", "expected ${NAME} or ${NAME:-default}, got '${A' ($$ is a dollar sign)"),
        ("${A-b}", "expected ${NAME} or ${NAME:-default}, got '${A-b}' ($$ is a dollar sign)"),
        ("${A}", "the environment variable A is not set, and there is no default"),
    ],
)
def test_names_a_variable_that_cannot_be_replaced(value: str, message: str) -> None:
    """One mistake each: what the value should have been is not asked any more."""
    assert mistakes(GOOD + f'workers: "{value}"\n') == [f"gateway.yaml:9: workers: {message}"]


def test_text_that_is_a_number_is_one_only_from_a_variable() -> None:
    assert load_text(GOOD + 'workers: "${N}"\n', "x", "/", {"N": "2"}).workers == 2
    assert mistakes(GOOD + 'workers: "2"\n') == [
        "gateway.yaml:9: workers: expected a number of at least 1, or auto, got '2'"
    ]
    assert mistakes(GOOD + "limits: {header_count: '${N}'}\n", environment={"N": "many"}) == [
        "gateway.yaml:9: limits.header_count: expected a whole number, got 'many'"
    ]


# ---- what YAML can do


def test_anchors_aliases_and_merge_keys() -> None:
    text = """\
listeners: [{http: ":8000"}]
backends:
  one: &one
    fastcgi: 127.0.0.1:9001
    timeouts: &slow {read: 5m}
  two:
    <<: *one
    fastcgi: 127.0.0.1:9002
  three: {scgi: 127.0.0.1:9003, timeouts: {<<: [*slow, {read: 1s, send: 7s}]}}
routes: [{backend: one}]
"""
    backends = load_text(text, "gateway.yaml", "/").backends
    two, three = backends["two"], backends["three"]
    assert isinstance(two, FastCGIBackend)
    assert (str(two.servers[0].address), two.timeouts.read) == ("127.0.0.1:9002", 300.0)
    assert isinstance(three, SCGIBackend)
    assert (three.timeouts.read, three.timeouts.send) == (300.0, 7.0)


def test_a_mistake_behind_a_merge_key_has_the_line_of_its_text() -> None:
    text = GOOD.replace(
        "backends:", "backends:\n  old: &old {scgi: 'a:1', rood: 1}\n  new: {<<: *old, scgi: x}"
    )
    assert [line.partition("; ")[0] for line in mistakes(text)] == [
        "gateway.yaml:4: backends.old.rood: unknown key",
        "gateway.yaml:4: backends.new.rood: unknown key",
        "gateway.yaml:5: backends.new.scgi: expected an address such as 127.0.0.1:9000, [::1]:9000 or "
        "unix:/run/app.sock, got 'x'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("routes: &a [*a]", "1: routes[0]: an alias stands inside of what it stands for"),
        ("backends: &a {b: *a}", "1: backends.b: an alias stands inside of what it stands for"),
        ("backends: &a {<<: *a}", "1: backends: an alias stands inside of what it stands for"),
        ("backends: {<<: 5}", "1: backends: << takes a mapping or a list of mappings"),
        ("? [1]\n: 2", "1: expected text as a key"),
        ("workers: !!int x", "1: workers: 'x' is not of the YAML type int"),
        ("workers: !!python/object:os.system x", "1: workers: the tag 'tag:yaml.org,2002:python/object:os.system' has no meaning here"),
        ("workers: !!binary eA==", "1: workers: the tag 'tag:yaml.org,2002:binary' has no meaning here"),
        ("backends: !!set {a}", "1: backends: the tag 'tag:yaml.org,2002:set' has no meaning here"),
    ],
)  # fmt: skip
def test_refuses_yaml_that_is_not_plain_data(text: str, message: str) -> None:
    assert f"gateway.yaml:{message}" in mistakes(text)


def test_aliases_cannot_multiply_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (line,) = mistakes("\n".join(lines))
    assert line.endswith(": more than 200000 values")


def test_merge_keys_cannot_multiply_or_nest_without_bound() -> None:
    doubled = ["a0: &a0 {}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40))]
    (line,) = mistakes("\n".join(doubled))
    assert line.endswith(": more than 200000 values")
    nested = ["a0: &a0 {}", *(f"a{n}: &a{n} {{<<: *a{n - 1}}}" for n in range(1, 2000))]
    (line,) = mistakes("\n".join(nested))
    assert line.endswith(": nested deeper than 50 levels")


def test_words_that_yaml_reads_as_something_else() -> None:
    """YAML 1.1: on is true, 60:30 a number, 2020-01-01 a date, 0660 octal; keys are always text."""
    text = """\
listeners: [{http: ":8000"}]
backends: {on: {asgi: "a:b", directory: /, lifespan: off}}
routes:
  - {match: {query: {day: 2020-01-01, time: 12:30, 7: seven}}, backend: "on"}
"""
    config = load_text(text, "gateway.yaml", "/")
    backend = config.backends["on"]
    assert isinstance(backend, ASGIBackend)
    assert backend.lifespan == "off"
    assert config.routes[0].match.query == {"day": ("2020-01-01",), "time": ("12:30",), "7": ("seven",)}


# ---- whatever is in the file

JARGON = ("pydantic", "Input should", "validation error", "Value error", "Traceback", "<spawn>")


def outcome(text: str) -> Config | ConfigError:
    """What a text is; that it is nothing else is the point."""
    try:
        return load_text(text, "gateway.yaml", "/", {"SET": "1"})
    except ConfigError as error:
        found = error
    assert found.mistakes
    for mistake in found.mistakes:
        assert mistake.message
        assert "\n" not in str(mistake)
        assert not any(word in mistake.message for word in JARGON if word not in text)
        assert mistake.line is not None
        # YAML 1.1 5.4: more characters than the line feed end a line.
        assert 1 <= mistake.line <= len(re.findall("[\r\n\x85\u2028\u2029]", text)) + 2
    return found


@given(st.text())
@example("${SET}")
@example("a: ${")
@example("\ud800")
@example("?\x850")
@settings(max_examples=300)
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    outcome(text)


EVERYTHING = {
    "listeners": [{"http": "127.0.0.1:1", "backlog": 5, "proxy_protocol": True}, {"http": "unix:/a", "mode": "0660"}],
    "workers": 1,
    "access_log": {"format": "json", "destination": "stderr"},
    "debug": False,
    "trusted_proxies": ["10.0.0.0/8", "unix"],
    "forwarded": "forwarded",
    "via": "edge",
    "resolver": ["10.0.0.2", "[::1]:5353"],
    "timeouts": {"header": "1s", "keep_alive": 0},
    "limits": {"request_line": "8KiB", "header_count": 5, "body": 100, "connections": 9, "connections_per_client": 3},
    "backends": {
        "a": {"cgi": "/", "variables": {"A": "{path}"}, "nph": "nph-*", "body": "reject", "max_body": "100B"},
        "b": {"fastcgi": ["a:1", "b:2"], "root": "/x", "split": ".php", "index": "i.php", "preset": "php-fpm"},
        "c": {"fastcgi": {"spawn": {"wsgi": "a:b", "processes": 2, "directory": "/", "env": {"A": "b"}}}},
        "d": {"uwsgi": ["unix:/a", {"address": "a:1", "weight": 2, "backup": True}], "buffer_size": 4096, "modifier1": 5,
              "timeouts": {"connect": "1s"}, "pool": {"connections": 2, "queue": 0, "queue_time": "1s"}, "hold": "1s",
              "balance": {"hash": "header.X-User"}, "sticky": {"cookie": "s", "max_age": "1h", "same_site": "strict"}},
        "e": {"http": "http://a", "host": "upstream", "forwarded": "both", "pool": {"idle": 0, "idle_time": "1s"}},
        "f": {"asgi": "a:b", "directory": "/", "lifespan": "on", "loop": "trio"},
        "g": {"wsgi": "a:b", "directory": "/", "threads": 2, "factory": True},
        "h": {"scgi": {"spawn": {"command": ["a", "b"]}}},
        "k": {"ajp": ["a:1", "unix:/b"], "secret": "s", "packet_size": "16KiB", "ping": "2s", "pool": {"idle": 1}},
        "i": {"http": [{"url": "http://a", "weight": 2}, "http://b"], "balance": "power-of-two", "sticky": "s",
              "retry": {"tries": 3, "time": "10s", "status": [502, 503], "methods": "all"},
              "health": {"failures": 1, "eject_time": "1s", "max_ejected": "100%", "slow": "2s", "slow_start": "30s",
                         "check": {"path": "/up", "method": "HEAD", "host": "a", "interval": "1s", "timeout": "1s",
                                   "status": [200, "3xx"], "body": "x", "rise": 1, "fall": 1, "start": "down"}},
              "pool": {"requests": 10, "age": "1h"}},
        "j": {"scgi": {"address": "a:1", "weight": 2}, "retry": {"status": 503}, "balance": "least-connections",
              "health": {"check": "/"}},
        "l": {"ajp": "a:1", "health": {"check": {"interval": "1s"}}},
        "m": {"uwsgi": "a:1", "health": {"check": {"ping": True}}},
    },
    "routes": [
        {"match": {"host": "a.b", "path": ["/a/*", "~x"], "method": "GET", "scheme": "http", "client": "unix"},
         "mount": "/a", "backend": "a"},
        {"match": {"header": {"a": None, "b": ["c"]}, "query": {"d": "e"}}, "static": {"root": "/", "index": []}},
        {"match": {"path": "/old"}, "redirect": {"to": "/new", "status": 301}},
        {"respond": {"status": 200, "body": "x", "headers": {"A": "b"}}},
    ],
}  # fmt: skip


def test_the_configuration_with_everything_is_accepted() -> None:
    assert isinstance(outcome(yaml.safe_dump(EVERYTHING)), Config)


PLACES: list[tuple[str | int, ...]] = []


def _collect(value: object, place: tuple[str | int, ...]) -> None:
    PLACES.append(place)
    if isinstance(value, dict):
        for key, item in value.items():
            _collect(item, (*place, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _collect(item, (*place, position))


_collect(EVERYTHING, ())

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["${SET}", "${UNSET}", "a:b", "/", "~(", "*", "http://", "unix:", ":0", "1s", "{x}", "on", "<<"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def _replaced(value: object, place: tuple[str | int, ...], new: object) -> object:
    if not place:
        return new
    head, *rest = place
    if isinstance(value, dict):
        return {
            key: _replaced(item, tuple(rest), new) if key == head else item for key, item in value.items()
        }
    assert isinstance(value, list)
    return [_replaced(item, tuple(rest), new) if n == head else item for n, item in enumerate(value)]


@given(st.sampled_from(PLACES), VALUES)
@settings(max_examples=600)
def test_any_value_anywhere_is_a_config_or_a_config_error(place: tuple[str | int, ...], new: object) -> None:
    outcome(yaml.safe_dump(_replaced(EVERYTHING, place, new), allow_unicode=True))


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "GATEWAY_TEST_WORKERS", "5")
    assert load_text(GOOD + "workers: ${GATEWAY_TEST_WORKERS}\n", "gateway.yaml", "/").workers == 5


PAGES = """\
listeners: [{http: 127.0.0.1:8080}]
error_pages:
  404: errors/404.html
  5xx: errors/oops.json
routes: [{respond: {}}]
"""


def test_error_pages_are_read(tmp_path: Path) -> None:
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors/404.html").write_text("<p>{status} {reason} {path} ✗")
    (tmp_path / "errors/oops.json").write_text('{"status": {status}}')
    config = load_text(PAGES, "gateway.yaml", tmp_path)
    assert {key: page.content_type for key, page in config.error_pages.items()} == {
        "404": b"text/html; charset=utf-8",
        "5xx": b"application/json",
    }
    assert config.error_pages["404"].text == "<p>{status} {reason} {path} ✗"


def test_mistakes_in_error_pages_have_their_lines(tmp_path: Path) -> None:
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors/oops.json").write_text("{pth}")
    (tmp_path / "errors/x").write_text("x")
    (tmp_path / "errors/y").write_bytes(b"x\xff")
    text = PAGES.replace("  5xx:", "  200: errors/x\n  6xx: errors/x\n  503: errors\n  504: errors/y\n  5xx:")
    found = mistakes(text, tmp_path)
    directory = tmp_path / "errors"
    missing, ok, six, is_directory, binary, unknown = found
    assert missing == (
        f"gateway.yaml:3: error_pages['404']: '{directory}/404.html' cannot be read: No such file or directory"
    )
    assert ok == "gateway.yaml:4: error_pages['200']: expected a status such as 404, or 4xx or 5xx, got '200'"
    assert six.startswith("gateway.yaml:5: error_pages['6xx']: expected a status such as 404")
    assert is_directory == f"gateway.yaml:6: error_pages['503']: '{directory}' cannot be read: Is a directory"
    assert binary == f"gateway.yaml:7: error_pages['504']: '{directory}/y' is not UTF-8 text: byte 0xff"
    assert unknown.startswith(
        f"gateway.yaml:8: error_pages['5xx']: '{directory}/oops.json': unknown placeholder {{pth}}; there are"
    )
    assert "{status}, {reason} and {header.NAME}" in unknown


def test_error_pages_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors/404.html").write_bytes(b"x" * (2**20 + 1))
    (tmp_path / "errors/oops.json").touch()
    (only,) = mistakes(PAGES, tmp_path)
    assert only.endswith("is larger than 1048576 bytes")


def test_routes_know_where_they_stand(tmp_path: Path) -> None:
    assert load_text(GOOD, "gateway.yaml", tmp_path).route_places == ("gateway.yaml:6", "gateway.yaml:8")


# ---- plugins of pydantic

PLUGIN = """
class Plugin:
    def new_schema_validator(self, schema, schema_type, schema_type_path, schema_kind, config, settings):
        print(schema_type_path.name)
        return None, None, None
plugin = Plugin()
"""

MODELS = """
from gateway.config import from_mapping
from_mapping({"listeners": [{"http": "127.0.0.1:0"}], "routes": [{"respond": {}}]}, "", ".")
from pydantic import BaseModel
class OfAnApplication(BaseModel):
    name: str
"""


def test_plugins_of_pydantic_are_for_applications_only(tmp_path: Path) -> None:
    (tmp_path / "some_plugin.py").write_text(PLUGIN)
    package = tmp_path / "some_plugin-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[pydantic]\nsome = some_plugin:plugin\n")
    told = subprocess.run(
        [sys.executable, "-c", MODELS],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join([str(Path(gateway.__file__).parents[1]), str(tmp_path)])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.split() == ["OfAnApplication"]
