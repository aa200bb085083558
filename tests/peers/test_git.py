"""git over HTTP: clone, push and fetch of a real repository through git-http-backend as a CGI program."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.conftest import WAIT, Gateway, RequireProgram, RunGateway

Git = Callable[..., str]

LARGE = 3_000_000
"""Bytes that compress badly: more than git's http.postBuffer (1 MiB), so that it sends them chunked."""


@pytest.fixture(scope="module")
def git(require_program: RequireProgram) -> Git:
    """``git(directory, *arguments)``: what git said; no configuration of the user or the machine counts."""
    program = require_program("git", "apt-get install git")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        **{f"GIT_{who}_NAME": "Somebody" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "somebody@example.com" for who in ("AUTHOR", "COMMITTER")},
    }

    def run(directory: Path, *arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WAIT,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.fixture
def repositories(tmp_path: Path, git: Git) -> Path:
    """The directory of the repositories that are served: project.git, with one commit on main."""
    served = tmp_path / "repositories"
    served.mkdir()
    git(served, "init", "--quiet", "--bare", "--initial-branch=main", "project.git")
    git(served / "project.git", "config", "http.receivepack", "true")
    work = tmp_path / "origin"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "origin")
    for number in range(200):
        (work / f"file-{number}").write_text(f"text {number}\n" * 50)
    git(work, "add", ".")
    git(work, "commit", "--quiet", "-m", "first")
    git(work, "push", "--quiet", str(served / "project.git"), "main")
    return served


@pytest.fixture
def gateway(git: Git, repositories: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    program = Path(git(repositories, "--exec-path").strip(), "git-http-backend")
    config = f"""
    backends:
      git:
        cgi: {program}
        variables:
          GIT_PROJECT_ROOT: {repositories}
          GIT_HTTP_EXPORT_ALL: "1"
          GIT_CONFIG_NOSYSTEM: "1"
    routes:
      - {{match: {{path: /git/*}}, mount: /git, backend: git}}
    """
    with run_gateway(repositories.parent, config, expect=["application stderr"]) as running:
        yield running


def test_clone_push_and_fetch(gateway: Gateway, git: Git, tmp_path: Path, repositories: Path) -> None:
    """CGI-27: the large push is chunked (an empty body would fail it); small requests are sized."""
    url = f"{gateway.url}/git/project.git"
    git(tmp_path, "clone", "--quiet", url, "clone")
    clone = tmp_path / "clone"
    assert len(list(clone.glob("file-*"))) == 200
    git(clone, "fsck", "--strict")

    (clone / "large").write_bytes(random.Random(1).randbytes(LARGE))
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "second")
    git(clone, "push", "--quiet", "origin", "main")
    head = git(clone, "rev-parse", "HEAD")
    assert git(repositories / "project.git", "rev-parse", "main") == head
    git(repositories / "project.git", "fsck", "--strict")

    other = tmp_path / "origin"
    git(other, "pull", "--quiet", "--ff-only", url, "main")
    assert git(other, "rev-parse", "HEAD") == head
    assert (other / "large").read_bytes() == (clone / "large").read_bytes()

    posts = [event for event in gateway.events("request") if event["method"] == "POST"]
    assert {event["status"] for event in gateway.events("request")} == {200}
    assert {event["target"] for event in posts} == {
        "/git/project.git/git-upload-pack",
        "/git/project.git/git-receive-pack",
    }


def test_shallow_clone_of_an_old_protocol(gateway: Gateway, git: Git, tmp_path: Path) -> None:
    """Protocol 0 asks in several rounds, with gzip-encoded bodies."""
    url = f"{gateway.url}/git/project.git"
    git(tmp_path, "-c", "protocol.version=0", "clone", "--quiet", "--depth=1", url, "shallow")
    assert (tmp_path / "shallow/file-7").read_text() == "text 7\n" * 50


def test_a_repository_that_is_not_there(gateway: Gateway) -> None:
    assert gateway.get("/git/other.git/info/refs?service=git-upload-pack").status == 404


def test_pushing_can_be_forbidden(gateway: Gateway, git: Git, repositories: Path) -> None:
    git(repositories / "project.git", "config", "http.receivepack", "false")
    assert gateway.get("/git/project.git/info/refs?service=git-receive-pack").status == 403
