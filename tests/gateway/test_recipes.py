"""The recipes of docs/recipes.md do what they say."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gateway.served import Response, gateway_of, response, run

RECIPES = (Path(__file__).parents[2] / "docs/recipes.md").read_text()


def recipe(title: str, directory: Path) -> dict[str, Any]:
    """The configuration below the heading *title*; its Python files are put into *directory*."""
    text = RECIPES.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    for name, code in re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        (directory / f"recipe_{name}.py").write_text(code)
    (configuration,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(configuration)
    app = directory / "app"
    app.write_text(
        '#!/bin/sh\necho "Content-Type: text/plain"\necho\nprintf %s "$REQUEST_URI $HTTP_REMOTE_USER"\n'
    )
    app.chmod(0o755)
    for name, backend in found["backends"].items():
        if "http" in backend:
            found["backends"][name] = {"cgi": str(app)}
        else:
            backend.update(wsgi=f"recipe_{backend['wsgi']}", directory=str(directory))
    return {"backends": found["backends"], "routes": found["routes"]}


def asked(
    configuration: dict[str, Any], *targets: str, method: str = "GET", fields: str = ""
) -> list[Response]:
    answers: list[Response] = []

    async def main() -> None:
        async with gateway_of(configuration) as served:
            for target in targets:
                head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
                answers.append(response(await served.ask(head.encode()), method))

    run(main, seconds=30)
    return answers


def test_single_page_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dist/assets").mkdir(parents=True)
    (tmp_path / "dist/index.html").write_text("page")
    (tmp_path / "dist/assets/a.js").write_text("script")
    monkeypatch.chdir(tmp_path)
    configuration = recipe("A single-page application and its API", tmp_path)
    page, deep, script, gone, api = asked(
        configuration, "/", "/users/3", "/assets/a.js", "/assets/b.js", "/api/x?y"
    )
    assert (page.status, page.body) == (deep.status, deep.body) == (200, b"page")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert (script.body, script.headers["cache-control"]) == (
        b"script",
        "public, max-age=31536000, immutable",
    )
    assert gone.status == 404
    assert api.body == b"/api/x?y "


def test_lets_encrypt(tmp_path: Path) -> None:
    """By http certbot's answers are found, and everything else is sent to https."""
    challenge = tmp_path / "acme/.well-known/acme-challenge/token"
    challenge.parent.mkdir(parents=True)
    challenge.write_text("proof")
    configuration = recipe("Certificates of Let's Encrypt", tmp_path)
    configuration["routes"][0]["static"] = str(tmp_path / "acme")
    proof, gone, other = asked(
        configuration, "/.well-known/acme-challenge/token", "/.well-known/acme-challenge/x", "/x?y"
    )
    assert (proof.status, proof.body, gone.status) == (200, b"proof", 404)
    assert (other.status, other.headers["location"]) == (308, "https://a/x?y")


def test_passwords(tmp_path: Path) -> None:
    configuration = recipe("Passwords for a path", tmp_path)

    def credentials(text: str) -> str:
        return f"Authorization: Basic {base64.b64encode(text.encode()).decode()}\r\nRemote-User: root\r\n"

    (stranger,) = asked(configuration, "/admin/x")
    assert (stranger.status, stranger.headers["www-authenticate"]) == (401, 'Basic realm="admin"')
    for wrong in ("ann:wrong", "bob:", "bob:secret", "ann", "\xff"):
        assert asked(configuration, "/admin/x", fields=credentials(wrong))[0].status == 401
    ann, other = asked(configuration, "/admin/x", "/x", fields=credentials("ann:secret"))
    assert (ann.body, other.body) == (b"/admin/x ann", b"/x ")


def test_cors(tmp_path: Path) -> None:
    configuration = recipe("CORS", tmp_path)
    origin = "https://app.example.com"
    preflight = "Origin: https://app.example.com\r\nAccess-Control-Request-Method: PUT\r\n"
    (before,) = asked(configuration, "/api/x", method="OPTIONS", fields=preflight)
    assert (before.status, before.headers["access-control-allow-origin"]) == (204, origin)
    (answer,) = asked(configuration, "/api/x")
    assert (answer.body, answer.headers["access-control-allow-origin"]) == (b"/api/x ", origin)


def test_old_urls(tmp_path: Path) -> None:
    configuration = recipe("Old URLs", tmp_path)
    found = asked(configuration, "/blog/a/b?c", "/2001/02/hello/", "/2001/02")
    assert [each.headers.get("location") for each in found] == ["/news/a/b?c", "/posts/hello", None]


def test_maintenance(tmp_path: Path) -> None:
    configuration = recipe("A page for maintenance", tmp_path)
    (answer,) = asked(configuration, "/x")
    assert (answer.status, answer.headers["retry-after"]) == (503, "3600")
    assert b"body {font: 1.2em" in answer.body
