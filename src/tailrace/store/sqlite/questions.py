"""The questions that readers ask of a file; each in a transaction of its own, on any connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import apsw

from tailrace import limits
from tailrace.errors import StreamGone, StreamNotFound
from tailrace.store import rules
from tailrace.store.rules import State
from tailrace.store.sqlite.connection import moment
from tailrace.store.sqlite.forks import expired_forks
from tailrace.store.sqlite.reading import border_at, chunks_between
from tailrace.store.sqlite.record import Record, load, load_many
from tailrace.store.sqlite.retention import low_now, lows_now
from tailrace.store.sqlite.uses import Uses
from tailrace.store.values import Slice, StreamInfo, Where

__all__ = ["Questions"]


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked, with what an answer depends on beside the file.

    Args:
        uses: When streams were used in this process.
        clock: Milliseconds since the epoch.
        trim: Called when a stream keeps what is too old, in the reading thread.
        see: Called with each stream that is read, in the reading thread.
    """

    uses: Uses
    clock: Callable[[], int]
    trim: Callable[[str], None]
    see: Callable[[State], None]

    def head(self, connection: apsw.Connection, path: str) -> StreamInfo:
        """What is known of a stream."""
        now = self.clock()
        with moment(connection):
            record = self._require(connection, path, now)
            return self._info(connection, record, now)

    def read(self, connection: apsw.Connection, path: str, start: Where, max_bytes: int) -> Slice:
        """A stretch of a stream; a use of it."""
        now = self.clock()
        with moment(connection):
            record = self._require(connection, path, now)
            state = record.state
            self.uses.note(state, now)
            first = self._first(connection, record, now)
            position = border_at(connection, state, rules.locate(state, first, start))
            until = rules.read_until(position, max_bytes)
            chunks = chunks_between(connection, state, position, until)
        return Slice(rules.info_of(state, first), rules.offset_at(state, position), chunks)

    def list(
        self, connection: apsw.Connection, prefix: str, after: str, limit: int
    ) -> list[StreamInfo]:
        """Streams by path."""
        now = self.clock()
        found: list[StreamInfo] = []
        with moment(connection):
            while len(found) < limit:
                size = min(limit - len(found), limits.LIST_STREAMS)
                page = _page(connection, prefix, after, size)
                found += (
                    self._info(connection, record, now)
                    for record in page
                    if not self._is_over(record.state, now)
                )
                if len(page) < size:
                    break
                after = page[-1].state.path
        return found

    def _info(self, connection: apsw.Connection, record: Record, now: int) -> StreamInfo:
        return rules.info_of(record.state, self._first(connection, record, now))

    def _first(self, connection: apsw.Connection, record: Record, now: int) -> int:
        """The earliest position that can be read now."""
        state = record.state
        low = low_now(connection, record, now)
        if low > state.low:
            self.trim(state.path)
            state.low = low
        return rules.first_of(state, lows_now(connection, record, now))

    def _require(self, connection: apsw.Connection, path: str, now: int) -> Record:
        record = load(connection, path)
        if record is not None and (record.state.gone or self._is_over(record.state, now)):
            expired = expired_forks(connection, record.state.generation, now)
            if expired is not None and all(self._is_over(fork.state, now) for fork in expired):
                raise StreamNotFound(path)
            raise StreamGone(path)
        if record is None:
            raise StreamNotFound(path)
        self.see(record.state)
        return record

    def _is_over(self, state: State, now: int) -> bool:
        if state.ttl is None and state.expires_at is None:
            return False
        return rules.is_expired(state, now, watched=self.uses.is_in_use(state, now))


def _page(connection: apsw.Connection, prefix: str, after: str, limit: int) -> list[Record]:
    """What follows, expired ones among them."""
    where = ["path > ?1", "path >= ?2", "gone = 0"]
    end = _first_beyond(prefix)
    if end is not None:
        where.append("path < ?3")
    if not prefix.startswith(rules.INTERNAL):
        where.append(f"(path < '{rules.INTERNAL}' OR path >= '{rules.AFTER_INTERNAL}')")
    sql = f"WHERE {' AND '.join(where)} ORDER BY path LIMIT {limit:d}"
    return load_many(connection, sql, (after, prefix, end)[: 2 if end is None else 3])


def _first_beyond(prefix: str) -> str | None:
    """The least text that is greater than all that begin with a prefix; None if there is none.

    UTF-8 sorts as code points do. The surrogates, which are no characters, are stepped over.
    """
    head = prefix.rstrip(chr(0x10FFFF))
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)
