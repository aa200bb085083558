"""Libraries are the same for applications, whether what they could do without was there or not."""

import re
import subprocess
import sys

import pytest

from gateway.runtime.lean import without_plugins
from tests.gateway.test_daemon import ROOT

# An application that logs an exception by structlog's own means, as text and as data.
APPLICATION = """
import io
import sys
{prepare}
import structlog
assert ("rich" in sys.modules) is {rich}

def fail(words):
    raise RuntimeError("it failed")

shown = io.StringIO()
for renderer in (structlog.dev.ConsoleRenderer(), structlog.processors.JSONRenderer(sort_keys=True)):
    structlog.configure(
        processors=[
            *([structlog.processors.dict_tracebacks] if "JSON" in repr(renderer) else []),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(shown),
    )
    try:
        fail(["some", "words"] * 20)
    except RuntimeError:
        structlog.get_logger().error("failed", exc_info=True)
print(shown.getvalue())
"""


def plain(text: str) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def logged(prepare: str, *, rich: bool) -> str:
    told = subprocess.run(
        [sys.executable, "-c", APPLICATION.format(prepare=prepare, rich=rich)],
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return re.sub(r"0x[0-9a-f]+ *", "0x", plain(told.stdout))


def test_structlog_draws_tracebacks_as_ever() -> None:
    lean = logged("import gateway.runtime.lean; gateway.runtime.lean.import_structlog()", rich=False)
    assert "╭" in lean
    assert lean == logged("import gateway.runtime.lean", rich=True)


@pytest.mark.parametrize(
    "prepare",
    [
        "import rich; import gateway.runtime.lean; gateway.runtime.lean.import_structlog()",
        "import structlog; import gateway.runtime.lean; gateway.runtime.lean.import_structlog()",
    ],
)
def test_what_is_there_already_stays(prepare: str) -> None:
    assert "╭" in logged(prepare, rich=True)


def test_structlog_that_wants_more_of_rich_is_imported_as_usual() -> None:
    # A stand-in cannot be a base class.
    prepare = """
from gateway.runtime import lean
lean._Later = None
lean.import_structlog()
assert "structlog" not in sys.modules
"""
    assert "╭" in logged(prepare, rich=True)


def test_the_loader_of_plugins_is_there_for_applications() -> None:
    from pydantic.plugin import _loader

    with without_plugins():
        assert sys.modules["pydantic.plugin._loader"].get_plugins() == ()
    assert sys.modules["pydantic.plugin._loader"] is _loader


def test_pydantic_that_wants_more_of_its_loader_has_it() -> None:
    with without_plugins():
        from pydantic.plugin._loader import PYDANTIC_ENTRY_POINT_GROUP, get_plugins

    assert PYDANTIC_ENTRY_POINT_GROUP == "pydantic"
    assert list(get_plugins()) == []
