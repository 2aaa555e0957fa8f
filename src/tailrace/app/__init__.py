"""FastAPI applications that are ready to run: the tour, and what `tailrace serve` serves."""

from __future__ import annotations

from tailrace.app.access import ACCESS_LOGGER, AccessLog
from tailrace.app.guard import LOOPBACK_HOSTS
from tailrace.app.serving import STREAMS, Served, create_app, create_served
from tailrace.app.settings import ANY_HOST, Settings, send_timeout_of
from tailrace.app.tour import create_tour

__all__ = [
    "ACCESS_LOGGER",
    "ANY_HOST",
    "LOOPBACK_HOSTS",
    "STREAMS",
    "AccessLog",
    "Served",
    "Settings",
    "create_app",
    "create_served",
    "create_tour",
    "send_timeout_of",
]
