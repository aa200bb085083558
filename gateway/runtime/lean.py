"""Libraries without what they would load for nothing: others stand for such modules meanwhile.

Where rich is installed structlog imports it, for tracebacks in colours, which takes 40 ms, a seventh of the
start. The gateway logs plain ones. Applications in its process that use structlog have it whole: rich is
imported for the first traceback that it draws.

With its first model pydantic looks for plugins, in the metadata of all packages: that takes 8 ms to import,
and 10 more where 150 packages are installed. The gateway's own models have none; those of applications in
its process have theirs.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, Final

_USED: Final = ("console", "traceback", "pretty")
"""The modules of rich that structlog imports."""


def import_structlog() -> None:
    """Import structlog, if nobody has: call it before what imports it as usual."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    rich = _Module("rich")
    modules = {name: _Module(f"rich.{name}") for name in _USED}
    vars(rich).update(modules)
    with _standing_in(rich, *modules.values()):
        try:
            import structlog  # noqa: F401
        except Exception:  # a version that wants more of rich is imported as usual
            for name in [name for name in sys.modules if name.partition(".")[0] == "structlog"]:
                del sys.modules[name]


@contextmanager
def without_plugins() -> Iterator[None]:
    """Pydantic's models that are built meanwhile have no plugins, and none are looked for."""
    loader = _Loader("pydantic.plugin._loader")
    vars(loader)["get_plugins"] = tuple
    with _standing_in(loader):
        yield


class _Loader(ModuleType):
    """Stands for the module that looks for plugins; a version that takes more out of it gets the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        del sys.modules[self.__name__]
        try:
            return getattr(import_module(self.__name__), name)
        finally:
            sys.modules[self.__name__] = self


@contextmanager
def _standing_in(*modules: ModuleType) -> Iterator[None]:
    """Whoever imports modules of these names meanwhile gets *modules*."""
    before = {module.__name__: sys.modules.get(module.__name__) for module in modules}
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Module(ModuleType):
    """Stands for a module: what is taken out of it is imported when it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(self.__name__, name)


class _Later:
    """Stands for *name* in *module*."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def _real(self) -> Any:
        return getattr(import_module(self._module), self._name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._real()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)
