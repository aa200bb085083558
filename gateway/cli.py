"""The commands.

Exit status: 0 done, 1 it failed, 2 wrong usage or configuration. Errors go to standard error, one
readable message each, never a traceback for a user's mistake.

The daemon and the configuration are imported by the commands that need them, so that the others and
the completion of a shell answer at once.
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from gateway import __version__

if TYPE_CHECKING:
    from gateway.config import Config, ConfigError

WRONG_USAGE: Final = 2

_SPEC: Final = find_spec("gateway.request")
_BUILD: Final = "" if _SPEC is None or (_SPEC.origin or "").endswith(".py") else " (compiled)"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", message=f"gateway %(version)s{_BUILD}")
def main() -> None:
    """One daemon in front of CGI, FastCGI, SCGI, uwsgi, AJP, HTTP, WSGI and ASGI programs.

    \b
    gateway serve gateway.yaml          run what the file says
    gateway serve --wsgi app:app        run one application, without a file
    gateway check gateway.yaml          find all mistakes in the file
    gateway status gateway.yaml         see how a running daemon and its backends are
    """  # noqa: D301 - click reads \b


# The options of `serve` that stand for a backend or an action, with the key of the configuration.
_ACTIONS: Final = {
    "asgi": "asgi", "wsgi": "wsgi", "cgi": "cgi", "fastcgi": "fastcgi", "uwsgi": "uwsgi", "scgi": "scgi",
    "ajp": "ajp", "proxy": "http", "static": "static",
}  # fmt: skip


@main.command()
@click.argument("config", required=False, metavar="[CONFIG]")
@click.option("--asgi", metavar="MODULE:APP", help="Run an ASGI application.")
@click.option("--wsgi", metavar="MODULE:APP", help="Run a WSGI application.")
@click.option("--cgi", metavar="PATH", help="Run the CGI programs of a directory, or one program.")
@click.option("--fastcgi", metavar="ADDRESS", help="Pass requests to a FastCGI application.")
@click.option("--uwsgi", metavar="ADDRESS", help="Pass requests to a uwsgi application.")
@click.option("--scgi", metavar="ADDRESS", help="Pass requests to an SCGI application.")
@click.option("--ajp", metavar="ADDRESS", help="Pass requests to a servlet container.")
@click.option("--proxy", metavar="URL", help="Pass requests to a web server.")
@click.option("--static", metavar="DIRECTORY", help="Serve files.")
@click.option(
    "--listen",
    metavar="ADDRESS",
    multiple=True,
    help="Where to accept clients (may be repeated)  [default: 127.0.0.1:8000]",
)
def serve(config: str | None, listen: tuple[str, ...], **actions: str | None) -> None:
    """Run the daemon: with a configuration file, or for one application without a file.

    \b
    gateway serve gateway.yaml
    gateway serve --asgi main:app
    gateway serve --wsgi mysite.wsgi:application --listen :8080
    gateway serve --fastcgi unix:/run/app.sock --listen unix:/run/gateway.sock
    gateway serve --static public

    An ADDRESS is 127.0.0.1:9000, [::1]:9000 or unix:/run/app.sock; to listen on, also :8000 (every
    interface) and fd:3 (inherited). Modules are imported from the current directory. SIGINT and
    SIGTERM let running requests finish, then stop.
    """  # noqa: D301 - click reads \b
    given = {name: value for name, value in actions.items() if value is not None}
    loaded = _load_file(config, listen, given) if config is not None else _from_options(listen, given)
    from gateway.daemon import serve as run
    from gateway.leaving import leave

    leave(run(loaded), patience=loaded.timeouts.shutdown)


def _load_file(path: str, listen: tuple[str, ...], actions: dict[str, str]) -> "Config":
    from gateway.config import ConfigError, load

    if listen or actions:
        option = "listen" if listen else next(iter(actions))
        raise click.UsageError(f"--{option} is for running without a file: put it into {path}.")
    try:
        return load(path)
    except ConfigError as error:
        _refuse(error, WRONG_USAGE)


def _from_options(listen: tuple[str, ...], actions: dict[str, str]) -> "Config":
    from gateway.config import ConfigError, from_mapping

    if len(actions) != 1:
        options = ", ".join(f"--{name}" for name in _ACTIONS)
        got = " and ".join(f"--{name}" for name in actions) or "none"
        raise click.UsageError(f"Expected a CONFIG, or exactly one of {options}; got {got}.")
    ((name, value),) = actions.items()
    data: dict[str, Any] = {"listeners": [{"http": address} for address in listen or ("127.0.0.1:8000",)]}
    if name == "static":
        data["routes"] = [{"static": value}]
    else:
        data["backends"] = {"app": {_ACTIONS[name]: value}}
        data["routes"] = [{"backend": "app"}]
    try:
        return from_mapping(data, "", ".")
    except ConfigError as error:
        for mistake in error.mistakes:
            option = "listen" if mistake.path.startswith("listeners") else name
            click.echo(f"--{option}: {mistake.message}", err=True)
        sys.exit(WRONG_USAGE)


@main.command()
@click.argument("config")
def check(config: str) -> None:
    """Find all mistakes in a configuration file.

    Each is one line: file, line, place in the file, what is wrong. Exit status 1 if there are any.
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


@main.command()
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
    if (config is None) == (control is None):
        raise click.UsageError("Expected a CONFIG, or --control unix:/path.")
    if control is not None:
        if not control.startswith("unix:"):
            raise click.UsageError(f"--control: expected unix:/path, got {control!r}.")
        return Path(control.removeprefix("unix:"))
    assert config is not None
    loaded = _load_file(config, (), {})
    if loaded.control is None:
        raise click.UsageError(f"{config} has no control socket: put `control: unix:/path` into it.")
    return Path(loaded.control.path)


def _fail(error: Exception) -> NoReturn:
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
