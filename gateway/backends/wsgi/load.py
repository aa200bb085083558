"""Finds the application that ``module:attribute`` names, and says plainly why if it cannot."""

import sys
from importlib import import_module
from pathlib import Path
from wsgiref.types import WSGIApplication

import structlog

from gateway.backend import StartError

log = structlog.get_logger()


def load_application(target: str, *, directory: Path | None, factory: bool, backend: str) -> WSGIApplication:
    """Import the module, with *directory* in front of the search path, and get the attribute.

    The attribute may be dotted. With *factory* it is called, and what it returns is the application.
    Raises StartError; if the application's own code failed, its traceback goes to the log first.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise StartError(f"backend {backend}: expected 'module:attribute', got {target!r}")
    if directory is not None and str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    try:
        application: object = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            where = f" (searched {directory} first)" if directory is not None else ""
            raise StartError(f"backend {backend}: there is no module {error.name!r}{where}") from error
        raise _failed(f"the import of {module_name}", error, backend) from error
    except Exception as error:
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


def _made_by(factory: object, target: str, backend: str) -> object:
    if not callable(factory):
        raise StartError(f"backend {backend}: {target} is not a factory, but a {type(factory).__name__}")
    try:
        return factory()
    except Exception as error:
        raise _failed(f"the factory {target}", error, backend) from error


def _failed(what: str, error: Exception, backend: str) -> StartError:
    log.error("application cannot be loaded", backend=backend, exc_info=error)
    return StartError(f"backend {backend}: {what} failed: {type(error).__name__}: {error}")
