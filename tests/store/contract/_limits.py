"""Limits: what just reaches a limit is kept; what exceeds it is refused and changes nothing."""

from __future__ import annotations

import pytest

from tailrace import limits
from tailrace.errors import TooLarge
from tailrace.store import START, Append, Mark, NewStream, Producer, Store
from tests.store.contract._suite import StoreSuite, is_there

__all__ = ["LimitsContract"]


class LimitsContract(StoreSuite):
    async def test_the_longest_append_is_kept(self, store: Store) -> None:
        data = bytes(range(256)) * (limits.MAX_APPEND_BYTES // 256)
        assert len(data) == limits.MAX_APPEND_BYTES
        await store.create("a", NewStream())
        tail = (await store.append("a", Append(data=data))).tail
        assert tail.position == limits.MAX_APPEND_BYTES
        read = await store.read("a", START)
        assert read.data == data
        assert read.end == tail

    async def test_a_longer_append_is_refused(self, store: Store) -> None:
        await store.create("a", NewStream())
        data = bytes(limits.MAX_APPEND_BYTES + 1)
        for append in (
            Append(data=data),
            Append(data=data, close=True, seq="9", producer=Producer("p", 0, 0)),
        ):
            with pytest.raises(TooLarge) as refused:
                await store.append("a", append)
            assert refused.value.most == limits.MAX_APPEND_BYTES
        info = await store.head("a")
        assert (info.tail, info.closed) == (START, False)
        done = await store.append("a", Append(data=b"x", seq="1", producer=Producer("p", 0, 0)))
        assert not done.duplicate

    async def test_a_stream_cannot_begin_with_more(self, store: Store) -> None:
        with pytest.raises(TooLarge):
            await store.create("a", NewStream(data=bytes(limits.MAX_APPEND_BYTES + 1)))
        assert not await is_there(store, "a")

    async def test_the_longest_paths_are_told_apart(self, store: Store) -> None:
        stem = "p" * (limits.MAX_STREAM_PATH_BYTES - 1)
        for end in "ab":
            await store.create(stem + end, NewStream(data=end.encode()))
        for end in "ab":
            assert (await store.read(stem + end, Mark.BEGINNING)).data == end.encode()
        assert [info.path for info in await store.list(stem)] == [stem + "a", stem + "b"]

    async def test_the_longest_content_type_is_kept(self, store: Store) -> None:
        content_type = "text/plain; a=" + "x" * (limits.MAX_CONTENT_TYPE_BYTES - 14)
        assert len(content_type) == limits.MAX_CONTENT_TYPE_BYTES
        await store.create("a", NewStream(content_type=content_type))
        assert (await store.head("a")).content_type == content_type
