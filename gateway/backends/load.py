"""Finds the application that ``module:attribute`` names, and says plainly why if it cannot.

Every mistake is a StartError of one line that names the backend and what to look at; the traceback of
an application's own code goes to the log.
"""

import importlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import structlog

from gateway.backend import StartError

log = structlog.get_logger()


def load_application(target: str, *, directory: Path | None, factory: bool, backend: str) -> Any:
    """Import the module, with *directory* first on the search path, and get the attribute.

    The attribute may be dotted. With *factory* it is called, and what it returns is the application.
    *directory* stays on the search path: applications import as they run. Raises StartError.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise StartError(f"backend {backend}: expected 'module:attribute', got {target!r}")
    if directory is not None:
        _put_first(directory)
        _check_not_shadowed(module_name.partition(".")[0], directory, backend)
    try:
        application: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            where = f" (searched {directory} first)" if directory is not None else ""
            raise StartError(f"backend {backend}: there is no module {error.name!r}{where}") from error
        raise _failed(f"the import of {module_name}", error, backend) from error
    except (Exception, SystemExit) as error:
        raise _failed(f"the import of {module_name}", error, backend) from error
    for name in attribute.split("."):
        try:
            application = getattr(application, name)
        except AttributeError as error:
            raise StartError(f"backend {backend}: {module_name!r} has no attribute {attribute!r}") from error
    if factory:
        application = _made_by(application, target, backend)
    if not callable(application):
        raise StartError(f"backend {backend}: {target} is not callable, but a {type(application).__name__}")
    return application


def _put_first(directory: Path) -> None:
    entry = str(directory.absolute())
    if entry in sys.path:
        sys.path.remove(entry)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()


def _check_not_shadowed(name: str, directory: Path, backend: str) -> None:
    """Two applications of one process cannot both have a module ``app``: say so, do not mix them up."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    spec = PathFinder.find_spec(name, [str(directory.absolute())])
    if loaded is None or spec is None or spec.origin is None:
        return
    if Path(loaded).resolve() != Path(spec.origin).resolve():
        raise StartError(
            f"backend {backend}: {spec.origin} cannot be imported, because {loaded} is the module {name!r} "
            "already; applications inside one daemon need different module names"
        )


def _made_by(factory: Any, target: str, backend: str) -> Any:
    if not callable(factory):
        raise StartError(f"backend {backend}: {target} is not a factory, but a {type(factory).__name__}")
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise _failed(f"the factory {target}", error, backend) from error


def _failed(what: str, error: BaseException, backend: str) -> StartError:
    log.error("application cannot be loaded", backend=backend, exc_info=error)
    return StartError(f"backend {backend}: {what} failed: {type(error).__name__}: {error}")
