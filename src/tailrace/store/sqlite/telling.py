"""What those who watch are told: of commits of this process, of hints, and of what the file shows.

The same may be learnt twice, by a hint and from the file. What was told last of each watched stream
is kept, so that it is not told twice, and so that the file can be asked what differs from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import apsw

from tailrace import limits
from tailrace.store import rules
from tailrace.store.base import Change, Chunk
from tailrace.store.offset import Offset
from tailrace.store.rules import State
from tailrace.store.sqlite.hint import News
from tailrace.store.sqlite.operation import Event
from tailrace.store.sqlite.record import load_many
from tailrace.store.sqlite.uses import Uses
from tailrace.store.watchers import Watchers

__all__ = ["Telling", "news_of"]

_DIFFERENT: Final = """
SELECT json_group_array(json_array(w.path, w.id)) FROM (
  SELECT w.value ->> 0 path, w.value ->> 1 id, w.value ->> 2 tail, w.value ->> 3 closed
  FROM json_each(?) w
) w LEFT JOIN stream s ON s.path = w.path AND s.gone = 0
WHERE s.id IS NOT w.id OR (s.id IS NOT NULL AND (s.tail <> w.tail OR s.closed <> w.closed))
"""

_BY_PATHS: Final = "WHERE gone = 0 AND path IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class _Told:
    """What watchers were told of a stream last.

    Args:
        generation: Which one of its path; None: there is none.
        position: Of its tail.
        closed: It was closed.
    """

    generation: int | None = None
    position: int = 0
    closed: bool = False


_NOTHING: Final = _Told()


class Telling:
    """Tells those who watch, in the event loop; all but the comparing is called there.

    Args:
        watchers: Who watches.
        uses: When streams were used.
        clock: Milliseconds since the epoch.
    """

    def __init__(self, watchers: Watchers, uses: Uses, clock: Callable[[], int]) -> None:
        self._watchers = watchers
        self._uses = uses
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._round: list[str] = []
        """Those that are still to be compared; the thread's own, as the next one is."""
        self._again = False
        """The file has changed since the round began."""

    def see(self, state: State) -> None:
        """A stream was read, in any thread.

        Who watches reads after that: what the first reading shows need not be told.
        """
        if self._watchers.has(state.path) and state.path not in self._told:
            told = _Told(state.generation, state.tail, state.closed)
            self._told.setdefault(state.path, told)
            if not self._watchers.has(state.path):  # its watching has ended in this moment
                self._told.pop(state.path, None)

    def forget(self, path: str) -> None:
        """Nobody watches it any more."""
        self._told.pop(path, None)

    def tell(self, news: Iterable[News]) -> None:
        """Tell all of it that is not known."""
        for item in news:
            path, change = item.path, item.change
            if not self._watchers.has(path):
                continue
            told = self._told.get(path, _NOTHING)
            if item.generation == told.generation and change.tail.position < told.position:
                continue  # an older hint, overtaken
            now = _NOTHING
            if not change.deleted:
                now = _Told(item.generation, change.tail.position, change.closed)
            if now != told or (change.deleted and path not in self._told):
                self._told[path] = now
                self._watchers.tell(path, change)

    def compare(self, connection: apsw.Connection) -> Sequence[News]:
        """What of the watched streams differs from what was told; in the listener's thread."""
        return self._compare(connection, self._watchers)

    def compare_next(self, connection: apsw.Connection, changed: bool) -> Sequence[News]:
        """The same, of the next few; all, over some calls, after the file has changed.

        Args:
            connection: To the file.
            changed: It has since the last call.
        """
        self._again = self._again or changed
        if self._again and not self._round:
            self._again = False
            self._round = list(self._watchers)
        some = self._round[-limits.SAFETY_STREAMS :]
        del self._round[-limits.SAFETY_STREAMS :]
        return self._compare(connection, some)

    def _compare(self, connection: apsw.Connection, paths: Iterable[str]) -> Sequence[News]:
        """The uses of those that differ are noted: a stream that is watched does not expire."""
        told = {path: self._told.get(path, _NOTHING) for path in paths}
        watched = [
            [path, known.generation, known.position, int(known.closed)]
            for path, known in told.items()
        ]
        if not watched:
            return ()
        different = json.loads(connection.execute(_DIFFERENT, (json.dumps(watched),)).get)
        if not different:
            return ()
        paths = json.dumps([path for path, _ in different])
        found = {record.state.path: record for record in load_many(connection, _BY_PATHS, (paths,))}
        now = self._clock()
        news: list[News] = []
        for path, generation in different:
            record = found.get(path)
            if record is not None:
                state = record.state
                self._uses.see(path)
                if state.ttl is not None:
                    self._uses.is_in_use(state, now)
                tail = rules.offset_at(state, state.tail)
                change = Change(tail, tail, None, state.closed)
                news.append(News(path, state.generation, change))
            elif generation is not None:
                tail = Offset(generation, told[path].position)
                change = Change(tail, tail, None, told[path].closed, deleted=True)
                news.append(News(path, generation, change))
        return news


def news_of(events: Sequence[Event], wanted: Callable[[str], bool]) -> list[News]:
    """One piece of news for each run of events of a stream: a hundred appends are told once.

    Args:
        events: In the order in which they happened.
        wanted: Whether anybody asks for a path.
    """
    runs: dict[str, list[Event]] = {}
    news: list[News] = []
    for event in events:
        if wanted(event.path):
            runs.setdefault(event.path, []).append(event)
            if event.deleted:
                # What comes after it under this path is another stream.
                news.append(_news(runs.pop(event.path)))
    news += (_news(run) for run in runs.values())
    return news


def _news(run: Sequence[Event]) -> News:
    last = run[-1]
    if last.deleted:
        change = Change(last.tail, last.tail, None, last.closed, deleted=True)
        return News(last.path, last.generation, change)
    chunks: list[Chunk] = []
    for event in run:
        chunks += event.chunks or ()
    change = Change(last.tail, run[0].start, tuple(chunks), last.closed)
    return News(last.path, last.generation, change)
