"""Creation: of a new stream, and of one that exists with the same configuration."""

from __future__ import annotations

import pytest

from tailrace.errors import StreamExists
from tailrace.store import (
    START,
    Append,
    Fork,
    Mark,
    NewStream,
    Producer,
    Retention,
    Store,
)
from tests.store.contract._suite import JSON, OCTETS, StoreClock, StoreSuite, fill

__all__ = ["CreateContract"]

CONFIGURATIONS = {
    "nothing": NewStream(),
    "a content type": NewStream(content_type="text/plain"),
    "a content type with parameters": NewStream(content_type="text/plain; charset=utf-8"),
    "a ttl": NewStream(ttl=60),
    "an expiry": NewStream(expires_at=4_000_000_000_000),
    "closed": NewStream(closed=True),
    "data": NewStream(data=b"abc"),
    "data, closed": NewStream(data=b"abc", closed=True),
    "retention": NewStream(retention=Retention(max_bytes=10, max_records=5, max_age=60)),
}

DIFFERENCES = {
    "another content type": NewStream(content_type="text/html"),
    "the default content type": NewStream(content_type=None),
    "a ttl": NewStream(content_type="text/plain", ttl=60),
    "an expiry": NewStream(content_type="text/plain", expires_at=4_000_000_000_000),
    "closed": NewStream(content_type="text/plain", closed=True),
    "retention": NewStream(content_type="text/plain", retention=Retention(max_records=5)),
    "a fork": NewStream(content_type="text/plain", fork=Fork("source")),
}

PATHS = {
    "one byte": "a",
    "slashes": "a/b//c/",
    "spaces": " a b ",
    "dots": "../a/./b",
    "percent": "a%2Fb%00",
    "upper case": "A",
    "composed": "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "decomposed": "cafe\N{COMBINING ACUTE ACCENT}",
    "outside the basic plane": "\N{GRINNING FACE}",
    "wildcards": "a_b%c*d?[e]",
    "quotes": "a'b\"c`d;--",
    "line break": "a\nb",
    "looks like a number": "0042",
}


class CreateContract(StoreSuite):
    @pytest.mark.parametrize("name", CONFIGURATIONS)
    async def test_a_new_stream_is_as_it_was_asked_for(
        self, store: Store, clock: StoreClock, name: str
    ) -> None:
        new = CONFIGURATIONS[name]
        created = await store.create("a", new)
        info = created.info
        assert created.is_new
        assert info.path == "a"
        assert info.content_type == (new.content_type or OCTETS)
        assert info.first == START
        assert info.tail.position == len(new.data)
        assert (info.ttl, info.expires_at) == (new.ttl, new.expires_at)
        assert (info.closed, info.retention) == (new.closed, new.retention)
        assert info.forked_from is None
        assert info.created_at == clock.milliseconds
        assert await store.head("a") == info

    @pytest.mark.parametrize("name", CONFIGURATIONS)
    async def test_to_create_it_again_so_changes_nothing(self, store: Store, name: str) -> None:
        first = await store.create("a", CONFIGURATIONS[name])
        again = await store.create("a", CONFIGURATIONS[name])
        assert not again.is_new
        assert again.info == first.info
        assert (await store.read("a", Mark.BEGINNING)).data == CONFIGURATIONS[name].data

    @pytest.mark.parametrize("name", DIFFERENCES)
    async def test_to_create_it_otherwise_is_refused_and_changes_nothing(
        self, store: Store, name: str
    ) -> None:
        await store.create("source", NewStream(content_type="text/plain"))
        before = await store.create("a", NewStream(content_type="text/plain", data=b"abc"))
        with pytest.raises(StreamExists) as refused:
            await store.create("a", DIFFERENCES[name])
        assert refused.value.path == "a"
        assert await store.head("a") == before.info

    async def test_content_types_are_compared_as_media_types_are(self, store: Store) -> None:
        await store.create("a", NewStream(content_type="Text/Plain; charset=utf-8"))
        again = await store.create("a", NewStream(content_type="text/plain"))
        assert not again.is_new
        assert again.info.content_type == "Text/Plain; charset=utf-8"

    async def test_other_data_is_no_other_configuration(self, store: Store) -> None:
        await store.create("a", NewStream(data=b"abc"))
        again = await store.create("a", NewStream(data=b"something else"))
        assert not again.is_new
        assert (await store.read("a", START)).data == b"abc"

    async def test_a_stream_that_was_closed_is_not_the_open_one_asked_for(
        self, store: Store
    ) -> None:
        await store.create("a", NewStream())
        await store.append("a", Append(close=True))
        with pytest.raises(StreamExists):
            await store.create("a", NewStream())
        assert not (await store.create("a", NewStream(closed=True))).is_new

    async def test_a_stream_that_has_grown_is_found(self, store: Store) -> None:
        *_, tail = await fill(store, "a", b"one", b"two")
        found = await store.create("a", NewStream())
        assert not found.is_new
        assert found.info.tail == tail

    async def test_what_a_stream_is_created_with_is_its_first_append(self, store: Store) -> None:
        created = await store.create("a", NewStream(data=b"abc"))
        tail = (await store.append("a", Append(data=b"de"))).tail
        chunks = (await store.read("a", START)).chunks
        assert [chunk.data for chunk in chunks] == [b"abc", b"de"]
        assert [chunk.end for chunk in chunks] == [created.info.tail, tail]

    async def test_a_stream_that_is_created_with_data_knows_no_producer(self, store: Store) -> None:
        await store.create("a", NewStream(data=b"abc"))
        done = await store.append("a", Append(data=b"d", producer=Producer("p", 0, 0)))
        assert not done.duplicate

    async def test_messages_are_kept_as_the_bytes_that_they_are(self, store: Store) -> None:
        wire = b'{"a": 1},[2,3],"\xc3\xa9",'
        await store.create("a", NewStream(content_type=JSON, data=wire))
        assert (await store.read("a", START)).data == wire

    async def test_every_byte_is_kept(self, store: Store) -> None:
        await store.create("a", NewStream(data=bytes(range(256))))
        assert (await store.read("a", START)).data == bytes(range(256))

    async def test_paths_are_compared_byte_by_byte(self, store: Store) -> None:
        for path in PATHS.values():
            assert (await store.create(path, NewStream(data=path.encode()))).is_new
        for path in PATHS.values():
            assert (await store.head(path)).path == path
            assert (await store.read(path, START)).data == path.encode()

    async def test_streams_do_not_share_anything(self, store: Store) -> None:
        await fill(store, "a", b"one")
        await fill(store, "ab", b"two")
        await store.append("a", Append(data=b"three", close=True))
        assert (await store.read("ab", START)).data == b"two"
        assert not (await store.head("ab")).closed
