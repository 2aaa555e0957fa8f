"""Fixtures for the tests of `Files`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.files.tree import make_tree


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that is served; no test changes it."""
    return make_tree(tmp_path_factory.mktemp("tree"))
