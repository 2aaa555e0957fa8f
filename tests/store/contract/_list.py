"""Lists: every stream once, in the order of the bytes of the paths."""

from __future__ import annotations

import anyio
import pytest

from tailrace import limits
from tailrace.store import Append, Fork, NewStream, Store
from tests.store.contract._suite import StoreClock, StoreSuite

__all__ = ["ListContract"]

ORDERED = [
    *(" ", "!", "%", "A", "B", "_", "a", "a ", "a/", "a/1", "a/10", "a/2", "a0", "aa", "b"),
    *("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "\uffff", "\N{GRINNING FACE}"),
]
"""In the order of their bytes in UTF-8. In UTF-16 the last two have the opposite order."""


async def paths(
    store: Store, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
) -> list[str]:
    return [info.path for info in await store.list(prefix, after, limit)]


class ListContract(StoreSuite):
    @pytest.fixture
    async def filled(self, store: Store) -> Store:
        for path in reversed(ORDERED):
            await store.create(path, NewStream())
        return store

    async def test_nothing_is_a_list(self, store: Store) -> None:
        assert await store.list() == []

    async def test_streams_come_in_the_order_of_their_bytes(self, filled: Store) -> None:
        assert [path.encode() for path in ORDERED] == sorted(path.encode() for path in ORDERED)
        assert await paths(filled) == ORDERED

    async def test_a_stream_is_listed_as_it_is(self, store: Store) -> None:
        await store.create("a", NewStream(content_type="text/plain", data=b"one", ttl=60))
        await store.create("b", NewStream(fork=Fork("a")))
        await store.append("b", Append(data=b"two", close=True))
        assert await store.list() == [await store.head("a"), await store.head("b")]

    async def test_a_prefix_is_taken_by_the_letter(self, filled: Store) -> None:
        for prefix in ("", "a", "a/", "a/1", "A", "%", "_", "caf", "zzz", "\N{GRINNING FACE}"):
            wanted = [path for path in ORDERED if path.startswith(prefix)]
            assert await paths(filled, prefix) == wanted

    async def test_a_page_has_so_many_streams_unless_another_number_is_asked_for(
        self, store: Store
    ) -> None:
        every = [f"s/{number:04d}" for number in range(limits.LIST_STREAMS + 1)]
        async with anyio.create_task_group() as group:
            for path in every:
                group.start_soon(store.create, path, NewStream())
        assert [info.path for info in await store.list()] == every[:-1]
        assert [info.path for info in await store.list(after=every[0])] == every[1:]
        assert await paths(store, limit=limits.LIST_STREAMS + 5) == every

    async def test_pages_are_the_whole_list(self, filled: Store) -> None:
        for limit in (1, 2, 5, len(ORDERED), 100):
            pages, after = list[list[str]](), ""
            while page := await paths(filled, "", after, limit=limit):
                pages.append(page)
                after = page[-1]
            assert [path for page in pages for path in page] == ORDERED
            assert all(len(page) == limit for page in pages[:-1])

    async def test_pages_of_a_prefix_stay_in_it(self, filled: Store) -> None:
        assert await paths(filled, "a/", "a/1", limit=1) == ["a/10"]
        assert await paths(filled, "a/", "a/2") == []
        assert await paths(filled, "a/", "A") == ["a/", "a/1", "a/10", "a/2"]
        assert await paths(filled, "a", "zzz") == []

    async def test_a_page_begins_after_a_path_that_is_not_there(self, filled: Store) -> None:
        assert await paths(filled, "", "a/100", limit=2) == ["a/2", "a0"]

    async def test_what_is_deleted_or_expired_is_not_listed(
        self, store: Store, clock: StoreClock
    ) -> None:
        for number in range(4):
            await store.create(f"{number}", NewStream(ttl=10 if number % 2 else None))
        await store.delete("0")
        clock.advance(11)
        assert await paths(store) == ["2"]
        assert await paths(store, limit=1) == ["2"]

    async def test_what_is_ours_is_listed_only_when_asked_for(self, store: Store) -> None:
        for path in ("__ds/a", "__ds/b/c", "__dsx", "__d", "a"):
            await store.create(path, NewStream())
        assert await paths(store) == ["__d", "__dsx", "a"]
        assert await paths(store, limit=2) == ["__d", "__dsx"]
        assert await paths(store, "__d") == ["__d", "__dsx"]
        assert await paths(store, "__ds/") == ["__ds/a", "__ds/b/c"]
        assert await paths(store, "__ds/b") == ["__ds/b/c"]
        assert await paths(store, "__ds/", "__ds/a") == ["__ds/b/c"]

    async def test_a_list_is_no_use_of_a_stream(self, store: Store, clock: StoreClock) -> None:
        await store.create("a", NewStream(ttl=10))
        for _ in range(3):
            clock.advance(4)
            await store.list()
        assert await store.list() == []
