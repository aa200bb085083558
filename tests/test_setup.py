"""setup.py: what is compiled has to mean the same as the Python it was written in.

mypyc 2.4 translates a few constructs wrongly. They are few enough to be left out of the compiled modules.
"""

import ast
import json
import runpy
import sys
import sysconfig
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from setuptools import Extension  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]

FLAGS: dict[str, list[str]] = {"extra_compile_args": [], "extra_link_args": []}


def compiled_modules(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    monkeypatch.setenv("GATEWAY_COMPILE", "0")
    patterns: tuple[str, ...] = runpy.run_path(str(ROOT / "setup.py"))["COMPILED"]
    found = [(pattern, list(ROOT.glob(pattern))) for pattern in patterns]
    assert [pattern for pattern, paths in found if not paths] == []
    return [path for _, paths in found for path in paths]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_names_no_module_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(compiled_modules(monkeypatch)) > 20


def test_second_build_has_all_that_mypyc_said_in_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also what setuptools knows nothing of; it warns of that where it is an argument."""
    said = {"name": "x", "sources": ["x.c"], "of_mypyc": 1} | FLAGS
    (tmp_path / "extensions.json").write_text(json.dumps([said]))
    given: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", given.update)
    monkeypatch.setenv("GATEWAY_COMPILE", "1")
    monkeypatch.setenv("GATEWAY_PROFILE", f"use:{tmp_path}")
    runpy.run_path(str(ROOT / "setup.py"))
    (found,) = given["ext_modules"]
    assert (found.name, found.sources, found.of_mypyc) == ("x", ["x.c"], 1)
    assert f"-fprofile-use={tmp_path}" in found.extra_compile_args


def test_first_build_has_all_that_is_included_where_the_second_finds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also what belongs to a part of mypyc's library alone (`librt.strings`): the build failed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mypyc" / "strings").mkdir(parents=True)
    (tmp_path / "mypyc" / "strings" / "librt_strings.h").touch()
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "misc_ops.c").write_text(
        "PyObject_CallFunctionObjArgs(_m, type, value, traceback, NULL)"
    )
    included = [str(tmp_path / "mypyc"), "build", str(tmp_path / "mypyc" / "strings")]
    made = Extension("x", ["x.c"], include_dirs=included)
    monkeypatch.setattr("mypyc.build.mypycify", lambda *_, **__: [made])
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    monkeypatch.setenv("GATEWAY_COMPILE", "1")
    monkeypatch.setenv("GATEWAY_PROFILE", f"make:{tmp_path / 'profile'}")
    runpy.run_path(str(ROOT / "setup.py"))
    copy = tmp_path / "profile" / "included"
    assert made.include_dirs == [str(copy), "build", str(copy / "strings")]
    assert (copy / "strings" / "librt_strings.h").exists()


@pytest.mark.parametrize(("choice", "compiled"), [("", 0), ("1", 1)])
def test_a_free_threaded_python_gets_modules_that_are_not_compiled(
    choice: str, compiled: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unless somebody insists."""
    (tmp_path / "extensions.json").write_text(json.dumps([{"name": "x", "sources": ["x.c"]} | FLAGS]))
    given: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", given.update)
    monkeypatch.setattr(sys, "argv", ["setup.py", "bdist_wheel"])
    monkeypatch.setenv("GATEWAY_COMPILE", choice)
    monkeypatch.setenv("GATEWAY_PROFILE", f"use:{tmp_path}")
    known = sysconfig.get_config_var
    monkeypatch.setattr(
        sysconfig, "get_config_var", lambda name: 1 if name == "Py_GIL_DISABLED" else known(name)
    )
    runpy.run_path(str(ROOT / "setup.py"))
    assert len(given["ext_modules"]) == compiled


def test_no_slice_calls_what_has_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """``data[send(data):]`` would send twice."""
    found = [
        f"{path}:{node.lineno}"
        for path in compiled_modules(monkeypatch)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Slice)
        for part in ast.walk(node)
        if isinstance(part, ast.Call)
        and not (isinstance(part.func, ast.Name) and part.func.id in ("len", "max", "min"))
        and not (isinstance(part.func, ast.Attribute) and part.func.attr in ("end", "start", "index"))
    ]
    assert found == []


def test_exceptions_of_two_kinds_have_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of a coroutine has the type of its first ``except ... as``."""
    found = []
    for path in compiled_modules(monkeypatch):
        for function in functions(path):
            handlers = [
                (handler.name, handler.type and ast.unparse(handler.type))
                for handler in ast.walk(function)
                if isinstance(handler, ast.ExceptHandler) and handler.name
            ]
            if len(set(handlers)) > len({name for name, _ in handlers}):
                found.append(f"{path}:{function.lineno}")
    assert found == []


def test_no_inner_function_is_decorated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name would be unbound."""
    found = [
        f"{path}:{inner.lineno}"
        for path in compiled_modules(monkeypatch)
        for function in functions(path)
        for inner in ast.walk(function)
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
        and inner is not function
        and inner.decorator_list
    ]
    assert found == []


def test_required_keywords_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """mypyc fails over a keyword without a default behind one that has one."""
    found = [
        f"{path}:{function.lineno}"
        for path in compiled_modules(monkeypatch)
        for function in functions(path)
        for before, after in pairwise(function.args.kw_defaults)
        if before is not None and after is None
    ]
    assert found == []


def test_no_class_inherits_from_one_of_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types of libraries are not looked at: the class would be laid out as if it had no base, and crash.

    One that derives from a class of `io` is refused by Python 3.12 and newer when it is imported.
    """
    found = []
    for path in compiled_modules(monkeypatch):
        tree = ast.parse(path.read_text())
        foreign = {name for name, origin in imported(tree) if origin.partition(".")[0] not in KNOWN}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                roots = {ast.unparse(base).partition(".")[0].partition("[")[0] for base in node.bases}
                if roots & foreign:
                    found.append(f"{path}:{node.lineno}")
    assert found == []


def test_no_class_says_object_of_an_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The annotation is looked up when the module is imported, where the name is not found: KeyError."""
    found = [
        f"{path}:{each.lineno}"
        for path in compiled_modules(monkeypatch)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.AnnAssign)
        and any(isinstance(part, ast.Name) and part.id == "object" for part in ast.walk(each.annotation))
    ]
    assert found == []


KNOWN = {*sys.stdlib_module_names, "gateway"} - {"io"}


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that a module imports, and where from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name.partition(".")[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, node.module or "") for alias in node.names)
