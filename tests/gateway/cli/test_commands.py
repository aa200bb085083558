"""The commands as programs: exit status, streams, messages."""

# ruff: noqa: E501 - one row is one case

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
import gateway.request
from gateway.cli.commands import FOREIGN, FOREIGN_SETTINGS, main

GOOD = "listeners: [{http: '127.0.0.1:0'}]\nbackends: {a: {scgi: 'a:1'}}\nroutes: [{backend: a}, {respond: {}}]\n"
BAD = "listeners: [{http: 127.0.0.1}]\nworkers: none\nroutes: [{}]\n"


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m gateway` with the package that is tested, wherever *cwd* is."""
    root = Path(gateway.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "gateway", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False
    )


def test_version() -> None:
    done = run("--version")
    build = "" if str(gateway.request.__file__).endswith(".py") else " (compiled)"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gateway {gateway.__version__}{build}\n", "")


def test_help_shows_examples() -> None:
    done = run("serve", "--help")
    assert done.returncode == 0
    assert "\n  gateway serve --asgi main:app --reload\n" in done.stdout
    assert "\b" not in done.stdout
    assert list(main.commands) == ["serve", "check", "status", "reload", "stop", "schema"]


@pytest.mark.parametrize("command", [(), *main.commands])
def test_help_fits_a_terminal(command: str | tuple[()]) -> None:
    """80 columns, and nothing is cut off."""
    done = run(*([command] if command else []), "--help")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Usage: ")]
    assert [line for line in lines if len(line) > 80 or line.endswith("...")] == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["schema"], ["check", "gateway.yaml"], ["status", "--help"]]
)
def test_full_standard_output_is_one_message(arguments: list[str], unbuffered: str, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(GOOD)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": str(Path(gateway.__file__).parents[1]), "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "gateway: cannot write: No space left on device\n")


@pytest.mark.parametrize("command", ["status", "stop", "reload"])
def test_commands_for_a_running_daemon_tell_how_to_do_without_a_sound_file(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "gateway.yaml").write_text(f"{GOOD}control: unix:sock\ngzip: on\n")
    done = run(command, "gateway.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    hint, mistake = done.stderr.splitlines()
    assert mistake.startswith("gateway.yaml:5: gzip: ")
    assert hint == "gateway: the file is read for its `control` only: --control unix:/path does without"


def test_options_of_other_servers_are_those_that_the_manual_tells() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "migrating.md").read_text("utf-8")
    options = {name for parameter in main.commands["serve"].params for name in parameter.opts}
    foreign = FOREIGN | FOREIGN_SETTINGS
    told = {name for name in foreign if f"`{name}`" in manual or f"`{name} " in manual}
    assert told == foreign.keys()
    assert options.isdisjoint(foreign)
    assert options.issuperset(FOREIGN.values())


def test_check_counts_what_a_sound_file_has(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(GOOD)
    done = run("check", "gateway.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "gateway.yaml: ok (1 listener, 1 backend, 2 routes)\n"


@pytest.mark.parametrize(("command", "status"), [("check", 1), ("serve", 2)])
def test_every_mistake_of_a_file_goes_to_standard_error(tmp_path: Path, command: str, status: int) -> None:
    (tmp_path / "gateway.yaml").write_text(BAD)
    done = run(command, "gateway.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.splitlines() == [
        "gateway.yaml:1: listeners[0].http: expected an address such as 127.0.0.1:8000, [::1]:8000, :8000, "
        "unix:/run/app.sock or fd:3, got '127.0.0.1'",
        "gateway.yaml:2: workers: expected a number of at least 1, or auto, got 'none'",
        "gateway.yaml:3: routes[0]: expected exactly one action (backend, static, redirect, respond or connect), got none",
        "3 mistakes",
    ]


@pytest.mark.parametrize(("command", "status"), [("check", 1), ("serve", 2)])
def test_a_file_that_is_absent_is_one_message(tmp_path: Path, command: str, status: int) -> None:
    done = run(command, "absent.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == "absent.yaml: cannot be read: No such file or directory\n"


def test_schema_is_json() -> None:
    done = run("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["title"] == "Gateway configuration"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve"], "Expected a CONFIG, or exactly one of --asgi, --wsgi, --cgi, --fastcgi, --uwsgi, --scgi, --ajp, "
                    "--proxy, --static; got none."),
        (["serve", "--wsgi", "a:b", "--static", "."], "got --wsgi and --static."),
        (["serve", "x.yaml", "--listen", ":1"], "--listen is for running without a file: put it into x.yaml."),
        (["serve", "x.yaml", "--cgi", "/"], "--cgi is for running without a file: put it into x.yaml."),
        (["serve", "--nope"], "No such option"),
        (["serve", "main:app"], "There is no file main:app: expected --asgi or --wsgi before an application."),
        (["serve", "api.main:site.app", "--listen", ":1"], "expected --asgi or --wsgi before an application."),
        (["serve", "main.py"], "main.py is Python, no CONFIG: expected --asgi or --wsgi, as in --asgi main:app."),
        (["serve", "src/main.py"], "expected --asgi or --wsgi, as in --asgi main:app --directory src."),
        (["serve", "--asgi", "main:app", "--port", "80"], "No such option '--port': here it is --listen."),
        (["serve", "--wsgi", "main:app", "-w", "4"], "No such option '-w': here it is --workers."),
        (["serve", "--wsgi", "main:app", "-k", "gthread"], "No such option '-k': here it is --asgi or --wsgi."),
        (["serve", "--wsgi", "main:app", "--timeout", "9"], "'--timeout': here it is process.timeout, or stuck_after, of a backend in a CONFIG."),
        (["serve", "--wsgi", "main:app", "--preload"], "here it is not needed: each worker loads the application."),
        (["serve", "--asgi", "main:app", "--timeout-keep-alive", "5"], "here it is timeouts.keep_alive of a CONFIG."),
        (["serve", "--asgi", "main:app", "--log-config", "l.json"], "'--log-config': here it is nothing: events go to standard error,"),
        (["serve", "--asgi", "main:app", "--http", "h11"], "'--http': here it is nothing: there is one of each."),
        (["check"], "Missing argument 'CONFIG'"),
        (["reload"], "Expected a CONFIG, or --control unix:/path."),
        (["restart"], "No such command 'restart'"),
        (["validate", "x.yaml"], "No such command 'validate': here it is gateway check."),
        (["gateway.yaml"], "No such command 'gateway.yaml': here it is gateway serve gateway.yaml."),
        (["main:app", "--reload"], "No such command 'main:app': here it is gateway serve --asgi main:app, or --wsgi."),
        (["serve", "x.yaml", "--threads", "1"], "--threads is for running without a file: put it into x.yaml."),
        (["serve", "x.yaml", "--no-access-log"], "--no-access-log is for running without a file: put it into x.yaml."),
        (["serve", "--asgi", "a:b", "--threads", "2"], "--threads is for --wsgi."),
        (["serve", "--wsgi", "a:b", "--loop", "trio"], "--loop is for --asgi."),
        (["serve", "--static", ".", "--factory"], "--factory is for --asgi and --wsgi."),
        (["serve", "--asgi", "a:b", "--threads", "many"], "Invalid value for '--threads'"),
        (["serve", "--asgi", "a:b", "--workers", "none"], "--workers: expected a number of at least 1, or auto, got 'none'."),
        (["serve", "--asgi", "a:b", "--workers", "1025"], "--workers: expected a number of at most 1024, or auto, got 1025."),
        (["serve", "--asgi", "a:b", "--workers", "0"], "--workers: expected a number of at least 1, or auto, got 0."),
        (["serve", "--asgi", "a:b", "--reload-dir", "."], "--reload-dir, --reload-include and --reload-exclude are for --reload."),
        (["serve", "--asgi", "a:b", "--reload", "--reload-dir", "absent"], "Directory 'absent' does not exist"),
        (["serve", "--static", ".", "--tls-key", "k.pem"], "--tls-certificate and --tls-key go together."),
        (["serve", "--static", ".", "--access-log", "a", "--no-access-log"], "--access-log and --no-access-log exclude each other."),
    ],
)  # fmt: skip
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--wsgi", "app"], ["--wsgi: expected module:attribute, such as app:application, got 'app'"]),
        (["--asgi", ""], ["--asgi: expected module:attribute, such as app:application, got ''"]),
        (["--static", "/absent"], ["--static: '/absent' does not exist: expected a directory"]),
        (["--proxy", "a:1"], ["--proxy: expected a URL such as http://127.0.0.1:3000, https://app.example or http://unix:/run/app.sock, got 'a:1'"]),
        (["--scgi", ":1", "--listen", ":1", "--listen", ":1"], [
            "--listen: listeners[0] has the address ':1' already",
            "--scgi: a backend needs a host: write 127.0.0.1:1, got ':1'",
        ]),
        (["--static", ".", "--access-log", "-"], ["--access-log: expected stderr, stdout or the path of a file, got '-'"]),
        (["--static", ".", "--trusted-proxies", "*"], [
            "--trusted-proxies: expected a network such as 10.0.0.0/8 (0.0.0.0/0 and ::/0 are everybody), an address, or unix, got '*'",
        ]),
        (["--asgi", "a:b", "--lifespan", "maybe"], ["--lifespan: expected auto, on or off, got 'maybe'"]),
        (["--wsgi", "a:b", "--threads", "0"], ["--threads: expected a number of at least 1, got 0"]),
        (["--wsgi", "a:b", "--mount", "x"], ["--mount: expected a path such as /admin, without / at its end, got 'x'"]),
        (["--wsgi", "a:b", "--directory", "/absent"], ["--directory: '/absent' does not exist: expected a directory"]),
        (["--wsgi", "a:b", "--tls-certificate", "/absent", "--tls-key", "/absent.key"], [
            "--tls-certificate: /absent cannot be read: No such file or directory",
            "--tls-key: /absent.key cannot be read: No such file or directory",
        ]),
        (["--wsgi", "a:b", "--trusted-proxies", "unix,x"], [
            "--trusted-proxies: expected a network such as 10.0.0.0/8, an address, or unix, got 'x'",
        ]),
        (["--wsgi", "a:b", "--env-file", "absent"], ["--env-file: absent: cannot be read: No such file or directory"]),
        (["--fastcgi", "a:1", "--listen", "x"], ["--listen: expected an address such as 127.0.0.1:8000, [::1]:8000, :8000, unix:/run/app.sock or fd:3, got 'x'"]),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_named(arguments: list[str], messages: list[str]) -> None:
    done = run("serve", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == messages


def test_serves_one_directory_without_a_file(tmp_path: Path) -> None:
    """Port 0: the chosen port is logged. SIGTERM ends it with status 0."""
    (tmp_path / "hello.txt").write_text("hello")
    root = Path(gateway.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--static", ".", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        try:
            assert daemon.stderr is not None
            ready = json.loads(daemon.stderr.readline())
            assert ready["event"] == "ready"
            (address,) = ready["addresses"]
            fetched = subprocess.run(
                ["curl", "-sS", "--noproxy", "*", f"{address}/hello.txt"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert fetched.stdout == "hello"
            access = json.loads(daemon.stderr.readline())
            assert (access["event"], access["target"], access["status"]) == ("request", "/hello.txt", 200)
        finally:
            daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=30) == 0
