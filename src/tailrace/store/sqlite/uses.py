"""When streams that expire were last used: in memory, and in the file soon after.

A durable write for each read would cost more than the read. So a use is noted here, and written
down with the next commit once the file is behind by a tenth of the stream's `ttl`. Another process
may take a stream for expired that much too early; and a process that is killed loses that much.

Noted by reading threads, taken by the writer thread: a dictionary's single operations are atomic,
and a use that is noted while they are taken waits for the next time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tailrace.store.rules import State

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
        on_due: Called when uses should be written down, in the thread that noted one.
    """

    def __init__(self, is_watched: Callable[[str], bool], on_due: Callable[[], None]) -> None:
        self.is_watched = is_watched
        self._on_due = on_due
        self._used: dict[int, Use] = {}
        self._due: set[int] = set()
        self.kept: dict[str, tuple[int, int]] = {}
        """Watched streams that expire: generation and `ttl` by path."""
        self._began: dict[str, int] = {}
        self._ended: dict[str, tuple[int, int]] = {}
        """When watchings began and ended at which nobody had looked at the stream."""
        self._unseen: set[str] = set()

    def note(self, state: State, now: int) -> None:
        """A stream is used now.

        Args:
            state: As the file has it.
            now: Milliseconds since the epoch.
        """
        if state.ttl is None:
            return
        generation = state.generation
        self._used[generation] = Use(state.path, now, state.ttl)
        if now - state.touched >= lag_ms(state.ttl) and generation not in self._due:
            self._due.add(generation)
            self._on_due()

    def is_in_use(self, state: State, now: int) -> bool:
        """Whether a stream is watched, or was used in this process within its time to live.

        Args:
            state: As the file has it.
            now: Milliseconds since the epoch.
        """
        if state.ttl is None:
            return False
        path, kept = state.path, (state.generation, state.ttl)
        if self.is_watched(path):
            began = self._began.get(path, now)
            if self.kept.get(path) == kept or self._lived_at(state, state.ttl, began):
                self.note(state, now)
                if self.kept.get(path) != kept:
                    self.kept[path] = kept
                    self._on_due()
                return True
        elif (watched := self._ended.get(path)) is not None:
            began, ended = watched
            if self._lived_at(state, state.ttl, began) and ended >= state.created_at:
                self._used[state.generation] = Use(path, ended, state.ttl)
                self._due.add(state.generation)
        return self._lived_at(state, state.ttl, now)

    def _lived_at(self, state: State, ttl: int, moment: int) -> bool:
        """Whether a stream had not expired then, by what is known without its watchers."""
        use = self._used.get(state.generation)
        last = state.touched if use is None else max(state.touched, use.at)
        return moment < last + ttl * 1000

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
        kept = self.kept.pop(path, None)
        if kept is not None:
            generation, ttl = kept
            self._used[generation] = Use(path, now, ttl)
            self._due.add(generation)
            self._on_due()
        if path not in self._unseen:
            return False
        self._unseen.discard(path)
        self._ended[path] = (began, now)
        return True

    def resolve(self, path: str) -> None:
        """The end of a watching has become a use of the stream, if it is one that expires."""
        self._ended.pop(path, None)

    def settle(self) -> None:
        """Let all uses be due, at the end."""
        self._due.update(self._used)

    def of(self, state: State) -> dict[int, Use]:
        """A stream's last use in this process, by its generation; empty if there is none."""
        use = self._used.get(state.generation)
        return {} if use is None else {state.generation: use}

    def take(self) -> dict[int, Use]:
        """What is to be written now, by generation."""
        due, self._due = self._due, set()
        return {
            generation: use for generation in due if (use := self._used.get(generation)) is not None
        }

    def forget(self, generation: int) -> None:
        """A stream is gone."""
        self._used.pop(generation, None)
        self._due.discard(generation)

    def prune(self, now: int) -> None:
        """Let go of uses that are so old that they keep nothing alive."""
        for generation, use in list(self._used.items()):
            if now >= use.at + use.ttl * 1000:
                self._used.pop(generation, None)
