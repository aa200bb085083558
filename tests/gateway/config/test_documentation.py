"""docs/configuration.md says about every setting what its model says; the README's example is right."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

import gateway.config as models
from gateway.config import actions, balancing, confined, listener_tls, load, rewriting, server_tls, spawn
from gateway.config.backends import ajp, application, cgi, common, http, process, python
from gateway.config.base import Model
from gateway.config.descriptions import descriptions
from gateway.config.filters import (
    Buffering,
    ForwardAuth,
    HeaderChanges,
    HeaderRules,
    Mirror,
    RequestBuffering,
)
from tests.gateway.tls.secured import certificate

CHECKOUT = Path(__file__).parents[3]
DOCUMENT = CHECKOUT / "docs/configuration.md"

SECTIONS: dict[str, type[Model]] = {
    "Top level": models.Config,
    "listeners": models.Listener,
    "tls": listener_tls.Tls,
    "certificates": listener_tls.Certificate,
    "hsts": listener_tls.Hsts,
    "access_log": models.AccessLog,
    "timeouts (clients)": models.ClientTimeouts,
    "limits": models.ClientLimits,
    "all backends": common.BackendModel,
    "request bodies": common.WithLength,
    "variables": common.CGIFamily,
    "backends with servers": balancing.Balanced,
    "cgi": cgi.CGIBackend,
    "user, group": confined.Confined,
    "limits (programs)": confined.ProcessLimits,
    "transcript": cgi.Transcript,
    "fastcgi": application.FastCGIBackend,
    "multiplex": application.Multiplex,
    "scgi": application.SCGIBackend,
    "uwsgi": application.UWSGIBackend,
    "ajp": ajp.AJPBackend,
    "http": http.HTTPBackend,
    "Python applications": python.PythonApplication,
    "wsgi": python.WSGIBackend,
    "asgi": python.ASGIBackend,
    "websocket": python.WebSocket,
    "process": process.OwnProcess,
    "servers": balancing.Server,
    "servers of http": balancing.HTTPServer,
    "balance": balancing.Hash,
    "sticky": balancing.Sticky,
    "rewrite_location": rewriting.LocationRule,
    "cookies": rewriting.Cookies,
    "tls (backends)": server_tls.ServerTls,
    "timeouts (backends)": balancing.Timeouts,
    "pool": balancing.Pool,
    "retry": balancing.Retry,
    "health": balancing.Health,
    "check": balancing.Check,
    "spawn": spawn.SpawnedApp,
    "supervised processes": spawn.Supervised,
    "processes": spawn.SpawnedProcesses,
    "give_up": spawn.GiveUp,
    "routes": models.Route,
    "match": models.Match,
    "static": actions.Static,
    "redirect": actions.Redirect,
    "respond": actions.Respond,
    "connect": actions.Connect,
    "headers": HeaderRules,
    "set, add, default, remove": HeaderChanges,
    "forward_auth": ForwardAuth,
    "mirror": Mirror,
    "buffering": Buffering,
    "request_buffering": RequestBuffering,
}
"""Headings of the document, and the model whose settings stand below each.

Settings that several models inherit stand once, below the heading of the model that they are from.
"""

HEADINGS = {model: heading for heading, model in SECTIONS.items()}


def inherited(model: type[Model]) -> list[str]:
    """The other headings below which settings of *model* stand."""
    return [HEADINGS[ancestor] for ancestor in model.__mro__[1:] if ancestor in HEADINGS]


def home(model: type[Model], name: str) -> str:
    """The heading below which the setting *name* of *model* stands."""
    origin = next(each for each in model.__mro__ if name in inspect.get_annotations(each))
    return HEADINGS.get(origin, HEADINGS[model])


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, Model) or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"


def row(key: str, field: FieldInfo, description: str) -> str:
    """The line of the table for one setting."""
    return f"| `{key}` | {default(field)} | {' '.join(description.split())} |"


def rows() -> Iterator[tuple[str, str]]:
    for heading, model in SECTIONS.items():
        described = descriptions(model)
        for name, field in model.model_fields.items():
            if home(model, name) == heading:
                yield heading, row(field.alias or name, field, described[name])


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    text = DOCUMENT.read_text()
    _, found, rest = text.partition(f"\n### {heading}\n")
    assert found, f"there is no heading {heading!r}"
    return rest.partition("\n#")[0]


@pytest.mark.parametrize(("heading", "line"), list(rows()))
def test_setting_is_documented(heading: str, line: str) -> None:
    assert line in section(heading).splitlines()


def links() -> Iterator[tuple[str, str]]:
    for heading, model in SECTIONS.items():
        if not model.__subclasses__():
            for other in inherited(model):
                yield heading, re.sub(r"[^a-z -]", "", other.lower()).replace(" ", "-")


@pytest.mark.parametrize(("heading", "anchor"), list(links()))
def test_section_leads_to_inherited_settings(heading: str, anchor: str) -> None:
    assert f"(#{anchor})" in section(heading)


def every(model: type[Model]) -> Iterator[type[Model]]:
    for kind in model.__subclasses__():
        # Tests have models of their own.
        if kind.__module__.startswith("gateway."):
            yield kind
        yield from every(kind)


def test_every_model_has_a_section() -> None:
    found = {model for model in every(Model) if model.model_fields}
    # These are parts of others: what they add is in the sections of those.
    assert {model.__name__ for model in found - set(SECTIONS.values())} <= {
        "Spawn", "_SocketBackend", "Connections", "FastCGIPool",
    }  # fmt: skip


RECIPES = (CHECKOUT / "docs/recipes.md").read_text()


@pytest.mark.parametrize("recipe", re.findall(r"^```yaml\n(.*?)^```$", RECIPES, re.MULTILINE | re.DOTALL))
def test_recipe_loads(tmp_path: Path, recipe: str) -> None:
    for directory in ("static", "media", "dist", "srv/www"):
        (tmp_path / directory).mkdir(parents=True)
    if "/etc/letsencrypt" in recipe:
        ours = certificate(tmp_path, "example.com")
        recipe = re.sub(r"/\S+/fullchain\.pem", str(ours.certificate), recipe)
        recipe = re.sub(r"/\S+/privkey\.pem", str(ours.key), recipe)
    file = tmp_path / "gateway.yaml"
    file.write_text(recipe.replace("/srv/www", "srv/www").replace("/var/www/acme", "srv/www"))
    assert load(str(file)).routes


def test_example_of_the_readme(tmp_path: Path) -> None:
    (example,) = re.findall(
        r"^```yaml\n(.*?)^```$", (CHECKOUT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for directory in ("api", "admin", "public", "cgi-bin"):
        (tmp_path / directory).mkdir()
    file = tmp_path / "gateway.yaml"
    file.write_text(example.replace("/usr/lib/cgi-bin", "cgi-bin"))
    assert len(load(str(file)).backends) == 8
