"""Batching, backpressure, deadlines, heartbeat, fairness: the only loop."""

from tailrace.pump.delivery import Head
from tailrace.pump.open_streams import Drained, drain
from tailrace.pump.stats import Ending, Stats, stats
from tailrace.pump.stream import serve

__all__ = ["Drained", "Ending", "Head", "Stats", "drain", "serve", "stats"]
