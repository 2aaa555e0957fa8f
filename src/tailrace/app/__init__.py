"""FastAPI applications that are ready to run: the tour, and what `tailrace serve` serves."""

from __future__ import annotations

from tailrace.app.access import ACCESS_LOGGER, AccessLog
from tailrace.app.serving import create_app, create_served
from tailrace.app.settings import Settings
from tailrace.app.tour import create_tour

__all__ = ["ACCESS_LOGGER", "AccessLog", "Settings", "create_app", "create_served", "create_tour"]
