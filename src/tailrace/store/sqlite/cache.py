"""What the writer knows of streams and producers without looking into the file.

It holds as long as nobody else writes to the file; `lock.py` and the guard in `ledger.py` tell.
"""

from __future__ import annotations

from collections import OrderedDict

from tailrace import limits
from tailrace.store.sqlite.record import Record

__all__ = ["Cache"]

Known = tuple[int, int] | None
"""A producer's epoch and last sequence; None: the file has none."""


class Cache:
    """Streams and producers, those used last. Only `shrink` lets go of any, between two commits.

    Args:
        streams: As many are kept.
        producers: As many are kept, of all streams together.
    """

    def __init__(
        self,
        streams: int = limits.STORE_CACHED_STREAMS,
        producers: int = limits.STORE_CACHED_PRODUCERS,
    ) -> None:
        self._most_streams = streams
        self._most_producers = producers
        self.records: OrderedDict[str, Record] = OrderedDict()
        self.producers: OrderedDict[tuple[int, str], Known] = OrderedDict()
        self.version: int | None = None
        """SQLite's `data_version` with which all this was read; None: not known."""
        self.last_generation: int | None = None

    def clear(self) -> None:
        """Somebody else wrote, or a commit failed: nothing here is sure any more."""
        self.records.clear()
        self.producers.clear()
        self.version = None
        self.last_generation = None

    def shrink(self) -> None:
        """Let go of those that have not been used for longest."""
        while len(self.records) > self._most_streams:
            self.records.popitem(last=False)
        while len(self.producers) > self._most_producers:
            self.producers.popitem(last=False)
