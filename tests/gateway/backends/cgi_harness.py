"""Makes CgiBackends for tests, with what most of them want where they say nothing else."""

import os
from pathlib import Path
from typing import Any

from gateway.backends.cgi import CgiBackend
from gateway.backends.cgi.exchange import ExchangeSettings
from gateway.backends.cgi.program import ProgramRules
from gateway.backends.cgi.transcript import Transcript
from gateway.net.pump import Pump
from gateway.request import Request, Responder
from tests.gateway.conftest import make_intake

SETTINGS: dict[str, Any] = {
    "timeout": 60.0,
    "kill_after": 5.0,
    "confinement": None,
    "catch_stderr": None,
    "session": True,
}


async def no_dispatch(request: Request, responder: Responder) -> None:
    raise AssertionError("there is no local redirect in this test")


def rules(**options: Any) -> ProgramRules:
    """What may be run."""
    usual: dict[str, Any] = {
        "index": None,
        "interpreters": {},
        "extensions": (),
        "execute": "auto",
        "indexed_query": False,
    }
    return ProgramRules(**{**usual, **options})


def transcript(path: Path, **options: Any) -> Transcript:
    """Where exchanges are written down."""
    return Transcript(str(path), **{"size": 10 * 1024 * 1024, "always": False, "excerpt": 1024, **options})


def make_backend(path: str | os.PathLike[str], pump: Pump, **options: Any) -> CgiBackend:
    """A backend of *path*; *options* are those of its class, and of its ExchangeSettings."""
    settings = {name: options.pop(name, usual) for name, usual in SETTINGS.items()}
    usual: dict[str, Any] = {
        "dispatch": no_dispatch,
        "settings": ExchangeSettings(**settings),
        "variables": {},
        "rules": rules(),
        "pass_env": (),
        "pass_authorization": False,
        "nph": ("nph-*",),
        "intake": make_intake(),
        "slots": None,
        "transcript": None,
    }
    return CgiBackend("tools", path=path, pump=pump, **{**usual, **options})
