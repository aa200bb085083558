"""Compiles the modules on the way of a request by mypyc, where there is a C compiler.

The sources stay ordinary Python: without a compiler, or with GATEWAY_COMPILE=0, the same modules are
installed as they are, and cost up to half as much CPU time again. An editable installation is never
compiled, because what is edited there has to be what runs.

Compiled once more with a profile of its own work (`make build`), small requests cost another tenth to sixth
less: of 10 MB of machine code they run through a few hundred KB, which the compiler then keeps together.
"""

import json
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from pybind11.setup_helpers import ParallelCompile
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.dist import Distribution

ROOT = Path(__file__).parent

COMPILED = (
    "gateway/backends/ajp.py",
    "gateway/backends/application.py",
    "gateway/backends/asgi/backend.py",
    "gateway/backends/asgi/host.py",
    "gateway/backends/asgi/http.py",
    "gateway/backends/asgi/messages.py",
    "gateway/backends/asgi/scope.py",
    "gateway/backends/asgi/settings.py",
    "gateway/backends/asgi/websocket/*.py",
    "gateway/backends/cgi/*.py",
    "gateway/backends/forwarded.py",
    "gateway/backends/http.py",
    "gateway/backends/intake.py",
    "gateway/backends/target.py",
    "gateway/backends/wsgi/__init__.py",
    "gateway/backends/wsgi/backend.py",
    "gateway/backends/wsgi/call.py",
    "gateway/backends/wsgi/from_options.py",
    "gateway/backends/wsgi/head.py",
    "gateway/backends/wsgi/streams.py",
    "gateway/backends/wsgi/stuck.py",
    "gateway/backends/wsgi/threads.py",
    "gateway/derived.py",
    "gateway/environ.py",
    "gateway/filters/*.py",
    "gateway/front/*.py",
    "gateway/front/http1/*.py",
    "gateway/front/http2/*.py",
    "gateway/hosted/backend.py",
    "gateway/hosted/inside.py",
    "gateway/local_redirect.py",
    "gateway/logs/access.py",
    "gateway/net/doorbell.py",
    "gateway/net/io_manager.py",
    "gateway/net/outbox.py",
    "gateway/net/pump.py",
    "gateway/net/resumption.py",
    "gateway/net/stream.py",
    "gateway/networks.py",
    "gateway/passing.py",
    "gateway/path_pattern.py",
    "gateway/programs/process.py",
    "gateway/protocols/**/*.py",
    "gateway/references.py",
    "gateway/request.py",
    "gateway/router.py",
    "gateway/shutdown/notice.py",
    "gateway/slots.py",
    "gateway/static/*.py",
    "gateway/target.py",
    "gateway/tls/stream.py",
    "gateway/upstream/*.py",
)
"""What each request runs through. What runs once stays as it is: it gains nothing. So does what crashes
when mypyc 2.4 has compiled it, in gateway/backends/asgi: the asyncio host (guest.py and errand.py), when
its `wait` is cancelled, and a dict that is called (shutdown_wait.py). The ways into applications
(crossing.py, entry.py) cost the same compiled. A class that derives from one of `io`
(gateway/backends/wsgi/input.py) cannot be imported compiled with Python 3.12 and newer.
"""


_MYPY_OPTIONS = ("--config-file=", "--no-site-packages", "--ignore-missing-imports")
"""Types of libraries are not looked at: what is built is the same whether they are installed or not."""

_OWN_SYMBOLS = ("-fvisibility=hidden",)
"""Nobody links to what is built. If they could, 13,000 symbols would be looked up at each start."""

_THROW = "PyObject_CallFunctionObjArgs(_m, type, value, traceback, NULL)"
_THROW_ONE = "PyObject_CallOneArg(_m, value)"
"""How a compiled coroutine passes on what is thrown into it. Python 3.12 and newer warn of the three
arguments of mypyc 2.4, whenever an asyncio task that waits in here is cancelled; where warnings are errors it
is not.
"""

_DESCRIBES = frozenset(("egg_info", "dist_info", "sdist"))
"""Commands that build nothing."""

_TRANSLATED = "extensions.json"
"""What has been translated, between the two steps of a build with a profile."""

_INCLUDED = "included"
"""What it includes of mypyc."""


def wanted() -> bool:
    """Whether to compile. GATEWAY_COMPILE=1 insists on it: without a compiler the build then fails.

    What mypyc 2.4 makes for a free-threaded Python claims to be safe there, which it is not: applications of
    WSGI have threads.
    """
    if not _DESCRIBES.isdisjoint(sys.argv):
        return False  # only metadata are wanted; translating takes a minute
    choice = os.environ.get("GATEWAY_COMPILE", "")
    if choice:
        return choice != "0"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("gateway is not compiled: threads of a free-threaded Python would disturb it", file=sys.stderr)
        return False
    editable = "editable_wheel" in sys.argv or "develop" in sys.argv
    return not editable and can_compile()


def can_compile() -> bool:
    """Whether an extension module can be built: a compiler and Python's headers are here."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "probe.c")
        source.write_text("#include <Python.h>\n")
        command = build_ext(Distribution({"ext_modules": [Extension("probe", [str(source)])]}))
        command.build_temp = command.build_lib = directory
        try:
            command.ensure_finalized()
            command.run()
        except Exception as error:  # distutils has no common class for "there is no compiler"
            print(f"gateway is not compiled: {error}", file=sys.stderr)
            return False
    return True


def extensions() -> list[Extension]:
    """The modules above as extension modules.

    GATEWAY_PROFILE=make:DIRECTORY compiles them so that they count there how often what is run, and
    GATEWAY_PROFILE=use:DIRECTORY once more, by those counts (gcc).
    """
    how, _, name = os.environ.get("GATEWAY_PROFILE", "").partition(":")
    directory = Path(name)
    if how == "make":
        made = translate()
        # What is included has the same path both times, too, by which gcc knows it.
        original, copy = Path(made[0].include_dirs[0]), directory / _INCLUDED
        shutil.copytree(original, copy, dirs_exist_ok=True)
        for each in made:
            each.include_dirs = [
                str(copy / name.relative_to(original) if name.is_relative_to(original) else name)
                for name in map(Path, each.include_dirs)
            ]
            each.depends = []
        (directory / _TRANSLATED).write_text(json.dumps([vars(each) for each in made]))
        flags = [f"-fprofile-generate={directory}"]
    elif how == "use":
        # The same C files: mypyc does not always put things in the same order.
        made = [restored(each) for each in json.loads((directory / _TRANSLATED).read_text())]
        # What was not run has no counts, and threads may have disturbed some: no reason for a warning,
        # which mypyc makes an error.
        flags = [f"-fprofile-use={directory}", "-fprofile-correction", "-Wno-error", "-Wno-missing-profile"]
    else:
        return translate()
    for each in made:
        each.extra_compile_args += flags
        each.extra_link_args += flags
    return made


def restored(attributes: dict[str, Any]) -> Extension:
    """An extension with *attributes*, of which mypyc has some that setuptools warns of as arguments."""
    extension = Extension(attributes["name"], attributes["sources"])
    vars(extension).update(attributes)
    return extension


def translate() -> list[Extension]:
    """C files of the modules, below build/."""
    from mypyc.build import mypycify

    found = sorted({str(path.relative_to(ROOT)) for pattern in COMPILED for path in ROOT.glob(pattern)})
    # A C file for each module: as one file of 100 MB they take the compiler three times as long.
    made = mypycify([*_MYPY_OPTIONS, *found], opt_level="3", debug_level="0", multi_file=True)
    for each in made:
        each.extra_compile_args = [*each.extra_compile_args, *_OWN_SYMBOLS]  # mypyc gives all the same list
    runtime = Path("build", "misc_ops.c")
    text = runtime.read_text()
    if _THROW not in text:
        raise RuntimeError(f"this mypyc throws in another way: see _THROW in {__file__}")
    runtime.write_text(text.replace(_THROW, _THROW_ONE))
    return made


ParallelCompile().install()  # all cores: setuptools compiles the files of an extension one by one
setup(ext_modules=extensions() if wanted() else [])
