"""A pytest plugin that replaces a class of `starlette.responses` with another.

It runs in the process that runs Starlette's tests. There `tests` is Starlette's own, so this is
loaded as the top-level module `replace`, and imports nothing of our tests.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import starlette.responses

__all__ = ["pytest_addoption", "pytest_configure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--replaced", metavar="CLASS", required=True)
    parser.addoption("--by", metavar="MODULE:CLASS", required=True)
    parser.addoption("--outcomes", metavar="FILE", required=True)


def pytest_configure(config: pytest.Config) -> None:
    # Plugins named with -p are configured before any test module is imported.
    name = config.getoption("--replaced")
    original = getattr(starlette.responses, name)
    module, _, attribute = config.getoption("--by").partition(":")
    replacement = getattr(importlib.import_module(module), attribute)
    # Starlette's own modules may hold the class already: `staticfiles` imports FileResponse.
    for loaded in list(sys.modules.values()):
        if loaded.__name__.startswith("starlette.") and vars(loaded).get(name) is original:
            setattr(loaded, name, replacement)
    outcomes = Outcomes(replacement, Path(config.getoption("--outcomes")))
    config.pluginmanager.register(outcomes, "outcomes")


class Outcomes:
    """Writes the outcome of each test, and in which tests a response of the class was sent."""

    def __init__(self, response: type[Any], path: Path) -> None:
        self._path = path
        self._test = ""
        self._outcomes: dict[str, str] = {}
        self._sent_in: set[str] = set()
        self._watch(response)

    def _watch(self, response: type[Any]) -> None:
        original = response.__call__

        async def call(response: Any, scope: Any, receive: Any, send: Any) -> None:
            self._sent_in.add(self._test)
            await original(response, scope, receive, send)

        response.__call__ = call

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._test = item.nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test fails if any of its phases fails; it passes if its call passes.
        if report.failed or (report.when == "call" and report.nodeid not in self._outcomes):
            self._outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        content = {"outcomes": self._outcomes, "sent_in": sorted(self._sent_in)}
        self._path.write_text(json.dumps(content))
