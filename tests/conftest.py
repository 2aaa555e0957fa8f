"""Fixtures for every test."""

from __future__ import annotations

pytest_plugins = ["tailrace.testing.plugin", "tests.server_fixtures"]
