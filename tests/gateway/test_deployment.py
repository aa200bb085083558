"""The commands that Starlette, FastAPI and Django document for deployment, as docs/migrating.md has them."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.gateway.test_daemon import ROOT

FASTAPI = """
from fastapi import FastAPI, Request
app = FastAPI()

@app.get("/")
async def root(request: Request):
    return {"message": "Hello World", "client": request.client.host, "root": request.scope["root_path"]}
"""

STARLETTE = """
import os
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def homepage(request):
    found = {"message": "Hello World", "client": request.client.host, "root": request.scope["root_path"]}
    return JSONResponse({**found, "set": os.environ["GREETING"]})

def create_app():
    return Starlette(routes=[Route("/", homepage)])
"""

# As `django-admin startproject myproject` writes them, and a view.
SETTINGS = """
SECRET_KEY = "not secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "myproject.urls"
WSGI_APPLICATION = "myproject.wsgi.application"
"""
URLS = """
from django.http import JsonResponse
from django.urls import path
def hello(request):
    root = request.META.get("SCRIPT_NAME", "")
    return JsonResponse({"message": "Hello World", "client": request.META["REMOTE_ADDR"], "root": root})
urlpatterns = [path("", hello)]
"""
ENTRY = """
import os
from django.core.{kind} import get_{kind}_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproject.settings")
application = get_{kind}_application()
"""

COMMANDS = [
    # "uvicorn main:app --host 0.0.0.0 --port 80 --workers 4 --proxy-headers", "fastapi run"
    "gateway serve --asgi main:app --listen 127.0.0.1:0 --workers 2 --trusted-proxies 127.0.0.1",
    # "gunicorn main:app -w 4 -k uvicorn.workers.UvicornWorker" with --root-path
    "gateway serve --asgi main:app --listen 127.0.0.1:0 --mount /api",
    # "uvicorn --factory main:create_app --env-file .env --app-dir src"
    "gateway serve --asgi starlette_app:create_app --factory --env-file .env --directory src "
    "--listen 127.0.0.1:0",
    # "gunicorn myproject.wsgi", "waitress-serve myproject.wsgi:application"
    "gateway serve --wsgi myproject.wsgi:application --listen 127.0.0.1:0 --workers 2 --threads 4",
    # "uvicorn myproject.asgi:application", "hypercorn myproject.asgi:application"
    "gateway serve --asgi myproject.asgi:application --listen 127.0.0.1:0 --no-access-log",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_deployment(tmp_path: Path, command: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "myproject").mkdir()
    (tmp_path / ".env").write_text("GREETING='set'\n")
    (tmp_path / "main.py").write_text(FASTAPI)
    (tmp_path / "src/starlette_app.py").write_text(STARLETTE)
    (tmp_path / "myproject/settings.py").write_text(SETTINGS)
    (tmp_path / "myproject/urls.py").write_text(URLS)
    for kind in ("wsgi", "asgi"):
        (tmp_path / f"myproject/{kind}.py").write_text(ENTRY.format(kind=kind))
    with subprocess.Popen(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        try:
            assert daemon.stderr is not None
            logged = ""
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", logged)):
                line = daemon.stderr.readline()
                assert line, logged
                logged += line
            mount = "/api" if "--mount" in command else ""
            request = Request(f"{found[0]}{mount}/", headers={"X-Forwarded-For": "192.0.2.7"})
            with urlopen(request, timeout=60) as response:
                answer = response.read().decode()
            assert '"message":"Hello World"' in answer.replace(": ", ":")
            # Of a proxy that is not trusted nothing is believed.
            client = "192.0.2.7" if "--trusted-proxies" in command else "127.0.0.1"
            assert f'"client":"{client}"' in answer.replace(": ", ":")
            assert f'"root":"{mount}"' in answer.replace(": ", ":")
            assert ('"set":"set"' in answer) is ("--env-file" in command)
        finally:
            daemon.send_signal(signal.SIGTERM)
        daemon.stderr.read()
        assert daemon.wait(timeout=60) == 0
