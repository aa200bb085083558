"""docs/migrating.md: its configurations load, and each setting that it names can be written somewhere."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.commands import main
from gateway.config import ConfigError, from_mapping, load

CHECKOUT = Path(__file__).parents[3]
TEXT = (CHECKOUT / "docs/migrating.md").read_text()
SETTINGS = set(re.findall(r"^\| `(\w+)` \|", (CHECKOUT / "docs/configuration.md").read_text(), re.MULTILINE))

WEB = {"http": "http://127.0.0.1:1"}
BACKENDS: list[dict[str, Any]] = [
    WEB,
    {"fastcgi": "127.0.0.1:1"},
    {"scgi": "127.0.0.1:1"},
    {"uwsgi": "127.0.0.1:1"},
    {"ajp": "127.0.0.1:1"},
    {"cgi": "/usr/lib/cgi-bin"},
    {"wsgi": "app:app"},
    {"asgi": "app:app"},
]
PLACES: list[dict[str, Any]] = [
    # Where a setting may be: in the place of `here`.
    {"here": None},
    {"listeners": [{"http": "127.0.0.1:0", "here": None}]},
    {"listeners": [{"http": "127.0.0.1:0", "tls": {"development": True, "here": None}}]},
    *({"backends": {"app": {**backend, "here": None}}} for backend in BACKENDS),
    {"backends": {"app": {"http": {"spawn": {"command": ["true"], "here": None}}}}},
    {"backends": {"app": {"http": {"spawn": {"here": None}}}}},
    {"backends": {"app": {"uwsgi": [{"address": "127.0.0.1:1", "here": None}]}}},
    {"routes": [{"respond": {}, "here": None}]},
    {"routes": [{"here": None}]},
    {"routes": [{"backend": "NAME", "here": None}]},
]
NAMED = dict.fromkeys(("NAME", "auth", "blue", "green"), WEB)
"""Backends that settings of routes name."""


def put(place: Any, setting: dict[str, Any]) -> Any:
    if isinstance(place, list):
        return [put(item, setting) for item in place]
    if isinstance(place, dict):
        inner = {key: put(value, setting) for key, value in place.items() if key != "here"}
        return {**inner, **setting} if "here" in place else inner
    return place


@pytest.mark.parametrize("example", re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
def test_example_loads(tmp_path: Path, example: str) -> None:
    """With directories of the test in place of those below /, and a certificate of its own."""
    for name in (*re.findall(r"/((?:srv|usr)/[\w/-]+)", example), "srv/shop/venv/bin"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "srv/shop/venv/bin/python").touch(0o755)
    example = re.sub(r"/((?:srv|usr)/)", r"\1", example)
    example = example.replace("certificate: cert.pem, key: key.pem", "development: true")
    (tmp_path / "gateway.yaml").write_text(example)
    assert load(str(tmp_path / "gateway.yaml")).routes


def settings() -> Iterator[str]:
    """What stands as code in the right column of the tables."""
    for line in TEXT.splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        if line.startswith("|") and cells[2].strip() not in ("here", "---"):
            yield from re.findall(r"`([^`]+)`", cells[2])


NOT_OURS = {"alias", "Alias", "Forwarded", "$proxy_host", "proxy_pass"}


@pytest.mark.parametrize("text", sorted(set(settings()) - NOT_OURS))
def test_setting_can_be_written(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if text.startswith(("--", "gateway ")):
        (tmp_path / "src").mkdir()
        monkeypatch.chdir(tmp_path)
        assert_is_understood(text)
        return
    setting = json.loads(json.dumps(yaml.safe_load(text)))  # names are text: 404
    if isinstance(setting, str):
        assert setting in SETTINGS | {"spawn"}
    else:
        assert any(has_place(put(place, setting), tmp_path) for place in PLACES)


def assert_is_understood(text: str) -> None:
    """Options are known, and have values of their types; commands are understood as a whole."""
    words = shlex.split(text)
    name, arguments = (words[1], words[2:]) if words[0] == "gateway" else ("serve", words)
    command = main.commands[name]
    parameters = command.make_context(name, arguments).params
    assert any(value not in (None, (), False) for value in parameters.values())


def has_place(part: dict[str, Any], directory: Path) -> bool:
    """Whether it is known there and has such values: what else it needs, and files, may be missing."""
    config = {"listeners": [{"http": "127.0.0.1:0"}], "routes": [{"backend": "NAME"}], **part}
    config["backends"] = NAMED | part.get("backends", {})
    try:
        from_mapping(config, "gateway.yaml", directory)
    except ConfigError as error:
        return not re.search("unknown key|, got ", str(error))
    return True
