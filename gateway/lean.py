"""structlog without rich, until somebody wants it.

Where rich is installed structlog imports it, for tracebacks in colours, which takes 40 ms, a tenth of the
start. The gateway logs plain ones. Applications in its process that use structlog have it whole: rich is
imported for the first traceback that it draws.
"""

import sys
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
    sys.modules["rich"] = rich
    sys.modules.update({module.__name__: module for module in modules.values()})
    try:
        import structlog  # noqa: F401
    except Exception:  # a version that wants more of rich is imported as usual
        for name in [name for name in sys.modules if name.partition(".")[0] == "structlog"]:
            del sys.modules[name]
    finally:
        for module in (rich, *modules.values()):
            del sys.modules[module.__name__]


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
