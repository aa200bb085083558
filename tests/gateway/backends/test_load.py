"""Finding an application by its name, and saying what is wrong."""

import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.backend import StartError
from gateway.backends.load import load_application


@pytest.fixture(autouse=True)
def restored_imports(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The search path and the modules as they were."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(directory: Path, name: str, source: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(source)
    return directory


def load(target: str, directory: Path | None = None, *, factory: bool = False) -> Any:
    return load_application(target, directory=directory, factory=factory, backend="api")


def test_finds_a_dotted_attribute_of_a_package(tmp_path: Path) -> None:
    write(tmp_path / "shop", "main.py", "class Site:\n    app = staticmethod(lambda: 'found')\n")
    assert load("shop.main:Site.app", tmp_path)() == "found"


def test_the_directory_comes_first(tmp_path: Path) -> None:
    write(tmp_path / "one", "gw_twice.py", "app = lambda: 'one'\n")
    write(tmp_path / "two", "gw_twice.py", "app = lambda: 'two'\n")
    sys.path[:0] = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert load("gw_twice:app", tmp_path / "two")() == "two"


def test_calls_a_factory(tmp_path: Path) -> None:
    write(tmp_path, "gw_factory.py", "def make():\n    return lambda: 'made'\n")
    assert load("gw_factory:make", tmp_path, factory=True)() == "made"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("gw_app", "expected 'module:attribute', got 'gw_app'"),
        ("gw_absent:app", "there is no module 'gw_absent' (searched {} first)"),
        ("gw_app.sub:app", "there is no module 'gw_app.sub' (searched {} first)"),
        ("gw_app:absent", "'gw_app' has no attribute 'absent'"),
        ("gw_app:number", "gw_app:number is not callable, but a int"),
        ("gw_broken:app", "the import of gw_broken failed: ZeroDivisionError: division by zero"),
        ("gw_needs:app", "the import of gw_needs failed: ModuleNotFoundError: No module named 'gw_other'"),
        ("gw_exits:app", "the import of gw_exits failed: SystemExit: 3"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, target: str, message: str) -> None:
    write(tmp_path, "gw_app.py", "number = 1\n")
    write(tmp_path, "gw_broken.py", "1 / 0\n")
    write(tmp_path, "gw_needs.py", "import gw_other\n")
    write(tmp_path, "gw_exits.py", "raise SystemExit(3)\n")
    with capture_logs(), pytest.raises(StartError) as caught:
        load(target, tmp_path)
    assert str(caught.value) == f"backend api: {message.format(tmp_path)}"


def test_the_traceback_of_a_failed_import_is_logged(tmp_path: Path) -> None:
    write(tmp_path, "gw_broken2.py", "1 / 0\n")
    with capture_logs() as logs, pytest.raises(StartError):
        load("gw_broken2:app", tmp_path)
    assert [type(entry["exc_info"]) for entry in logs] == [ZeroDivisionError]


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("fails", "the factory gw_made:fails failed: ValueError: no"),
        ("number", "gw_made:number is not a factory, but a int"),
        ("none", "gw_made:none is not callable, but a NoneType"),
    ],
)
def test_says_what_is_wrong_with_a_factory(tmp_path: Path, attribute: str, message: str) -> None:
    write(
        tmp_path,
        "gw_made.py",
        "number = 1\ndef none(): pass\ndef fails():\n    raise ValueError('no')\n",
    )
    with capture_logs(), pytest.raises(StartError) as caught:
        load(f"gw_made:{attribute}", tmp_path, factory=True)
    assert str(caught.value) == f"backend api: {message}"


def test_two_applications_cannot_have_modules_of_one_name(tmp_path: Path) -> None:
    """Never the first application's code for the second one's requests."""
    one = write(tmp_path / "one", "gw_same.py", "app = lambda: 'one'\n")
    two = write(tmp_path / "two", "gw_same.py", "app = lambda: 'two'\n")
    assert load("gw_same:app", one)() == "one"
    assert load("gw_same:app", one)() == "one"
    with pytest.raises(StartError, match="different module names"):
        load("gw_same:app", two)
