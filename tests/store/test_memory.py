"""What the memory store does for one stream does not grow with what else is there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tailrace.store import Append, Fork, Mark, MemoryStore, NewStream, Retention, StreamInfo
from tests.store.contract import StoreClock
from tests.store.work import lines

pytestmark = pytest.mark.anyio


def done(call: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """The work of a verb, to where its event loop is asked for anything."""

    def run() -> None:
        coroutine = call()
        try:
            coroutine.send(None)
        except StopIteration:
            return
        coroutine.close()

    return lines(run)


@pytest.mark.parametrize("prefix", ["", "s/5"])
async def test_a_page_of_a_list_costs_what_is_on_it(prefix: str) -> None:
    counts = []
    for count in (100, 1600):
        store = MemoryStore()
        for number in range(count):
            await store.create(f"__ds/{number}", NewStream())
            await store.create(f"s/{number}", NewStream())
        counts.append(done(lambda store=store: store.list(prefix, limit=10)))  # type: ignore[misc]
    assert counts[0] == counts[1]


async def test_a_list_goes_on_though_what_it_meets_has_expired_with_its_sources() -> None:
    clock = StoreClock()
    store = MemoryStore(clock)
    await store.create("a", NewStream(data=b"x"))
    await store.create("b", NewStream(fork=Fork("a"), ttl=1))
    for path in ("c", "d"):
        await store.create(path, NewStream())
    await store.delete("a")
    clock.advance(2)
    found: list[StreamInfo] = await store.list()
    assert [info.path for info in found] == ["c", "d"]
    assert store._paths == ["c", "d"]


async def test_streams_that_expire_and_are_deleted_leave_nothing_behind() -> None:
    clock = StoreClock()
    store = MemoryStore(clock)
    for number in range(1000):
        await store.create(f"s/{number}", NewStream(ttl=3600))
        await store.read(f"s/{number}", Mark.TAIL)
        await store.delete(f"s/{number}")
    assert len(store._expiries) == 0
    assert store._paths == []


async def test_what_is_let_go_of_is_freed_at_once_and_its_place_soon() -> None:
    store = MemoryStore()
    await store.create("a", NewStream(retention=Retention(max_records=100)))
    stream = store._streams["a"]
    for number in range(1000):
        await store.append("a", Append(data=b"%04d" % number))
        assert sum(map(bool, stream.data)) <= 125
        assert len(stream.ends) == len(stream.data) == len(stream.times) <= 252
    read = await store.read("a", Mark.BEGINNING)
    assert read.data.endswith(b"0999")
    assert 100 <= len(read.chunks) <= 125
