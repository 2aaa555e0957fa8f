"""Reading from the file: a stream's chunks, the store's queries, and the threads that read.

Chunks are fetched as two values, their bytes in one piece and their ends in one text, for the
reason that `rows.py` gives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

import apsw

from tailrace import limits
from tailrace.errors import StreamGone, StreamNotFound
from tailrace.store import rules
from tailrace.store.rules import State
from tailrace.store.sqlite.connection import (
    DRIVER_ERRORS,
    close,
    failure_of,
    is_damage,
    is_fatal,
    read_transaction,
)
from tailrace.store.sqlite.lifetime import LastAccess, expired_forks, low_now, lows_now
from tailrace.store.sqlite.rows import StoredStream, load, load_many
from tailrace.store.values import Chunk, Cut, Offset, Slice, StreamInfo, Where

__all__ = ["Queries", "Query", "Readers", "border_at", "chunks_between"]

# A stream's chunks: within one transaction, from any connection -----------------------------------

_AROUND: Final = """
SELECT tail, length(data), id FROM chunk WHERE sid = ?1 AND tail > ?2 ORDER BY tail LIMIT 1
"""
"""The first append that ends after a position; found by the index, without reading its data."""

_CHUNKS: Final = """
SELECT CAST(string_agg(data, '') AS BLOB), string_agg(tail, ',')
FROM (
  SELECT data, tail FROM chunk
  WHERE sid = ?1 AND tail > ?2 AND tail <= ifnull(
    (SELECT tail FROM chunk WHERE sid = ?1 AND tail >= ?3 ORDER BY tail LIMIT 1), ?3)
  ORDER BY tail LIMIT -1
)
"""
"""The appends that end after position ?2, up to the first that reaches position ?3.

`LIMIT -1` keeps the inner order: SQLite drops the ORDER BY of a subquery that has no limit.
"""


def border_at(connection: apsw.Connection, state: State, position: int) -> int:
    """The last position between two messages that is not after a position.

    Args:
        connection: To the file, in a transaction if others write.
        state: The stream, of the same moment.
        position: At or after the earliest that is retained.

    Raises:
        apsw.CorruptError: A chunk is missing.
    """
    levels = [(level.generation, level.until) for level in state.lineage]
    for generation, stop in (*levels, (state.generation, state.tail)):
        if position < stop:
            row = connection.execute(_AROUND, (generation, position)).fetchone()
            end, length, chunk = row or (0, 0, 0)
            start = end - length
            if row is None or start > position:
                raise apsw.CorruptError(
                    f"stream {generation}: the chunk after {position} is missing"
                )
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
        position: Where to begin; at or after the earliest that is retained.
        until: The append that reaches this position is the last.

    Raises:
        apsw.CorruptError: A chunk is missing.
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
    """One level's bytes in a span (position, stop, until), and the position after each chunk."""
    position, stop, until = span
    row = connection.execute(_CHUNKS, (generation, position, min(stop, until))).fetchone()
    assert row is not None  # an aggregate always has one
    data, tails = row
    if data is None:
        return b"", []
    ends = [int(end) for end in tails.split(",")]
    # A read may begin within an append, and a fork may branch off within one of its source.
    start = ends[-1] - len(data)
    if start > position:
        raise apsw.CorruptError(f"stream {generation}: the chunk after {position} is missing")
    ends[-1] = min(ends[-1], stop)
    return data[position - start : ends[-1] - start], ends


# Queries ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Queries:
    """The store's queries, each in a transaction of its own, on any connection.

    Args:
        accesses: When streams were last accessed in this process.
        clock: Milliseconds since the epoch.
        trim: Called in the reading thread with the path of a stream that has something to trim.
        see: Called in the reading thread with each stream that is read.
    """

    accesses: LastAccess
    clock: Callable[[], int]
    trim: Callable[[str], None]
    see: Callable[[State], None]

    def head(self, connection: apsw.Connection, path: str) -> StreamInfo:
        """What is known of a stream."""
        now = self.clock()
        with read_transaction(connection):
            stored = self._require(connection, path, now)
            return self._info(connection, stored, now)

    def read(self, connection: apsw.Connection, path: str, start: Where, max_bytes: int) -> Slice:
        """A part of a stream; counts as an access."""
        now = self.clock()
        with read_transaction(connection):
            stored = self._require(connection, path, now)
            state = stored.state
            self.accesses.note(state, now)
            first = self._first(connection, stored, now)
            position = border_at(connection, state, rules.locate(state, first, start))
            until = rules.read_until(position, max_bytes)
            chunks = chunks_between(connection, state, position, until)
        return Slice(rules.info_of(state, first), rules.offset_at(state, position), chunks)

    def list(
        self, connection: apsw.Connection, prefix: str, after: str, limit: int
    ) -> list[StreamInfo]:
        """Streams by path, without those that have expired."""
        now = self.clock()
        found: list[StreamInfo] = []
        with read_transaction(connection):
            while len(found) < limit:
                size = min(limit - len(found), limits.LIST_STREAMS)
                page = _page(connection, prefix, after, size)
                found += (
                    self._info(connection, stored, now)
                    for stored in page
                    if not self.accesses.has_ended(stored.state, now)
                )
                if len(page) < size:
                    break
                after = page[-1].state.path
        return found

    def _info(self, connection: apsw.Connection, stored: StoredStream, now: int) -> StreamInfo:
        return rules.info_of(stored.state, self._first(connection, stored, now))

    def _first(self, connection: apsw.Connection, stored: StoredStream, now: int) -> int:
        """The earliest position that can be read now."""
        state = stored.state
        low = low_now(connection, stored, now)
        if low > state.low:
            self.trim(state.path)
            state.low = low
        return rules.first_of(state, lows_now(connection, stored, now))

    def _require(self, connection: apsw.Connection, path: str, now: int) -> StoredStream:
        stored = load(connection, path)
        if stored is not None and (stored.state.gone or self.accesses.has_ended(stored.state, now)):
            expired = expired_forks(connection, stored.state.generation, now)
            if expired is not None and all(
                self.accesses.has_ended(fork.state, now) for fork in expired
            ):
                raise StreamNotFound(path)
            raise StreamGone(path)
        if stored is None:
            raise StreamNotFound(path)
        self.see(stored.state)
        return stored


def _page(connection: apsw.Connection, prefix: str, after: str, limit: int) -> list[StoredStream]:
    """The next streams of a list, with those that have expired."""
    where = ["path > ?1", "path >= ?2", "gone = 0"]
    end = _first_beyond(prefix)
    if end is not None:
        where.append("path < ?3")
    if not prefix.startswith(rules.INTERNAL):
        where.append(f"(path < '{rules.INTERNAL}' OR path >= '{rules.AFTER_INTERNAL}')")
    sql = f"WHERE {' AND '.join(where)} ORDER BY path LIMIT {limit:d}"
    return load_many(connection, sql, (after, prefix, end)[: 2 if end is None else 3])


def _first_beyond(prefix: str) -> str | None:
    """The least text that is greater than every text with a prefix; None if there is none.

    UTF-8 sorts as code points do. The surrogates, which are not characters, are skipped.
    """
    head = prefix.rstrip(chr(0x10FFFF))
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)


# The threads --------------------------------------------------------------------------------------


class Query:
    """Something to be read: the event loop asks, a reading thread answers.

    Args:
        ask: Called with a connection, in a reading thread.
        tell: Called in that thread when `result` or `error` is set.
    """

    __slots__ = ("ask", "error", "result", "tell", "withdrawn")

    def __init__(self, ask: Callable[[apsw.Connection], Any], tell: Callable[[], None]) -> None:
        self.ask = ask
        self.tell = tell
        self.result: Any = None
        self.error: BaseException | None = None
        self.withdrawn = False
        """The task that asked was cancelled: the query is skipped, if it has not begun."""


class Readers:
    """The threads that read; one is started when a query finds none free.

    Args:
        store: The file, for messages.
        connect: Opens a connection.
        most: How many threads there may be.
        on_damage: Called in a reading thread with an error after which the file cannot be trusted.
    """

    def __init__(
        self,
        store: str,
        connect: Callable[[], apsw.Connection],
        most: int,
        on_damage: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._connect = connect
        self._most = most
        self._on_damage = on_damage
        self._queries: SimpleQueue[Query | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._free = 0
        """Free threads minus waiting queries; negative if queries wait."""

    def put(self, query: Query) -> None:
        """Queue a query; the threads take them in order.

        Raises:
            StoreUnavailable: There is no thread, and the system gives none.
        """
        with self._lock:
            if self._free <= 0 and len(self._threads) < self._most:
                self._start()
            self._free -= 1
        self._queries.put(query)

    def _start(self) -> None:
        thread = threading.Thread(
            target=self._work,
            name=f"tailrace-store-read-{len(self._threads) + 1}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread left
            if not self._threads:
                raise failure_of(self._store, error) from error
            return  # those that are there must do
        self._threads.append(thread)

    def close(self) -> None:
        """Let the threads answer what is queued, then end; waits for them."""
        for _ in self._threads:
            self._queries.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        connection: apsw.Connection | None = None
        self._is_free()
        try:
            while True:
                query = self._queries.get()
                if query is None:
                    return
                if not query.withdrawn:
                    connection = self._answer(query, connection)
                # Before `tell`: a task that asks again at once finds this thread free.
                self._is_free()
                query.tell()
                del query  # an idle thread must not keep what was read alive
        finally:
            if connection is not None:
                close(connection)

    def _is_free(self) -> None:
        with self._lock:
            self._free += 1

    def _answer(self, query: Query, connection: apsw.Connection | None) -> apsw.Connection | None:
        try:
            connection = connection or self._connect()
            query.result = query.ask(connection)
        except DRIVER_ERRORS as error:
            number = connection.system_errno if connection is not None else 0
            if is_damage(error) or is_fatal(error, number):
                self._on_damage(error)
            query.error = failure_of(self._store, error, number)
            query.error.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - raised again in the task that asks
            query.error = error
        return connection
