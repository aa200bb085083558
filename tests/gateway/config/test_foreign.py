"""Keys of other programs are told by what they are here."""

# ruff: noqa: E501 - one row is one case

import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import gateway.config
from gateway.config import foreign, load_text
from gateway.config.backends.kinds import KINDS
from gateway.config.base import Model
from gateway.config.loading import ConfigError


def models() -> dict[str, type[Model]]:
    for module in walk_packages(gateway.config.__path__, "gateway.config."):
        import_module(module.name)
    found: dict[str, type[Model]] = {}
    below = [Model]
    while below:
        model = below.pop()
        found[model.__name__] = model
        below += model.__subclasses__()
    return found


def test_names_are_of_models_and_no_keys_of_them() -> None:
    known = models()
    assert known.keys() >= foreign.HERE.keys() | foreign.FORMS.keys()
    for model, table in foreign.HERE.items():
        names = " ".join(table).split()
        assert len(set(names)) == len(names), model
        assert set(names).isdisjoint(known[model].keys()), model
    assert not set(" ".join(foreign.BACKENDS).split()) & KINDS.keys()


def test_forms_are_right() -> None:
    """Each is what its model takes."""
    text = (
        "listeners: [%(Listener)s]\ntimeouts: %(ClientTimeouts)s\nlimits: %(ClientLimits)s\n"
        "backends:\n  app: {http: 'http://a', timeouts: %(Timeouts)s, retry: %(Retry)s, health: %(Health)s, "
        "pool: %(Pool)s}\n  auth: {wsgi: 'a:b'}\n"
        "routes:\n  - %(Route)s\n  - {match: %(Match)s, redirect: %(Redirect)s}\n"
        "  - {respond: %(Respond)s, headers: %(HeaderRules)s}\n"
        "  - {backend: app, forward_auth: %(ForwardAuth)s, headers: {request: %(HeaderChanges)s}}\n"
    )
    assert len(load_text(text % foreign.FORMS, "gateway.yaml", Path(__file__).parent).routes) == 4


@pytest.mark.parametrize(
    ("model", "backends"),
    [
        ("Balanced", ["http: 'http://a'", "ajp: 'a:1'", "fastcgi: 'a:1'", "scgi: 'a:1'", "uwsgi: 'a:1'"]),
        ("HTTPBackend", ["http: 'http://a'"]),
        ("AJPBackend", ["ajp: 'a:1'"]),
        ("FastCGIBackend", ["fastcgi: 'a:1'"]),
        ("PythonApplication", ["wsgi: 'a:b'", "asgi: 'a:b'"]),
    ],
)
def test_settings_that_are_told_are_right(model: str, backends: list[str]) -> None:
    """Whatever kind of backend the key is in."""
    settings = [ours for ours in foreign.HERE[model].values() if re.fullmatch(r"\w+: (\{.*\}|true)", ours)]
    assert settings
    for setting in settings:
        for backend in backends:
            text = f"listeners: [{{http: ':8000'}}]\nbackends: {{a: {{{backend}, {setting}}}}}\n"
            load_text(f"{text}routes: [{{backend: a}}]\n", "gateway.yaml", Path.cwd())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server_name: a", "server_name: unknown key; here it is match: {host: …} of a route"),
        ("gzip: on", "gzip: unknown key; nothing compresses here: the application does, or a web server in front"),
        ("backends: {a: {wsgi: 'a:b', venv: x}}", "backends.a.venv: unknown key; here it is virtualenv"),
        ("backends: {a: {asgi: 'a:b', root_path: /x}}", "backends.a.root_path: unknown key; here it is mount of the route"),
        ("backends: {a: {scgi: {spawn: {wsgi: 'a:b', workers: 2}}}}", "backends.a.scgi.spawn.workers: unknown key; here it is processes"),
        ("backends: {a: {scgi: 'a:1', timeout: 5s}}", "backends.a.timeout: unknown key; here it is timeouts: {first_byte: 60s, read: 60s}"),
        ("backends: {a: {proxy_pass: 'http://a'}}", "backends.a: expected a kind of backend (cgi, fastcgi, scgi, uwsgi, ajp, http, asgi or wsgi); here proxy_pass is http"),
        ("cron: x", "cron: unknown key; nothing runs jobs here: cron does, or a timer of systemd"),
        ("root: /srv", "root: unknown key; here it is static: DIRECTORY of a route"),
        ("backends: {a: {uwsgi: {spawn: {wsgi: 'a:b', touch-reload: x}}}}", "backends.a.uwsgi.spawn.touch-reload: unknown key; here it is gateway reload"),
        ("routes: [{static: /srv, autoindex: true}]", "routes[0].autoindex: unknown key; nothing lists directories here"),
        ("routes: [{static: /srv, satisfy: any}]", "routes[0].satisfy: unknown key; here it is forward_auth, which asks an application (docs/recipes.md)"),
        ("routes: [{match: {path: '~*a'}, respond: {}}]", "routes[0].match.path: '~*a' is not a regular expression: nothing to repeat at position 0; regardless of case is '~(?i)'"),
        ("routes: [{path: /x, respond: {}}]", "routes[0].path: unknown key; here it is a key of match"),
        ("routes: [{match: /x, respond: {}}]", "routes[0].match: expected a mapping such as {path: /x/*}, got '/x'"),
        ("routes: [{redirect: /x}]", "routes[0].redirect: expected a mapping such as {to: /new}, got '/x'"),
    ],
)  # fmt: skip
def test_tells_what_it_is_here(text: str, message: str) -> None:
    listeners, routes = "listeners: [{http: ':8000'}]\n", "routes: [{respond: {}}]\n"
    with pytest.raises(ConfigError) as caught:
        load_text(f"{listeners}{'' if 'routes' in text else routes}{text}", "gateway.yaml", Path.cwd())
    (mistake,) = caught.value.mistakes
    assert f"{mistake.path}: {mistake.message}" == message
