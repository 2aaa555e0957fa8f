"""What one batch writes, in one transaction.

Each step of an SQL statement releases the interpreter's lock (GIL), and the thread that takes it
may keep it for 5 ms. With a busy event loop, six statements for a commit (begin, check, three
tables, commit) took 27 ms. So an ordinary batch, of appends only, is one statement that is stepped
once: an INSERT of many rows into a temporary view, whose triggers write to the three tables. That
one step begins, checks, writes, syncs and commits. It takes 7 ms under the same load, and is not
slower without load.

Its first row is a guard: within the transaction, a trigger compares the file's `data_version` with
the one at which the cache was read. If another process wrote meanwhile, nothing is written.

A batch that needs more (a fork that reads its source's bytes, a deletion, a trim) begins an
explicit transaction. The rows collected so far are written before each further statement, so that
it sees what it would see if each operation had been committed alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import apsw

from tailrace.store.rules import State
from tailrace.store.sqlite.rows import INSERT_STREAM, row_of
from tailrace.store.values import Append

__all__ = ["Stale", "Transaction", "make_inbox"]

_WIDTH: Final = 14

_INBOX: Final = """
CREATE TEMP VIEW inbox(
  sid, start, tail, at, data, records, closed, closer_id, closer_epoch, closer_seq, seq,
  pid, epoch, pseq
) AS SELECT 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0;
CREATE TEMP TRIGGER inbox_guard INSTEAD OF INSERT ON inbox WHEN NEW.sid < 0 BEGIN
  SELECT RAISE(ABORT, 'stale')
  WHERE (SELECT data_version FROM pragma_data_version) <> NEW.start;
END;
CREATE TEMP TRIGGER inbox_append INSTEAD OF INSERT ON inbox WHEN NEW.sid > 0 BEGIN
  INSERT INTO main.chunk(sid, tail, at, data)
    SELECT NEW.sid, NEW.tail, NEW.at, NEW.data WHERE NEW.data IS NOT NULL;
  UPDATE main.stream SET
    tail = NEW.tail, records = NEW.records, touched = NEW.at, closed = NEW.closed,
    closer_id = NEW.closer_id, closer_epoch = NEW.closer_epoch, closer_seq = NEW.closer_seq,
    seq = NEW.seq
  WHERE id = NEW.sid;
  INSERT INTO main.producer(sid, pid, epoch, seq)
    SELECT NEW.sid, NEW.pid, NEW.epoch, NEW.pseq WHERE NEW.pid IS NOT NULL
    ON CONFLICT(sid, pid) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq;
END;
"""

_ROW: Final = f"({','.join('?' * _WIDTH)})"
_SIZES: Final = tuple(2**power for power in range(1, 10))
_STATEMENTS: Final = {size: f"INSERT INTO inbox VALUES{','.join([_ROW] * size)}" for size in _SIZES}
"""A statement for each power of two rows, so that each stays prepared. Rows that are left over are
NULL, and no trigger acts on them."""

_PADDING: Final = {size: (None,) * (_WIDTH * size) for size in range(_SIZES[-1])}


class Stale(Exception):
    """Another process wrote to the file since the cache was read; nothing was written."""


def make_inbox(connection: apsw.Connection) -> None:
    """Make the view and its triggers; they are temporary, and not in the file."""
    connection.execute(_INBOX)


class Transaction:
    """Collects what a batch writes, and writes it.

    Args:
        connection: The writer thread's.
        version: The `data_version` at which the cache was read.
    """

    def __init__(self, connection: apsw.Connection, version: int) -> None:
        self._connection = connection
        self._version = version
        self._created: list[tuple[Any, ...]] = []
        self._rows: list[Any] = []
        self._began = False

    def create(self, state: State, source: int | None) -> None:
        """Add the row of a new stream."""
        self._created.append(row_of(state, source))

    def append(self, state: State, start: int, now: int, append: Append) -> None:
        """Add the row of an append that has been applied to the state.

        Args:
            state: The stream after the append.
            start: The stream's tail before it.
            now: Milliseconds since the epoch.
            append: What was asked.
        """
        closer = state.closer
        producer = append.producer
        self._rows += (
            state.generation,
            start,
            state.tail,
            now,
            append.data or None,
            state.records,
            state.closed,
            *((None, None, None) if closer is None else (closer.id, closer.epoch, closer.seq)),
            state.seq,
            *(
                (None, None, None)
                if producer is None
                else (producer.id, producer.epoch, producer.seq)
            ),
        )

    def execute(self, sql: str, bindings: tuple[Any, ...] = ()) -> apsw.Cursor:
        """Write what was collected so far, then run a statement in the same transaction."""
        self.flush()
        return self._connection.execute(sql, bindings)

    def flush(self) -> apsw.Connection:
        """Write what was collected, without a commit, so that later reads here see it.

        Raises:
            Stale: Another process wrote in between.
        """
        if not self._began:
            self._begin()
        if self._created:
            created, self._created = self._created, []
            self._connection.executemany(INSERT_STREAM, created)
        if self._rows:
            self._insert()
        return self._connection

    def commit(self) -> None:
        """Write all, durably.

        Raises:
            Stale: Another process wrote in between; nothing was written.
        """
        if self._began or self._created:
            self.flush()
            self._connection.execute("COMMIT")
            self._began = False
        elif self._rows:
            self._insert()

    def roll_back(self) -> None:
        """Undo what a failed batch has written so far."""
        if self._connection.in_transaction:
            with suppress(apsw.Error):  # many errors have ended the transaction already
                self._connection.execute("ROLLBACK")

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._began = True
        if self._connection.pragma("data_version") != self._version:
            raise Stale

    def _insert(self) -> None:
        rows, self._rows = self._rows, []
        longest = (_SIZES[-1] - 1) * _WIDTH
        for begin in range(0, len(rows), longest):
            some = rows[begin : begin + longest]
            count = len(some) // _WIDTH
            size = 1 << count.bit_length()  # the next power of two with room for the guard
            guard = (-1, self._version, *_PADDING[1][2:])
            values = (*guard, *some, *_PADDING[size - count - 1])
            try:
                self._connection.execute(_STATEMENTS[size], values)
            except apsw.ConstraintError as error:
                if str(error) == "stale":
                    raise Stale from error
                raise
