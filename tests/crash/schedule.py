"""Random work for a store, on several streams at the same time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import anyio
import anyio.abc

from tailrace.errors import StreamError
from tailrace.store import START, Append, Fork, Mark, NewStream, Offset, Producer, Retention, Store
from tests.crash.history import Added, History, Made, Removed, Step

__all__ = ["Player", "read_all"]

PRODUCERS = ("ada", "bob", "cy")
KEPT_BYTES = 4000
"""Bytes that a stream with a bound must retain."""

_numbers = itertools.count()
_Opened = Callable[[], Store]


async def read_all(store: Store, path: str) -> tuple[int, bytes]:
    """Read everything that a stream has retained.

    Returns:
        The position of its first byte, and its bytes.
    """
    piece = await store.read(path, Mark.BEGINNING)
    first, data = piece.start.position, piece.data
    while not piece.up_to_date:
        piece = await store.read(path, piece.end)
        data += piece.data
    return first, data


@dataclass(slots=True)
class _Asked:
    """An append that was started.

    Attributes:
        append: What is appended.
        started, acked: As in `Step`.
        tail: The position after it; None: it was not done, or that is not known yet.
    """

    append: Append
    started: int
    acked: int | None = None
    tail: int | None = None

    @property
    def step(self) -> Step:
        change = Added(self.append.data, self.append.producer, self.append.close)
        return Step(change, self.started, self.acked)


@dataclass(slots=True)
class _Stream:
    """What the player knows of a stream, besides its history.

    Attributes:
        seqs: The next sequence of each producer, by its id.
        ends: The offsets that the store has returned for the stream.
    """

    seqs: dict[str, int] = field(default_factory=dict)
    ends: list[Offset] = field(default_factory=list)


class Player:
    """Works on a store, and records what was requested and what was acknowledged.

    `create`, `append` and `delete` each do one thing; `play` does random things.

    Args:
        opened: Makes a store of the file, which is not open yet.
        mark: Returns the place of this moment in the trace.
        rng: Draws what is done.
        history: What was done before.
        stores: How many stores write to the file at the same time, as several processes do.
    """

    def __init__(
        self,
        opened: _Opened,
        mark: Callable[[], int],
        rng: random.Random,
        history: History,
        stores: int = 1,
    ) -> None:
        self.history = history
        self._opened = opened
        self._stores = [opened() for _ in range(stores)]
        self.mark = mark
        self._rng = rng
        self._streams: dict[str, _Stream] = {}

    async def start(self) -> None:
        """Open the stores, and look up the streams that exist by the history."""
        for store in self._stores:
            await store.open()
        for path in self.history.steps:
            state = self.history.state(path)
            if state.data is not None:
                seqs = {one.id: one.seq + 1 for one in state.producers}
                self._streams[path] = _Stream(seqs, [(await self._store().head(path)).tail])

    async def restart(self) -> None:
        """Close one of the stores, and open it again."""
        number = self._rng.randrange(len(self._stores))
        await self._stores[number].aclose()
        self._stores[number] = self._opened()
        await self._stores[number].open()

    async def stop(self) -> None:
        """Close the stores."""
        for store in self._stores:
            await store.aclose()

    async def play(self, paths: int) -> None:
        """Do a few random changes to each of `paths` streams, to all at the same time."""
        async with anyio.create_task_group() as group:
            for number in range(paths):
                group.start_soon(self._live, f"s{number}")

    async def create(self, path: str, new: NewStream, change: Made) -> bool:
        """Create a stream. Returns whether that was possible."""
        started = self.mark()
        try:
            created = await self._store().create(path, new)
        except StreamError:
            # It was deleted but forks still read it, or the stream to fork from is gone.
            return False
        self.history.add(path, Step(change, started, self.mark()))
        self._streams[path] = _Stream(ends=[created.info.tail])
        return True

    async def append(self, path: str, *appends: Append, cancelled: int = 0) -> None:
        """Do several appends at the same time.

        Args:
            path: The stream.
            appends: What is appended.
            cancelled: So many of them, the first ones, are cancelled before they are acknowledged.
        """
        asked: list[_Asked] = []
        store = self._store()
        async with anyio.create_task_group() as group:
            for number, append in enumerate(appends):
                asked.append(_Asked(append, 0))
                used = store if cancelled else self._store()
                group.start_soon(self._append, used, path, asked[-1], number < cancelled)
        if cancelled:
            # A store does one append after the other. So when this one is done, a cancelled one is
            # done, too, or never will be.
            last = _Asked(Append(data=self.payload(path)), 0)
            await self._append(store, path, last, False)
            asked.append(last)
            _first, data = await read_all(store, path)
            for one in asked:
                at = data.find(one.append.data)
                one.tail = at + len(one.append.data) if at >= 0 else None
        done = sorted((one for one in asked if one.tail is not None), key=_tail)
        self.history.add(path, *(one.step for one in done))
        for one in done:
            if one.append.producer is not None:
                self._streams[path].seqs[one.append.producer.id] = one.append.producer.seq + 1

    async def delete(self, path: str) -> None:
        started = self.mark()
        await self._store().delete(path)
        self.history.add(path, Step(Removed(), started, self.mark()))
        del self._streams[path]

    def payload(self, path: str) -> bytes:
        """Bytes that no other append has."""
        number = next(_numbers)
        size = self._rng.choice((20, 60, 200, 200, 900, 5000, 20_000))
        filler = random.Random(number).randbytes(size)
        return b"<%s %d %d>" % (path.encode(), number, size) + filler.replace(b"<", b"_")

    def producer(self, path: str, name: str) -> Producer:
        return Producer(name, 0, self._streams[path].seqs.get(name, 0))

    def _store(self) -> Store:
        return self._rng.choice(self._stores)

    async def _append(self, store: Store, path: str, asked: _Asked, leaves: bool) -> None:
        asked.started = self.mark()
        async with anyio.create_task_group() as group:
            if leaves:
                group.start_soon(_cancel_after, group.cancel_scope, self._rng.randrange(4))
            done = await store.append(path, asked.append)
            asked.acked = self.mark()
            assert not done.duplicate
            asked.tail = done.tail.position
            self._streams[path].ends.append(done.tail)
            group.cancel_scope.cancel()

    async def _live(self, path: str) -> None:
        for _ in range(self._rng.randint(1, 4)):
            state = self.history.state(path)
            chance = self._rng.random()
            if state.data is None:
                await self._make(path)
            elif chance < 0.06 or (state.closed and chance < 0.5):
                await self.delete(path)
            elif not state.closed:
                await self._add(path, chance)

    async def _make(self, path: str) -> None:
        others = [name for name in self._streams if name != path]
        if others and self._rng.random() < 0.5 and await self._fork(path, self._rng.choice(others)):
            return
        data = self.payload(path) if self._rng.random() < 0.3 else b""
        closed = self._rng.random() < 0.05
        keeps = KEPT_BYTES if self._rng.random() < 0.2 else None
        new = NewStream(data=data, closed=closed, retention=Retention(max_bytes=keeps))
        await self.create(path, new, Made(data, closed, None, keeps, keeps is not None))

    async def _fork(self, path: str, source: str) -> bool:
        known = self._streams[source]
        state = self.history.state(source)
        if state.data is None:
            return False
        at = self._rng.choice([START, *known.ends])
        if at.position > len(state.data):
            return False
        # Not from START: that offset is the same for every stream that ever had this path.
        more = min(self._rng.choice((0, 0, 7)), len(state.data) - at.position) if at != START else 0
        inherited = state.data[: at.position + more]
        data = self.payload(path) if self._rng.random() < 0.3 else b""
        return await self.create(
            path,
            NewStream(data=data, fork=Fork(source, at, more)),
            Made(inherited + data, False, source, None, state.trims),
        )

    async def _add(self, path: str, chance: float) -> None:
        close = chance > 0.95
        names = self._rng.sample(PRODUCERS, self._rng.randint(0, 1 if close else 3))
        appends = [
            Append(data=self.payload(path), producer=self.producer(path, name)) for name in names
        ]
        if not appends or self._rng.random() < 0.5:
            appends.append(Append(data=self.payload(path)))
        if close:
            # Alone, because the stream would refuse appends that come after the close.
            return await self.append(path, replace(appends[0], close=True))
        self._rng.shuffle(appends)
        leaving = self._rng.random() < 0.15 and not self.history.state(path).trims
        cancelled = self._rng.randint(1, len(appends)) if leaving else 0
        await self.append(path, *appends, cancelled=cancelled)
        for append in appends:
            if append.producer is not None and self._rng.random() < 0.2:
                await self._repeat(path, append)
        return None

    async def _repeat(self, path: str, append: Append) -> None:
        assert append.producer is not None
        if self._streams[path].seqs.get(append.producer.id) == append.producer.seq + 1:
            assert (await self._store().append(path, append)).duplicate


def _tail(asked: _Asked) -> int:
    assert asked.tail is not None
    return asked.tail


async def _cancel_after(scope: anyio.CancelScope, turns: int) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    scope.cancel()
