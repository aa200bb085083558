# ruff: noqa: N803 - names of the original, which its cases use
"""The cases of the Autobahn test suite, loaded under Python 3.

They are Python 2. Their strings, which are bytes, become text of one character per byte (`_Python2`), and the
libraries that they import are stood for by what they use of them.
"""

import ast
import binascii
import hashlib
import importlib.abc
import importlib.util
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

STATE_OPEN: Final = 3
"""Of a connection, as the cases know it."""


def bytes_of(text: Any) -> bytes:
    """The bytes that a string of a case stands for."""
    return text if isinstance(text, bytes) else str(text).encode("latin-1")


def encode(text: str, encoding: str) -> str:
    """What ``text.encode(encoding)`` of Python 2 means here."""
    return text.encode(encoding, "surrogatepass").decode("latin-1")


def decode(text: str, encoding: str) -> str:
    """What ``text.decode(encoding)`` of Python 2 means here."""
    return text.encode("latin-1").decode(encoding)


class _Hash:
    def __init__(self) -> None:
        self._hash = hashlib.sha1()

    def update(self, data: str) -> None:
        self._hash.update(bytes_of(data))

    def digest(self) -> bytes:
        return self._hash.digest()


class Offer:
    """permessage-deflate as the cases offer it."""

    def __init__(self, requestNoContextTakeover: bool = False, requestMaxWindowBits: int = 0) -> None:
        self.requestNoContextTakeover = requestNoContextTakeover
        self.requestMaxWindowBits = requestMaxWindowBits

    def __str__(self) -> str:
        text = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
        if self.requestNoContextTakeover:
            text += "; server_no_context_takeover"
        if self.requestMaxWindowBits:
            text += f"; server_max_window_bits={self.requestMaxWindowBits}"
        return text


class _Utf8Validator:
    def reset(self) -> None:
        pass

    def validate(self, text: str) -> tuple[bool, bool]:
        try:
            decode(text, "utf-8")
        except UnicodeDecodeError:
            return False, False
        return True, True


class _Python2(ast.NodeTransformer):
    """What a case means in Python 2, said in Python 3."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("encode", "decode"):
            name = ast.Name(f"_{node.func.attr}", ast.Load())
            return ast.Call(name, [node.func.value, *node.args], [])
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div):
            node.op = ast.FloorDiv()
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        self.generic_visit(node)
        if len(node.elts) > 1:  # the bases of a class
            node.elts = [e for e in node.elts if not (isinstance(e, ast.Name) and e.id == "object")]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if node.kind == "u" and isinstance(node.value, str):
            try:
                node.value = decode(node.value, "utf-8")
            except (UnicodeEncodeError, UnicodeDecodeError):
                pass  # written with \u
        return node


class _Cases(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the modules of the cases, and what stands for the libraries that they want."""

    def __init__(self, suite: Path) -> None:
        self._directory = suite / "case"
        state = SimpleNamespace(STATE_OPEN=STATE_OPEN, MESSAGE_TYPE_TEXT=1)
        state.CLOSE_STATUS_CODE_NORMAL = 1000
        nothing = SimpleNamespace(IPushProducer=None)
        self._stubs: dict[str, dict[str, Any]] = {
            "hashlib_of_cases": {"sha1": _Hash},
            "binascii_of_cases": {"b2a_hex": _hex, "hexlify": _hex},
            "autobahn": {},
            "autobahn.websocket": {},
            "autobahn.websocket.protocol": {"WebSocketProtocol": state},
            "autobahn.websocket.utf8validator": {"Utf8Validator": _Utf8Validator},
            "autobahn.websocket.compress": {
                "PerMessageDeflateOffer": Offer,
                "PerMessageDeflateOfferAccept": None,
                "PerMessageDeflateResponse": None,
            },
            "pkg_resources": {"resource_filename": lambda _package, name: str(suite / name)},
            "twisted": {},
            "twisted.internet": {"reactor": None, "interfaces": nothing},
            "zope": {},
            "zope.interface": {"implements": lambda _: None},
        }

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name in self._stubs or self._file(name).exists():
            return importlib.util.spec_from_loader(name, self, is_package=name in self._stubs)
        return None

    def _file(self, name: str) -> Path:
        return self._directory / ("__init__.py" if name == "all_cases" else f"{name}.py")

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in self._stubs:
            vars(module).update(self._stubs[name])
            return
        source = re.sub(r"(?m)^(\s*)print\b.*$", r"\1pass", self._file(name).read_text("latin-1"))
        source = re.sub(r"(?m)^import (.*)$", _standard_modules, source)
        tree = ast.fix_missing_locations(_Python2().visit(ast.parse(source)))
        vars(module).update(xrange=range, unichr=chr, _encode=encode, _decode=decode, open=_open)
        exec(compile(tree, str(self._file(name)), "exec"), vars(module))
        if name == "case":
            module.Case.compare = lambda _self, one, other: one == other


def _standard_modules(line: re.Match[str]) -> str:
    """An import with the modules that take text for bytes."""
    return re.sub(
        r"import (hashlib|binascii)",
        r"import \1_of_cases as \1",
        "\n".join(f"import {name.strip()}" for name in line[1].split(",")),
    )


def _hex(data: Any) -> str:
    return binascii.b2a_hex(bytes_of(data)).decode()


def _open(name: str, _mode: str) -> Any:
    return SimpleNamespace(read=lambda: Path(name).read_bytes().decode("latin-1"))


def load_cases(suite: Path) -> list[type[Any]]:
    """All cases, in the order of the suite."""
    sys.meta_path.insert(0, _Cases(suite))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3 thinks of the cases what it must
        cases: list[type[Any]] = importlib.import_module("all_cases").Cases
    return cases


def number_of(case: type[Any]) -> str:
    """``Case7_1_1`` is 7.1.1."""
    return case.__name__.removeprefix("Case").replace("_", ".")
