"""What is read of streams: within one transaction, from any connection.

Chunks come as two values, their bytes in one piece and their ends in one text, for the reason that
`record.py` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import apsw

from tailrace.store import rules
from tailrace.store.rules import State
from tailrace.store.values import Chunk, Cut, Offset

__all__ = ["border_at", "chunks_between"]

_AROUND: Final = """
SELECT tail, length(data), id FROM chunk WHERE sid = ?1 AND tail > ?2 ORDER BY tail LIMIT 1
"""
"""The append that ends after a position: found in the index, and of it no more than the header."""

_CHUNKS: Final = """
SELECT CAST(string_agg(data, '') AS BLOB), string_agg(tail, ',')
FROM (
  SELECT data, tail FROM chunk
  WHERE sid = ?1 AND tail > ?2 AND tail <= ifnull(
    (SELECT tail FROM chunk WHERE sid = ?1 AND tail >= ?3 ORDER BY tail LIMIT 1), ?3)
  ORDER BY tail LIMIT -1
)
"""
"""The appends that end after one position, up to the first that reaches another.

`LIMIT -1` keeps the inner order: SQLite leaves the order of a subquery away if it has no limit.
"""


def border_at(connection: apsw.Connection, state: State, position: int) -> int:
    """The nearest position between two messages that is not after a position.

    Args:
        connection: To the file, in a transaction if others write.
        state: The stream, of the same moment.
        position: Retained.
    """
    levels = [(level.generation, level.until) for level in state.lineage]
    for generation, stop in (*levels, (state.generation, state.tail)):
        if position < stop:
            row = connection.execute(_AROUND, (generation, position)).fetchone()
            end, length, chunk = row or (0, 0, 0)
            start = end - length
            if row is None or start > position:
                raise apsw.CorruptError(f"stream {generation}: nothing follows {position}")
            if start == position:
                return position
            data = connection.execute("SELECT data FROM chunk WHERE id = ?", (chunk,)).get
            return rules.border_in(state.content_type, start, data[: stop - start], position)
    return position


def chunks_between(
    connection: apsw.Connection, state: State, position: int, until: int
) -> Sequence[Chunk]:
    """What was appended after a position, up to the append that reaches another, or the tail.

    Args:
        connection: To the file, in a transaction if others write.
        state: The stream, of the same moment.
        position: Where it begins; retained.
        until: Where it may end.
    """
    pieces: list[bytes] = []
    ends: list[int] = []
    levels = [(level.generation, level.until) for level in state.lineage]
    for generation, stop in (*levels, (state.generation, state.tail)):
        if position < min(stop, until):
            piece, found = _of_level(connection, generation, (position, stop, until))
            if found:
                pieces.append(piece)
                ends += found
                position = found[-1]
    if not ends:
        return ()
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if not state.lineage:
        return Cut(data, ends, partial(Offset, state.generation))
    return Cut(data, ends, partial(rules.offset_at, state))


def _of_level(
    connection: apsw.Connection, generation: int, span: tuple[int, int, int]
) -> tuple[bytes, list[int]]:
    """One level's bytes, and the position after each of its chunks."""
    position, stop, until = span
    row = connection.execute(_CHUNKS, (generation, position, min(stop, until))).fetchone()
    assert row is not None  # an aggregate always has one
    data, tails = row
    if data is None:
        return b"", []
    ends = [int(end) for end in tails.split(",")]
    # A reader may begin within an append, and a fork within one of its source.
    start = ends[-1] - len(data)
    if start > position:
        raise apsw.CorruptError(f"stream {generation}: something is missing after {position}")
    ends[-1] = min(ends[-1], stop)
    return data[position - start : ends[-1] - start], ends
