"""Compares a store with the memory store over random histories: answers, errors and bytes.

Both use the same clock, so their offsets must be equal too: a generation is the microsecond of a
creation, or the last one plus 1 if the clock has not moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeAlias, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tailrace import limits
from tailrace.errors import StreamError
from tailrace.store import (
    START,
    Append,
    Appended,
    Created,
    Fork,
    Mark,
    MemoryStore,
    NewStream,
    Offset,
    Producer,
    Retention,
    Slice,
    Store,
    Where,
)
from tests.store.contract._suite import StoreClock

__all__ = ["StoreMachine"]

T = TypeVar("T")

Draw: TypeAlias = st.DataObject

PATHS = st.sampled_from(["a", "b", "c", "d"])
"""Only a few, so that each is deleted, forked and created again."""

ALIVE = st.integers(0, 15)
"""A number for `_path`: 0 to 11 picks a stream that exists, if there is one; 12 to 15 are the paths
"a" to "d", of which some do not exist."""

BODIES = st.sampled_from([b"1,", b'"ab",', b"[2,3],4,", b'{"k":[5,{}]},6,7,', b'"\xc3\xa9, ]",'])
"""Wire bytes of JSON streams; streams of other types get the same."""

DATA = st.one_of(st.just(b""), BODIES)
SELDOM = st.sampled_from([False] * 9 + [True])
TYPES = st.sampled_from([None, "text/plain", "Text/Plain; charset=utf-8", "application/json"])
LIFETIMES = st.sampled_from([None, None, None, 5, 5, 60])
STEPS = st.sampled_from([3, 3, 0.001, 1, 4.999, 5, 60])
COUNTS = st.integers(1, 4)
SEQS = st.sampled_from([None, None, None, "1", "2", "10", "a"])
SIZES = st.sampled_from([1, 4, 10, 16, 2**20])


class StoreMachine(RuleBasedStateMachine):
    """Makes the same calls to a store and to the memory store, and compares what they answer.

    ```
    class MineMachine(StoreMachine):
        def make(self, folder, clock):
            return MyStore(folder / "streams.db", clock=clock)

    TestMineMachine = MineMachine.TestCase
    ```

    For a store that is not durable set `durable = False`: it is then never restarted. For a store
    that removes data at other moments than the memory store set `exact_retention = False`: its
    streams then have no retention.
    """

    durable: ClassVar[bool] = True
    exact_retention: ClassVar[bool] = True

    def make(self, folder: Path, clock: StoreClock) -> Store:
        """As `StoreContract.make`."""
        raise NotImplementedError("say which store is compared: def make(self, folder, clock)")

    def __init__(self) -> None:
        super().__init__()
        self.clock = StoreClock()
        self._folder = TemporaryDirectory()
        self._loop = asyncio.Runner()
        self._model: Store = MemoryStore(self.clock)
        self._store = self._made()
        self._stops: dict[str, list[Callable[[], None]]] = {}
        self._offsets: dict[str, list[Offset]] = {}
        self._producers: dict[tuple[str, str], tuple[int, int]] = {}
        self._agree = True

    # Comparing

    def same(self, verb: Callable[[Store], Awaitable[T]]) -> T | None:
        """Make a call to both stores and compare the outcomes; None if both refuse it."""
        expected, result = self._outcome(self._model, verb), self._outcome(self._store, verb)
        self._agree = result == expected
        assert result == expected
        return expected[0]

    def _outcome(
        self, store: Store, verb: Callable[[Store], Awaitable[T]]
    ) -> tuple[T | None, type[StreamError] | None, dict[str, Any]]:
        try:
            return self._run(verb(store)), None, {}
        except StreamError as error:
            return None, type(error), vars(error)

    def _run(self, what: Awaitable[T]) -> T:
        async def call() -> T:
            return await what

        return self._loop.run(call())

    def _made(self) -> Store:
        store = self.make(Path(self._folder.name), self.clock)
        self._run(store.open())
        return store

    # Drawing

    def _path(self, number: int) -> str:
        """A path, mostly of a stream that exists: else most of a history would only be errors."""
        there = [info.path for info in self._run(self._model.list())]
        return there[number % len(there)] if there and number < 12 else "abcd"[number % 4]

    def _where(self, draw: Draw, path: str) -> Where:
        """A mark, an offset that any stream of this path has given out, or one close to it."""
        offset = draw.draw(st.sampled_from([START, *self._offsets.get(path, [])]))
        nudge = draw.draw(st.sampled_from([0, 0, 0, -1, 1, 3]))
        near = replace(offset, position=max(0, offset.position + nudge))
        places: list[Where] = [near, near, near, Mark.BEGINNING, Mark.TAIL]
        return draw.draw(st.sampled_from(places))

    def _retention(self, draw: Draw) -> Retention:
        if not self.exact_retention:
            return Retention()
        kinds = [{}, {}, {}, {"max_bytes": 8}, {"max_records": 2}]
        return Retention(**draw.draw(st.sampled_from(kinds)))

    def _producer(self, draw: Draw, path: str) -> Producer | None:
        """Mostly the next sequence of a known producer, or its last one again."""
        name = draw.draw(st.sampled_from([None, "p", "q"]))
        if name is None:
            return None
        epoch, seq = self._producers.get((path, name), (0, -1))
        ways = [(epoch, seq + 1)] * 3 + [(epoch, max(seq, 0))] * 2
        ways += [(epoch + 1, 0), (epoch + 1, 1), (max(epoch - 1, 0), 0), (epoch, seq + 2), (0, 0)]
        return Producer(name, *draw.draw(st.sampled_from(ways)))

    def _saw(self, path: str, *offsets: Offset) -> None:
        self._offsets.setdefault(path, []).extend(offsets)

    def _saw_stream(self, path: str, created: Created | None) -> None:
        if created is not None:
            self._saw(path, created.info.first, created.info.tail)

    # Steps of a history

    @initialize(draw=st.data())
    def begin(self, draw: Draw) -> None:
        """Begin with some streams: else most of a history would be about streams without data."""
        for path in "abc":
            self._create(draw, path)
        for number in range(4):
            self._append("abc"[number % 2], Append(data=draw.draw(BODIES)))

    @rule(draw=st.data(), path=PATHS)
    def create(self, draw: Draw, path: str) -> None:
        self._create(draw, path)

    def _create(self, draw: Draw, path: str) -> None:
        ttl, lives = draw.draw(LIFETIMES), draw.draw(LIFETIMES)
        expires_at = None if ttl is not None or lives is None else self._in(lives)
        new = NewStream(
            content_type=draw.draw(TYPES),
            data=draw.draw(DATA),
            closed=draw.draw(SELDOM),
            ttl=ttl,
            expires_at=expires_at,
            retention=self._retention(draw),
        )
        self._saw_stream(path, self.same(lambda store: store.create(path, new)))

    @rule(draw=st.data(), path=PATHS, number=ALIVE)
    def fork(self, draw: Draw, path: str, number: int) -> None:
        source = self._path(number)
        where = draw.draw(st.one_of(st.none(), st.just(self._where(draw, source))))
        fork = Fork(
            source,
            None if isinstance(where, Mark) else where,
            draw.draw(st.sampled_from([0, 0, 0, 1, 2, 5])),
        )
        new = NewStream(
            data=draw.draw(DATA),
            ttl=draw.draw(LIFETIMES),
            retention=self._retention(draw),
            fork=fork,
        )
        self._saw_stream(path, self.same(lambda store: store.create(path, new)))

    @rule(draw=st.data(), number=ALIVE, count=COUNTS)
    def append(self, draw: Draw, number: int, count: int) -> None:
        for _ in range(count):
            path = self._path(number)
            append = Append(
                data=draw.draw(BODIES),
                content_type=draw.draw(st.one_of(st.none(), st.none(), TYPES)),
                producer=self._producer(draw, path),
                seq=draw.draw(SEQS),
                close=draw.draw(SELDOM),
            )
            self._append(path, append)

    @rule(draw=st.data(), number=ALIVE, seq=SEQS)
    def close(self, draw: Draw, number: int, seq: str | None) -> None:
        path = self._path(number)
        self._append(path, Append(close=True, seq=seq, producer=self._producer(draw, path)))

    def _append(self, path: str, append: Append) -> None:
        done: Appended | None = self.same(lambda store: store.append(path, append))
        if done is None:
            return
        self._saw(path, done.tail)
        if done.producer is not None:
            self._producers[path, done.producer.id] = (done.producer.epoch, done.producer.seq)

    @rule(number=ALIVE)
    def delete(self, number: int) -> None:
        path = self._path(number)
        self.same(lambda store: store.delete(path))

    @rule(seconds=STEPS)
    def wait(self, seconds: float) -> None:
        self.time_passes(seconds)

    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.same(lambda store: store.list())

    @rule(draw=st.data(), number=ALIVE, count=COUNTS)
    def read(self, draw: Draw, number: int, count: int) -> None:
        path = self._path(number)
        for _ in range(count):
            where, max_bytes = self._where(draw, path), draw.draw(SIZES)
            self._read(path, where, max_bytes)

    def _read(self, path: str, where: Where, max_bytes: int = limits.READ_BYTES) -> None:
        read: Slice | None = self.same(lambda store: store.read(path, where, max_bytes))
        if read is not None:
            self._saw(path, *(chunk.end for chunk in read.chunks))

    @rule(number=ALIVE, count=COUNTS)
    def come_back(self, number: int, count: int) -> None:
        """Read again and again, each time before a short `ttl` is over."""
        path = self._path(number)
        for _ in range(count):
            self._read(path, Mark.TAIL)
            self.time_passes(3)

    @rule()
    def look_at_all(self) -> None:
        for path in "abcd":
            self._head(path)

    def _head(self, path: str) -> None:
        self.same(lambda store: store.head(path))

    @rule(prefix=st.sampled_from(["", "a", "b"]), after=st.one_of(st.just(""), PATHS))
    def list_page(self, prefix: str, after: str) -> None:
        self.same(lambda store: store.list(prefix, after, limit=2))

    @rule(path=PATHS)
    def watch(self, path: str) -> None:
        for store in (self._model, self._store):
            self._stops.setdefault(path, []).append(store.watch(path, lambda _: None))

    @precondition(lambda self: self._stops)
    @rule(draw=st.data())
    def stop_watching(self, draw: Draw) -> None:
        path = draw.draw(st.sampled_from(sorted(self._stops)))
        for stop in self._stops.pop(path):
            stop()

    @precondition(lambda self: self.durable)
    @rule()
    def restart(self) -> None:
        for path in sorted(self._stops):
            for stop in self._stops.pop(path):
                stop()
        self._run(self._store.aclose())
        self._store = self._made()
        for path in "abcd":
            self._head(path)
        for (path, name), (epoch, seq) in sorted(self._producers.items()):
            # A producer that does not know whether its last append arrived sends it again.
            self._append(path, Append(data=b"0,", producer=Producer(name, epoch, seq)))

    def _in(self, seconds: int) -> int:
        # From the whole minute on, so that two creations sometimes ask for the same time.
        return (self.clock.milliseconds // 60_000) * 60_000 + seconds * 1000

    # The end

    def teardown(self) -> None:
        """Compare all streams that are left, and close both stores."""
        try:
            if self._agree:
                self._compare_all()
        finally:
            self._run(self._store.aclose())
            self._run(self._model.aclose())
            self._loop.close()
            self._folder.cleanup()

    def _compare_all(self) -> None:
        for info in self.same(lambda store: store.list()) or []:
            self._read(info.path, Mark.BEGINNING)
