"""Whether a store's file is right in itself: what SQLite can say, and what only we know."""

from __future__ import annotations

import os
from typing import Final

import apsw

from tailrace.store.sqlite import schema
from tailrace.store.sqlite.connection import DRIVER_ERRORS, close, failure_of, moment, open_reader
from tailrace.store.sqlite.location import held

__all__ = ["verify"]

_KEPT: Final = """
WITH kept AS (
  SELECT s.id, s.base, s.low, s.tail, s.records, c.tail AS stop, c.tail - length(c.data) AS start,
    lag(c.tail) OVER (PARTITION BY s.id ORDER BY c.tail) AS former,
    lead(c.tail) OVER (PARTITION BY s.id ORDER BY c.tail) AS next
  FROM stream s JOIN chunk c ON c.sid = s.id AND c.tail > s.low
  WHERE s.path IS NOT NULL
)
"""
"""The chunks of streams that can be reached, without those that only wait to be deleted."""

_CHECKS: Final = (
    (
        "stream {}: a chunk that ends at {} does not begin where the one before ends",
        _KEPT + "SELECT id, stop FROM kept WHERE start <> ifnull(former, max(base, low))",
    ),
    (
        "stream {}: its last chunk ends at {}, not at its tail",
        _KEPT + "SELECT id, stop FROM kept WHERE next IS NULL AND stop <> tail",
    ),
    (
        "stream {}: it has no chunks, and its tail is {}",
        (
            "SELECT id, tail FROM stream s WHERE path IS NOT NULL AND tail <> max(base, low)"
            " AND NOT EXISTS (SELECT 1 FROM chunk WHERE sid = s.id AND tail > s.low)"
        ),
    ),
    (
        "stream {}: it has {} records, and its chunks are another number",
        (
            "SELECT id, records FROM stream s WHERE path IS NOT NULL AND records <>"
            " (SELECT count(*) FROM chunk WHERE sid = s.id AND tail > s.low)"
        ),
    ),
    (
        "stream {}: its source {} does not exist",
        (
            "SELECT id, source FROM stream s WHERE source IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM stream WHERE id = s.source AND path IS NOT NULL)"
        ),
    ),
    (
        "stream {}: what it inherits from {} is not there",
        (
            "SELECT s.id, l.value ->> 1 FROM stream s, json_each(s.lineage) l"
            " WHERE s.path IS NOT NULL AND NOT EXISTS (SELECT 1 FROM stream p"
            " WHERE p.id = l.value ->> 1 AND p.path IS NOT NULL AND l.value ->> 2 <= p.tail)"
        ),
    ),
    (
        "stream {}: it is kept for forks, and there are none ({})",
        (
            "SELECT id, path FROM stream s WHERE gone = 1 AND path IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM stream WHERE source = s.id)"
        ),
    ),
    (
        "chunks of stream {}, which does not exist ({} of them)",
        (
            "SELECT sid, count(*) FROM chunk c"
            " WHERE NOT EXISTS (SELECT 1 FROM stream WHERE id = c.sid) GROUP BY sid"
        ),
    ),
    (
        "producers of stream {}, which does not exist ({} of them)",
        (
            "SELECT sid, count(*) FROM producer p"
            " WHERE NOT EXISTS (SELECT 1 FROM stream WHERE id = p.sid) GROUP BY sid"
        ),
    ),
    (
        "stream {}: it is newer than the last that was given, {}",
        (
            "SELECT s.id, q.seq FROM stream s, sqlite_sequence q WHERE q.name = 'stream'"
            " AND s.id > q.seq"
        ),
    ),
)


def verify(path: str | os.PathLike[str], *, vfs: str | None = None) -> list[str]:
    """What is wrong with a store's file; empty if it is right.

    The file may be in use. All is read, in one transaction: seconds for a large file.

    Args:
        path: The file.
        vfs: A file system layer of SQLite by name.

    Raises:
        StoreUnavailable: It cannot be opened, or is no store.
    """
    file = os.path.realpath(os.fspath(path))
    try:
        with held(file, schema.look_at):
            connection = open_reader(file, vfs=vfs)
            try:
                schema.verify_identity(connection, file)
                return _problems(connection)
            finally:
                close(connection)
    except DRIVER_ERRORS as error:
        raise failure_of(file, error) from error


def _problems(connection: apsw.Connection) -> list[str]:
    problems: list[str] = []
    try:
        with moment(connection):
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
            if found != ["ok"]:
                return found  # what is in damaged pages cannot be asked for
            for words, sql in _CHECKS:
                problems += (words.format(*row) for row in connection.execute(sql))
    except apsw.CorruptError as error:
        problems.append(f"a page cannot be read: {error}")
    return problems
