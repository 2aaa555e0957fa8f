"""`LiveResponse`: from the log to the tail and on, with every way in which it ends."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask

from tailrace import limits
from tailrace.connection import drain, stats
from tailrace.errors import (
    InvalidOffset,
    OffsetGone,
    StoreUnavailable,
    StreamNotFound,
)
from tailrace.live import Gap, LiveResponse, Slow
from tailrace.store import (
    START,
    Append,
    Change,
    Mark,
    NewStream,
    Offset,
    Retention,
    Slice,
    StreamInfo,
)
from tailrace.testing import Clock, no_leaks, settle, wait_until
from tailrace.types import StreamOptions
from tests.live.conftest import Site, seen
from tests.live.formats import Traced

pytestmark = pytest.mark.anyio

FULL = limits.ATTACH_BUFFER_BYTES


# What it sends


async def test_what_is_there_is_sent_and_then_what_comes(site: Site) -> None:
    await site.append(b"abc")
    wire = await site.read()
    assert seen(wire).data == b"abc"
    await site.append(b"def")
    assert seen(wire).data == b"abcdef"
    assert not wire.over


async def test_from_the_tail_only_what_comes_is_sent(site: Site) -> None:
    await site.append(b"abc")
    wire = await site.read(Mark.TAIL)
    assert (seen(wire).start, seen(wire).up_to_date) == (3, True)
    await site.append(b"def")
    assert seen(wire).data == b"def"


async def test_from_an_offset_what_follows_is_sent(site: Site) -> None:
    await site.append(b"abc")
    offset = (await site.store.head("s")).tail
    await site.append(b"def")
    wire = await site.read(offset)
    assert (seen(wire).start, seen(wire).data) == (3, b"def")


async def test_what_the_caller_has_read_is_not_read_again(site: Site) -> None:
    await site.append(b"abc")
    first = await site.store.read("s", Mark.BEGINNING)
    await site.append(b"def")  # what came meanwhile is not missed
    wire = await site.read(first)
    assert seen(wire).data == b"abcdef"


async def test_a_long_log_is_sent_in_pieces(site: Site) -> None:
    for _ in range(40):
        await site.store.append("s", Append(data=b"x" * 10_000))
    wire = await site.read()
    assert len(seen(wire).data) == 400_000
    assert seen(wire).up_to_date


async def test_readers_with_equal_formats_share_one_framing(site: Site) -> None:
    framed: list[Slice] = []

    class Counted(Traced):
        def frame(self, part: Slice, now: float) -> bytes:
            framed.append(part)
            return super().frame(part, now)

    wires = [await site.read(format=Counted()) for _ in range(50)]
    framed.clear()
    await site.append(b"abc")
    assert all(seen(wire).data == b"abc" for wire in wires)
    assert len(framed) == 1


async def test_one_read_and_one_watch_serve_all_readers_of_a_stream(site: Site) -> None:
    for _ in range(20):
        await site.read()
    site.store.asked.clear()
    await site.append(b"abc")
    assert site.store.asked == {}
    assert site.store.watched == 1


async def test_an_append_to_one_stream_wakes_nobody_of_another(site: Site) -> None:
    await site.store.create("other", NewStream())
    bystanders = [await site.read(path="other") for _ in range(10)]
    before = [wire.wakes for wire in bystanders]
    await site.read()
    await site.append(b"abc")
    assert [wire.wakes for wire in bystanders] == before


async def test_an_attached_reader_at_the_tail_is_written_to_without_being_woken() -> None:
    async with anyio.create_task_group() as group:
        site = Site(group, attach=True)
        await site.store.create("s", NewStream())
        wire = await site.read()
        before = wire.wakes
        for _ in range(5):
            await site.append(b"abc")
        assert (wire.wakes, len(wire.frames)) == (before, 5)
        wire.leave()


# How it begins


@pytest.mark.parametrize(
    ("start", "error"),
    [
        (Offset(5, 99), InvalidOffset),
        (Offset(5, 1), OffsetGone),
    ],
)
async def test_a_place_that_is_not_there_is_refused_before_the_first_byte(
    site: Site, start: Offset, error: type[Exception]
) -> None:
    await site.append(b"abc")
    wire = await site.read(start)
    assert isinstance(wire.error, (InvalidOffset, OffsetGone))
    assert wire.status is None


async def test_no_stream_is_told_before_the_first_byte(site: Site) -> None:
    wire = await site.read(path="none")
    assert isinstance(wire.error, StreamNotFound)
    assert wire.status is None


async def test_head_sends_the_headers_and_nothing_else(site: Site) -> None:
    await site.append(b"abc")
    wire = await site.read(method="HEAD")
    assert (wire.status, bytes(wire.body), wire.complete) == (200, b"", True)
    assert wire.headers["content-type"] == "application/octet-stream"


async def test_headers_that_are_given_replace_those_of_the_format(site: Site) -> None:
    wire = await site.read(headers={"Cache-Control": "private", "X-Own": "1"})
    assert wire.headers["cache-control"] == "private"
    assert wire.headers["x-own"] == "1"


def not_there_yet(path: str) -> Slice:
    info = StreamInfo(
        path=path,
        content_type="text/plain",
        first=START,
        tail=START,
        closed=False,
        ttl=None,
        expires_at=None,
        retention=Retention(),
        forked_from=None,
        created_at=0,
    )
    return Slice(info, START, ())


async def test_a_stream_that_is_not_there_yet_is_waited_for(site: Site) -> None:
    wires = [await site.read(not_there_yet("new"), path="new") for _ in range(20)]
    site.store.asked.clear()
    await site.store.create("new", NewStream())
    await settle()
    await site.append(b"abc", path="new")
    await site.append(b"def", path="new", close=True)
    assert all(seen(wire).data == b"abcdef" and wire.complete for wire in wires)
    assert site.store.asked["head"] <= 2


async def test_a_stream_that_came_and_went_is_still_waited_for(site: Site) -> None:
    wire = await site.read(not_there_yet("new"), path="new")
    for _ in range(2):
        (live,) = site.hub._lives.values()
        live.on_change(Change("new", 5, START, START, deleted=True))
        await settle()
        assert not wire.over
    await site.store.create("new", NewStream(data=b"abc", closed=True))
    await settle()
    assert (seen(wire).data, wire.complete) == (b"abc", True)


async def test_one_that_waits_for_a_stream_shows_that_it_is_alive(site: Site, clock: Clock) -> None:
    wire = await site.read(not_there_yet("new"), path="new", options=StreamOptions(heartbeat=15))
    assert seen(wire).beats == 1
    site.store.asked.clear()
    await clock.advance(31)
    assert seen(wire).beats == 3
    assert site.store.asked == {}


# How it ends


async def test_it_ends_with_the_stream(site: Site) -> None:
    wire = await site.read()
    await site.append(b"abc", close=True)
    assert (seen(wire).data, seen(wire).closed, seen(wire).end) == (b"abc", True, "closed")
    assert wire.complete


async def test_closing_without_data_is_told(site: Site) -> None:
    await site.append(b"abc")
    wire = await site.read()
    await site.append(close=True)
    assert (seen(wire).closed, seen(wire).end) == (True, "closed")


async def test_a_closed_stream_is_sent_whole_and_ends(site: Site) -> None:
    await site.append(b"abc", close=True)
    wire = await site.read()
    assert (seen(wire).data, seen(wire).end, wire.complete) == (b"abc", "closed", True)


async def test_at_the_tail_of_a_closed_stream_it_ends_at_once(site: Site) -> None:
    await site.append(b"abc", close=True)
    wire = await site.read(Mark.TAIL)
    assert (seen(wire).closed, seen(wire).end) == (True, "closed")


async def test_it_ends_when_the_stream_is_deleted(site: Site) -> None:
    wire = await site.read()
    await site.store.delete("s")
    await settle()
    assert (seen(wire).end, wire.complete) == ("deleted", True)


async def test_a_stream_that_is_made_anew_is_not_taken_for_the_one_before(site: Site) -> None:
    await site.append(b"abc")
    wire = await site.read()
    await site.store.delete("s")
    site.store.later_ms += 1
    await site.store.create("s", NewStream(data=b"abcdef"))
    await settle()
    assert (seen(wire).data, seen(wire).end) == (b"abc", "deleted")


async def test_a_stream_that_expires_while_it_is_read_ends(site: Site) -> None:
    await site.store.create("e", NewStream(expires_at=_now_ms() + 200))
    wire = await site.read(path="e")
    await wait_until(lambda: wire.over)
    assert seen(wire).end == "deleted"


async def test_a_client_that_leaves_is_noticed_at_once(site: Site) -> None:
    wire = await site.read()
    before = stats()
    wire.leave()
    await settle()
    assert wire.over
    assert wire.error is None
    assert stats().left == before.left + 1
    assert stats().open == before.open - 1


async def test_its_lifetime_is_kept(site: Site, clock: Clock) -> None:
    wire = await site.read(lifetime=60.0)
    await site.append(b"abc")
    await clock.advance(59)
    assert not wire.over
    await clock.advance(1.5)
    assert (seen(wire).end, wire.complete) == ("lifetime", True)


async def test_the_background_task_runs_when_the_client_has_left(site: Site) -> None:
    ran: list[int] = []
    wire = await site.read(background=BackgroundTask(ran.append, 1))
    assert ran == []
    wire.leave()
    await settle()
    assert ran == [1]


async def test_drained_it_says_farewell_and_ends(site: Site) -> None:
    await site.append(b"abc")
    wires = [await site.read() for _ in range(10)]
    drained = await drain(5)
    assert (drained.ended, drained.cut) == (10, 0)
    assert all(seen(wire).end == "farewell" and wire.complete for wire in wires)


async def test_a_format_without_a_farewell_goes_on_until_the_time_is_up(
    site: Site, clock: Clock
) -> None:
    class Silent(Traced):
        says_farewell = False

    wire = await site.read(format=Silent())
    await site.append(b"abc")
    async with anyio.create_task_group() as group:
        group.start_soon(drain, 5.0)
        await clock.advance(4)
        await site.append(b"def")
        assert not wire.over
        await clock.advance(2)
    assert (wire.over, wire.complete, seen(wire).data) == (True, False, b"abcdef")


async def test_a_store_that_fails_is_told_and_cuts_the_response(site: Site) -> None:
    class Failing(Traced):
        def end(self, end: Any) -> bytes:
            return b"" if end.error is None else b"<end failed %d>" % end.offset.position

    await site.append(b"abc")
    wire = await site.read(format=Failing())

    async def fail(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("memory://", "gone")

    site.store.read = fail  # type: ignore[method-assign] # this one store, from now on
    await site.hint(b"def")
    assert isinstance(wire.error, StoreUnavailable)
    assert (seen(wire).end, wire.complete) == ("failed", False)


@pytest.mark.parametrize("has_left", [True, False])
async def test_what_send_raises_is_no_error_once_the_client_has_left(
    site: Site, has_left: bool
) -> None:
    gone = anyio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            if has_left:
                gone.set()
            raise RuntimeError("the transport is closed")

    await site.append(b"abc")
    response = LiveResponse(site.hub, "s", Mark.BEGINNING, Traced())
    before = stats()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with nullcontext() if has_left else pytest.raises(RuntimeError, match="transport"):
        await response(scope, receive, send)
    after = stats()
    assert (after.left - before.left, after.failed - before.failed) == (has_left, not has_left)


async def test_a_format_that_raises_cuts_the_response_after_what_was_sent(site: Site) -> None:
    class Picky(Traced):
        def frame(self, part: Slice, now: float) -> bytes:
            if b"!" in part.data:
                raise ValueError("no")
            return super().frame(part, now)

    wire, other = await site.read(format=Picky("a")), await site.read()
    await site.append(b"abc")
    await site.append(b"!")
    assert isinstance(wire.error, ValueError)
    assert (seen(wire).data, wire.complete) == (b"abc", False)
    assert seen(other).data == b"abc!"


# Slow readers


async def test_who_stalls_misses_nothing_when_he_reads_again(site: Site) -> None:
    slow, quick = await site.read(), await site.read()
    slow.stall()
    for _ in range(100):
        await site.append(b"x" * 10_000)
    assert len(seen(quick).data) == 1_000_000
    slow.go_on()
    await settle()
    assert seen(slow).data == seen(quick).data
    await site.append(b"end")
    assert seen(slow).data.endswith(b"end")


async def test_what_waits_for_a_stalled_reader_is_bounded(site: Site) -> None:
    wire = await site.read()
    wire.stall()
    for _ in range(500):
        await site.append(b"x" * 10_000)
    assert wire.waiting_bytes <= FULL + 11_000


async def test_latest_skips_to_the_tail_and_tells_of_the_gap(site: Site) -> None:
    wire = await site.read(slow=Slow.LATEST)
    wire.stall()
    for _ in range(100):
        await site.append(b"x" * 10_000)
    wire.go_on()
    await settle()
    (gap,) = seen(wire).gaps
    assert gap[1] == 1_000_000
    await site.append(b"end")
    assert seen(wire).data.endswith(b"xend")
    assert len(seen(wire).data) == gap[0] + 3


async def test_disconnect_cuts_a_slow_reader_off(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tailrace")
    before = stats()
    wire = await site.read(slow=Slow.DISCONNECT)
    wire.stall()
    for _ in range(30):
        await site.append(b"x" * 10_000)
    if not site._attach:  # its own task is in `send`: it looks when the client takes something
        wire.go_on()
        await settle()
    assert (wire.over, wire.complete, wire.aborted) == (True, False, "too_slow")
    assert stats().too_slow == before.too_slow + 1
    assert len(caplog.records) == 1


async def test_a_gap_that_retention_made_is_told(site: Site) -> None:
    await site.store.create("r", NewStream(retention=Retention(max_bytes=50_000)))
    wire = await site.read(path="r")
    wire.stall()
    for _ in range(60):
        await site.append(b"x" * 10_000, path="r")
    wire.go_on()
    await settle()
    (gap,) = seen(wire).gaps
    assert gap[1] - gap[0] > 100_000
    assert seen(wire).at == 600_000


async def test_a_gap_without_a_word_for_it_ends_the_response(site: Site) -> None:
    class Wordless(Traced):
        def gap(self, gap: Gap) -> bytes | None:
            return None

    await site.store.create("r", NewStream(retention=Retention(max_bytes=50_000)))
    wire = await site.read(path="r", format=Wordless())
    wire.stall()
    for _ in range(60):
        await site.append(b"x" * 10_000, path="r")
    wire.go_on()
    await settle()
    assert (seen(wire).end, wire.complete) == ("gap", True)


@pytest.mark.parametrize("site", ["attached", "by send", "unseen"], indirect=True)
async def test_a_client_that_takes_nothing_for_send_timeout_is_cut_off(
    site: Site, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tailrace")
    before = stats()
    wire = await site.read(options=StreamOptions(send_timeout=10))
    wire.stall()
    for _ in range(30):
        await site.append(b"x" * 10_000)
    await clock.advance(9)
    assert not wire.over
    await clock.advance(2)
    assert (wire.over, wire.complete, wire.error) == (True, False, None)
    assert stats().stalled == before.stalled + 1
    assert len([each for each in caplog.records if "stalled" in each.getMessage()]) == 1


async def test_a_client_that_takes_something_is_not_cut_off(site: Site, clock: Clock) -> None:
    wire = await site.read(options=StreamOptions(send_timeout=10))
    for _ in range(5):
        wire.stall()
        await site.append(b"x" * 10_000)
        await clock.advance(8)
        wire.go_on()
    assert not wire.over


# Silence


async def test_a_silent_stream_is_shown_to_be_alive(site: Site, clock: Clock) -> None:
    wire = await site.read(options=StreamOptions(heartbeat=15))
    await clock.advance(14)
    assert seen(wire).beats == 0
    await clock.advance(2)
    assert seen(wire).beats == 1
    await clock.advance(31)
    assert seen(wire).beats == 3


async def test_a_stream_that_speaks_needs_no_heartbeat(site: Site, clock: Clock) -> None:
    wire = await site.read(options=StreamOptions(heartbeat=15))
    for _ in range(10):
        await clock.advance(10)
        await site.append(b"x")
    assert seen(wire).beats == 0


async def test_without_a_heartbeat_there_is_silence(site: Site, clock: Clock) -> None:
    wire = await site.read(options=StreamOptions(heartbeat=None))
    await clock.advance(120)
    assert seen(wire).beats == 0


# What it holds


async def test_nothing_is_left_when_all_have_gone() -> None:
    async with no_leaks(), anyio.create_task_group() as group:
        site = Site(group, attach=True)
        await site.store.create("s", NewStream())
        wires = [await site.read() for _ in range(20)]
        await site.append(b"abc")
        for wire in wires:
            wire.leave()
        await settle()
        assert site.store.watched == 0


async def test_an_idle_stream_keeps_nothing_of_what_was(site: Site, clock: Clock) -> None:
    await site.read()
    await site.append(b"abc")
    live = next(iter(site.hub._lives.values()))
    assert live.cache is not None
    await clock.advance(limits.RECENT_AGE - 0.1)
    assert live.cache is not None
    await clock.advance(1)
    assert live.cache is None


async def test_a_reader_cancelled_while_he_reads_for_all_leaves_it_to_another(site: Site) -> None:
    first, second, third = [await site.read() for _ in range(3)]
    reads = 0
    read = site.store.read

    async def held_read(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 1:
            await anyio.sleep_forever()
        return await read(*args, **options)

    site.store.read = held_read  # type: ignore[method-assign] # this one store, from now on
    await site.hint(b"abc")
    assert (reads, seen(second).data, seen(third).data) == (1, b"", b"")
    first.task.cancel()
    await settle()
    assert (reads, seen(second).data, seen(third).data) == (2, b"abc", b"abc")


async def test_a_hint_is_followed_by_one_read_for_all(site: Site) -> None:
    wires = [await site.read() for _ in range(50)]
    site.store.asked.clear()
    await site.hint(b"abc")
    assert all(seen(wire).data == b"abc" for wire in wires)
    assert site.store.asked["read"] == 1


async def test_a_hint_during_a_read_is_followed_by_another_read(site: Site) -> None:
    wire = await site.read()
    read = site.store.read

    async def slow_read(*args: Any, **options: Any) -> Any:
        found = await read(*args, **options)
        site.store.read = read  # type: ignore[method-assign] # only this time
        await site.hint(b"def", settled=False)
        return found

    site.store.read = slow_read  # type: ignore[method-assign] # only the next time
    await site.hint(b"abc")
    assert seen(wire).data == b"abcdef"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.mark.parametrize("site", ["by send"], indirect=True)
async def test_who_is_stuck_in_sending_is_not_chosen_to_read_for_all(
    site: Site, clock: Clock
) -> None:
    stuck = await site.read(options=StreamOptions(heartbeat=5))
    other = await site.read(options=StreamOptions(heartbeat=None))
    stuck.stall()
    # So much that a heartbeat is just what is too much.
    await site.append(b"x" * (FULL - len(b"<0-65500=>;") - 3))
    assert FULL - 6 < stuck.waiting_bytes <= FULL
    await clock.advance(6)
    assert stuck.waiting_bytes > FULL
    await site.hint(b"abc")
    assert seen(other).data.endswith(b"xabc")
