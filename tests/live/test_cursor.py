"""What a reader does next: every state, without a connection and without waiting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailrace import limits
from tailrace.live import Entry, Gap, Slow
from tailrace.live.cursor import ReadCursor, ReaderState, ReaderStep
from tailrace.live.live_stream import LiveStream
from tailrace.runtime import current_loop
from tailrace.runtime.timer_wheel import timer_wheel
from tailrace.store import Slice
from tests.live.test_broadcast import Listener, Plain
from tests.live.test_tail import at, found, told

pytestmark = pytest.mark.anyio

MUCH = limits.ATTACH_BUFFER_BYTES + 1


async def _read(_path: str, _offset: Any) -> None:
    raise AssertionError("nothing is read here")


def _nobody(_live: LiveStream) -> None:
    pass


@pytest.fixture
async def live() -> Any:
    """A stream of three bytes, with its tail known."""
    made = LiveStream("s", current_loop(), timer_wheel(), _read, _nobody)
    made.readers = 1
    made.learn(found(0, 3), 0)
    yield made
    made.wheel.take_back(made)


def cursor_at(live: LiveStream, first: Slice, slow: Slow = Slow.RESUME) -> ReadCursor:
    """The cursor of a reader that has got its first part."""
    cursor = ReadCursor(live, first, slow)
    cursor.take(first)
    return cursor


def next_of(cursor: ReadCursor, *, attached: bool = False, full: bool = False) -> Any:
    step = cursor.next(attached=attached, full=full, beat=False)
    if isinstance(step, Entry):
        return step.part.start.position, step.part.end.position
    return step


async def test_one_whose_stream_does_not_exist_yet_looks_for_it(live: LiveStream) -> None:
    nothing = found(0, 0)
    cursor = cursor_at(live, replace(nothing, info=replace(nothing.info, generation=0)))
    assert next_of(cursor) is ReaderStep.LOOK
    assert cursor.next(attached=True, full=False, beat=True) is ReaderStep.BEAT
    assert next_of(cursor, attached=True, full=True) is ReaderStep.WAIT
    cursor.appears(found(0, 3).info)
    assert next_of(cursor) is ReaderStep.READ


async def test_one_that_is_behind_reads_the_log(live: LiveStream) -> None:
    assert next_of(cursor_at(live, found(0, 2, 3))) is ReaderStep.READ


async def test_one_whose_tail_nobody_knows_reads_the_log(live: LiveStream) -> None:
    live.tail.lost()
    assert next_of(cursor_at(live, found(0, 3))) is ReaderStep.READ


async def test_one_that_is_a_little_behind_is_given_the_last_changes(live: LiveStream) -> None:
    cursor = cursor_at(live, found(0, 3))
    live.on_change(told(3, 5))
    assert next_of(cursor) == (3, 5)


async def test_one_that_comes_to_the_tail_is_told_so_once(live: LiveStream) -> None:
    cursor = cursor_at(live, found(0, 3, 9))
    step = cursor.next(attached=False, full=False, beat=False)
    assert isinstance(step, Entry)
    assert step.part.up_to_date
    cursor.take(step.part)
    assert next_of(cursor) is ReaderStep.SLEEP


@pytest.mark.parametrize(
    ("attached", "step"), [(True, ReaderStep.LISTEN), (False, ReaderStep.SLEEP)]
)
async def test_at_the_tail_it_listens_if_it_can_be_written_to(
    live: LiveStream, attached: bool, step: ReaderStep
) -> None:
    cursor = cursor_at(live, found(0, 3))
    assert next_of(cursor, attached=attached) is step
    assert cursor.state is ReaderState.AT_TAIL


async def test_at_a_stale_tail_it_reads_for_all(live: LiveStream) -> None:
    cursor, listening = cursor_at(live, found(0, 3)), cursor_at(live, found(0, 3))
    listening.listens()
    live.on_change(told(3, 5, whole=False))
    assert next_of(cursor) is ReaderStep.REFRESH
    assert next_of(listening, attached=True) is ReaderStep.REFRESH
    live.tail.refreshing()
    assert next_of(cursor) is ReaderStep.SLEEP
    assert next_of(listening, attached=True) is ReaderStep.WAIT


async def test_while_it_listens_it_only_waits(live: LiveStream) -> None:
    cursor = cursor_at(live, found(0, 3))
    cursor.listens()
    live.on_change(told(3, 5))
    assert next_of(cursor, attached=True) is ReaderStep.WAIT


async def test_it_leaves_the_broadcast_of_a_stream_that_is_over(live: LiveStream) -> None:
    cursor, reader = cursor_at(live, found(0, 3)), Listener()
    live.broadcast.join(reader, Plain(), reader.write)
    cursor.listens()
    live.on_change(told(3, 5, closed=True))
    assert next_of(cursor, attached=True) is ReaderStep.LEAVE
    cursor.leaves(live.broadcast.leave(reader, Plain()))
    assert (cursor.offset, next_of(cursor, attached=True)) == (at(5), ReaderStep.CLOSED)


async def test_what_it_did_not_get_from_the_broadcast_it_is_given_then(live: LiveStream) -> None:
    cursor = cursor_at(live, found(0, 3))
    cursor.listens()
    live.on_change(told(3, 5))
    assert live.cache is not None
    cursor.leaves(live.cache.at(at(3)))
    assert next_of(cursor, attached=True) == (3, 5)


async def test_a_full_connection_waits_before_anything_else(live: LiveStream) -> None:
    cursor = cursor_at(live, found(0, 2, 3))
    assert next_of(cursor, attached=True, full=True) is ReaderStep.WAIT


async def test_a_heartbeat_goes_before_the_next_part(live: LiveStream) -> None:
    cursor = cursor_at(live, found(0, 2, 3))
    assert cursor.next(attached=False, full=False, beat=True) is ReaderStep.BEAT
    assert cursor.next(attached=False, full=True, beat=True) is ReaderStep.WAIT


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize(
    ("slow", "wanted"),
    [
        (Slow.RESUME, (3, 3 + MUCH)),
        (Slow.LATEST, Gap(at(3), at(3 + MUCH))),
        (Slow.DISCONNECT, ReaderStep.CUT_OFF),
    ],
)
async def test_one_that_is_too_slow_gets_what_its_policy_says(
    live: LiveStream, listens: bool, slow: Slow, wanted: Any
) -> None:
    cursor = cursor_at(live, found(0, 3), slow)
    assert next_of(cursor, attached=listens) in (ReaderStep.LISTEN, ReaderStep.SLEEP)
    live.on_change(told(3, 3 + MUCH))
    if listens:
        cursor.listens()
        cursor.lags(at(3))
    assert next_of(cursor, attached=listens) == wanted
    assert cursor.state is ReaderState.BEHIND


async def test_one_that_has_never_been_at_the_tail_is_not_too_slow(live: LiveStream) -> None:
    cursor = cursor_at(live, found(0, 2, 3), Slow.DISCONNECT)
    live.on_change(told(3, 3 + MUCH))
    assert next_of(cursor) is ReaderStep.READ


async def test_a_stream_that_is_gone_ends_it(live: LiveStream) -> None:
    cursor, other = cursor_at(live, found(0, 3)), cursor_at(live, found(0, 3, created_at=7))
    assert next_of(other) is ReaderStep.DELETED
    live.on_change(told(3, 3, deleted=True))
    assert next_of(cursor) is ReaderStep.DELETED


async def test_a_stream_that_is_closed_ends_it_once_it_has_everything(live: LiveStream) -> None:
    cursor = cursor_at(live, found(0, 3))
    live.on_change(told(3, 3, closed=True))
    step = cursor.next(attached=False, full=False, beat=False)
    assert isinstance(step, Entry)
    assert step.part.closed
    cursor.take(step.part)
    assert next_of(cursor) is ReaderStep.CLOSED
