"""How long streams live, and how much of each is kept: expiry, last access, retention, forks.

The file says when a stream was last used. A durable write for each read would cost more than the
read. So an access is noted in memory, and written down with the next commit once the file is behind
by a tenth of the stream's `ttl`. Another process may take a stream for expired that much too early;
and a process that is killed loses that much.

What is too old is gone though it has not been deleted yet: a reader leaves it out, and has the
writer move the stream's `low`; chunks below that are deleted later, in slices.

A stream that was deleted or has expired is kept for its forks. There may be thousands of them, and
a request for the stream has to be told that it is gone. So they are not counted: the first that
lives by what the file says is enough. Only where none does, those that seem to have expired are
looked at one by one, for this process may know of a later access.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

import apsw

from tailrace import limits
from tailrace.store import rules
from tailrace.store.rules import State, Trim
from tailrace.store.schedule import Schedule
from tailrace.store.sqlite.rows import StoredStream, load_many

__all__ = ["Access", "LastAccess", "expired_forks", "lag_ms", "low_now", "lows_now"]


# Last access --------------------------------------------------------------------------------------


def lag_ms(ttl: int) -> int:
    """Milliseconds by which the file may be behind: a tenth of the time to live.

    At least a second, so that a busy stream does not write all the time; but at most a quarter of
    the time to live.

    Args:
        ttl: Seconds.
    """
    return min(max(1000, ttl * 100), ttl * 250)


class Access(NamedTuple):
    """The last access to a stream.

    Args:
        path: The stream.
        at: Milliseconds since the epoch.
        ttl: Its time to live, in seconds.
    """

    path: str
    at: int
    ttl: int


class LastAccess:
    """The last access to each stream that expires, in this process, by its generation.

    Reading threads note accesses, and the writer thread takes them. An access is let go of once it
    is so old that it keeps nothing alive, whichever process has ended the stream meanwhile; nothing
    walks through all of them.

    Args:
        is_watched: Whether a path is watched in this process; that counts as accesses.
        on_due: Called when the writer has something to do here, in the thread that noted it.
    """

    def __init__(self, is_watched: Callable[[str], bool], on_due: Callable[[], None]) -> None:
        self.is_watched = is_watched
        self._on_due = on_due
        self._lock = threading.Lock()
        self._last: dict[int, Access] = {}
        self._over: Schedule[int] = Schedule()
        """When each of them may keep nothing alive any more."""
        self._due: set[int] = set()
        self._kept: dict[str, tuple[int, int]] = {}
        """Watched streams that expire: generation and `ttl` by path."""
        self._to_keep: Schedule[str] = Schedule()
        """When the file is behind for each of them."""
        self._began: dict[str, int] = {}
        self._ended: dict[str, tuple[int, int]] = {}
        """When watchings began and ended, of streams that had not been looked at meanwhile."""
        self._unseen: set[str] = set()

    def __len__(self) -> int:
        """How many accesses are known."""
        return len(self._last)

    def note(self, state: State, now: int) -> None:
        """A stream is accessed now.

        Args:
            state: As the file has it.
            now: Milliseconds since the epoch.
        """
        if state.ttl is None:
            return
        behind_at = state.touched + lag_ms(state.ttl)
        self._put(state.generation, Access(state.path, now, state.ttl), is_due=now >= behind_at)
        if now < behind_at and state.path in self._kept:
            with self._lock:
                self._to_keep.set(state.path, behind_at)

    def _put(self, generation: int, access: Access, *, is_due: bool) -> None:
        with self._lock:
            # One call is for all that is due; the first access has to be let go of one day, too.
            wakes = not self._last or (is_due and not self._due)
            if generation not in self._last:
                self._over.set(generation, _over_at(access))
            self._last[generation] = access
            if is_due:
                self._due.add(generation)
        if wakes:
            self._on_due()

    def is_in_use(self, state: State, now: int) -> bool:
        """Whether a stream is watched, or was accessed in this process within its time to live.

        Args:
            state: As the file has it.
            now: Milliseconds since the epoch.
        """
        if state.ttl is None:
            return False
        path = state.path
        if self.is_watched(path):
            is_kept = self._kept.get(path) == (state.generation, state.ttl)
            if is_kept or self._lived_at(state, state.ttl, self._began.get(path, now)):
                self.note(state, now)
                if not is_kept:
                    self._keep(state, state.ttl, now)
                return True
        elif (watched := self._ended.get(path)) is not None:
            began, ended = watched
            if self._lived_at(state, state.ttl, began) and ended >= state.created_at:
                self._put(state.generation, Access(path, ended, state.ttl), is_due=True)
        return self._lived_at(state, state.ttl, now)

    def has_ended(self, state: State, now: int) -> bool:
        """Whether a stream has expired, as far as this process knows."""
        if state.ttl is None and state.expires_at is None:
            return False
        return rules.is_expired(state, now, watched=self.is_in_use(state, now))

    def _lived_at(self, state: State, ttl: int, moment: int) -> bool:
        """Whether a stream had not expired then, by what is known without its watchers."""
        access = self._last.get(state.generation)
        last = state.touched if access is None else max(state.touched, access.at)
        return moment < last + ttl * 1000

    # Watchings

    def _keep(self, state: State, ttl: int, now: int) -> None:
        with self._lock:
            self._kept[state.path] = (state.generation, ttl)
            self._to_keep.set(state.path, now + lag_ms(ttl))
        self._on_due()

    def begin(self, path: str, now: int) -> None:
        """A path is watched from now on. A stream that has expired is not brought back by it."""
        self._began[path] = now
        self._unseen.add(path)

    def see(self, path: str) -> None:
        """A stream has been looked at: whether it expires is known."""
        self._unseen.discard(path)

    def end(self, path: str, now: int) -> bool:
        """A path is not watched any more: it was accessed until now.

        Returns:
            Whether the stream has not been looked at meanwhile. Then the writer must look, and
            call `resolve`.
        """
        began = self._began.pop(path, now)
        with self._lock:
            kept = self._kept.pop(path, None)
            self._to_keep.take_back(path)
        if kept is not None:
            generation, ttl = kept
            self._put(generation, Access(path, now, ttl), is_due=True)
        if path not in self._unseen:
            return False
        self._unseen.discard(path)
        self._ended[path] = (began, now)
        return True

    def resolve(self, path: str) -> None:
        """The last watcher has left, and that was recorded as an access, if the stream expires."""
        self._ended.pop(path, None)

    def keep_at(self) -> int | None:
        """When the last access of a watched stream must next be written to the file, in
        milliseconds."""
        with self._lock:
            return self._to_keep.next

    def to_keep(self, now: int) -> list[str]:
        """Watched streams whose access is to be written down now; no more than one commit may have.

        Each is looked at again when the file is behind once more.
        """
        with self._lock:
            paths: list[str] = []
            for path in self._to_keep.due(now, limits.STORE_CHORE_STREAMS):
                if self.is_watched(path):
                    self._to_keep.set(path, now + max(1, lag_ms(self._kept[path][1])))
                    paths.append(path)
                else:  # it was looked at in the moment in which the watching ended
                    del self._kept[path]
            return paths

    # Writing down, and letting go

    @property
    def are_due(self) -> bool:
        """Whether any are to be written now."""
        return bool(self._due)

    def settle(self) -> None:
        """Let all accesses be due, at the end."""
        with self._lock:
            self._due.update(self._last)

    def of(self, state: State) -> dict[int, Access]:
        """A stream's last access in this process, by its generation; empty without one."""
        access = self._last.get(state.generation)
        return {} if access is None else {state.generation: access}

    def take(self) -> dict[int, Access]:
        """What is to be written now, by generation."""
        with self._lock:
            due, self._due = self._due, set()
            return {each: access for each in due if (access := self._last.get(each)) is not None}

    def forget(self, generation: int) -> None:
        """A stream is gone."""
        with self._lock:
            access = self._last.pop(generation, None)
            self._over.take_back(generation)
            self._due.discard(generation)
            if access is not None and self._kept.get(access.path, (0, 0))[0] == generation:
                del self._kept[access.path]
                self._to_keep.take_back(access.path)

    def let_go(self, now: int) -> None:
        """Let go of accesses that are so old that they keep nothing alive."""
        with self._lock:
            for generation in self._over.due(now, limits.STORE_SLICE_ROWS):
                access = self._last[generation]
                if now >= _over_at(access):
                    del self._last[generation]
                    self._due.discard(generation)
                else:
                    self._over.set(generation, _over_at(access))


def _over_at(access: Access) -> int:
    return access.at + access.ttl * 1000


# Retention ----------------------------------------------------------------------------------------

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


def low_now(connection: apsw.Connection, stored: StoredStream, now: int) -> int:
    """The earliest position that a stream's own retention keeps.

    At most `limits.STORE_TRIM_ROWS` appends go at once; the writer goes on from there with its next
    commit. Readers and the writer see the same.

    Args:
        connection: To the file, in the read transaction of the stored state.
        stored: The stream.
        now: Milliseconds since the epoch.
    """
    trim = rules.trim_due(stored.state, now, stored.oldest)
    return stored.state.low if trim is None else _low(connection, stored.state, trim)


def lows_now(connection: apsw.Connection, stored: StoredStream, now: int) -> tuple[int, ...]:
    """The same for each level of a stream's lineage."""
    if not stored.inherits_aging:
        return stored.lows
    found: list[int] = []
    for level, low in zip(stored.state.lineage, stored.lows, strict=True):
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


# Forks --------------------------------------------------------------------------------------------

_MOST_FORKS: Final = 100
"""So many are looked at: those that have expired wait to be deleted, more of them at a time.
Stops: a look at a path that walks through all forks that ever were."""

_FORKS: Final = f"""
SELECT s.* FROM json_each(?1) k CROSS JOIN stream s ON s.source = k.value LIMIT {_MOST_FORKS}
"""

_ONE_LIVES: Final = f"""
SELECT EXISTS (
  SELECT 1 FROM ({_FORKS})
  WHERE gone = 0 AND coalesce(expires_at > ?2, touched + ttl * 1000 > ?2, 1)
)
"""

_ALL_FORKS: Final = f"SELECT json_group_array(json_array(id, gone)) FROM ({_FORKS})"

_BY_IDS: Final = "WHERE id IN (SELECT value FROM json_each(?))"


def expired_forks(
    connection: apsw.Connection, generation: int, now: int
) -> list[StoredStream] | None:
    """A stream's forks, and theirs, that have expired by what the file says; not all of very many.

    Args:
        connection: To the file.
        generation: The stream; it is gone.
        now: Milliseconds since the epoch.

    Returns:
        None if one lives: while it does, all that it inherits from are kept.
    """
    expired: list[int] = []
    sources = [generation]
    while sources and len(expired) < _MOST_FORKS:
        level = json.dumps(sources)
        if connection.execute(_ONE_LIVES, (level, now)).get:
            return None
        found = json.loads(connection.execute(_ALL_FORKS, (level,)).get)
        expired += [fork for fork, is_gone in found if not is_gone]
        # One that is gone is kept for those below it, and so is one that has expired.
        sources = [fork for fork, _ in found]
    return load_many(connection, _BY_IDS, (json.dumps(expired[:_MOST_FORKS]),))
