"""Fixtures for tests of the SQLite store."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a database that does not exist yet."""
    return tmp_path / "streams.db"
