"""When streams that expire were last used: in memory, and in the file soon after.

A durable write for each read would cost more than the read. So a use is noted here, and written
down with the next commit once the file is behind by a tenth of the stream's `ttl`. Another process
may take a stream for expired that much too early; and a process that is killed loses that much.

Noted by reading threads, taken by the writer thread. A use is let go of once it is so old that it
keeps nothing alive, whoever has ended the stream meanwhile; nothing walks through all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from tailrace import limits
from tailrace.store.rules import State
from tailrace.store.schedule import Schedule

__all__ = ["Use", "Uses", "lag_ms"]


def lag_ms(ttl: int) -> int:
    """Milliseconds by which the file may be behind: a tenth of the time to live.

    At least a second, so that a busy stream does not write all the time; but at most a quarter of
    the time to live.

    Args:
        ttl: Seconds.
    """
    return min(max(1000, ttl * 100), ttl * 250)


class Use(NamedTuple):
    """The last use of a stream.

    Args:
        path: The stream.
        at: Milliseconds since the epoch.
        ttl: Its time to live, in seconds.
    """

    path: str
    at: int
    ttl: int


class Uses:
    """The last use of each stream that expires, by its generation.

    Args:
        is_watched: Whether a path is watched in this process, which is a use.
        on_due: Called when the writer has something to do here, in the thread that noted it.
    """

    def __init__(self, is_watched: Callable[[str], bool], on_due: Callable[[], None]) -> None:
        self.is_watched = is_watched
        self._on_due = on_due
        self._lock = threading.Lock()
        self._used: dict[int, Use] = {}
        self._over: Schedule[int] = Schedule()
        """When each of them may keep nothing alive any more."""
        self._due: set[int] = set()
        self._kept: dict[str, tuple[int, int]] = {}
        """Watched streams that expire: generation and `ttl` by path."""
        self._to_keep: Schedule[str] = Schedule()
        """When the file is behind for each of them."""
        self._began: dict[str, int] = {}
        self._ended: dict[str, tuple[int, int]] = {}
        """When watchings began and ended at which nobody had looked at the stream."""
        self._unseen: set[str] = set()

    def __len__(self) -> int:
        """How many uses are known."""
        return len(self._used)

    def note(self, state: State, now: int) -> None:
        """A stream is used now.

        Args:
            state: As the file has it.
            now: Milliseconds since the epoch.
        """
        if state.ttl is None:
            return
        behind_at = state.touched + lag_ms(state.ttl)
        self._put(state.generation, Use(state.path, now, state.ttl), is_due=now >= behind_at)
        if now < behind_at and state.path in self._kept:
            with self._lock:
                self._to_keep.set(state.path, behind_at)

    def _put(self, generation: int, use: Use, *, is_due: bool) -> None:
        with self._lock:
            # One call is for all that is due; the first use has to be let go of one day, too.
            wakes = not self._used or (is_due and not self._due)
            if generation not in self._used:
                self._over.set(generation, _over_at(use))
            self._used[generation] = use
            if is_due:
                self._due.add(generation)
        if wakes:
            self._on_due()

    def is_in_use(self, state: State, now: int) -> bool:
        """Whether a stream is watched, or was used in this process within its time to live.

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
                self._put(state.generation, Use(path, ended, state.ttl), is_due=True)
        return self._lived_at(state, state.ttl, now)

    def _lived_at(self, state: State, ttl: int, moment: int) -> bool:
        """Whether a stream had not expired then, by what is known without its watchers."""
        use = self._used.get(state.generation)
        last = state.touched if use is None else max(state.touched, use.at)
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
        """A path is not watched any more: until now it was in use.

        Returns:
            Whether nobody has looked at the stream meanwhile. Then the writer must, and say so
            with `resolve`.
        """
        began = self._began.pop(path, now)
        with self._lock:
            kept = self._kept.pop(path, None)
            self._to_keep.take_back(path)
        if kept is not None:
            generation, ttl = kept
            self._put(generation, Use(path, now, ttl), is_due=True)
        if path not in self._unseen:
            return False
        self._unseen.discard(path)
        self._ended[path] = (began, now)
        return True

    def resolve(self, path: str) -> None:
        """The end of a watching has become a use of the stream, if it is one that expires."""
        self._ended.pop(path, None)

    def keep_at(self) -> int | None:
        """When the file will be behind for a stream that is watched, in milliseconds."""
        with self._lock:
            return self._to_keep.next

    def to_keep(self, now: int) -> list[str]:
        """Watched streams whose use is to be written down now; not more than one commit may have.

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
        """Let all uses be due, at the end."""
        with self._lock:
            self._due.update(self._used)

    def of(self, state: State) -> dict[int, Use]:
        """A stream's last use in this process, by its generation; empty if there is none."""
        use = self._used.get(state.generation)
        return {} if use is None else {state.generation: use}

    def take(self) -> dict[int, Use]:
        """What is to be written now, by generation."""
        with self._lock:
            due, self._due = self._due, set()
            return {each: use for each in due if (use := self._used.get(each)) is not None}

    def forget(self, generation: int) -> None:
        """A stream is gone."""
        with self._lock:
            use = self._used.pop(generation, None)
            self._over.take_back(generation)
            self._due.discard(generation)
            if use is not None and self._kept.get(use.path, (0, 0))[0] == generation:
                del self._kept[use.path]
                self._to_keep.take_back(use.path)

    def let_go(self, now: int) -> None:
        """Let go of uses that are so old that they keep nothing alive."""
        with self._lock:
            for generation in self._over.due(now, limits.STORE_SLICE_ROWS):
                use = self._used[generation]
                if now >= _over_at(use):
                    del self._used[generation]
                    self._due.discard(generation)
                else:
                    self._over.set(generation, _over_at(use))


def _over_at(use: Use) -> int:
    return use.at + use.ttl * 1000
