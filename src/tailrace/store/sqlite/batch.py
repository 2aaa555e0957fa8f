"""The operations that the writer thread is asked for, and how a batch of them is committed.

`rules` decides each operation from the cached state of its stream, in the order in which they came.
One that is refused changes nothing; one that is accepted changes the cached state and adds rows to
the transaction. If the commit fails, the cache is wrong: it is cleared, and read again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final

import apsw

from tailrace import limits
from tailrace.errors import TailraceError
from tailrace.store import rules
from tailrace.store.rules import State
from tailrace.store.sqlite.lifetime import Access, LastAccess, expired_forks, low_now, lows_now
from tailrace.store.sqlite.reading import border_at, chunks_between
from tailrace.store.sqlite.rows import KEEP_ALL, Cache, StoredStream, load_many
from tailrace.store.sqlite.transaction import Transaction
from tailrace.store.values import (
    Append,
    Appended,
    Change,
    Chunk,
    Created,
    Fork,
    NewStream,
    Offset,
)

__all__ = ["Batch", "Operation", "Task"]


class Task(Enum):
    """What the writer can be asked for, beside appends and creations."""

    DELETE = auto()
    """Delete a stream."""
    PROBE = auto()
    """Write a row durably: a health check."""
    WRITE_ACCESSES = auto()
    """Write to the file when streams with a `ttl` were last accessed."""
    EXPIRE = auto()
    """Delete those of the streams at `paths` that have expired."""
    KEEP_ALIVE = auto()
    """Write that the streams at `paths` are or were watched, which counts as an access."""
    TRIM = auto()
    """Trim the streams at `paths` that have more than they are to keep."""
    OPEN = auto()
    """Open the file: the first operation, never in a batch."""
    STOP = auto()
    """End the thread after all that came before; never in a batch."""


class Operation:
    """One thing that the writer thread is asked to do, and its result.

    Args:
        do: What is asked: an append (the result is an `Appended`), a new stream (a `Created`), or
            another task (None).
        path: The stream.
        size: Bytes of data in it.
        paths: The streams, for a task that is about several.
        wake: Called in the event loop when `result` or `error` is set; None: nothing waits for it.
    """

    __slots__ = (
        "do",
        "error",
        "is_counted",
        "path",
        "paths",
        "result",
        "size",
        "wake",
        "withdrawn",
    )

    def __init__(
        self,
        do: Append | NewStream | Task,
        path: str = "",
        size: int = 0,
        *,
        paths: Sequence[str] = (),
        wake: Callable[[], None] | None = None,
    ) -> None:
        self.do = do
        self.path = path
        self.size = size
        self.paths = paths
        self.wake = wake
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_counted = False
        """It counts toward the limits of the queue."""
        self.withdrawn = False
        """The task that asked was cancelled: the operation is skipped, if it is not done yet."""


_BETWEEN: Final = "SELECT count(*) FROM chunk WHERE sid = ? AND tail > ? AND tail <= ?"
_OLDEST: Final = "SELECT at FROM chunk WHERE sid = ? AND tail > ? ORDER BY tail LIMIT 1"

_TRIM_ROWS: Final = 20
"""What each trim costs beside the records that it removes, counted in records."""


class Batch:
    """Operations that are committed together.

    Args:
        connection: The writer thread's.
        cache: Streams and producers that are known; valid when the batch begins.
        accesses: When streams were last accessed, in memory.
        now: Milliseconds since the epoch.
    """

    def __init__(
        self, connection: apsw.Connection, cache: Cache, accesses: LastAccess, now: int
    ) -> None:
        assert cache.version is not None
        self._connection = connection
        self._cache = cache
        self._accesses = accesses
        self._now = now
        self._transaction = Transaction(connection, cache.version)
        self._fresh: set[int] = set()
        """Generations that this batch has created: the file has no producers of them."""
        self._grown: dict[str, tuple[State, Offset, list[Chunk]]] = {}
        """By path: a stream, its tail before, and what was appended; it becomes one change."""
        self._to_trim: dict[str, StoredStream] = {}
        self._taken: set[int] = set()
        """Generations whose last access was due, and is written with this commit."""
        self._removed: list[int] = []
        """Generations that are removed; their accesses are forgotten once that is committed."""
        self._trim_rows = limits.STORE_TRIM_ROWS
        """How many more records this commit may trim."""
        self.changes: list[Change] = []
        """The changes, for watchers; complete after `run`."""
        self.size = 0
        """How many operations it had."""
        self.has_dead = False
        """A stream was marked as dead, and its chunks wait to be deleted."""
        self.trimmed: dict[int, int] = {}
        """The new `low` of trimmed streams, by generation: chunks below it wait to be deleted."""
        self.tried: list[str] = []
        """The paths of streams that `Task.TRIM` was about."""
        self.untrimmed: list[str] = []
        """The paths of streams that have more to trim."""
        self.expires = False
        """The time at which the next stream expires may have changed."""
        self.ages = False
        """A stream with a `max_age` was created."""

    def run(self, operations: Iterable[Operation]) -> None:
        """Decide each operation, and commit them all.

        An operation that is refused gets its error; the others are committed.

        Raises:
            Stale: Another process wrote in between; nothing was committed.
            apsw.Error: The commit failed; nothing was committed.
        """
        operations = list(operations)
        self.size = len(operations)
        self._load(operations)
        for operation in operations:
            operation.result = operation.error = None
            if operation.withdrawn:
                continue  # it is still answered, which frees its room in the queue
            do = operation.do
            try:
                if isinstance(do, Append):
                    operation.result = self._append(operation.path, do)
                elif isinstance(do, NewStream):
                    operation.result = self._create(operation.path, do)
                else:
                    _TASKS[do](self, operation)
            except TailraceError as error:
                operation.error = error
        for path, stored in self._to_trim.items():
            self._trim_in_turn(path, stored)
        self._transaction.commit()
        for generation in self._removed:
            self._accesses.forget(generation)
        self._cache.shrink()
        for state, start, chunks in self._grown.values():
            tail = rules.offset_at(state, state.tail)
            self.changes.append(
                Change(state.path, state.generation, tail, start, tuple(chunks), state.closed)
            )

    def roll_back(self) -> None:
        """Undo what was written before the failure."""
        self._transaction.roll_back()
        self._accesses.give_back(self._taken)

    # Reading what is not cached, before anything is decided, in two queries at most

    def _load(self, operations: list[Operation]) -> None:
        cache = self._cache
        streams: set[str] = set()
        for operation in operations:
            streams.update(path for path in _paths_of(operation) if path not in cache.streams)
        if streams:
            cache.load_streams(self._connection, streams)
        producers: dict[tuple[int, str], None] = {}
        for operation in operations:
            append = operation.do
            if isinstance(append, Append) and append.producer is not None:
                stored = cache.streams.get(operation.path)
                if stored is not None:
                    key = (stored.state.generation, append.producer.id)
                    if key not in cache.producers:
                        producers[key] = None
        if producers:
            cache.load_producers(self._connection, producers)

    # Decisions

    def _append(self, path: str, append: Append) -> Appended:
        stored = self._require(path)
        state = stored.state
        producer = append.producer
        known = None
        if producer is not None:
            key = (state.generation, producer.id)
            known = self._known(key)
        done = rules.judge_append(state, known, append)
        if done is not None:
            return done
        start = state.tail
        done = rules.apply_append(state, append, self._now)
        if producer is not None:
            self._cache.producers[key] = (producer.epoch, producer.seq)
        self._transaction.append(state, start, self._now, append)
        self._grew(state, start, append.data, done.tail)
        self._trim_later(stored)
        return done

    def _known(self, key: tuple[int, str]) -> tuple[int, int] | None:
        producers = self._cache.producers
        if key in producers:
            producers.move_to_end(key)
            return producers[key]
        # Not read by `_load`: the stream came to its path within this batch.
        if key[0] not in self._fresh:
            sql = "SELECT epoch, seq FROM producer WHERE sid = ? AND pid = ?"
            row = self._transaction.execute(sql, key).fetchone()
            if row is not None:
                producers[key] = (int(row[0]), int(row[1]))
                return producers[key]
        return None

    def _create(self, path: str, new: NewStream) -> Created:
        rules.check_size(new.data)
        existing = self._find(path)
        if existing is not None:
            rules.match_create(existing.state, new, self._source_of(existing))
            return Created(rules.info_of(existing.state, self._first(existing)), False)
        source, point = self._branch(new)
        cache = self._cache
        generation = rules.next_generation(self._now, self._last_generation())
        state = rules.new_state(
            path, new, generation, self._now, None if source is None else source.state, point
        )
        cache.last_generation = generation
        state.closed = new.closed
        stored = StoredStream(state, None if source is None else source.state.generation)
        cache.streams[path] = stored
        self._fresh.add(generation)
        self.expires = self.expires or state.ttl is not None or state.expires_at is not None
        self.ages = self.ages or state.retention.max_age is not None
        self._transaction.create(state, stored.source)
        if new.data:
            first = Append(data=new.data)
            rules.apply_append(state, first, self._now)
            self._transaction.append(state, point, self._now, first)
            self._trim_later(stored)
        self._grew(state, point, new.data, rules.offset_at(state, state.tail))
        return Created(rules.info_of(state, self._first(stored)), True)

    def _source_of(self, stored: StoredStream) -> State | None:
        """The stream that a stream is a fork of; it is kept as long as its forks are."""
        if stored.source is None:
            return None
        connection = self._transaction.flush()
        (source,) = load_many(connection, "WHERE id = ?", (stored.source,))
        return source.state

    def _last_generation(self) -> int:
        if self._cache.last_generation is None:
            sql = "SELECT seq FROM sqlite_sequence WHERE name = 'stream'"
            self._cache.last_generation = int(self._connection.execute(sql).get or 0)
        return self._cache.last_generation

    def _branch(self, new: NewStream) -> tuple[StoredStream | None, int]:
        """The source of a fork, and the position in it at which the fork begins."""
        fork = new.fork
        if fork is None:
            return None, 0
        source = self._find(fork.source)
        first = 0 if source is None else self._first(source)
        state = None if source is None else source.state
        point = rules.fork_point(fork, state, first, new)
        assert source is not None
        if point != source.state.tail or fork.sub_offset:
            point = self._reach(fork, source.state, point)
        self._accesses.note(source.state, self._now)
        return source, point

    def _reach(self, fork: Fork, source: State, point: int) -> int:
        connection = self._transaction.flush()
        rules.check_border(fork, point, border_at(connection, source, point))
        following = chunks_between(connection, source, point, point + 1)
        data = following[0].data if following else b""
        return point + rules.fork_reach(fork, source.content_type, data)

    def _delete(self, operation: Operation) -> None:
        self._remove(self._require(operation.path))

    def _probe(self, _operation: Operation) -> None:
        self._transaction.execute(
            "INSERT INTO probe VALUES(1, ?) ON CONFLICT(id) DO UPDATE SET at = excluded.at",
            (self._now,),
        )

    def _trim_some(self, operation: Operation) -> None:
        self.tried += operation.paths
        for path in operation.paths:
            stored = self._find(path)
            if stored is not None:
                self._trim_in_turn(path, stored)

    def _write_due_accesses(self, _operation: Operation) -> None:
        due = self._accesses.take()
        self._taken.update(due)
        self._write_accesses(due)

    def _expire(self, operation: Operation) -> None:
        self.expires = True
        accessed: dict[int, Access] = {}
        for path in operation.paths:
            stored = self._find(path)
            if stored is not None and not stored.state.gone:
                # It is alive by an access that the file does not have yet.
                accessed.update(self._accesses.of(stored.state))
        self._write_accesses(accessed)

    def _keep_alive(self, operation: Operation) -> None:
        for path in operation.paths:
            self._find(path)  # notes the access
            self._accesses.resolve(path)
        self._write_due_accesses(operation)

    def _write_accesses(self, accessed: Mapping[int, Access]) -> None:
        if not accessed:
            return
        self.expires = True
        times = [(generation, access.at) for generation, access in accessed.items()]
        self._transaction.execute(
            "UPDATE stream SET touched = max(touched, u.value ->> 1)"
            " FROM json_each(?) u WHERE stream.id = u.value ->> 0",
            (json.dumps(times),),
        )
        for generation, access in accessed.items():
            stored = self._cache.streams.get(access.path)
            if stored is not None and stored.state.generation == generation:
                stored.state.touched = max(stored.state.touched, access.at)

    # Finding streams

    def _find(self, path: str) -> StoredStream | None:
        stored = self._cache.streams.get(path)
        if stored is None:
            return None
        self._cache.streams.move_to_end(path)
        if not stored.state.gone and self._accesses.has_ended(stored.state, self._now):
            self._remove(stored)
        if stored.state.gone:
            self._let_forks_go(stored.state.generation)
        return self._cache.streams.get(path)

    def _let_forks_go(self, generation: int) -> None:
        """Remove the forks of a stream that is gone, if all have expired, and so the stream."""
        expired = expired_forks(self._transaction.flush(), generation, self._now)
        if expired is None:
            return
        known = self._cache.streams
        forks = [known.setdefault(fork.state.path, fork) for fork in expired]
        if all(self._accesses.has_ended(fork.state, self._now) for fork in forks):
            for fork in forks:
                self._remove(fork)

    def _require(self, path: str) -> StoredStream:
        stored = self._find(path)
        rules.require(path, None if stored is None else stored.state)
        assert stored is not None
        return stored

    def _first(self, stored: StoredStream) -> int:
        state = stored.state
        if rules.trim_due(state, self._now, stored.oldest):
            self._trim(stored)
        if not state.lineage:
            return rules.first_of(state, ())
        # Its levels may have been trimmed since they were read, in this batch too.
        connection = self._transaction.flush()
        (fresh,) = load_many(connection, "WHERE id = ?", (state.generation,))
        return rules.first_of(state, lows_now(connection, fresh, self._now))

    # Removing and trimming

    def _remove(self, stored: StoredStream) -> None:
        """Delete a stream, and the sources that were kept only for it; keep it if it has forks."""
        state = stored.state
        tail = rules.offset_at(state, state.tail)
        generation = state.generation
        self._grown.pop(state.path, None)
        self.changes.append(
            Change(state.path, generation, tail, tail, None, state.closed, deleted=True)
        )
        state.gone = True
        if self._has_forks(generation):
            self._transaction.execute("UPDATE stream SET gone = 1 WHERE id = ?", (generation,))
            return
        self._mark_deleted(state.path, generation)
        source = stored.source
        while source is not None and not self._has_forks(source):
            sql = "SELECT path, source FROM stream WHERE id = ? AND gone = 1"
            row = self._transaction.execute(sql, (source,)).fetchone()
            if row is None:
                return
            self._mark_deleted(str(row[0]), source)
            source = row[1]

    def _has_forks(self, generation: int) -> bool:
        sql = "SELECT EXISTS(SELECT 1 FROM stream WHERE source = ?)"
        return bool(self._transaction.execute(sql, (generation,)).get)

    def _mark_deleted(self, path: str, generation: int) -> None:
        sql = "UPDATE stream SET path = NULL, source = NULL, gone = 1 WHERE id = ?"
        self._transaction.execute(sql, (generation,))
        self._cache.streams.pop(path, None)
        self._removed.append(generation)
        self.has_dead = True

    def _trim_later(self, stored: StoredStream) -> None:
        keep = stored.state.retention
        if keep.max_age is not None and stored.oldest is None:
            stored.oldest = self._now
        if keep != KEEP_ALL and rules.trim_due(stored.state, self._now, stored.oldest):
            self._to_trim[stored.state.path] = stored

    def _trim_in_turn(self, path: str, stored: StoredStream) -> None:
        """Trim a stream, unless this commit has trimmed enough: the rest follows with the next."""
        has_more = self._trim(stored) if self._trim_rows > 0 else not stored.state.gone
        if has_more and rules.trim_due(stored.state, self._now, stored.oldest):
            self.untrimmed.append(path)

    def _trim(self, stored: StoredStream) -> bool:
        """Move a stream's `low`; the chunks below it are deleted later, in slices.

        Returns:
            Whether it has removed as many records as one trim may, so that there may be more.
        """
        state = stored.state
        if state.gone:
            return False
        low = low_now(self._transaction.flush(), stored, self._now)
        if low <= state.low:
            return False
        generation = state.generation
        # Count what goes, not what stays: so each record is counted once in its life.
        count = int(self._transaction.execute(_BETWEEN, (generation, state.low, low)).get)
        state.low, state.records = low, state.records - count
        self._trim_rows -= count + _TRIM_ROWS
        if state.retention.max_age is not None:
            oldest = self._transaction.execute(_OLDEST, (generation, low)).get
            stored.oldest = None if oldest is None else int(oldest)
        self._transaction.execute(
            "UPDATE stream SET low = ?, records = ? WHERE id = ?",
            (low, state.records, generation),
        )
        self.trimmed[generation] = low
        return count >= limits.STORE_TRIM_ROWS

    def _grew(self, state: State, start: int, data: bytes, tail: Offset) -> None:
        grown = self._grown.get(state.path)
        if grown is None:
            grown = self._grown[state.path] = (state, rules.offset_at(state, start), [])
        if data:
            grown[2].append(Chunk(data, tail))


def _paths_of(operation: Operation) -> Sequence[str]:
    """The streams that an operation is about."""
    do = operation.do
    if isinstance(do, NewStream) and do.fork is not None:
        return (operation.path, do.fork.source)
    return (operation.path,) if operation.path else operation.paths


_TASKS: Final[Mapping[Task, Callable[[Batch, Operation], None]]] = {
    Task.DELETE: Batch._delete,
    Task.PROBE: Batch._probe,
    Task.WRITE_ACCESSES: Batch._write_due_accesses,
    Task.EXPIRE: Batch._expire,
    Task.KEEP_ALIVE: Batch._keep_alive,
    Task.TRIM: Batch._trim_some,
}
