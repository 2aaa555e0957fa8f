"""What becomes of a batch of requests: each is decided by `rules`, on what is known of its stream,
in the order in which they came; a refused one changes nothing.

What is decided goes to the ledger at once. If the ledger cannot commit, all that is known here is
wrong, and is read again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import apsw

from tailrace import limits
from tailrace.errors import TailraceError
from tailrace.store import rules
from tailrace.store.rules import State
from tailrace.store.sqlite.cache import Cache
from tailrace.store.sqlite.forks import expired_forks
from tailrace.store.sqlite.ledger import Ledger
from tailrace.store.sqlite.operation import (
    AppendTo,
    Create,
    Delete,
    Expire,
    Keep,
    Operation,
    Probe,
    Touch,
    Trim,
)
from tailrace.store.sqlite.reading import border_at, chunks_between
from tailrace.store.sqlite.record import KEEP_ALL, Record, load_many
from tailrace.store.sqlite.retention import low_now, lows_now
from tailrace.store.sqlite.uses import Use, Uses
from tailrace.store.values import Append, Appended, Change, Chunk, Created, Fork, NewStream, Offset

__all__ = ["Batch"]

_BY_PATHS: Final = "WHERE path IN (SELECT value FROM json_each(?))"
_PRODUCERS: Final = """
SELECT json_group_array(json_array(p.sid, p.pid, p.epoch, p.seq))
FROM json_each(?) k JOIN producer p ON p.sid = k.value ->> 0 AND p.pid = k.value ->> 1
"""

_BETWEEN: Final = "SELECT count(*) FROM chunk WHERE sid = ? AND tail > ? AND tail <= ?"
_OLDEST: Final = "SELECT at FROM chunk WHERE sid = ? AND tail > ? ORDER BY tail LIMIT 1"

_TRIM_ROWS: Final = 20
"""What a trim costs beside its records, in records."""


class Batch:
    """Requests that are committed together.

    Args:
        connection: That of the writer thread.
        cache: What is known; made right with the file before.
        uses: When streams were used, in memory.
        now: Milliseconds since the epoch.
    """

    def __init__(self, connection: apsw.Connection, cache: Cache, uses: Uses, now: int) -> None:
        assert cache.version is not None
        self._connection = connection
        self._cache = cache
        self._uses = uses
        self._now = now
        self._ledger = Ledger(connection, cache.version)
        self._fresh: set[int] = set()
        """Streams of this batch: the file knows no producers of them."""
        self._to_trim: dict[str, Record] = {}
        self.changes: list[Change] = []
        """What it changed, for those who watch; complete after `run`."""
        self._grown: dict[str, tuple[State, Offset, list[Chunk]]] = {}
        """Streams with their tail before and what was appended: many appends are told once."""
        self.buried = False
        """A stream is dead now, and its chunks wait to be deleted."""
        self._trim_rows = limits.STORE_TRIM_ROWS
        """As many records may go with this commit."""
        self.untrimmed: list[str] = []
        """Streams of which more is to go."""
        self.size = 0
        """How many requests it had."""
        self.trimmed: dict[int, int] = {}
        """The new `low` of streams, by generation: chunks below it wait to be deleted."""
        self.expires = False
        """A stream was created, used or let go that expires."""
        self.ages = False
        """A stream was created that keeps by age."""

    def run(self, operations: Iterable[Operation]) -> None:
        """Decide and commit.

        Raises:
            Stale: Somebody else wrote in between; nothing was done.
            apsw.Error: The commit failed; nothing was done.
        """
        operations = list(operations)
        self.size = len(operations)
        self._fetch(operations)
        for operation in operations:
            operation.result = operation.error = None
            try:
                operation.result = _DECIDE[type(operation)](self, operation)
            except TailraceError as error:
                operation.error = error
        for path, record in self._to_trim.items():
            self._trim_in_turn(path, record)
        self._ledger.commit()
        self._cache.shrink()
        self.changes += (
            Change(
                state.path,
                state.generation,
                rules.offset_at(state, state.tail),
                start,
                tuple(chunks),
                state.closed,
            )
            for state, start, chunks in self._grown.values()
        )

    def roll_back(self) -> None:
        """Take back what was written when it failed."""
        self._ledger.roll_back()

    # What is known before anything is decided, in two questions at most

    def _fetch(self, operations: list[Operation]) -> None:
        records = self._cache.records
        missing: set[str] = set()
        for operation in operations:
            missing.update(path for path in _paths_of(operation) if path not in records)
        if missing:
            for record in load_many(self._connection, _BY_PATHS, (json.dumps(list(missing)),)):
                records[record.state.path] = record
        self._fetch_producers(operations)

    def _fetch_producers(self, operations: list[Operation]) -> None:
        records, known = self._cache.records, self._cache.producers
        missing: list[tuple[int, str]] = []
        for operation in operations:
            if isinstance(operation, AppendTo) and operation.append.producer is not None:
                record = records.get(operation.path)
                if record is not None:
                    key = (record.state.generation, operation.append.producer.id)
                    if key not in known:
                        missing.append(key)
                        known[key] = None
        if missing:
            text = self._connection.execute(_PRODUCERS, (json.dumps(missing),)).get
            for generation, producer, epoch, sequence in json.loads(text):
                known[generation, producer] = (epoch, sequence)

    # Decisions

    def _append(self, operation: AppendTo) -> Appended:
        record = self._require(operation.path)
        state, append = record.state, operation.append
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
        self._ledger.append(state, start, self._now, append)
        self._grew(state, start, append.data, done.tail)
        self._appended(record)
        return done

    def _known(self, key: tuple[int, str]) -> tuple[int, int] | None:
        producers = self._cache.producers
        if key in producers:
            producers.move_to_end(key)
            return producers[key]
        # A stream of this batch, or one that another of this batch took the path from.
        if key[0] not in self._fresh:
            sql = "SELECT epoch, seq FROM producer WHERE sid = ? AND pid = ?"
            row = self._ledger.execute(sql, key).fetchone()
            if row is not None:
                producers[key] = (int(row[0]), int(row[1]))
                return producers[key]
        return None

    def _create(self, operation: Create) -> Created:
        path, new = operation.path, operation.new
        rules.check_size(new.data)
        existing = self._find(path)
        if existing is not None:
            rules.match_create(existing.state, new)
            return Created(rules.info_of(existing.state, self._first(existing)), False)
        source, point = self._branch(new)
        cache = self._cache
        generation = rules.next_generation(self._now, self._last_generation())
        state = rules.new_state(
            path, new, generation, self._now, None if source is None else source.state, point
        )
        cache.last_generation = generation
        state.closed = new.closed
        record = Record(state, None if source is None else source.state.generation)
        cache.records[path] = record
        self._fresh.add(generation)
        self.expires = self.expires or state.ttl is not None or state.expires_at is not None
        self.ages = self.ages or state.retention.max_age is not None
        self._ledger.create(state, record.source)
        if new.data:
            first = Append(data=new.data)
            rules.apply_append(state, first, self._now)
            self._ledger.append(state, point, self._now, first)
            self._appended(record)
        self._grew(state, point, new.data, rules.offset_at(state, state.tail))
        return Created(rules.info_of(state, self._first(record)), True)

    def _last_generation(self) -> int:
        if self._cache.last_generation is None:
            sql = "SELECT seq FROM sqlite_sequence WHERE name = 'stream'"
            self._cache.last_generation = int(self._connection.execute(sql).get or 0)
        return self._cache.last_generation

    def _branch(self, new: NewStream) -> tuple[Record | None, int]:
        """The source of a fork, and the position in it."""
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
        self._uses.note(source.state, self._now)
        return source, point

    def _reach(self, fork: Fork, source: State, point: int) -> int:
        connection = self._ledger.flush()
        rules.check_border(fork, point, border_at(connection, source, point))
        following = chunks_between(connection, source, point, point + 1)
        data = following[0].data if following else b""
        return point + rules.fork_reach(fork, source.content_type, data)

    def _delete(self, operation: Delete) -> None:
        self._remove(self._require(operation.path))

    def _probe(self, _operation: Probe) -> None:
        self._ledger.execute(
            "INSERT INTO probe VALUES(1, ?) ON CONFLICT(id) DO UPDATE SET at = excluded.at",
            (self._now,),
        )

    def _look_at_age(self, operation: Trim) -> None:
        for path in operation.paths:
            record = self._find(path)
            if record is not None:
                self._trim_in_turn(path, record)

    def _touch(self, _operation: Touch) -> None:
        self._write_uses(self._uses.take())

    def _expire(self, operation: Expire) -> None:
        self.expires = True
        used: dict[int, Use] = {}
        for path in operation.paths:
            record = self._find(path)
            if record is not None and not record.state.gone:
                # It lives: the file does not know yet why.
                used.update(self._uses.of(record.state))
        self._write_uses(used)

    def _keep(self, operation: Keep) -> None:
        for path in operation.paths:
            self._find(path)  # notes the use
            self._uses.resolve(path)
        self._write_uses(self._uses.take())

    def _write_uses(self, used: Mapping[int, Use]) -> None:
        if not used:
            return
        self.expires = True
        times = [(generation, use.at) for generation, use in used.items()]
        self._ledger.execute(
            "UPDATE stream SET touched = max(touched, u.value ->> 1)"
            " FROM json_each(?) u WHERE stream.id = u.value ->> 0",
            (json.dumps(times),),
        )
        for generation, use in used.items():
            record = self._cache.records.get(use.path)
            if record is not None and record.state.generation == generation:
                record.state.touched = max(record.state.touched, use.at)

    # What is there

    def _find(self, path: str) -> Record | None:
        record = self._cache.records.get(path)
        if record is None:
            return None
        self._cache.records.move_to_end(path)
        if not record.state.gone and self._is_over(record.state):
            self._remove(record)
        if record.state.gone:
            self._let_forks_go(record.state.generation)
        return self._cache.records.get(path)

    def _is_over(self, state: State) -> bool:
        if state.ttl is None and state.expires_at is None:
            return False
        return rules.is_expired(state, self._now, watched=self._uses.is_in_use(state, self._now))

    def _let_forks_go(self, generation: int) -> None:
        """What keeps a stream that is gone may have expired; then it is kept no longer."""
        expired = expired_forks(self._ledger.flush(), generation, self._now)
        if expired is None:
            return
        known = self._cache.records
        forks = [known.setdefault(fork.state.path, fork) for fork in expired]
        if all(self._is_over(fork.state) for fork in forks):
            for fork in forks:
                self._remove(fork)

    def _require(self, path: str) -> Record:
        record = self._find(path)
        rules.require(path, None if record is None else record.state)
        assert record is not None
        return record

    def _first(self, record: Record) -> int:
        state = record.state
        if rules.trim_due(state, self._now, record.oldest):
            self._trim(record)
        if not state.lineage:
            return rules.first_of(state, ())
        # Its levels may have been trimmed since they were looked up, in this batch too.
        connection = self._ledger.flush()
        (fresh,) = load_many(connection, "WHERE id = ?", (state.generation,))
        return rules.first_of(state, lows_now(connection, fresh, self._now))

    # What changes

    def _remove(self, record: Record) -> None:
        """Delete a stream, or keep it for its forks; and its sources that were kept for it."""
        state = record.state
        tail = rules.offset_at(state, state.tail)
        generation = state.generation
        self._grown.pop(state.path, None)
        self.changes.append(
            Change(state.path, generation, tail, tail, None, state.closed, deleted=True)
        )
        state.gone = True
        if self._has_forks(generation):
            self._ledger.execute("UPDATE stream SET gone = 1 WHERE id = ?", (generation,))
            return
        self._bury(state.path, generation)
        source = record.source
        while source is not None and not self._has_forks(source):
            sql = "SELECT path, source FROM stream WHERE id = ? AND gone = 1"
            row = self._ledger.execute(sql, (source,)).fetchone()
            if row is None:
                return
            self._bury(str(row[0]), source)
            source = row[1]

    def _has_forks(self, generation: int) -> bool:
        sql = "SELECT EXISTS(SELECT 1 FROM stream WHERE source = ?)"
        return bool(self._ledger.execute(sql, (generation,)).get)

    def _bury(self, path: str, generation: int) -> None:
        sql = "UPDATE stream SET path = NULL, source = NULL, gone = 1 WHERE id = ?"
        self._ledger.execute(sql, (generation,))
        self._cache.records.pop(path, None)
        self._uses.forget(generation)
        self.buried = True

    def _appended(self, record: Record) -> None:
        keep = record.state.retention
        if keep.max_age is not None and record.oldest is None:
            record.oldest = self._now
        if keep != KEEP_ALL and rules.trim_due(record.state, self._now, record.oldest):
            self._to_trim[record.state.path] = record

    def _trim_in_turn(self, path: str, record: Record) -> None:
        """Trim a stream, unless this commit has trimmed enough; the rest comes with the next."""
        has_more = self._trim(record) if self._trim_rows > 0 else not record.state.gone
        if has_more and rules.trim_due(record.state, self._now, record.oldest):
            self.untrimmed.append(path)

    def _trim(self, record: Record) -> bool:
        """Move a stream's `low`; the chunks below it are deleted later, in slices.

        Returns:
            Whether it has moved as far as one look goes, and there may be more.
        """
        state = record.state
        if state.gone:
            return False
        low = low_now(self._ledger.flush(), record, self._now)
        if low <= state.low:
            return False
        generation = state.generation
        # Counted is what goes, not what stays: each record once in its life.
        count = int(self._ledger.execute(_BETWEEN, (generation, state.low, low)).get)
        state.low, state.records = low, state.records - count
        self._trim_rows -= count + _TRIM_ROWS
        if state.retention.max_age is not None:
            oldest = self._ledger.execute(_OLDEST, (generation, low)).get
            record.oldest = None if oldest is None else int(oldest)
        self._ledger.execute(
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
    if isinstance(operation, (Expire, Keep, Trim)):
        return operation.paths
    if isinstance(operation, Create) and operation.new.fork is not None:
        return (operation.path, operation.new.fork.source)
    return (operation.path,) if operation.path else ()


_DECIDE: Mapping[type[Operation], Callable[[Batch, Any], Any]] = {
    AppendTo: Batch._append,
    Create: Batch._create,
    Delete: Batch._delete,
    Expire: Batch._expire,
    Keep: Batch._keep,
    Probe: Batch._probe,
    Touch: Batch._touch,
    Trim: Batch._look_at_age,
}
