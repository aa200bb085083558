"""Finds the object that ``module:attribute`` names, and says plainly why if it cannot.

Needs nothing but the standard library: it also runs in the processes of spawned applications.
"""

import importlib
import os
import sys
from collections.abc import Coroutine
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Final

from gateway.stacks import name_of

_OUR_PACKAGE: Final = "gateway"
_OURS: Final = (
    f"the package {_OUR_PACKAGE} is the gateway's own: expected another name, or a server of its own for the "
    "application, http: {spawn: …}"
)
_OTHER_NAMES: Final = "applications inside one process need different module names, or process: own"
_PYTHONS: Final = "that is Python's own: expected another name"


class LoadError(Exception):
    """The application cannot be loaded; the message is one line about what to look at.

    If the application's own code has failed, that is its cause (``__cause__``), and *own* is true.
    """

    def __init__(self, message: str, *, own: bool = False) -> None:
        super().__init__(message)
        self.own = own


def load_object(target: str, *, directory: Path | None, factory: bool) -> Any:
    """Import the module, with *directory* first on the search path, and get the attribute.

    The attribute may be dotted. With *factory* it is called, and what it returns is the application.
    *directory* stays on the search path: applications import as they run. Raises LoadError.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise LoadError(f"expected 'module:attribute', got {target!r}")
    if directory is not None:
        _put_first(directory)
        _check_not_shadowed(module_name.partition(".")[0], directory)
    try:
        application: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        ours = (error.name or "").partition(".")[0] == _OUR_PACKAGE
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            where = f" (searched {directory} first{_closed(directory)})" if directory is not None else ""
            hint = ""
            if error.name == module_name and module_name.endswith(".py"):
                hint = f"; did you mean {module_name.removesuffix('.py')}:{attribute}?"
            elif ours:
                hint = f"; {_OURS}"
            raise LoadError(f"there is no module {error.name!r}{where}{hint}") from error
        raise _failed(f"the import of {module_name}", error, f"; {_OURS}" if ours else "") from error
    except BaseException as error:
        raise _failed(f"the import of {module_name}", error) from error
    for name in attribute.split("."):
        try:
            application = getattr(application, name)
        except AttributeError as error:
            hint = "" if factory else _usual(module_name)
            raise LoadError(f"{module_name!r} has no attribute {attribute!r}{hint}") from error
        except BaseException as error:  # a property, or what a module makes when it is asked for it
            raise _failed(f"the look-up of {target}", error) from error
    if factory:
        application = _made_by(application, target)
    if not callable(application):
        raise LoadError(f"{target} is not callable, but a {type(application).__name__}")
    return application


def _closed(directory: Path) -> str:
    """Why nothing is found there, though it may be: the import system does not say."""
    try:
        os.listdir(directory)
    except PermissionError as error:
        return f": {error.strerror}"
    except OSError:
        pass
    return ""


def _usual(module_name: str) -> str:
    """The hint at an application that the module has by one of the usual names."""
    there = getattr(sys.modules.get(module_name), "__dict__", {})
    for name in ("application", "app"):
        if callable(there.get(name)):
            return f"; did you mean {module_name}:{name}?"
    return ""


def _put_first(directory: Path) -> None:
    entry = str(directory.absolute())
    if entry in sys.path:
        sys.path.remove(entry)
    sys.path.insert(0, entry)
    # What is there is looked for anew. importlib.invalidate_caches() does so everywhere, and from Python 3.13
    # on it loads importlib.metadata for that.
    sys.path_importer_cache.pop(entry, None)


def _check_not_shadowed(name: str, directory: Path) -> None:
    """Two applications of one process cannot both have a module ``app``: say so, do not mix them up."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    spec = PathFinder.find_spec(name, [str(directory.absolute())])
    if loaded is None or spec is None or spec.origin is None:
        return
    if Path(loaded).resolve() != Path(spec.origin).resolve():
        hint = _OURS if name == _OUR_PACKAGE else _OTHER_NAMES
        raise LoadError(
            f"{spec.origin} cannot be imported, because {loaded} is the module {name!r} already; "
            + (_PYTHONS if name in sys.stdlib_module_names else hint)
        )


def _made_by(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise LoadError(f"{target} is not a factory, but a {type(factory).__name__}")
    try:
        made = factory()
    except BaseException as error:
        if isinstance(error, TypeError) and (missing := _arguments_missing(factory)):
            raise LoadError(
                f"{target} is not a factory, for it cannot be called without {', '.join(missing)}; "
                "if it is the application itself, leave out factory: true, or --factory"
            ) from error
        raise _failed(f"the factory {target}", error) from error
    if isinstance(made, Coroutine):
        made.close()  # or Python complains that it was never awaited
        raise LoadError(f"the factory {target} is asynchronous; expected a plain function")
    return made


def _arguments_missing(factory: Any) -> list[str]:
    """The names of the arguments that have to be given; none if they are not known."""
    from inspect import Parameter, signature  # most factories need no explanation

    try:
        parameters = signature(factory).parameters.values()
    except Exception:  # as of some functions in C, or of the application's own code
        return []
    optional = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD
    return [each.name for each in parameters if each.default is Parameter.empty and each.kind not in optional]


def _failed(what: str, error: BaseException, hint: str = "") -> LoadError:
    try:
        words = str(error)
    except Exception as wrong:  # the application's own code, too
        words = f"str() of it failed: {name_of(wrong)}"
    return LoadError(f"{what} failed: {name_of(error)}: {words}{hint}", own=True)
