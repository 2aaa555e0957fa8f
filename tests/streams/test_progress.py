from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anyio
import pytest
from pydantic_core import from_json, to_json

from tailrace.errors import InvalidOption, RunEnded
from tailrace.framing import ServerSentEvents
from tailrace.responses import EventSourceResponse
from tailrace.store import MemoryStore
from tailrace.streams import Progress, ProgressState, Streams
from tailrace.testing import Client, Clock
from tests.streams.worlds import shared_store


class Now:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def now() -> Now:
    return Now()


def state_of(step: Any) -> ProgressState:
    assert step
    assert isinstance(step.data, ProgressState)
    return step.data


# Thinning ----------------------------------------------------------------------------------------


def test_the_first_step_is_sent_and_those_too_soon_after_it_are_not(now: Now) -> None:
    progress = Progress(total=100, clock=now)
    assert progress.step()
    now.time += 0.099
    assert not progress.step()
    now.time += 0.001
    assert progress.step()


def test_ten_events_a_second_at_most(now: Now) -> None:
    progress = Progress(clock=now)
    sent = 0
    for _ in range(10_000):
        sent += bool(progress.step())
        now.time += 0.001
    assert 95 <= sent <= 101


def test_the_step_that_reaches_the_total_is_sent_at_once(now: Now) -> None:
    progress = Progress(total=3, clock=now)
    assert [bool(progress.step()) for _ in range(3)] == [True, False, True]


def test_a_total_that_was_too_low_does_not_let_all_pass(now: Now) -> None:
    progress = Progress(total=2, clock=now)
    assert [bool(progress.step()) for _ in range(5)] == [True, True, False, False, False]


def test_what_was_thinned_is_kept_for_later(now: Now) -> None:
    progress = Progress(total=10, clock=now)
    progress.step()
    assert not progress.latest()
    progress.step(message="second")
    assert state_of(progress.latest()).message == "second"
    assert not progress.latest()


# What is told ------------------------------------------------------------------------------------


def test_a_state_tells_all(now: Now) -> None:
    progress = Progress(total=200, unit="rows", clock=now)
    for _ in range(100):
        now.time += 0.1
        step = progress.step(message="a row")
    state = state_of(step)
    assert (state.done, state.total, state.unit, state.message) == (100, 200, "rows", "a row")
    assert state.percent == 50.0
    assert state.rate == pytest.approx(10, rel=0.01)
    assert state.left == pytest.approx(10, rel=0.02)
    assert state.elapsed == pytest.approx(10)
    assert state.state == "running"


def test_without_a_total_nothing_is_told_of_the_end(now: Now) -> None:
    state = state_of(Progress(clock=now).step())
    assert state.percent is None
    assert state.left is None


def test_a_rate_follows_what_was_lately(now: Now) -> None:
    progress = Progress(clock=now)
    for steps in (1, 100):
        for _ in range(300):
            now.time += 0.1
            progress.step(steps)
    assert progress.state.rate == pytest.approx(1000, rel=0.05)


def test_a_rate_falls_while_nothing_happens(now: Now) -> None:
    progress = Progress(clock=now)
    for _ in range(100):
        now.time += 0.1
        progress.step()
    now.time += 30
    assert (progress.state.rate or 0) < 1


def test_a_message_without_a_step(now: Now) -> None:
    progress = Progress(total=10, clock=now)
    state = state_of(progress.step(0, message="connecting"))
    assert (state.done, state.message) == (0, "connecting")


def test_a_total_may_become_known_later(now: Now) -> None:
    progress = Progress(clock=now)
    progress.step()
    progress.total = 4
    assert progress.state.percent == 25.0


def test_more_than_the_total_is_not_more_than_all(now: Now) -> None:
    progress = Progress(total=1, clock=now)
    progress.step(5)
    assert progress.state.percent == 100.0


def test_a_total_of_nothing_is_done(now: Now) -> None:
    assert Progress(total=0, clock=now).state.percent == 100.0


@pytest.mark.parametrize("total", [-1, float("nan"), float("inf"), True, "3"])
def test_a_total_that_is_none_is_refused(total: Any) -> None:
    with pytest.raises(InvalidOption, match="total"):
        Progress(total=total)


@pytest.mark.parametrize("n", [float("nan"), True, "3"])
def test_steps_are_a_number(n: Any) -> None:
    with pytest.raises(InvalidOption):
        Progress().step(n)


# Parts -------------------------------------------------------------------------------------------


def test_a_part_counts_as_its_weight_while_it_goes_on_and_after(now: Now) -> None:
    progress = Progress(total=10, clock=now)
    progress.step(2)
    with progress.part("images", total=4, weight=4) as images:
        now.time += 1
        state = state_of(images.step(message="one.png"))
        assert state.percent == 30.0
        assert state.done == 2
        (part,) = state.parts
        assert (part.name, part.done, part.total, part.percent) == ("images", 1, 4, 25.0)
        assert part.message == "one.png"
        images.step(3)
    assert progress.state.done == 6
    assert progress.state.parts == ()


def test_parts_have_parts(now: Now) -> None:
    progress = Progress(total=1, clock=now)
    with progress.part("outer", total=2) as outer, outer.part("inner", total=2) as inner:
        inner.step()
        assert progress.state.percent == 25.0
        assert [part.name for part in progress.state.parts] == ["outer", "inner"]


def test_a_part_that_fails_counts_for_nothing(now: Now) -> None:
    progress = Progress(total=2, clock=now)

    def fail() -> None:
        with progress.part("part", total=1) as part:
            part.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert progress.state.done == 0


def test_one_part_at_a_time(now: Now) -> None:
    progress = Progress(clock=now)
    with progress.part("one"), pytest.raises(RuntimeError, match="'one' is still open"):
        with progress.part("two"):
            pass


def test_steps_of_parts_are_thinned_together(now: Now) -> None:
    progress = Progress(clock=now)
    progress.step()
    with progress.part("part") as part:
        assert not part.step()


@pytest.mark.parametrize("weight", [-1, float("nan"), True])
def test_a_weight_is_not_less_than_nothing(weight: Any) -> None:
    with pytest.raises(InvalidOption, match="weight"), Progress().part("x", weight=weight):
        pass


# The end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_an_end_is_told_once_and_at_once(now: Now, state: Any) -> None:
    progress = Progress(clock=now)
    progress.step()
    end = state_of(progress.finish(state, message="over"))
    assert (end.state, end.message, end.left) == (state, "over", None)
    assert not progress.finish("done")
    assert not progress.step()


# In responses and runs ---------------------------------------------------------------------------


def test_a_step_is_an_event_and_a_thinned_one_is_seen_by_nobody(now: Now) -> None:
    progress = Progress(total=10, clock=now)
    framing = ServerSentEvents()
    assert framing.frame(progress.step()).startswith(b'event: progress\ndata: {"done":1,')
    assert framing.frame(progress.step()) == b": \n\n"


@pytest.mark.anyio
async def test_a_plain_event_source_gets_the_thinned_events() -> None:
    now = Now()

    def steps() -> Iterator[Any]:
        progress = Progress(total=100, clock=now)
        for _ in range(100):
            yield progress.step()
            now.time += 0.01

    app = EventSourceResponse(steps())
    async with Client(app) as client, client.open("GET", "/") as exchange:
        events = [event async for event in exchange.events()]
    assert len(events) < 15
    assert from_json(events[-1].data)["done"] == 100


async def progress_of(streams: Streams, path: str) -> list[dict[str, Any]]:
    return [message.data async for message in streams.read(path) if message.event == "progress"]


@pytest.mark.anyio
@pytest.mark.parametrize("style", ["sync", "async"])
async def test_a_run_puts_no_thinned_step_on_its_stream(style: str) -> None:
    def steps() -> Iterator[Any]:
        progress = Progress(total=100_000)
        for _ in range(99_999):
            yield progress.step()
        yield "item"

    async def as_async() -> AsyncIterator[Any]:
        for step in steps():
            yield step

    async with Streams(MemoryStore()) as streams:
        source = steps() if style == "sync" else as_async()
        await (await streams.run("s", source, on_disconnect="continue")).wait()
        states = await progress_of(streams, "s")
        assert len(states) < 60  # six seconds, on a machine that is busy
        assert states[0]["done"] == 1
        assert (states[-1]["done"], states[-1]["state"]) == (99_999, "done")


@pytest.mark.anyio
async def test_the_last_step_is_shown_when_the_source_then_waits(clock: Clock) -> None:
    gate = anyio.Event()

    async def steps() -> AsyncIterator[Any]:
        progress = Progress(total=10, clock=lambda: anyio.current_time())
        for n in range(5):
            yield progress.step(message=f"{n}")
        await gate.wait()

    async with Streams(shared_store()) as streams:
        run = await streams.run("s", steps(), on_disconnect="continue")
        await clock.advance(0.05)
        assert [state["done"] for state in await progress_of(streams, "s")] == [1]
        await clock.advance(0.06)
        states = await progress_of(streams, "s")
        assert [state["done"] for state in states] == [1, 5]
        assert states[-1]["message"] == "4"
        gate.set()
        await run.wait()


@pytest.mark.anyio
async def test_what_is_kept_back_is_shown_among_items_too(clock: Clock) -> None:
    async def steps() -> AsyncIterator[Any]:
        progress = Progress(total=10, clock=lambda: anyio.current_time())
        yield progress.step()
        yield progress.step()
        for n in range(30):
            yield n
            await anyio.sleep(0.02)

    async with Streams(shared_store()) as streams:
        run = await streams.run("s", steps(), on_disconnect="continue")
        await clock.advance(0.3)
        assert [state["done"] for state in await progress_of(streams, "s")] == [1, 2]
        await run.stop()


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_a_progress_ends_as_its_run_does(end: str, caplog: pytest.LogCaptureFixture) -> None:
    async def steps() -> AsyncIterator[Any]:
        progress = Progress(total=10)
        yield progress.step()
        yield progress.step()
        if end == "failed":
            raise ValueError
        await anyio.sleep_forever()

    async with Streams(MemoryStore()) as streams:
        run = await streams.run("s", steps(), on_disconnect="continue")
        await anext(aiter(run))
        if end == "cancelled":
            await run.stop()
        with pytest.raises(RunEnded):
            await run.wait()
        states = []
        with suppress(RunEnded):
            async for message in streams.read("s"):
                states.append(message.data)
        assert states[-1]["state"] == end
        assert states[-1]["done"] == 2


@pytest.mark.anyio
async def test_an_end_that_the_source_tells_itself_is_told_once() -> None:
    def steps() -> Iterator[Any]:
        progress = Progress(total=1)
        yield progress.step()
        yield progress.finish(message="written")

    async with Streams(MemoryStore()) as streams:
        await (await streams.run("s", steps(), on_disconnect="continue")).wait()
        states = await progress_of(streams, "s")
        assert [(state["state"], state["message"]) for state in states] == [
            ("running", None),
            ("done", "written"),
        ]


def test_a_state_is_json(now: Now) -> None:
    state = Progress(total=3, unit="rows", clock=now).state
    assert from_json(to_json(state)) == {
        "done": 0,
        "total": 3,
        "unit": "rows",
        "percent": 0.0,
        "rate": None,
        "left": None,
        "elapsed": 0.0,
        "message": None,
        "state": "running",
        "parts": [],
    }


@pytest.mark.parametrize("total", [-5, float("nan"), "10", True])
def test_a_total_that_is_set_later_is_checked_as_at_the_start(total: Any) -> None:
    """Kind of fault: a setter without the constructor's check."""
    progress = Progress(total=10)
    progress.step(2)
    with pytest.raises(InvalidOption, match="total"):
        progress.total = total
    assert progress.state.percent == 20
    progress.total = None
    assert progress.state.percent is None


def test_steps_of_several_threads_are_counted() -> None:
    progress = Progress()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(8):
                threads.submit(lambda: [progress.step() for _ in range(5_000)])
    finally:
        sys.setswitchinterval(before)
    assert progress.done == 40_000
