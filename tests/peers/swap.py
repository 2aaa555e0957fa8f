"""A pytest plugin that replaces a package's names with ours, as a changed import does.

It runs in the process that runs the package's tests. There `tests` is the package's own, so this is
loaded as the top-level module `swap`, and imports nothing of our tests.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["pytest_addoption", "pytest_configure"]

PRIVATE = (
    *("_ensure_watcher_started_on_this_loop", "_get_shutdown_state", "_get_uvicorn_server"),
    "_shutdown_watcher",
)
"""Private names that sse-starlette's tests import. With ours, only tests that call them fail."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", choices=list(SWAPS), required=True)
    parser.addoption("--ours", action="store_true")
    parser.addoption("--outcomes", metavar="FILE", required=True)


def pytest_configure(config: pytest.Config) -> None:
    # Plugins named with -p are configured before any test module is imported.
    name = config.getoption("--suite")
    if name == "sse-starlette":
        complete_sse_starlette(config)
    if config.getoption("--ours"):
        SWAPS[name]()
    config.pluginmanager.register(Outcomes(Path(config.getoption("--outcomes"))), "their-outcomes")


def complete_sse_starlette(config: pytest.Config) -> None:
    """Add what sse-starlette's tests need of its repository, and its source on PyPI lacks."""
    helper = types.ModuleType("tests.anyio_compat")
    utils = importlib.import_module("sse_starlette._utils")
    helper.collapse_excgroups = utils.collapse_excgroups  # type: ignore[attr-defined]
    sys.modules[helper.__name__] = helper
    config.pluginmanager.register(Fixtures(), "their-fixtures")


class Fixtures:
    """Fixtures for sse-starlette's tests: asyncio alone, and no server that is stopping."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(autouse=True)
    def status(self) -> Iterator[None]:
        module = importlib.import_module("sse_starlette.sse")
        yield
        module.AppStatus.should_exit = True  # ends everything that still waits for it
        module.AppStatus.should_exit = False
        module.AppStatus.enable_automatic_graceful_drain = True
        vars(getattr(module, "_thread_state", types.SimpleNamespace())).clear()


def swap_sse_starlette() -> None:
    ours = {
        f"sse_starlette{part}": importlib.import_module(f"tailrace.compat.sse_starlette{part}")
        for part in ("", ".event", ".sse")
    }
    for name in PRIVATE:
        setattr(ours["sse_starlette.sse"], name, functools.partial(_missing, name))
    sys.modules.update(ours)


def _missing(name: str, *_: Any, **__: Any) -> None:
    raise NotImplementedError(f"{name} is a part of sse-starlette's inside")


def swap_fastapi() -> None:
    import fastapi.responses
    import fastapi.routing
    import fastapi.sse
    import starlette.responses

    import tailrace

    places: list[types.ModuleType] = [starlette.responses, fastapi.responses, fastapi.routing]
    for module in places:
        for name in {"StreamingResponse", "FileResponse"} & vars(module).keys():
            setattr(module, name, getattr(tailrace, name))
    # Not in `fastapi.routing`, which recognises its own class by this name and frames the items.
    for module in (fastapi.responses, fastapi.sse):
        setattr(module, "EventSourceResponse", tailrace.EventSourceResponse)  # noqa: B010
    made = fastapi.routing.APIRouter.__init__

    @functools.wraps(made)
    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **{"route_class": tailrace.StreamRoute, **kwargs})

    fastapi.routing.APIRouter.__init__ = make  # type: ignore[method-assign] # the way to all routers


SWAPS = {"sse-starlette": swap_sse_starlette, "fastapi": swap_fastapi}


class Outcomes:
    """Writes the outcome of each test to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test fails if any of its phases fails; it passes if its call passes.
        if report.failed or (report.when == "call" and report.nodeid not in self._outcomes):
            self._outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(self._outcomes))
