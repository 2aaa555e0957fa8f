"""How much of a stream is left, now: what is too old is gone though nobody has deleted it yet.

A reader leaves it out, and has the writer move the stream's `low`; chunks below that are deleted
later, in slices.
"""

from __future__ import annotations

from typing import Final

import apsw

from tailrace import limits
from tailrace.store import rules
from tailrace.store.rules import State, Trim
from tailrace.store.sqlite.record import Record, load_many

__all__ = ["low_now", "lows_now"]

_HEAD: Final = """
SELECT tail, at FROM chunk WHERE sid = ?1 AND tail > ?2 ORDER BY tail LIMIT ?4
"""
"""The first of what is retained. No look goes further: what it costs is bounded by what goes, and
by this, and not by what stays."""

_BY_BYTES: Final = f"SELECT max(tail) FROM ({_HEAD}) WHERE tail <= ?3"
_BY_RECORDS: Final = f"SELECT max(tail) FROM ({_HEAD})"
_BY_AGE: Final = f"""
SELECT max(tail) FROM ({_HEAD}) WHERE tail < ifnull(
  (SELECT tail FROM ({_HEAD}) WHERE at >= ?3 LIMIT 1), 9223372036854775807)
"""
"""All before the first that is young enough: the clock may have gone back in between."""


def low_now(connection: apsw.Connection, record: Record, now: int) -> int:
    """The earliest position that a stream's own retention keeps.

    Where more than `limits.STORE_TRIM_ROWS` appends are to go, it is that of so many; the writer
    goes on from there with its next commit. Who reads and who writes see the same.

    Args:
        connection: To the file, of the moment of the record.
        record: The stream.
        now: Milliseconds since the epoch.
    """
    trim = rules.trim_due(record.state, now, record.oldest)
    return record.state.low if trim is None else _low(connection, record.state, trim)


def lows_now(connection: apsw.Connection, record: Record, now: int) -> tuple[int, ...]:
    """The same for each level of a stream's lineage."""
    if not record.inherits_aging:
        return record.lows
    found: list[int] = []
    for level, low in zip(record.state.lineage, record.lows, strict=True):
        levels = load_many(connection, "WHERE id = ?", (level.generation,))
        found.append(low_now(connection, levels[0], now) if levels else low)
    return tuple(found)


def _low(connection: apsw.Connection, state: State, trim: Trim) -> int:
    most = limits.STORE_TRIM_ROWS
    bounds: list[tuple[str, int, int]] = []
    if trim.before is not None:
        bounds.append((_BY_BYTES, trim.before, most))
    if trim.records is not None:
        excess = state.records - trim.records
        bounds.append((_BY_RECORDS, 0, max(0, min(excess, most))))
    if trim.older_than is not None:
        bounds.append((_BY_AGE, trim.older_than, most))
    place = (state.generation, state.low)
    found = [connection.execute(sql, (*place, *values)).get for sql, *values in bounds]
    return max(state.low, *(int(position or 0) for position in found))
