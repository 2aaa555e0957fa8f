"""How long streams live, and how much of each is kept: expiry, last access, retention, forks.

The file says when a stream was last accessed. A durable write for each read would cost more than
the read. So an access is noted in memory. It is written with the next commit once the time in the
file lags behind by a tenth of the stream's `ttl`. Another process may take the stream for expired
too early by that much. So may every process, if the one that noted the access is killed.

Appends that are too old cannot be read even before they are deleted: a reader leaves them out, and
asks the writer to move the stream's `low`. The chunks below it are deleted later, in slices.

A stream that was deleted or has expired is kept as long as a fork of it lives, and a request for it
is answered that it is gone. It may have thousands of forks, so not all of them are looked at: one
that lives by what the file says is enough. Only if there is none, those that seem to have expired
are looked at one by one, for this process may know of a later access.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
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
    """Milliseconds by which the file may lag behind the last access: a tenth of the time to live.

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
    """This process's last access to each stream with a `ttl`, by the stream's generation.

    Reading threads note accesses, and the writer thread writes them to the file. An access is
    forgotten once it is so old that it keeps no stream alive, even if another process has deleted
    the stream. No step looks at all accesses.

    Args:
        is_watched: Whether a path is watched in this process; that counts as accesses.
        on_due: Called when the writer has something to do here, in the thread that finds it out.
    """

    def __init__(self, is_watched: Callable[[str], bool], on_due: Callable[[], None]) -> None:
        self.is_watched = is_watched
        self._on_due = on_due
        self._lock = threading.Lock()
        self._last: dict[int, Access] = {}
        self._over: Schedule[int] = Schedule()
        """When to check whether an access still keeps its stream alive."""
        self._due: set[int] = set()
        self._kept: dict[str, tuple[int, int]] = {}
        """Watched streams with a `ttl`: generation and `ttl`, by path."""
        self._to_keep: Schedule[str] = Schedule()
        """When the file will lag behind for each of them."""
        self._began: dict[str, int] = {}
        self._ended: dict[str, tuple[int, int]] = {}
        """When a path began and ceased to be watched, if its stream was never read meanwhile."""
        self._unseen: set[str] = set()

    def __len__(self) -> int:
        """How many accesses are known."""
        return len(self._last)

    def note(self, state: State, now: int) -> None:
        """Note that a stream is accessed now.

        Args:
            state: The stream, as the file has it.
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
            # One call serves all that is due. The first access needs one as well: from then on the
            # writer has to wake to forget accesses.
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

        That it is watched is noted as an access.

        Args:
            state: The stream, as the file has it.
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
        """Whether a stream was alive at a moment, by its accesses and without its watchers."""
        access = self._last.get(state.generation)
        last = state.touched if access is None else max(state.touched, access.at)
        return moment < last + ttl * 1000

    # Watched streams

    def _keep(self, state: State, ttl: int, now: int) -> None:
        with self._lock:
            self._kept[state.path] = (state.generation, ttl)
            self._to_keep.set(state.path, now + lag_ms(ttl))
        self._on_due()

    def begin(self, path: str, now: int) -> None:
        """Note that a path is watched from now on. A stream that has expired is not revived."""
        self._began[path] = now
        self._unseen.add(path)

    def see(self, path: str) -> None:
        """Note that the stream of a path was read: whether it expires is known now."""
        self._unseen.discard(path)

    def end(self, path: str, now: int) -> bool:
        """Note that a path is not watched any more; its stream was accessed until now.

        Returns:
            True if the stream was never read while it was watched. Then the writer must read it,
            and call `resolve`.
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
        """Note that the writer has read the stream and its last access, as `end` asked for."""
        self._ended.pop(path, None)

    def keep_at(self) -> int | None:
        """When a watched stream's access must next be written, in milliseconds since the epoch."""
        with self._lock:
            return self._to_keep.next

    def to_keep(self, now: int) -> list[str]:
        """Watched streams whose access is to be written now, as many as one commit may have.

        Each comes again when the file lags behind once more.
        """
        with self._lock:
            paths: list[str] = []
            for path in self._to_keep.due(now, limits.STORE_CHORE_STREAMS):
                if self.is_watched(path):
                    self._to_keep.set(path, now + max(1, lag_ms(self._kept[path][1])))
                    paths.append(path)
                else:  # it was read just as the watching ended
                    del self._kept[path]
            return paths

    # Writing accesses, and forgetting them

    @property
    def are_due(self) -> bool:
        """Whether any access is to be written now."""
        return bool(self._due)

    def settle(self) -> None:
        """Make all accesses due, when the store closes."""
        with self._lock:
            self._due.update(self._last)

    def of(self, state: State) -> dict[int, Access]:
        """A stream's last access in this process, by its generation; empty without one."""
        access = self._last.get(state.generation)
        return {} if access is None else {state.generation: access}

    def take(self) -> dict[int, Access]:
        """The accesses that are to be written now, by generation; they are no longer due."""
        with self._lock:
            due, self._due = self._due, set()
            return {each: access for each in due if (access := self._last.get(each)) is not None}

    def give_back(self, generations: Iterable[int]) -> None:
        """Make accesses due again that were taken, but not written."""
        with self._lock:
            self._due.update(each for each in generations if each in self._last)

    def forget(self, generation: int) -> None:
        """Forget a stream that was deleted."""
        with self._lock:
            access = self._last.pop(generation, None)
            self._over.take_back(generation)
            self._due.discard(generation)
            if access is not None and self._kept.get(access.path, (0, 0))[0] == generation:
                del self._kept[access.path]
                self._to_keep.take_back(access.path)

    def let_go(self, now: int) -> None:
        """Forget accesses that are so old that they keep no stream alive."""
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
"""The first retained chunks, at most ?4. No query looks further, so its cost does not grow with
what is kept."""

_BY_BYTES: Final = f"SELECT max(tail) FROM ({_HEAD}) WHERE tail <= ?3"
_BY_RECORDS: Final = f"SELECT max(tail) FROM ({_HEAD})"
_BY_AGE: Final = f"""
SELECT max(tail) FROM ({_HEAD}) WHERE tail < ifnull(
  (SELECT tail FROM ({_HEAD}) WHERE at >= ?3 LIMIT 1), 9223372036854775807)
"""
"""All chunks before the first that is young enough: after it, the clock may have gone back."""


def low_now(connection: apsw.Connection, stored: StoredStream, now: int) -> int:
    """The earliest position that a stream's own retention keeps.

    At most `limits.STORE_TRIM_ROWS` appends go at once; the writer goes on from there with its next
    commit. Readers and the writer find the same position.

    Args:
        connection: To the file, in the read transaction of the stored state.
        stored: The stream.
        now: Milliseconds since the epoch.
    """
    trim = rules.trim_due(stored.state, now, stored.oldest)
    return stored.state.low if trim is None else _low(connection, stored.state, trim)


def lows_now(connection: apsw.Connection, stored: StoredStream, now: int) -> tuple[int, ...]:
    """`low_now` of each level of a stream's lineage."""
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
"""How many forks are looked at. Forks that have expired are soon deleted, more than this at a time.
Stops: a request for a path that looks at all forks that it ever had."""

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
    """A stream's forks, and theirs, that have expired by what the file says; `_MOST_FORKS` at most.

    Args:
        connection: To the file.
        generation: The stream; it is gone.
        now: Milliseconds since the epoch.

    Returns:
        The expired forks; None if a fork lives: then all streams that it inherits from are kept.
    """
    expired: list[int] = []
    sources = [generation]
    while sources and len(expired) < _MOST_FORKS:
        level = json.dumps(sources)
        if connection.execute(_ONE_LIVES, (level, now)).get:
            return None
        found = json.loads(connection.execute(_ALL_FORKS, (level,)).get)
        expired += [fork for fork, is_gone in found if not is_gone]
        # A fork that is gone or has expired is kept for forks of its own: look at these, too.
        sources = [fork for fork, _ in found]
    return load_many(connection, _BY_IDS, (json.dumps(expired[:_MOST_FORKS]),))
