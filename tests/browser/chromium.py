"""A fixture with a real Chromium, Debian's package; the conftest at the root loads it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["ARGUMENTS", "chromium", "path_of_chromium", "running_chromium"]

# The browser sends no requests of its own, and needs no GPU and no sandbox.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def path_of_chromium() -> str:
    path = shutil.which("chromium")
    assert path, "there is no chromium on the PATH: apt-get install chromium"
    return path


@contextlib.contextmanager
def running_chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # takes half a second, which most runs save

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path_of_chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A Chromium for one module, because Playwright's loop must not run beside async tests."""
    with running_chromium() as browser:
        yield browser
