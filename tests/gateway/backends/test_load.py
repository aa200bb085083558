"""Finding an application by its name, and saying what is wrong."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.load import Surroundings, load_application
from gateway.errors import StartError
from gateway.virtualenv import VERSION
from tests.gateway.closed import closed_directory


@pytest.fixture(autouse=True)
def restored_imports(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The search path and the modules as they were."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(os, "environ", os.environ.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(directory: Path, name: str, source: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(source)
    return directory


def load(
    target: str,
    directory: Path | None = None,
    *,
    factory: bool = False,
    backend: str = "api",
    surroundings: Surroundings = Surroundings(),  # noqa: B008 - frozen
) -> Any:
    return load_application(
        target, directory=directory, factory=factory, backend=backend, surroundings=surroundings
    )


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
        (
            "gw_app.py:number",
            "there is no module 'gw_app.py' (searched {} first); did you mean gw_app:number?",
        ),
        ("gw_absent.py:app", "there is no module 'gw_absent' (searched {} first)"),
        ("gw_app:absent", "'gw_app' has no attribute 'absent'"),
        ("gw_wsgi:app", "'gw_wsgi' has no attribute 'app'; did you mean gw_wsgi:application?"),
        ("gw_app:number", "gw_app:number is not callable, but a int"),
        ("gw_broken:app", "the import of gw_broken failed: ZeroDivisionError: division by zero"),
        ("gw_needs:app", "the import of gw_needs failed: ModuleNotFoundError: No module named 'gw_other'"),
        ("gw_exits:app", "the import of gw_exits failed: SystemExit: 3"),
        ("gw_interrupts:app", "the import of gw_interrupts failed: KeyboardInterrupt: "),
        ("gw_lazy:app", "the look-up of gw_lazy:app failed: ValueError: no settings"),
        ("gw_mute:app", "the import of gw_mute failed: Mute: str() of it failed: KeyError"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, target: str, message: str) -> None:
    write(tmp_path, "gw_app.py", "number = 1\n")
    write(tmp_path, "gw_wsgi.py", "application = print\n")
    write(tmp_path, "gw_broken.py", "1 / 0\n")
    write(tmp_path, "gw_needs.py", "import gw_other\n")
    write(tmp_path, "gw_exits.py", "raise SystemExit(3)\n")
    write(tmp_path, "gw_interrupts.py", "raise KeyboardInterrupt\n")
    mute = "class Mute(Exception):\n    def __str__(self):\n        return {}[self]\n\nraise Mute\n"
    write(tmp_path, "gw_mute.py", mute)
    write(tmp_path, "gw_lazy.py", "def __getattr__(name):\n    raise ValueError('no settings')\n")
    with pytest.raises(StartError) as caught:
        load(target, tmp_path)
    assert str(caught.value) == f"backend api: {message.format(tmp_path)}"


def test_a_directory_that_may_not_be_read_is_told() -> None:
    with closed_directory() as closed, pytest.raises(StartError) as caught:
        load("gw_absent:app", closed)
    why = f"there is no module 'gw_absent' (searched {closed} first: Permission denied)"
    assert str(caught.value) == f"backend api: {why}"


def test_a_package_of_the_name_of_ours_is_told(tmp_path: Path) -> None:
    """A process of its own would not help: that is the gateway, too."""
    write(tmp_path / "gateway", "__init__.py", "")
    write(tmp_path / "gateway", "main.py", "app = print\n")
    write(tmp_path, "gw_with_ours.py", "import gateway.mine\n")
    for target in "gateway.main:app", "gateway.missing:app", "gw_with_ours:app":
        with pytest.raises(StartError, match=r"is the gateway's own: .*http: \{spawn: …\}$") as told:
            load(target, tmp_path)
        assert "process: own" not in str(told.value)


def test_only_one_name_is_ours(tmp_path: Path) -> None:
    write(tmp_path / "protocols", "mine.py", "app = print\n")
    assert load("protocols.mine:app", tmp_path) is print


def test_the_traceback_of_a_failed_import_is_for_the_log(tmp_path: Path) -> None:
    write(tmp_path, "gw_broken2.py", "1 / 0\n")
    with pytest.raises(StartError) as caught:
        load("gw_broken2:app", tmp_path)
    fields = caught.value.log_fields()
    assert fields["backend"] == "api"
    assert fields["exception"].endswith("\nZeroDivisionError: division by zero")
    with pytest.raises(StartError) as caught:
        load("gw_absent:app", tmp_path)
    assert caught.value.log_fields() == {}


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("fails", "the factory gw_made:fails failed: ValueError: no"),
        ("interrupts", "the factory gw_made:interrupts failed: KeyboardInterrupt: stop"),
        ("number", "gw_made:number is not a factory, but a int"),
        ("waits", "the factory gw_made:waits is asynchronous; expected a plain function"),
        ("none", "gw_made:none is not callable, but a NoneType"),
    ],
)
def test_says_what_is_wrong_with_a_factory(tmp_path: Path, attribute: str, message: str) -> None:
    write(
        tmp_path,
        "gw_made.py",
        "number = 1\ndef none(): pass\ndef fails():\n    raise ValueError('no')\n"
        "def interrupts():\n    raise KeyboardInterrupt('stop')\n"
        "async def waits():\n    return print\n",
    )
    with pytest.raises(StartError) as caught:
        load(f"gw_made:{attribute}", tmp_path, factory=True)
    assert str(caught.value) == f"backend api: {message}"


READY_APPLICATIONS = """
def wsgi(environ, start_response): ...
async def asgi(scope, receive, send): ...
class Framework:
    def __call__(self, environ, start_response): ...
made = Framework()
def optional(config=None, *rest, **more): raise TypeError("of its own")
class Hidden:
    __signature__ = property(lambda self: 1 / 0)
    def __call__(self, one): ...
hidden = Hidden()
"""


@pytest.mark.parametrize(
    ("attribute", "arguments"),
    [
        ("wsgi", "environ, start_response"),
        ("made", "environ, start_response"),
        ("asgi", "scope, receive, send"),
    ],
)
def test_an_application_that_is_no_factory_is_named(tmp_path: Path, attribute: str, arguments: str) -> None:
    """Without a traceback: it is no code that has failed."""
    write(tmp_path, "gw_ready.py", READY_APPLICATIONS)
    with pytest.raises(StartError) as caught:
        load(f"gw_ready:{attribute}", tmp_path, factory=True)
    assert str(caught.value) == (
        f"backend api: gw_ready:{attribute} is not a factory, for it cannot be called without {arguments}; "
        "if it is the application itself, leave out factory: true, or --factory"
    )
    assert caught.value.log_fields() == {}


@pytest.mark.parametrize("attribute", ["optional", "hidden"])
def test_another_type_error_of_a_factory_has_its_traceback(tmp_path: Path, attribute: str) -> None:
    write(tmp_path, "gw_ready.py", READY_APPLICATIONS)
    with pytest.raises(StartError, match=f"the factory gw_ready:{attribute} failed: TypeError: ") as caught:
        load(f"gw_ready:{attribute}", tmp_path, factory=True)
    assert caught.value.log_fields()["exception"]


def test_two_applications_cannot_have_modules_of_one_name(tmp_path: Path) -> None:
    """Never the first application's code for the second one's requests."""
    one = write(tmp_path / "one", "gw_same.py", "app = lambda: 'one'\n")
    two = write(tmp_path / "two", "gw_same.py", "app = lambda: 'two'\n")
    assert load("gw_same:app", one)() == "one"
    assert load("gw_same:app", one)() == "one"
    with pytest.raises(StartError, match="different module names"):
        load("gw_same:app", two)


def test_a_module_of_python_cannot_be_an_application(tmp_path: Path) -> None:
    """A process of its own, which was proposed, does not help."""
    write(tmp_path, "types.py", "app = print\n")
    with pytest.raises(StartError, match=r"that is Python's own: expected another name$"):
        load("types:app", tmp_path)


# ---- what an application needs of its process


def test_variables_are_set_before_the_import(tmp_path: Path) -> None:
    write(tmp_path, "gw_reads.py", "import os\nfound = os.environ['GW_MARK']\napp = lambda: found\n")
    assert load("gw_reads:app", tmp_path, surroundings=Surroundings(env={"GW_MARK": "mine"}))() == "mine"
    assert os.environ["GW_MARK"] == "mine"  # applications read them later, too


def test_two_applications_want_different_values(tmp_path: Path) -> None:
    """os.environ is one for both: what the second reads later would depend on who was loaded last."""
    write(tmp_path, "gw_any.py", "app = print\n")
    load("gw_any:app", tmp_path, backend="one", surroundings=Surroundings(env={"GW_A": "1", "GW_B": "1"}))
    load("gw_any:app", tmp_path, backend="two", surroundings=Surroundings(env={"GW_A": "1"}))
    expected = "backend two: the variable GW_B has another value for backend one, .* process: own"
    with pytest.raises(StartError, match=expected):
        load("gw_any:app", tmp_path, backend="two", surroundings=Surroundings(env={"GW_C": "1", "GW_B": "2"}))
    assert (os.environ["GW_B"], "GW_C" in os.environ) == ("1", False)
    # The same one, again: a reload.
    load("gw_any:app", tmp_path, backend="one", surroundings=Surroundings(env={"GW_B": "3"}))
    assert os.environ["GW_B"] == "3"


def make_environment(path: Path, version: str, pyvenv: str | None) -> Path:
    write(path / "lib" / f"python{version}" / "site-packages", "gw_packaged.py", "app = lambda: __file__\n")
    if pyvenv is not None:
        write(path, "pyvenv.cfg", pyvenv)
    return path


def test_packages_of_a_virtual_environment(tmp_path: Path) -> None:
    """Before the gateway's own, behind the directory of the application; twice is once."""
    environment = make_environment(tmp_path / "venv", VERSION, None)
    write(tmp_path / "app", "gw_main.py", "import gw_packaged\napp = gw_packaged.app\n")
    for _ in range(2):
        found = load("gw_main:app", tmp_path / "app", surroundings=Surroundings(environment))()
    assert found.startswith(str(environment))
    ours = [position for position, entry in enumerate(sys.path) if entry.startswith(str(tmp_path))]
    assert ours == [0, 1]
    assert sys.path[0] == str(tmp_path / "app")


@pytest.mark.parametrize("linked", [True, False])
def test_compiled_packages_may_have_a_directory_of_their_own(
    linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fedora's lib64: a link to lib, and from Python 3.15 on another directory."""
    monkeypatch.setattr(sys, "platlibdir", "lib64")
    environment = make_environment(tmp_path / "venv", VERSION, None)
    if linked:
        (environment / "lib64").symlink_to("lib")
    compiled = environment / "lib64" / f"python{VERSION}" / "site-packages"
    write(compiled, "gw_compiled.py", "")
    write(tmp_path / "app", "gw_both.py", "import gw_packaged, gw_compiled\napp = lambda: None\n")
    load("gw_both:app", tmp_path / "app", surroundings=Surroundings(environment))
    ours = [entry for entry in sys.path if entry.startswith(str(environment))]
    assert len(ours) == (1 if linked else 2)


@pytest.mark.parametrize(
    ("version", "pyvenv", "problem"),
    [
        ("3.9", "home = /usr/bin\nversion = 3.9.2\n", "is of Python 3.9"),
        ("2.7", "version_info = 2.7.18.final.0\n", "is of Python 2.7"),
        ("3.9", "home = /usr/bin\n", "has no packages"),
        ("3.9", None, "has no packages"),
    ],
)
def test_packages_of_another_python(version: str, pyvenv: str | None, problem: str, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "venv", version, pyvenv)
    expected = f"backend api: virtualenv: {environment} {problem}: expected one of Python {VERSION}"
    with pytest.raises(StartError, match=re.escape(expected)):
        load("gw_any:app", tmp_path, surroundings=Surroundings(environment))
