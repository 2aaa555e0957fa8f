"""Random histories: every reader gets every byte once and in order, or is told what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.errors import OffsetGone, StreamNotFound
from tailrace.live import Hub, LiveResponse, Slow, broadcast
from tailrace.store import Append, Mark, NewStream, Offset, Retention, Where
from tailrace.testing import settle
from tests.live.formats import Seen, Traced, seen_in
from tests.live.stores import HintingStore
from tests.live.wire import Wire


@dataclass
class Told:
    """One reader, and what it was promised."""

    wire: Wire
    start: int
    slow: Slow
    left: bool = False


@dataclass
class History:
    """One stream and its readers, driven by a script of numbers."""

    random: Random
    store: HintingStore
    hub: Hub
    group: Any
    data: bytes = b""
    offsets: list[Offset] = field(default_factory=list)
    readers: list[Told] = field(default_factory=list)
    trimmed: bool = False
    """Not all of it is retained."""
    deleted: bool = False
    """It was deleted in the end, not closed."""

    async def do(self) -> None:
        weights = {
            self.append: 8,
            self.burst: 2,
            self.join: 4,
            self.stall: 3,
            self.go_on: 3,
            self.leave: 1,
            self.hints: 4,
            self.rest: 5,
        }
        step = self.random.choices(list(weights), list(weights.values()))[0]
        await step()

    async def append(self) -> None:
        size = self.random.choice((1, 10, 1000, 9_000, 40_000, 70_000))
        data = bytes(self.random.choices(b"abcdefgh", k=min(size, 50))) * (size // 50 + 1)
        self.data += data[:size]
        done = await self.store.append("s", Append(data=data[:size]))
        self.offsets.append(done.tail)

    async def burst(self) -> None:
        for _ in range(self.random.randrange(2, 12)):
            await self.append()

    async def join(self) -> None:
        places: list[Where] = [Mark.BEGINNING, Mark.TAIL, *self.offsets[-3:]]
        start = self.random.choice(places)
        slow = self.random.choice((Slow.RESUME, Slow.RESUME, Slow.LATEST))
        given_slice = self.random.random() < 0.3
        format_ = Traced(self.random.choice(("", "", "other")), begins=self.random.random() < 0.8)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            begin: Any = start
            if given_slice:
                begin = await self.hub.read("s", start, 64 * 1024)
                await anyio.lowlevel.checkpoint()
            await LiveResponse(self.hub, "s", begin, format_, slow=slow)(scope, receive, send)

        wire = Wire(app, attach=self.random.random() < 0.6)
        at = start.position if isinstance(start, Offset) else -1
        self.readers.append(Told(wire, 0 if start is Mark.BEGINNING else at, slow))
        self.group.start_soon(wire.run)

    async def stall(self) -> None:
        if self.readers:
            self.random.choice(self.readers).wire.stall()

    async def go_on(self) -> None:
        if self.readers:
            self.random.choice(self.readers).wire.go_on()

    async def leave(self) -> None:
        if self.readers:
            reader = self.random.choice(self.readers)
            reader.left = True
            reader.wire.leave()

    async def hints(self) -> None:
        self.store.tell_late()

    async def rest(self) -> None:
        for _ in range(self.random.randrange(1, 8)):
            await anyio.lowlevel.checkpoint()

    async def end(self) -> None:
        """Bring everything to its end: the stream is closed, and everybody reads again."""
        await settle()
        self.store.tell_late()
        for _ in range(self.random.randrange(3)):
            await self.rest()
        if self.random.random() < 0.5:
            for reader in self.readers:
                reader.wire.go_on()
        self.deleted = self.random.random() < 0.2
        if self.deleted:
            await self.store.delete("s")
        else:
            await self.store.append("s", Append(data=b"last", close=True))
            self.data += b"last"
        for _ in range(3):
            await settle()
            self.store.tell_late()
            for reader in self.readers:
                reader.wire.go_on()
        await settle()

    def check(self) -> None:
        for reader in self.readers:
            assert reader.wire.over, "a reader waits for ever"
            if reader.wire.status is None:  # what it asked for was gone
                assert isinstance(reader.wire.error, (OffsetGone, StreamNotFound))
                continue
            assert reader.wire.error is None, reader.wire.error
            seen = seen_in(bytes(reader.wire.body))
            self.check_seen(seen, reader)
        assert len(self.hub) == 0, "a stream is still watched"
        assert self.store.watched == 0

    def check_seen(self, seen: Seen, reader: Told) -> None:
        if reader.start != -1 and seen.start != -1 and not self.trimmed:
            assert seen.start == reader.start
        wanted, at = b"", seen.start
        for start, end in (*seen.gaps, (max(seen.at, 0), 0)):
            wanted += self.data[max(at, 0) : start]
            at = end
        assert seen.data == wanted
        if reader.slow is Slow.RESUME and not self.trimmed:
            assert not seen.gaps
        if reader.left:
            return
        assert reader.wire.complete
        if self.deleted:
            assert seen.end == "deleted"
        else:
            assert seen.closed
            assert (seen.end, seen.at) == ("closed", len(self.data))


async def run(seed: int, steps: int) -> None:
    random = Random(seed)
    store = HintingStore(random)
    trimmed = random.random() < 0.3
    retention = Retention(max_bytes=random.choice((1, 100_000)) if trimmed else None)
    await store.create("s", NewStream(retention=retention))
    async with anyio.create_task_group() as group:
        history = History(random, store, Hub(store), group, trimmed=trimmed)
        for _ in range(steps):
            await history.do()
        await history.end()
        history.check()


@pytest.fixture(params=["in one go", "one by one"])
def turns(request: pytest.FixtureRequest) -> Iterator[None]:
    """How readers are written to: all before anything else happens, or with a turn after each."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "one by one":
            patch.setattr(broadcast, "_LOOK_AFTER", 1)
            patch.setattr(limits, "TURN_BUDGET", -1.0)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_every_reader_gets_every_byte_once_and_in_order(
    turns: None, backend: str, seed: int, steps: int
) -> None:
    anyio.run(run, seed, steps, backend=backend)
