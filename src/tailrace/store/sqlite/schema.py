"""The tables of a store's file, how they are made, and how a wrong file is recognised.

```
stream    one row for each stream; `id` is its generation, so it is never given twice
chunk     one row for each append: the bytes that end at `tail`
producer  the last epoch and sequence of each producer of a stream
probe     one row that a health check writes
```

A row of `stream` without a path is dead: no request can reach it, and its chunks are deleted in
slices. A row that is `gone` and has a path was deleted or has expired while forks read it. Whether
it still has forks is looked up in the index `stream_source`: there is no counter that could become
wrong.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

import apsw

from tailrace.errors import StoreCorrupt, StoreUnavailable, StoreVersion
from tailrace.store.private import APPLICATION_ID
from tailrace.store.sqlite.connection import (
    DRIVER_ERRORS,
    close,
    failure_of,
    open_reader,
    read_transaction,
)
from tailrace.store.sqlite.location import held_open, refuse_links

__all__ = ["VERSION", "check_driver", "look_at", "prepare", "verify", "verify_identity"]

VERSION: Final = 1

_MAGIC: Final = b"SQLite format 3\0"

_OLDEST: Final = 3_051_003
"""SQLite before 3.51.3 can damage a log that two processes write to (the "WAL-reset bug")."""

_TABLES: Final = """
CREATE TABLE stream(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  path TEXT UNIQUE,
  content_type TEXT NOT NULL,
  lineage TEXT,
  base INTEGER NOT NULL,
  tail INTEGER NOT NULL,
  low INTEGER NOT NULL,
  records INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  closer_id TEXT, closer_epoch INTEGER, closer_seq INTEGER,
  seq TEXT,
  ttl INTEGER, expires_at INTEGER, touched INTEGER NOT NULL,
  max_bytes INTEGER, max_records INTEGER, max_age INTEGER,
  fork TEXT,
  source INTEGER,
  created_at INTEGER NOT NULL,
  gone INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX stream_source ON stream(source) WHERE source IS NOT NULL;
CREATE INDEX stream_due ON stream(
  ifnull(expires_at, touched + ttl * 1000 + min(max(1000, ttl * 100), ttl * 250))
) WHERE gone = 0 AND (ttl IS NOT NULL OR expires_at IS NOT NULL);
CREATE INDEX stream_age ON stream(id) WHERE max_age IS NOT NULL AND gone = 0;
CREATE INDEX stream_low ON stream(id) WHERE low > 0;
CREATE INDEX stream_dead ON stream(id) WHERE path IS NULL;
CREATE TABLE chunk(
  id INTEGER PRIMARY KEY,
  sid INTEGER NOT NULL,
  tail INTEGER NOT NULL,
  at INTEGER NOT NULL,
  data BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX chunk_place ON chunk(sid, tail);
CREATE TABLE producer(
  sid INTEGER NOT NULL,
  pid TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY(sid, pid)
) STRICT, WITHOUT ROWID;
CREATE TABLE probe(id INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;
"""


def check_driver(store: str) -> None:
    """Refuse a SQLite that can damage the file.

    Raises:
        StoreUnavailable: It is older than 3.51.3.
    """
    if apsw.SQLITE_VERSION_NUMBER < _OLDEST or int(_linked()) < _OLDEST:
        raise StoreUnavailable(
            store, f"needs SQLite 3.51.3 or later, not {apsw.sqlite_lib_version()}: install apsw"
        )


def _linked() -> int:
    major, minor, patch = (int(part) for part in apsw.sqlite_lib_version().split(".")[:3])
    return major * 1_000_000 + minor * 1000 + patch


def look_at(path: str) -> None:
    """Refuse a file that is not a store; SQLite is not used, for it could change what it opens.

    Raises:
        StoreCorrupt: It is not a store.
        StoreVersion: It has another version.
        StoreUnavailable: `refuse_links` refuses it.
    """
    refuse_links(path)
    with open(path, "rb") as file:
        header = file.read(100)
    if not header:
        return
    # A file with a journal and without our application id, which begins as a database or with
    # zeros: the power was cut while it was made. SQLite will roll it back to an empty file.
    is_unfinished = os.path.exists(f"{path}-journal")
    ours = int.from_bytes(header[68:72], "big")
    if is_unfinished and not ours and header.startswith((_MAGIC, bytes(16))):
        return
    # `PRAGMA auto_vacuum` writes the first page in a transaction of its own. A file of one page
    # has no table, so it belongs to no application yet: `prepare` looks closer.
    one_page = int.from_bytes(header[16:18], "big")
    if header.startswith(_MAGIC) and not ours and os.path.getsize(path) <= one_page:
        return
    if not header.startswith(_MAGIC[: len(header)]):
        raise StoreCorrupt(path, "is not a store: its file is something else, and stays as it is")
    if ours != APPLICATION_ID:
        raise StoreCorrupt(path, "is a database of another application, and stays as it is")
    _check_version(path, int.from_bytes(header[60:64], "big"))


def prepare(connection: apsw.Connection, path: str) -> None:
    """Make the tables if the file is empty; the caller holds the lock.

    All is written in one transaction, before the write-ahead log is turned on. So the application
    id and the version, by which a store is recognised, are in the file itself and not in the log.
    """
    if (
        connection.pragma("application_id") == 0
        and not connection.execute("SELECT count(*) FROM sqlite_schema").get
    ):
        connection.pragma("auto_vacuum", "INCREMENTAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_TABLES)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", VERSION)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(apsw.Error):
                connection.execute("ROLLBACK")
            raise
    verify_identity(connection, path)


def verify_identity(connection: apsw.Connection, path: str) -> None:
    """Refuse a database that is not a store.

    Raises:
        StoreCorrupt: It is another application's.
        StoreVersion: It has another version.
    """
    if connection.pragma("application_id") != APPLICATION_ID:
        raise StoreCorrupt(path, "is a database of another application, and stays as it is")
    _check_version(path, int(connection.pragma("user_version")))


def _check_version(path: str, version: int) -> None:
    if version != VERSION:
        raise StoreVersion(
            path,
            f"has version {version}, and this Tailrace can read {VERSION}: install a newer one",
        )


# Checks of a file: those of SQLite, and ours ------------------------------------------------------

_KEPT: Final = """
WITH kept AS (
  SELECT s.id, s.base, s.low, s.tail, s.records, c.tail AS stop, c.tail - length(c.data) AS start,
    lag(c.tail) OVER (PARTITION BY s.id ORDER BY c.tail) AS former,
    lead(c.tail) OVER (PARTITION BY s.id ORDER BY c.tail) AS next
  FROM stream s JOIN chunk c ON c.sid = s.id AND c.tail > s.low
  WHERE s.path IS NOT NULL
)
"""
"""The chunks of streams that can be reached, without chunks that only wait to be deleted."""

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
    """The problems of a store's file, a text for each; empty if there are none.

    The file may be in use. All of it is read in one transaction, which takes seconds for a large
    file.

    Args:
        path: The file.
        vfs: A file system layer (VFS) of SQLite, by name; None is the system's.

    Raises:
        StoreUnavailable: It cannot be opened, or is not a store.
    """
    file = os.path.realpath(os.fspath(path))
    try:
        with held_open(file, look_at):
            connection = open_reader(file, vfs=vfs)
            try:
                verify_identity(connection, file)
                return _problems(connection)
            finally:
                close(connection)
    except DRIVER_ERRORS as error:
        raise failure_of(file, error) from error


def _problems(connection: apsw.Connection) -> list[str]:
    problems: list[str] = []
    try:
        with read_transaction(connection):
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
            if found != ["ok"]:
                return found  # damaged pages cannot be queried
            for words, sql in _CHECKS:
                problems += (words.format(*row) for row in connection.execute(sql))
    except apsw.CorruptError as error:
        problems.append(f"a page cannot be read: {error}")
    return problems
