"""What the options of `gateway serve` stand for in a configuration: plain data, as a file would have it.

Each is called after its key. Mistakes name the option in the place of the key.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # it takes long to load
    from gateway.config.document import Document
    from gateway.config.loading import Mistake

ACTIONS: Final = {
    "asgi": "asgi", "wsgi": "wsgi", "cgi": "cgi", "fastcgi": "fastcgi", "uwsgi": "uwsgi", "scgi": "scgi",
    "ajp": "ajp", "proxy": "http", "static": "static",
}  # fmt: skip
"""The options that stand for a backend or an action, with the key of the configuration."""

OF_BACKENDS: Final = {
    "factory": ("asgi", "wsgi"),
    "directory": ("asgi", "wsgi"),
    "loop": ("asgi",),
    "lifespan": ("asgi",),
    "threads": ("wsgi",),
}
"""The options that are keys of a backend, with those that have them."""

DEFAULT_LISTEN: Final = "127.0.0.1:8000"


class UsageError(Exception):
    """The options do not fit each other; the message says why."""


@dataclass
class Reader:
    """Makes the document: of a file, or of options. `read` may be called again when something has changed."""

    config: str | None = None
    """The path of a file."""
    given: Mapping[str, Any] | None = None
    """Options by their names, those that were given; without a file."""

    def __post_init__(self) -> None:
        self._from_env_file: set[str] = set()
        self._start = ""

    def read(self) -> "Document":
        """Raises ConfigError, UsageError."""
        from gateway.config.document import Document
        from gateway.config.loading import read_text

        if self.config is not None:
            text = read_text(self.config)
            return Document(self.config, self._directory(Path(self.config).parent), text=text)
        given = dict(self.given or {})
        if path := given.pop("env_file", None):
            self._take_environment(path)
        return Document("", self._directory(Path()), data=_data(given))

    def _directory(self, path: Path) -> str:
        """Where relative paths start: as it was at first, for the current directory may be removed since."""
        if not self._start:
            try:
                self._start = os.path.abspath(path)
            except FileNotFoundError:
                raise UsageError("The current directory has been removed.") from None
        return self._start

    @property
    def files(self) -> tuple[Path, ...]:
        """What `read` reads."""
        names = [self.config, (self.given or {}).get("env_file")]
        return tuple(Path(name) for name in names if name is not None)

    def _take_environment(self, path: str) -> None:
        """As the servers do that have this option: what is set already, stays."""
        from gateway.config.env_file import parse_env_file
        from gateway.config.loading import ConfigError, Mistake, read_text

        try:
            variables = parse_env_file(read_text(path))
        except ValueError as error:
            raise ConfigError([Mistake(path, None, "", str(error))]) from error
        for name, value in variables.items():
            if name not in os.environ or name in self._from_env_file:
                os.environ[name] = value
                self._from_env_file.add(name)


def _data(given: dict[str, Any]) -> dict[str, Any]:
    actions = [name for name in ACTIONS if name in given]
    if len(actions) != 1:
        options = ", ".join(f"--{name}" for name in ACTIONS)
        got = " and ".join(f"--{name}" for name in actions) or "none"
        raise UsageError(f"Expected a CONFIG, or exactly one of {options}; got {got}.")
    (action,) = actions
    for option, kinds in OF_BACKENDS.items():
        if option in given and action not in kinds:
            raise UsageError(f"--{option} is for {' and '.join(f'--{kind}' for kind in kinds)}.")
    if ("tls_certificate" in given) != ("tls_key" in given):
        raise UsageError("--tls-certificate and --tls-key go together.")
    route: dict[str, Any] = {}
    data: dict[str, Any] = {"listeners": _listeners(given), "routes": [route]}
    if action == "static":
        route["static"] = given[action]
    else:
        backend = {key: given[key] for key in OF_BACKENDS if key in given}
        data["backends"] = {"app": {ACTIONS[action]: given[action], **backend}}
        route["backend"] = "app"
    if "mount" in given:
        route["mount"] = given["mount"]
    for key in ("workers", "trusted_proxies", "access_log", "control", "debug"):
        if key in given:
            data[key] = given[key]
    return data


def _listeners(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    tls = {key: given[f"tls_{key}"] for key in ("certificate", "key") if f"tls_{key}" in given}
    secured = {"tls": tls} if tls else {}
    addresses: Sequence[str] = given.get("listen") or (DEFAULT_LISTEN,)
    return [{"http": address, **secured} for address in addresses]


def in_words(mistakes: "Iterable[Mistake]", given: Mapping[str, Any]) -> list[str]:
    """What is wrong with options, each by its name."""
    action = next(name for name in ACTIONS if name in given)
    return [f"{_option(mistake, action)}: {mistake.message}" for mistake in mistakes]


def _option(mistake: "Mistake", action: str) -> str:
    if mistake.file:
        return f"--env-file: {mistake.file}"
    place = re.sub(r"\[\d+\]", "", mistake.path)
    if place.startswith("listeners.tls"):
        return "--tls-key" if place.endswith(".key") else "--tls-certificate"
    if place.startswith("listeners"):
        return "--listen"
    key = place.rpartition(".")[2]
    if key in OF_BACKENDS or key == "mount":
        return f"--{key}"
    first = place.partition(".")[0]
    return f"--{first.replace('_', '-')}" if first not in ("backends", "routes") else f"--{action}"
