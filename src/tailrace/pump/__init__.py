"""Batching, backpressure, deadlines, heartbeat, fairness: the only loop."""

from tailrace.pump.attached import ATTACH, Attached, AttachOffer, Frame, attach_offer
from tailrace.pump.connection import CONNECTION, Connection, ServerConnection, reset
from tailrace.pump.delivery import Head, name_of
from tailrace.pump.open_streams import Drained, drain
from tailrace.pump.stats import Ending, Stats, log, stats
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
    "Frame",
    "Head",
    "ServerConnection",
    "Stats",
    "attach_offer",
    "drain",
    "log",
    "name_of",
    "reset",
    "send_whole",
    "serve",
    "stats",
]
