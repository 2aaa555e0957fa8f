"""What a server offers to a response, and what is known of the responses that are open."""

from __future__ import annotations

from tailrace.connection.connection import (
    ATTACH,
    CONNECTION,
    Attached,
    AttachOffer,
    Connection,
    Frame,
    ServerConnection,
    answer_lifespan,
    attach_offer,
    extensions_of,
    reset,
)
from tailrace.connection.leaving import Leaving, has_left, leaving_of
from tailrace.connection.middleware import is_clear, leads_to, sends_in_steps
from tailrace.connection.open_responses import (
    Drained,
    Farewell,
    OpenResponse,
    Responder,
    drain,
    drain_beside,
    shutdown_event,
    tell_stopping,
)
from tailrace.connection.stats import Ending, Stats, counters, log, stats

__all__ = [
    "ATTACH",
    "CONNECTION",
    "AttachOffer",
    "Attached",
    "Connection",
    "Drained",
    "Ending",
    "Farewell",
    "Frame",
    "Leaving",
    "OpenResponse",
    "Responder",
    "ServerConnection",
    "Stats",
    "answer_lifespan",
    "attach_offer",
    "counters",
    "drain",
    "drain_beside",
    "extensions_of",
    "has_left",
    "is_clear",
    "leads_to",
    "leaving_of",
    "log",
    "reset",
    "sends_in_steps",
    "shutdown_event",
    "stats",
    "tell_stopping",
]
