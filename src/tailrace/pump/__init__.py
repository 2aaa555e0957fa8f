"""Batching, backpressure, deadlines, heartbeat, fairness: the only loop."""

from tailrace.pump.attached import ATTACH, Attached, AttachOffer, Frame, attach_offer
from tailrace.pump.connection import (
    CONNECTION,
    Connection,
    ServerConnection,
    extensions_of,
    reset,
)
from tailrace.pump.delivery import Head, Unsendable, name_of
from tailrace.pump.farewell import Farewell
from tailrace.pump.leaving import Leaving, has_left, leaving_of
from tailrace.pump.lifespan import answer_lifespan
from tailrace.pump.open_streams import (
    Drained,
    drain,
    drain_beside,
    registered,
    shutdown_event,
    tell_stopping,
)
from tailrace.pump.passage import is_clear, leads_to
from tailrace.pump.stats import Ending, Stats, counters, log, stats
from tailrace.pump.stream import serve
from tailrace.pump.whole import send_whole

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
    "Head",
    "Leaving",
    "ServerConnection",
    "Stats",
    "Unsendable",
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
    "name_of",
    "registered",
    "reset",
    "send_whole",
    "serve",
    "shutdown_event",
    "stats",
    "tell_stopping",
]
