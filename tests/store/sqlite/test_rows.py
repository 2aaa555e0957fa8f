"""What the writer keeps in memory has a bound."""

from __future__ import annotations

from tailrace import limits
from tailrace.store import Retention
from tailrace.store.rules import State
from tailrace.store.sqlite.rows import Cache, StoredStream


def filled(cache: Cache, count: int) -> Cache:
    for number in range(count):
        path = f"s/{number}"
        state = State(path=path, generation=number, content_type="", retention=Retention())
        cache.streams[path] = StoredStream(state)
        cache.producers[number, "p"] = (0, 0)
    cache.shrink()
    return cache


def test_as_many_streams_are_kept_as_the_limit_and_no_more() -> None:
    most = limits.STORE_CACHED_STREAMS
    assert len(filled(Cache(), most).streams) == most
    streams = filled(Cache(), most + 1).streams
    assert len(streams) == most
    assert "s/0" not in streams, "the one that was not used for longest goes"


def test_as_many_producers_are_kept_as_the_limit_and_no_more() -> None:
    most = limits.STORE_CACHED_PRODUCERS
    assert len(filled(Cache(streams=1), most).producers) == most
    producers = filled(Cache(streams=1), most + 1).producers
    assert len(producers) == most
    assert (0, "p") not in producers
