"""The loggers of the gateway's own modules: they stay as they are when an application configures structlog.

structlog has one configuration for the whole process, and applications that log by it set theirs when they
are imported. Its processors expect what the application says: of the gateway's entries they would make
something else, or nothing, or fail, and the daemon with them.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import structlog

Make: TypeAlias = Callable[[Any], Any]

_settled: Final[list[Make]] = []
"""The one that makes loggers; none before `settle`."""


def get_logger() -> Any:
    """A logger that is as `settle` says, whenever that is; before, as structlog is configured."""
    return structlog.wrap_logger(object(), wrapper_class=cast(Any, _bound), context_class=dict)


def settle(make: Make | None) -> None:
    """Have *make* make the loggers that were not used yet, of their context; None: as before `settle`."""
    _settled[:] = [] if make is None else [make]


def _bound(_logger: object, *, processors: Any, context: Any) -> Any:
    if _settled:
        return _settled[0](context)
    config = structlog.get_config()
    return config["wrapper_class"](config["logger_factory"](), processors=processors, context=context)
