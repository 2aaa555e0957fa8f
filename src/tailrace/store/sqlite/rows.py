"""How a stream's state is written as a row and read back, and the writer's cache of states.

States are fetched as one JSON text, however many there are. Each row that SQLite steps to releases
the interpreter's lock (GIL), and while the event loop is busy, a thread may wait 5 ms each time to
get it back.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import apsw

from tailrace import limits
from tailrace.store.rules import Level, State
from tailrace.store.values import Fork, Offset, Producer, Retention

__all__ = ["INSERT_STREAM", "KEEP_ALL", "Cache", "StoredStream", "load", "load_many", "row_of"]

_COLUMNS: Final = (
    "id, path, content_type, lineage, base, tail, low, records, closed, closer_id, closer_epoch,"
    " closer_seq, seq, ttl, expires_at, touched, max_bytes, max_records, max_age, fork, source,"
    " created_at, gone"
)

INSERT_STREAM: Final = f"INSERT INTO stream({_COLUMNS}) VALUES({', '.join('?' * 23)})"

_AS_JSON: Final = (
    "json_array(s.id, s.path, s.content_type, json(s.lineage), s.base, s.tail, s.low, s.records,"
    " s.closed, s.closer_id, s.closer_epoch, s.closer_seq, s.seq, s.ttl, s.expires_at, s.touched,"
    " s.max_bytes, s.max_records, s.max_age, json(s.fork), s.source, s.created_at, s.gone,"
    " json(CASE WHEN s.lineage IS NOT NULL THEN (SELECT json_group_array(json("
    "ifnull((SELECT json_array(low, max_age IS NOT NULL) FROM stream WHERE id = l.value ->> 1),"
    " '[0, 0]'))) FROM json_each(s.lineage) l) END),"
    " CASE WHEN s.max_age IS NOT NULL THEN (SELECT at FROM chunk"
    " WHERE sid = s.id AND tail > s.low ORDER BY tail LIMIT 1) END)"
)


KEEP_ALL: Final = Retention()


@dataclass(slots=True)
class StoredStream:
    """A stream as the file has it.

    Args:
        state: Its state, from which `rules` decides.
        source: The generation of the stream that it is a fork of; None if it is no fork.
        lows: The `low` of each level of its lineage, when it was fetched.
        inherits_aging: A level of its lineage has a `max_age`.
        oldest: Milliseconds since the epoch of its first retained append; only with `max_age`.
    """

    state: State
    source: int | None = None
    lows: tuple[int, ...] = ()
    inherits_aging: bool = False
    oldest: int | None = None


def load(connection: apsw.Connection, path: str) -> StoredStream | None:
    """The stream at a path; None if there is none."""
    text = connection.execute(f"SELECT {_AS_JSON} FROM stream s WHERE path = ?", (path,)).get
    return None if text is None else _stored(json.loads(text))


def load_many(
    connection: apsw.Connection, where: str, bindings: tuple[Any, ...]
) -> list[StoredStream]:
    """The streams that a condition selects.

    Args:
        connection: To the file.
        where: The SQL after `FROM stream s`: a condition, and maybe an order and a limit.
        bindings: The values for it.
    """
    text = connection.execute(
        f"SELECT json_group_array(json(j)) FROM (SELECT {_AS_JSON} j FROM stream s {where})",
        bindings,
    ).get
    return [_stored(row) for row in json.loads(text)]


def row_of(state: State, source: int | None) -> tuple[Any, ...]:
    """The values for `INSERT_STREAM`, in the order of its columns."""
    closer = state.closer
    keep = state.retention
    return (
        state.generation,
        state.path,
        state.content_type,
        _lineage_text(state),
        state.base,
        state.tail,
        state.low,
        state.records,
        int(state.closed),
        None if closer is None else closer.id,
        None if closer is None else closer.epoch,
        None if closer is None else closer.seq,
        state.seq,
        state.ttl,
        state.expires_at,
        state.touched,
        keep.max_bytes,
        keep.max_records,
        keep.max_age,
        _fork_text(state.fork),
        source,
        state.created_at,
        int(state.gone),
    )


def _lineage_text(state: State) -> str | None:
    if not state.lineage:
        return None
    return json.dumps([[level.path, level.generation, level.until] for level in state.lineage])


def _fork_text(fork: Fork | None) -> str | None:
    if fork is None:
        return None
    assert fork.offset is not None  # `new_state` has resolved it
    at = fork.offset
    return json.dumps([fork.source, at.generation, at.position, fork.sub_offset])


def _stored(row: list[Any]) -> StoredStream:
    lineage, fork, lows = row[3], row[19], row[23]
    state = State(
        generation=row[0],
        path=row[1],
        content_type=row[2],
        lineage=tuple(Level(*level) for level in lineage) if lineage else (),
        base=row[4],
        tail=row[5],
        low=row[6],
        records=row[7],
        closed=bool(row[8]),
        closer=None if row[9] is None else Producer(row[9], row[10], row[11]),
        seq=row[12],
        ttl=row[13],
        expires_at=row[14],
        touched=row[15],
        retention=_retention(row[16], row[17], row[18]),
        fork=None if fork is None else Fork(fork[0], Offset(fork[1], fork[2]), fork[3]),
        created_at=row[21],
        gone=bool(row[22]),
    )
    return StoredStream(
        state,
        row[20],
        tuple(low for low, _ in lows or ()),
        any(is_aging for _, is_aging in lows or ()),
        row[24],
    )


def _retention(max_bytes: int | None, max_records: int | None, max_age: int | None) -> Retention:
    if max_bytes is None and max_records is None and max_age is None:
        return KEEP_ALL
    return Retention(max_bytes=max_bytes, max_records=max_records, max_age=max_age)


# The writer's cache -------------------------------------------------------------------------------

_BY_PATHS: Final = "WHERE path IN (SELECT value FROM json_each(?))"
_PRODUCERS: Final = """
SELECT json_group_array(json_array(p.sid, p.pid, p.epoch, p.seq))
FROM json_each(?) k JOIN producer p ON p.sid = k.value ->> 0 AND p.pid = k.value ->> 1
"""


class Cache:
    """The streams and producers that the writer used last.

    An entry is valid as long as no other process writes to the file; `lock.py` and the guard in
    `transaction.py` notice when one does. Entries are evicted between two commits, by `shrink`.

    Args:
        streams: How many streams are kept.
        producers: How many producers are kept, of all streams together.
    """

    def __init__(
        self,
        streams: int = limits.STORE_CACHED_STREAMS,
        producers: int = limits.STORE_CACHED_PRODUCERS,
    ) -> None:
        self._most_streams = streams
        self._most_producers = producers
        self.streams: OrderedDict[str, StoredStream] = OrderedDict()
        self.producers: OrderedDict[tuple[int, str], tuple[int, int] | None] = OrderedDict()
        """Epoch and last sequence, by generation and producer id; None: the file has none."""
        self.version: int | None = None
        """SQLite's `data_version` when the entries were read; None: not known."""
        self.last_generation: int | None = None

    def load_streams(self, connection: apsw.Connection, paths: Collection[str]) -> None:
        """Read streams that are not in the cache; a path without a stream gets no entry."""
        for stored in load_many(connection, _BY_PATHS, (json.dumps(list(paths)),)):
            self.streams[stored.state.path] = stored

    def load_producers(
        self, connection: apsw.Connection, keys: Collection[tuple[int, str]]
    ) -> None:
        """Read producers that are not in the cache, by generation and producer id."""
        self.producers.update(dict.fromkeys(keys))
        text = connection.execute(_PRODUCERS, (json.dumps(list(keys)),)).get
        for generation, producer, epoch, sequence in json.loads(text):
            self.producers[generation, producer] = (epoch, sequence)

    def clear(self) -> None:
        """Forget everything: another process wrote, or a commit failed."""
        self.streams.clear()
        self.producers.clear()
        self.version = None
        self.last_generation = None

    def shrink(self) -> None:
        """Evict the entries that have been unused for longest."""
        while len(self.streams) > self._most_streams:
            self.streams.popitem(last=False)
        while len(self.producers) > self._most_producers:
            self.producers.popitem(last=False)
