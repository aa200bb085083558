"""The commands.

Exit status: 0 done, 1 it failed, 2 wrong usage or configuration. Errors go to standard error, one
readable message each, never a traceback for a user's mistake.

The daemon and the configuration are imported by the commands that need them, so that the others and
the completion of a shell answer at once.
"""

import errno
import json
import re
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from gateway import __version__
from gateway.cli.options import DEFAULT_LISTEN, Reader
from gateway.cli.sections import SectionedCommand, option
from gateway.runtime.collector import loading
from gateway.runtime.init import leave_process_one
from gateway.runtime.lean import import_structlog
from gateway.runtime.log_signals import outlive_log_signals
from gateway.runtime.standard_files import drop_unwritten, open_standard_files

if TYPE_CHECKING:
    from gateway.config import Config, ConfigError
    from gateway.config.document import Document

WRONG_USAGE: Final = 2

_SPEC: Final = find_spec("gateway.request")
_BUILD: Final = "" if _SPEC is None or (_SPEC.origin or "").endswith(".py") else " (compiled)"


APPLICATION: Final = r"[\w.]+:[\w.]+"
"""module:attribute."""

FOREIGN_COMMANDS: Final = {
    **dict.fromkeys(("run", "start", "up"), "serve"),
    **dict.fromkeys(("validate", "test", "configtest"), "check"),
    **dict.fromkeys(("quit", "shutdown"), "stop"),
}
"""Commands of other programs."""


class _Commands(click.Group):
    """Tells what click does not: what a word is that is no command, that standard output takes no more."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        ours = FOREIGN_COMMANDS.get(word)
        if re.fullmatch(APPLICATION, word):
            ours = f"serve --asgi {word}, or --wsgi"
        elif word.endswith((".yaml", ".yml")):
            ours = f"serve {word}"
        if ours is None:
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"No such command {word!r}: here it is gateway {ours}.", ctx)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.errno not in _NOT_WRITTEN:
                raise
            drop_unwritten()
            _fail(f"cannot write: {error.strerror}")


_NOT_WRITTEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "--version", message=f"gateway %(version)s{_BUILD}")
def main() -> None:
    """One daemon in front of CGI, FastCGI, SCGI, uwsgi, AJP, HTTP, WSGI and ASGI programs.

    \b
    gateway serve gateway.yaml      run what the file says
    gateway serve --wsgi app:app    run one application, without a file
    gateway check gateway.yaml      find all mistakes in the file
    gateway status gateway.yaml     see how a running daemon and its backends are
    gateway reload gateway.yaml     let it read the file and load the code again
    """  # noqa: D301 - click reads \b


_what = partial(option, "What to run, without a CONFIG")
_how = partial(option, "How, without a CONFIG")
_processes = partial(option, "Processes")


FOREIGN: Final = {
    **dict.fromkeys(("--host", "--port", "--bind", "-b", "--uds", "--unix-socket", "--fd"), "--listen"),
    **dict.fromkeys(("--app-dir", "--chdir", "--pythonpath", "--working-dir"), "--directory"),
    **dict.fromkeys(("--root-path", "--url-prefix"), "--mount"),
    **dict.fromkeys(("--ssl-certfile", "--certfile", "--ssl-certificate"), "--tls-certificate"),
    **dict.fromkeys(("--ssl-keyfile", "--keyfile"), "--tls-key"),
    **dict.fromkeys(("--proxy-headers", "--forwarded-allow-ips"), "--trusted-proxies"),
    "-w": "--workers",
    "--access-logfile": "--access-log",
    "--log-level": "--debug",
    "--env": "--env-file",
}
"""Options of uvicorn, Hypercorn, Granian, gunicorn and waitress (docs/migrating.md)."""

FOREIGN_SETTINGS: Final = {
    **dict.fromkeys(("--worker-class", "-k", "--interface"), "--asgi or --wsgi"),
    **dict.fromkeys(
        ("--timeout-keep-alive", "--keep-alive", "--http1-keep-alive"), "timeouts.keep_alive of a CONFIG"
    ),
    **dict.fromkeys(
        ("--timeout-graceful-shutdown", "--graceful-timeout", "--workers-kill-timeout"),
        "timeouts.shutdown of a CONFIG",
    ),
    **dict.fromkeys(
        ("--limit-max-requests", "--max-requests", "--max-requests-jitter"),
        "process.max_requests of a backend, in a CONFIG",
    ),
    **dict.fromkeys(
        ("--limit-concurrency", "--worker-connections", "--connection-limit"),
        "limits.connections of a CONFIG",
    ),
    **dict.fromkeys(
        (
            *("--limit-request-line", "--limit-request-fields", "--limit-request-field_size"),
            "--h11-max-incomplete-event-size",
        ),
        "limits of a CONFIG",
    ),
    **dict.fromkeys(("--config", "-c"), "CONFIG, a file of the gateway's own"),
    **dict.fromkeys(
        (
            *("--log-config", "--log-file", "--error-logfile", "--log-syslog", "--capture-output"),
            *("--use-colors", "--no-use-colors"),
        ),
        "nothing: events go to standard error, coloured on a terminal; applications may set up logging",
    ),
    **dict.fromkeys(("--http", "--ws", "--runtime-mode"), "nothing: there is one of each"),
    **dict.fromkeys(
        ("--header", "--no-server-header", "--server-header"), "headers of a route or a backend, in a CONFIG"
    ),
    **dict.fromkeys(
        ("--ws-ping-interval", "--ws-ping-timeout", "--ws-per-message-deflate"),
        "websocket of a backend, in a CONFIG",
    ),
    **dict.fromkeys(
        ("--ssl-ca-certs", "--ca-certs", "--ssl-cert-reqs", "--cert-reqs", "--ssl-ciphers", "--ciphers"),
        "tls of a listener, in a CONFIG",
    ),
    **dict.fromkeys(
        ("--ssl-keyfile-password", "--keyfile-password"),
        "nothing: a key has no password (openssl pkey -in KEY -out KEY writes one without)",
    ),
    **dict.fromkeys(
        ("--user", "--group", "--daemon", "--pid", "--pid-file", "--name"),
        "the service manager's: User= of systemd",
    ),
    **dict.fromkeys(("--access-logformat", "--access-log-fmt"), "access_log of a CONFIG: {format: combined}"),
    **dict.fromkeys(("--check-config", "--print-config"), "gateway check CONFIG"),
    **dict.fromkeys(("--statsd-host", "--metrics"), "metrics of a CONFIG, for Prometheus"),
    "--umask": "mode of a listener, in a CONFIG",
    "--reuse-port": "not needed: all workers accept on one socket",
    "--backlog": "backlog of a listener, in a CONFIG",
    "--preload": "not needed: each worker loads the application",
    "--timeout": "process.timeout, or stuck_after, of a backend in a CONFIG",
    "--ws-max-size": "websocket.max_message of a backend, in a CONFIG",
}
"""Those that are no options here."""


@main.command(
    cls=SectionedCommand,
    foreign=FOREIGN | FOREIGN_SETTINGS,
    short_help="Run the daemon, with a CONFIG or without.",
)
@click.argument("config", required=False, metavar="[CONFIG]")
@_what("--asgi", metavar="MODULE:APP", help="Run an ASGI application.")
@_what("--wsgi", metavar="MODULE:APP", help="Run a WSGI application.")
@_what("--cgi", metavar="PATH", help="Run the CGI programs of a directory, or one program.")
@_what("--fastcgi", metavar="ADDRESS", help="Pass requests to a FastCGI application.")
@_what("--uwsgi", metavar="ADDRESS", help="Pass requests to a uwsgi application.")
@_what("--scgi", metavar="ADDRESS", help="Pass requests to an SCGI application.")
@_what("--ajp", metavar="ADDRESS", help="Pass requests to a servlet container.")
@_what("--proxy", metavar="URL", help="Pass requests to a web server.")
@_what("--static", metavar="DIRECTORY", help="Serve files.")
@_how(
    "--listen",
    metavar="ADDRESS",
    multiple=True,
    help=f"Where to accept clients (may be repeated)  [default: {DEFAULT_LISTEN}]",
)
@_how("--factory", is_flag=True, default=None, help="APP is a function that makes the application.")
@_how("--directory", metavar="DIRECTORY", help="Where modules are imported from  [default: .]")
@_how("--loop", metavar="LOOP", help="The event loop of an ASGI application: asyncio or trio.")
@_how("--lifespan", metavar="MODE", help="Whether an ASGI application is told of its start: auto, on, off.")
@_how("--threads", type=int, metavar="N", help="Requests of a WSGI application at a time  [default: 8]")
@_how("--mount", metavar="PATH", help="The path that it is below: SCRIPT_NAME, root_path.")
@_how("--env-file", metavar="FILE", help="Set variables of the environment that are not set.")
@_how("--tls-certificate", metavar="FILE", help="Serve HTTPS, with this certificate (PEM).")
@_how("--tls-key", metavar="FILE", help="Its private key.")
@_how(
    "--trusted-proxies",
    metavar="NETWORKS",
    multiple=True,
    help="Who may say who the client is (X-Forwarded-For): 127.0.0.1,10.0.0.0/8,unix.",
)
@_how("--access-log", metavar="FILE", help="Where requests are logged: stderr, stdout or a file.")
@_how("--no-access-log", is_flag=True, default=None, help="Do not log requests.")
@_how("--control", metavar="ADDRESS", help="The socket of gateway status, reload and stop: unix:/path.")
@_how("--debug", is_flag=True, default=None, help="For development: error pages tell everything.")
@_processes("--workers", metavar="N", help="How many processes serve; auto: one for each core.")
@_processes(
    "--reload", is_flag=True, help="For development: start anew when code, templates or CONFIG change."
)
@_processes(
    "--reload-dir",
    metavar="DIRECTORY",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Look there instead of where the applications are (may be repeated).",
)
@_processes(
    "--reload-include",
    metavar="PATTERN",
    multiple=True,
    help="Look at files of such names, too (may be repeated).",
)
@_processes(
    "--reload-exclude", metavar="PATTERN", multiple=True, help="Do not look at such files or directories."
)
def serve(
    config: str | None,
    workers: str | None,
    reload: bool,
    reload_dir: tuple[Path, ...],
    reload_include: tuple[str, ...],
    reload_exclude: tuple[str, ...],
    **options: Any,
) -> None:
    """Run the daemon: with a configuration file, or for one application without a file.

    \b
    gateway serve gateway.yaml
    gateway serve --asgi main:app --reload
    gateway serve --wsgi mysite.wsgi:application --listen :8080 --workers 4
    gateway serve --fastcgi unix:/run/app.sock --listen unix:/run/gateway.sock
    gateway serve --static public

    An ADDRESS is 127.0.0.1:9000, [::1]:9000 or unix:/run/app.sock; to listen on, also :8000 (every
    interface) and fd:3 (inherited). SIGINT, SIGTERM and SIGQUIT let running requests finish, then
    stop; SIGHUP reloads, unless it comes from a terminal that closes: with a control socket, several workers
    or --reload.
    """  # noqa: D301 - click reads \b
    leave_process_one()
    outlive_log_signals()
    open_standard_files()
    given = {name: value for name, value in options.items() if value not in (None, ())}
    count = None if workers is None else _workers(workers)
    if not reload and (reload_dir or reload_include or reload_exclude):
        raise click.UsageError("--reload-dir, --reload-include and --reload-exclude are for --reload.")
    if config is not None and re.fullmatch(APPLICATION, config) and not Path(config).exists():
        raise click.UsageError(f"There is no file {config}: expected --asgi or --wsgi before an application.")
    if config is not None and config.endswith(".py"):
        path = Path(config)
        where = "" if path.parent == Path() else f" --directory {path.parent}"
        raise click.UsageError(
            f"{config} is Python, no CONFIG: expected --asgi or --wsgi, as in --asgi {path.stem}:app{where}."
        )
    if config is not None and given:
        first = next(iter(given)).replace("_", "-")
        raise click.UsageError(f"--{first} is for running without a file: put it into {config}.")
    reader = Reader(config, None if config is not None else _settings(given))
    with loading():
        import_structlog()
        document, loaded = _load(reader)
        # Who can be asked to reload has a supervisor, for somebody has to take over.
        alone = not reload and (count or loaded.workers) == 1 and loaded.control is None
        if alone:
            from gateway.daemon import serve as run
            from gateway.shutdown.exit import leave
        else:
            from gateway.supervisor.serve import serve as supervise
            from gateway.supervisor.watch import Watched
    if alone:
        leave(run(loaded.model_copy(update={"workers": 1})), patience=loaded.timeouts.shutdown)
    watched = Watched(reader.files, reload_dir, reload_include, reload_exclude) if reload else None
    sys.exit(supervise(document, loaded, reader.read, workers=count, watched=watched))


def _workers(text: str) -> int:
    from gateway.config.values.numbers import parse_workers

    try:
        return parse_workers(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise click.UsageError(f"--workers: {error}.") from None


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """The options by the names and with the values of the keys that they stand for."""
    if "access_log" in given and "no_access_log" in given:
        raise click.UsageError("--access-log and --no-access-log exclude each other.")
    if given.pop("no_access_log", False):
        given["access_log"] = False
    elif "access_log" in given:
        given["access_log"] = {"destination": given["access_log"]}
    if "trusted_proxies" in given:
        given["trusted_proxies"] = [each for words in given["trusted_proxies"] for each in words.split(",")]
    return given


def _load(reader: "Reader") -> "tuple[Document, Config]":
    from gateway.cli.options import UsageError, in_words
    from gateway.config import ConfigError

    try:
        document = reader.read()
        return document, document.load()
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    except ConfigError as error:
        if reader.config is not None:
            _refuse(error, WRONG_USAGE)
        for words in in_words(error.mistakes, reader.given or {}):
            click.echo(words, err=True)
        sys.exit(WRONG_USAGE)


@main.command()
@click.argument("config")
def check(config: str) -> None:
    """Find all mistakes in a configuration file.

    Each is one line: file, line, place in the file, what is wrong. Exit status 1 if there are any.

    Nothing is started: applications are not imported, and programs and servers not looked for.
    """
    from gateway.config import ConfigError, load

    try:
        loaded = load(config)
    except ConfigError as error:
        _refuse(error, 1)
    counts = (
        _count(len(loaded.listeners), "listener"),
        _count(len(loaded.backends), "backend"),
        _count(len(loaded.routes), "route"),
    )
    click.echo(f"{config}: ok ({', '.join(counts)})")


_WHERE: Final = "The control socket, unix:/path; without it, the CONFIG's `control`."


@main.command(short_help="Show what a running daemon is doing.")
@click.argument("config", required=False, metavar="[CONFIG]")
@click.option("--control", metavar="ADDRESS", help=_WHERE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def status(config: str | None, control: str | None, as_json: bool) -> None:
    """Show what a running daemon is doing: its backends, their servers and whether they are up.

    \b
    gateway status gateway.yaml
    gateway status --control unix:/run/gateway/control.sock
    """  # noqa: D301 - click reads \b
    from gateway.control import client
    from gateway.control.table import show

    path = _control_path(config, control)
    try:
        described = client.status(path)
    except client.ControlError as error:
        _fail(error)
    if as_json:
        click.echo(json.dumps(described, indent=2))
    else:
        show(described)


@main.command(short_help="Let it read its configuration and load the code again.")
@click.argument("config", required=False, metavar="[CONFIG]")
@click.option("--control", metavar="ADDRESS", help=_WHERE)
def reload(config: str | None, control: str | None) -> None:
    """Let a running daemon read its configuration and load its applications again.

    New workers are started, and serve before the old ones finish their requests and end: no connection is
    refused. If something is wrong the old ones serve on, and this says why.

    \b
    gateway reload gateway.yaml
    gateway reload --control unix:/run/gateway/control.sock
    """  # noqa: D301 - click reads \b
    from gateway.control import client

    path = _control_path(config, control)
    try:
        reasons, status = client.reload(path)
    except client.ControlError as error:
        _fail(error)
    for reason in reasons:
        click.echo(f"gateway: {reason}", err=True)
    sys.exit(status)


@main.command()
@click.argument("config", required=False, metavar="[CONFIG]")
@click.option("--control", metavar="ADDRESS", help=_WHERE)
def stop(config: str | None, control: str | None) -> None:
    """Let a running daemon finish its requests and stop."""
    from gateway.control import client

    path = _control_path(config, control)
    try:
        client.stop(path)
    except client.ControlError as error:
        _fail(error)


def _control_path(config: str | None, control: str | None) -> Path:
    from gateway.config import ConfigError, load

    if (config is None) == (control is None):
        raise click.UsageError("Expected a CONFIG, or --control unix:/path.")
    if control is not None:
        if not control.startswith("unix:"):
            raise click.UsageError(f"--control: expected unix:/path, got {control!r}.")
        return Path(control.removeprefix("unix:"))
    assert config is not None
    try:
        loaded = load(config)
    except ConfigError as error:
        click.echo(
            "gateway: the file is read for its `control` only: --control unix:/path does without", err=True
        )
        _refuse(error, WRONG_USAGE)
    if loaded.control is None:
        raise click.UsageError(f"{config} has no control socket: put `control: unix:/path` into it.")
    return Path(loaded.control.path)


def _fail(error: Exception | str) -> NoReturn:
    click.echo(f"gateway: {error}", err=True)
    sys.exit(1)


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors.

    \b
    gateway schema > gateway.schema.json

    Then begin the configuration with "# yaml-language-server: $schema=gateway.schema.json".
    """  # noqa: D301 - click reads \b
    from gateway.config import schema as make

    click.echo(json.dumps(make(), indent=2, ensure_ascii=False))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _refuse(error: "ConfigError", status: int) -> NoReturn:
    for mistake in error.mistakes:
        click.echo(str(mistake), err=True)
    if len(error.mistakes) > 1:
        click.echo(_count(len(error.mistakes), "mistake"), err=True)
    sys.exit(status)
