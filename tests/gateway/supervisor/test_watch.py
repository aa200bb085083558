"""--reload: what is looked at, and what becomes of a change."""

import http.client
import os
import signal
import time
from pathlib import Path

import pytest
from watchfiles import Change

from gateway.config import from_mapping
from gateway.supervisor.supervisor import LAST_REQUEST_PATIENCE
from gateway.supervisor.watch import Watched, _Filter, code_directories
from tests.gateway.supervisor.supervised import APPLICATION, CONFIG, Visitors, get, status, supervised, until
from tests.gateway.supervisor.test_reload import change


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("main.py", True),
        ("package/views.py", True),
        ("templates/page.html", True),
        ("templates/mail.j2", True),
        ("data.sqlite3", False),
        ("style.css", True),  # --reload-include
        ("__pycache__/main.cpython-311.pyc", False),
        (".git/hook.py", False),
        (".venv/lib/python3.11/site-packages/flask/app.py", False),
        ("node_modules/a/a.html", False),
        ("main.py~", False),
        (".#main.py", False),
        ("generated/main.py", False),  # --reload-exclude
        ("package/test_views.py", False),  # --reload-exclude
    ],
)
def test_which_files_count(path: str, counts: bool) -> None:
    """Below a directory whose own name does not matter."""
    watched = Watched(included=("*.css",), excluded=("generated", "test_*.py"))
    found = _Filter(watched, ["/home/.venv/app"])(Change.modified, f"/home/.venv/app/{path}")
    assert found is counts


def test_directories_are_those_of_the_applications(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    config = from_mapping(
        {
            "listeners": [{"http": "127.0.0.1:0"}],
            "backends": {
                "a": {"asgi": "x:y", "directory": "a"},
                "b": {"wsgi": "x:y", "directory": "b"},
                "c": {"scgi": {"spawn": {"wsgi": "x:y", "directory": "c"}}},
                "d": {"http": "http://127.0.0.1:1"},
            },
            "routes": [{"backend": "a"}],
        },
        "",
        tmp_path,
    )
    assert code_directories(config) == [tmp_path / "a", tmp_path / "b", tmp_path / "c"]


def test_changes_show_and_lose_nothing(tmp_path: Path) -> None:
    with supervised(tmp_path, "--reload") as running:
        running.ready()
        with Visitors(running) as visitors:
            for version in ("two", "three"):
                change(tmp_path, version)
                until(lambda version=version: version in visitors.seen)  # type: ignore[misc]

            (tmp_path / "versioned.py").write_text("def broken(:\n")
            failed = running.wait_for("reload failed")
            assert failed["reason"][0].startswith(
                "backend app: the import of versioned failed: SyntaxError: "
            )
            assert sum("Traceback" in line for line in running.lines) == 1

            (tmp_path / "gateway.yaml").write_text(CONFIG + "nonsense: 1\n")
            failed = running.wait_for("reload failed")
            assert failed["reason"][0].startswith("gateway.yaml:6: nonsense: unknown key; ")

            # Many files at once: put in the place of the old ones, as editors do it.
            for number in range(10):
                (tmp_path / f"new{number}").write_text("x = 1\n")
            for number in range(10):
                (tmp_path / f"new{number}").rename(tmp_path / f"part{number}.py")
            (tmp_path / "new").write_text(CONFIG)
            (tmp_path / "new").rename(tmp_path / "gateway.yaml")
            change(tmp_path, "four")
            until(lambda: "four" in visitors.seen)
        assert visitors.failures == []
        assert {"two", "three", "four"} <= visitors.seen
        running.process.terminate()
        logged = running.process.stderr.read().decode() if running.process.stderr else ""
        assert running.process.wait(60) == 0
    # The configuration is looked at apart from the code, so there may be two.
    assert 1 <= logged.count('"reloading"') <= 2


def test_next_page_of_a_browser_is_that_of_the_new_code(tmp_path: Path) -> None:
    """For five seconds it was that of the old one, on the connection that the browser had."""
    with supervised(tmp_path, "--reload") as running:
        running.ready()
        browser = http.client.HTTPConnection(*running.address, timeout=60)
        browser.request("GET", "/")
        assert browser.getresponse().read().startswith(b"one")
        change(tmp_path, "two")
        running.wait_for("reloaded")
        reloaded = time.monotonic()
        assert browser.sock.recv(1) == b""
        assert time.monotonic() - reloaded < LAST_REQUEST_PATIENCE
        browser.close()
        running.process.terminate()
        running.end()


def test_directory_that_is_made_anew_is_looked_at(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    with supervised(tmp_path, "--reload", "--reload-dir", str(pages)) as running:
        running.ready()
        for number in range(2):
            pages.rmdir()
            pages.mkdir()
            running.wait_for("reloaded")
            (pages / f"{number}.html").write_text("new")
            running.wait_for("reloaded")
            pages.rename(tmp_path / f"old{number}")
            pages.mkdir()
            running.wait_for("reloaded")
        running.process.terminate()
        running.end()


def test_directory_above_that_is_made_anew_is_looked_at(tmp_path: Path) -> None:
    pages = tmp_path / "build" / "site" / "pages"
    pages.mkdir(parents=True)
    with supervised(tmp_path, "--reload", "--reload-dir", str(pages)) as running:
        running.ready()
        (tmp_path / "build").rename(tmp_path / "old")
        pages.mkdir(parents=True)
        running.wait_for("reloaded")
        (pages / "page.html").write_text("new")
        running.wait_for("reloaded")
        running.process.terminate()
        running.end()


@pytest.mark.parametrize("within", ["", "src"])
def test_link_that_is_set_to_another_directory_is_followed(tmp_path: Path, within: str) -> None:
    for release in ("one", "two"):
        (tmp_path / release / within).mkdir(parents=True)
    current = tmp_path / "current"
    current.symlink_to("one")
    with supervised(tmp_path, "--reload", "--reload-dir", str(current / within)) as running:
        running.ready()
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(current)
        running.wait_for("reloaded")
        (tmp_path / "two" / within / "page.html").write_text("new")
        running.wait_for("reloaded")
        running.process.terminate()
        running.end()


def test_code_that_is_saved_twice_in_a_second_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """importlib knows compiled modules by the second and the size of their source."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    with supervised(tmp_path, "--reload") as running:
        running.ready()
        assert get(running).startswith("one ")
        saved = os.stat(tmp_path / "versioned.py")
        (tmp_path / "versioned.py").write_text(APPLICATION.replace('"one"', '"two"'))
        os.utime(tmp_path / "versioned.py", ns=(saved.st_mtime_ns, saved.st_mtime_ns))
        until(lambda: get(running).startswith("two "))
        running.process.terminate()
        running.end()


HANGING = "import sys, time\nprint('{}', file=sys.stderr)\ntime.sleep(1000)\n"


@pytest.mark.parametrize("mistake", ["", "import absent\n"])
def test_code_that_hangs_at_first_is_replaced_by_what_comes_next(tmp_path: Path, mistake: str) -> None:
    with supervised(tmp_path, "--reload", code=mistake or HANGING) as running:
        if mistake:
            running.wait_for("waiting for changes")
            (tmp_path / "versioned.py").write_text(HANGING)
        running.wait_for("{}")
        change(tmp_path, "two")
        running.ready()
        assert get(running).startswith("two ")
        running.process.terminate()
        assert running.process.wait(60) == 0


def test_code_that_writes_code_when_it_is_loaded_serves(tmp_path: Path) -> None:
    """... though its starts are overtaken by what it writes itself, until it has the time that it takes."""
    with supervised(tmp_path, "--reload") as running:
        running.ready()
        slow = "import pathlib, time\npathlib.Path('made.py').write_text(str(time.time()))\ntime.sleep(1.2)\n"
        (tmp_path / "versioned.py").write_text(slow + APPLICATION.replace('"one"', '"two"'))
        until(lambda: get(running).startswith("two "))
        running.process.terminate()
        running.end()


def test_code_that_hangs_is_replaced_by_what_comes_next(tmp_path: Path) -> None:
    with supervised(tmp_path, "--reload") as running:
        running.ready()
        (tmp_path / "versioned.py").write_text(HANGING)
        running.wait_for("{}")
        assert get(running).startswith("one ")
        change(tmp_path, "two")
        until(lambda: get(running).startswith("two "))
        running.process.terminate()
        running.end()


def test_first_mistake_is_waited_for(tmp_path: Path) -> None:
    """As the servers do that have --reload: the developer is about to mend it."""
    with supervised(tmp_path, "--reload", code="import absent\n") as running:
        running.wait_for("waiting for changes")
        (tmp_path / "versioned.py").write_text(APPLICATION)
        (listener, _) = running.wait_for('"ready"')["addresses"]
        running._address = ("127.0.0.1", int(listener.rpartition(":")[2]))
        assert get(running).startswith("one ")
        assert len(status(tmp_path)["workers"]) == 1
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
