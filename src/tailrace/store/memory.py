"""`memory://`: streams in the memory of one process, lost when it ends.

Tests compare the other stores with this one.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import anyio.lowlevel

from tailrace import limits
from tailrace.store import rules
from tailrace.store.base import OnChange, Store, Watchers
from tailrace.store.rules import State
from tailrace.store.schedule import Schedule
from tailrace.store.values import (
    Append,
    Appended,
    Change,
    Chunk,
    Created,
    NewStream,
    Offset,
    Slice,
    StreamInfo,
    Where,
)

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Stream:
    """One stream, with its own appends that are retained."""

    state: State
    source: _Stream | None = None
    forks: int = 0
    ends: list[int] = field(default_factory=list)
    """The position after each own append; `data` and `times` have the same indices."""
    data: list[bytes] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    gone: int = 0
    """How many of the first entries are not retained; they are cut off once they are over half."""
    producers: dict[str, tuple[int, int]] = field(default_factory=dict)


class MemoryStore(Store):
    """Streams in this process's memory.

    Args:
        clock: Gives milliseconds since the epoch.
    """

    def __init__(self, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._clock = clock
        self._streams: dict[str, _Stream] = {}
        self._paths: list[str] = []
        """The paths of `_streams`, by code points: the same order as by their bytes in UTF-8."""
        self._watchers = Watchers()
        self._last_generation = 0
        self._expiries: Schedule[str] = Schedule()
        """When to check whether the stream of a path has expired."""

    async def open(self) -> None:
        """Does nothing."""

    async def aclose(self) -> None:
        """Does nothing: the streams stay until the store itself is no longer used."""

    async def check(self) -> None:
        """Does nothing: memory always works."""

    # The methods of `Store`. None waits after its first line, so each is atomic.

    async def create(self, path: str, new: NewStream) -> Created:
        await anyio.lowlevel.checkpoint()
        rules.check_size(new.data)
        now = self._clock()
        self._let_expired_go(now)
        existing = self._find(path, now)
        if existing is not None:
            rules.match_create(existing.state, new, _state_of(existing.source))
            return Created(self._info(existing), False)
        source, point = self._branch(new, now)
        self._last_generation = rules.next_generation(now, self._last_generation)
        state = rules.new_state(path, new, self._last_generation, now, _state_of(source), point)
        stream = _Stream(state, source)
        if source is not None:
            source.forks += 1
            source.state.touched = now
        if new.data:
            self._put(stream, Append(data=new.data), now)
        state.closed = new.closed
        self._streams[path] = stream
        insort(self._paths, path)
        self._look_again(stream, now)
        chunks = self._chunks(stream, point, state.tail)
        self._tell(stream, rules.offset_at(state, point), chunks)
        return Created(self._info(stream), True)

    async def append(self, path: str, append: Append) -> Appended:
        await anyio.lowlevel.checkpoint()
        now = self._clock()
        stream = self._require(path, now)
        state, producer = stream.state, append.producer
        known = None if producer is None else stream.producers.get(producer.id)
        done = rules.judge_append(state, known, append)
        if done is not None:
            return done
        start = rules.offset_at(state, state.tail)
        done = self._put(stream, append, now)
        if producer is not None:
            stream.producers[producer.id] = (producer.epoch, producer.seq)
        chunks = (Chunk(append.data, done.tail),) if append.data else ()
        self._trim(stream, now)
        self._tell(stream, start, chunks)
        return done

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        await anyio.lowlevel.checkpoint()
        now = self._clock()
        stream = self._require(path, now)
        state = stream.state
        state.touched = now
        position = self._border(stream, rules.locate(state, self._first(stream), start))
        until = rules.read_until(position, max_bytes)
        chunks = self._chunks(stream, position, until)
        return Slice(self._info(stream), rules.offset_at(state, position), chunks)

    async def head(self, path: str) -> StreamInfo:
        return self._info(self._require(path, self._clock()))

    async def delete(self, path: str) -> None:
        await anyio.lowlevel.checkpoint()
        self._remove(self._require(path, self._clock()))

    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        now = self._clock()
        hidden = not prefix.startswith(rules.INTERNAL)
        infos: list[StreamInfo] = []
        begin = max(bisect_left(self._paths, prefix), bisect_right(self._paths, after))
        for path in self._names(begin, hidden):
            if not path.startswith(prefix) or len(infos) == limit:
                break
            stream = self._find(path, now)
            if stream is not None and not stream.state.gone:
                infos.append(self._info(stream))
        return infos

    def _names(self, begin: int, hidden: bool) -> Iterator[str]:
        """The paths from index `begin` on, without Tailrace's own if they are `hidden`.

        Paths may be removed while this runs.
        """
        paths = self._paths
        while begin < len(paths):
            path = paths[begin]
            if hidden and path.startswith(rules.INTERNAL):
                begin = bisect_left(paths, rules.AFTER_INTERNAL)
            else:
                yield path
                begin = bisect_right(paths, path)

    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        self._find(path, self._clock())  # if it has expired: to watch it must not revive it
        stop = self._watchers.add(path, on_change)

        def end() -> None:
            self._find(path, self._clock())  # marks the stream as used until now
            stop()

        return end

    # Finding

    def _find(self, path: str, now: int) -> _Stream | None:
        stream = self._streams.get(path)
        if stream is None or stream.state.gone:
            return stream
        if rules.is_expired(stream.state, now, watched=self._watchers.has(path)):
            self._remove(stream)
            return self._streams.get(path)
        if self._watchers.has(path):
            stream.state.touched = now  # a watched stream is in use until the watching ends
        for level in stream.state.lineage:
            self._trim(self._streams[level.path], now)
        self._trim(stream, now)
        return stream

    def _require(self, path: str, now: int) -> _Stream:
        self._let_expired_go(now)
        stream = self._find(path, now)
        rules.require(path, _state_of(stream))
        assert stream is not None
        return stream

    def _first(self, stream: _Stream) -> int:
        return rules.first_of(
            stream.state,
            tuple(self._streams[level.path].state.low for level in stream.state.lineage),
        )

    def _info(self, stream: _Stream) -> StreamInfo:
        return rules.info_of(stream.state, self._first(stream))

    def _owners(self, stream: _Stream) -> tuple[tuple[_Stream, int], ...]:
        """The streams to which its bytes were appended, each up to a position; the oldest first."""
        state = stream.state
        levels = ((self._streams[level.path], level.until) for level in state.lineage)
        return (*levels, (stream, state.tail))

    def _border(self, stream: _Stream, position: int) -> int:
        """Where the message that contains a position begins; see `rules.border_in`."""
        for owner, stop in self._owners(stream):
            if position < stop:
                index = bisect_right(owner.ends, position)
                data = owner.data[index]
                start = owner.ends[index] - len(data)
                if start == position:
                    return position
                whole = data[: stop - start]
                return rules.border_in(stream.state.content_type, start, whole, position)
        return position

    def _chunks(self, stream: _Stream, position: int, until: int) -> tuple[Chunk, ...]:
        """What was appended after `position`, up to the append that reaches `until`."""
        chunks: list[Chunk] = []
        state = stream.state
        for owner, stop in self._owners(stream):
            index = bisect_right(owner.ends, position)
            while position < stop and position < until and index < len(owner.ends):
                end, data = owner.ends[index], owner.data[index]
                begin = end - len(data)
                # A fork may begin within an append of its source, a reader within any append.
                cut = data[position - begin : min(end, stop) - begin]
                position = min(end, stop)
                chunks.append(Chunk(cut, rules.offset_at(state, position)))
                index += 1
        return tuple(chunks)

    # Changing

    def _branch(self, new: NewStream, now: int) -> tuple[_Stream | None, int]:
        """The source of a fork, and the position at which the fork begins in it."""
        fork = new.fork
        if fork is None:
            return None, 0
        source = self._find(fork.source, now)
        first = 0 if source is None else self._first(source)
        point = rules.fork_point(fork, _state_of(source), first, new)
        assert source is not None
        rules.check_border(fork, point, self._border(source, point))
        following = self._chunks(source, point, point + 1)
        data = following[0].data if following else b""
        return source, point + rules.fork_reach(fork, source.state.content_type, data)

    def _put(self, stream: _Stream, append: Append, now: int) -> Appended:
        done = rules.apply_append(stream.state, append, now)
        if append.data:
            stream.ends.append(stream.state.tail)
            stream.data.append(append.data)
            stream.times.append(now)
        return done

    def _trim(self, stream: _Stream, now: int) -> None:
        begin = stream.gone
        oldest = stream.times[begin] if begin < len(stream.times) else None
        trim = rules.trim_due(stream.state, now, oldest)
        if trim is None:
            return
        end = begin
        if trim.before is not None:
            end = bisect_right(stream.ends, trim.before, begin)
        if trim.records is not None:
            end = max(end, len(stream.ends) - trim.records)
        if trim.older_than is not None:
            end = max(end, bisect_left(stream.times, trim.older_than, begin))
        if end > begin:
            stream.state.low = stream.ends[end - 1]
            stream.state.records -= end - begin
            stream.data[begin:end] = [b""] * (end - begin)
            stream.gone = end
        if stream.gone * 2 > len(stream.ends):
            for kept in (stream.ends, stream.data, stream.times):
                del kept[: stream.gone]
            stream.gone = 0

    def _remove(self, stream: _Stream) -> None:
        """Delete a stream, or keep its data for its forks.

        Also delete those of its sources that were kept only for it.
        """
        state = stream.state
        state.gone = True
        self._tell(stream, rules.offset_at(state, state.tail), None)
        while stream is not None and stream.state.gone and stream.forks == 0:
            self._forget(stream.state.path)
            source, stream.source = stream.source, None
            if source is None:
                return
            source.forks -= 1
            stream = source

    def _tell(self, stream: _Stream, start: Offset, chunks: tuple[Chunk, ...] | None) -> None:
        state = stream.state
        if self._watchers.has(state.path):
            tail = rules.offset_at(state, state.tail)
            self._watchers.tell(
                Change(state.path, state.generation, tail, start, chunks, state.closed, state.gone)
            )

    def _forget(self, path: str) -> None:
        del self._streams[path]
        del self._paths[bisect_left(self._paths, path)]
        self._expiries.take_back(path)

    def _look_again(self, stream: _Stream, now: int) -> None:
        state = stream.state
        due = state.expires_at
        if due is None and state.ttl is not None:
            due = state.touched + state.ttl * 1000
        if due is not None:
            # Never due at once, or `_let_expired_go` would not end for a watched stream of ttl 0.
            self._expiries.set(state.path, max(due, now + 1))

    def _let_expired_go(self, now: int) -> None:
        """Remove all expired streams, so that they do not use memory or keep their sources.

        A stream that was used meanwhile is checked again when it may next expire.
        """
        while due := self._expiries.due(now, limits.STORE_CHORE_STREAMS):
            for path in due:
                stream = self._find(path, now)
                if stream is not None and not stream.state.gone:
                    self._look_again(stream, now)


def _state_of(stream: _Stream | None) -> State | None:
    return None if stream is None else stream.state
