from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.errors import BodyStalled, Overloaded, TooLarge
from tailrace.protocol import DurableStreams, ProtocolOptions
from tailrace.protocol.body import Body, Pace, who_makes_room
from tailrace.store import MemoryStore
from tailrace.testing import Clock

pytestmark = pytest.mark.anyio

TIMEOUT = 30.0


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


LEFT = {"type": "http.disconnect"}


class Arriving:
    """A body whose parts come after so many seconds each; behind them nothing comes.

    Args:
        parts: Seconds, and what comes then.
    """

    def __init__(self, *parts: tuple[float, dict[str, Any]]) -> None:
        self.parts = list(parts)
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if not self.parts:
            await anyio.sleep_forever()
        seconds, message = self.parts.pop(0)
        if seconds:
            # As in middleware that waits for two things: a scope that must end where it began.
            async with anyio.create_task_group():
                await anyio.sleep(seconds)
        return message


def at_once(*parts: bytes) -> Arriving:
    messages = [part(body) for body in parts[:-1]] + [part(parts[-1], more=False)]
    return Arriving(*((0.0, message) for message in messages))


async def read(body: Arriving, most: int = 10, length: int | None = None) -> bytes | None:
    fields = {} if length is None else {b"content-length": b"%d" % length}
    reading = Body(body.receive, fields)
    try:
        return await reading.read(most, TIMEOUT)
    finally:
        reading.release()


@pytest.mark.parametrize("parts", [(b"",), (b"hello",), (b"he", b"llo"), (b"", b"hello", b"")])
async def test_a_body_is_read_whole(parts: tuple[bytes, ...]) -> None:
    assert await read(at_once(*parts)) == b"".join(parts)


async def test_a_body_in_crumbs_costs_little_more_than_itself() -> None:
    count = 4000
    numbers = iter(range(count + 1))

    async def receive() -> dict[str, Any]:
        number = next(numbers)
        return part(number.to_bytes(2), more=number < count)

    tracemalloc.start()
    try:
        got = await Body(receive, {}).read(3 * count, TIMEOUT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert got == b"".join(number.to_bytes(2) for number in range(count + 1))
    assert peak < 10 * 2 * count, "a list of the parts takes 22 times as much"


async def test_a_message_without_any_field_is_an_empty_body() -> None:
    assert await read(Arriving((0.0, {"type": "http.request"}))) == b""


@pytest.mark.parametrize("parts", [(b"x" * 10,), (b"x" * 9, b"x"), (b"x" * 10, b"")])
async def test_a_body_may_have_so_many_bytes(parts: tuple[bytes, ...]) -> None:
    assert await read(at_once(*parts)) == b"x" * 10
    assert await read(at_once(*parts), length=10) == b"x" * 10


@pytest.mark.parametrize("parts", [(b"x" * 11,), (b"x" * 10, b"x"), (b"x" * 11, b"")])
async def test_and_not_one_more(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(TooLarge):
        await read(at_once(*parts))


async def test_what_is_announced_to_be_too_much_is_not_read_at_all() -> None:
    body = at_once(b"x")
    with pytest.raises(TooLarge):
        await read(body, length=11)
    assert body.asked == 0


async def test_no_more_is_read_than_shows_that_it_is_too_much() -> None:
    body = at_once(b"x" * 6, b"x" * 6, b"x" * 6, b"")
    with pytest.raises(TooLarge):
        await read(body)
    assert body.asked <= 3


@pytest.mark.parametrize("parts", [[], [(0.0, part(b"x"))], [(1.0, part(b"x"))]])
@pytest.mark.parametrize("seconds", [0.0, 1.0])
async def test_a_client_that_leaves_sends_no_body(
    parts: list[tuple[float, dict[str, Any]]], seconds: float, clock: Clock
) -> None:
    body = Arriving(*parts, (seconds, LEFT))
    got: list[bytes | None] = []

    async def run() -> None:
        got.append(await read(body))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.advance(3.0)
    assert got == [None]


async def test_a_slow_body_is_read_while_it_comes(clock: Clock) -> None:
    some = b"x" * 29 * limits.BODY_MIN_RATE
    body = Arriving(*((29.0, part(some)) for _ in range(8)), (29.0, part(b"y", more=False)))
    got: list[bytes | None] = []

    async def run() -> None:
        got.append(await read(body, most=1_000_000))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.advance(9 * 29.0)
    assert got == [8 * some + b"y"]


@pytest.mark.parametrize("burst", [0, 1_000_000])
async def test_a_byte_now_and_then_does_not_keep_a_body(burst: int, clock: Clock) -> None:
    body = Arriving((0.0, part(b"x" * burst)), *((0.5, part(b"x")) for _ in range(200)))
    caught: list[BodyStalled] = []

    async def run() -> None:
        with pytest.raises(BodyStalled) as stalled:
            await read(body, most=2_000_000)
        caught.append(stalled.value)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.advance(TIMEOUT - 0.1)
        assert not caught
        await clock.advance(0.5)
        assert caught


@pytest.mark.parametrize(
    "make",
    [
        Arriving,
        lambda: Arriving((0.0, part(b"x"))),
        lambda: Arriving((29.0, part(b"x"))),
        lambda: Arriving((0.0, part(b"x")), (31.0, part(b"x"))),
    ],
)
async def test_a_body_that_stops_coming_is_given_up(
    make: Callable[[], Arriving], clock: Clock
) -> None:
    body = make()
    caught: list[BodyStalled] = []

    async def run() -> None:
        with pytest.raises(BodyStalled) as stalled:
            await read(body)
        caught.append(stalled.value)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.advance(TIMEOUT - 0.01)
        assert not caught
        await clock.advance(0.02)
    assert caught[0].seconds == TIMEOUT


async def test_who_is_cancelled_while_it_waits_is_cancelled() -> None:
    body = Arriving()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(read, body)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught


# What is not wanted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, None),
        ({b"content-length": b"0"}, 0),
        ({b"content-length": b"123"}, 123),
        ({b"content-length": b""}, None),
        ({b"content-length": b"-1"}, None),
        ({b"content-length": b"1x"}, None),
        ({b"content-length": b"9" * 5000}, None),
    ],
)
def test_a_body_is_as_long_as_the_client_has_said(
    fields: dict[bytes, bytes], size: int | None
) -> None:
    assert Body(Arriving().receive, fields).announced == size


@pytest.mark.parametrize(
    ("name", "value", "is_much"),
    [
        (b"content-length", b"%d" % limits.BODY_LINGER_BYTES, False),
        (b"content-length", b"%d" % (limits.BODY_LINGER_BYTES + 1), True),
        (b"transfer-encoding", b"chunked", True),
        (b"host", b"h", False),
    ],
)
def test_a_body_is_much_if_it_is_long_or_nobody_knows(
    name: bytes, value: bytes, is_much: bool
) -> None:
    assert Body(Arriving().receive, {name: value}).is_much == is_much


async def test_what_is_read_is_not_much() -> None:
    body = Body(at_once(b"x").receive, {b"transfer-encoding": b"chunked"})
    assert body.is_much
    assert await body.read(10, TIMEOUT) == b"x"
    assert not body.is_much


async def test_what_is_read_whole_and_too_much_is_not_much_either() -> None:
    body = Body(at_once(b"x", b"x" * 10).receive, {b"transfer-encoding": b"chunked"})
    with pytest.raises(TooLarge):
        await body.read(10, TIMEOUT)
    assert not body.is_much


@pytest.mark.parametrize("last", [part(b"x", more=False), LEFT])
async def test_the_rest_of_a_body_is_thrown_away(last: dict[str, Any]) -> None:
    body = Arriving(*((0.0, part(b"x" * 10)) for _ in range(5)), (0.0, last))
    await Body(body.receive, {}).linger()
    assert not body.parts


@pytest.mark.parametrize(
    ("every", "seconds"),
    [(None, limits.LINGER_SILENCE), (limits.LINGER_SILENCE - 0.1, limits.LINGER)],
)
async def test_and_for_no_longer_than_so_many_seconds(
    clock: Clock, every: float | None, seconds: float
) -> None:
    parts = [] if every is None else [(every, part(b"x"))] * 20
    body = Arriving(*parts)
    done = anyio.Event()

    async def run() -> None:
        await Body(body.receive, {}).linger()
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.advance(seconds - 0.01)
        assert not done.is_set()
        await clock.advance(0.02)
        assert done.is_set()


# All of them together -----------------------------------------------------------------------------


def stalling(size: int) -> Arriving:
    """So many bytes, and then nothing for ever."""
    return Arriving((0.0, part(b"x" * size)))


async def test_what_all_bodies_hold_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    free, most = limits.BODY_FREE_BYTES, 3 * limits.BODY_FREE_BYTES
    monkeypatch.setattr(limits, "BODIES_BYTES", most)
    first = Body(at_once(b"x" * (most - free - 1)).receive, {})
    assert await first.read(most, TIMEOUT)
    last = Body(at_once(b"y" * (free + 1)).receive, {})
    assert await last.read(most, TIMEOUT)  # exactly what is left
    refused = Body(at_once(b"z" * (free + 1)).receive, {})
    with pytest.raises(Overloaded):
        await refused.read(most, TIMEOUT)
    small = Body(at_once(b"z" * free).receive, {})
    assert await small.read(most, TIMEOUT)
    for body in (first, last, refused, small):
        body.release()
        body.release()
    whole = Body(at_once(b"z" * most).receive, {})
    assert await whole.read(most, TIMEOUT)
    whole.release()


async def test_a_body_that_grows_is_counted_as_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 2 * limits.BODY_FREE_BYTES
    monkeypatch.setattr(limits, "BODIES_BYTES", most)
    parts = [b"x" * limits.BODY_FREE_BYTES] * 2
    body = Body(at_once(*parts).receive, {})
    assert await body.read(most, TIMEOUT)
    assert body.held == most
    body.release()
    body = Body(at_once(*parts, b"x").receive, {})
    with pytest.raises(Overloaded):
        await body.read(most + 1, TIMEOUT)
    body.release()


async def test_a_body_that_stalls_is_released_with_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = limits.BODY_FREE_BYTES + 1
    monkeypatch.setattr(limits, "BODIES_BYTES", size)
    app = DurableStreams(MemoryStore(), ProtocolOptions(body_timeout=0.05))
    statuses = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"text/plain"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "PUT", "path": "/a", "query_string": b""}
    for _ in range(3):
        await app({**scope, "headers": headers}, stalling(size).receive, send)
    await app({**scope, "headers": headers}, at_once(b"x" * size).receive, send)
    assert statuses == [408, 408, 408, 201]


async def test_a_few_slow_bodies_do_not_keep_the_room_of_all(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    size = 4 * limits.BODY_FREE_BYTES
    monkeypatch.setattr(limits, "BODIES_BYTES", 4 * size)
    slow = [stalling(size) for _ in range(4)]
    cut: list[int] = []

    async def hold(number: int, arriving: Arriving) -> None:
        body = Body(arriving.receive, {})
        try:
            await body.read(2 * size, TIMEOUT)
        except BodyStalled:
            cut.append(number)
        finally:
            body.release()

    async def append() -> bytes | None:
        body = Body(at_once(b"y" * size).receive, {})
        try:
            return await body.read(size, TIMEOUT)
        finally:
            body.release()

    async with anyio.create_task_group() as group:
        for number, arriving in enumerate(slow):
            group.start_soon(hold, number, arriving)
        await clock.advance(limits.BODY_SURE - 0.1)
        with pytest.raises(Overloaded):  # these may still be honest
            await append()
        assert not cut
        await clock.advance(0.2)
        for _ in range(10):
            assert await append() == b"y" * size
        await clock.advance(0.0)
        assert len(cut) == 1, "no more than was needed"
        await clock.advance(TIMEOUT)
    assert len(cut) == 4
    assert await append()


# The pace of a body, decided without waiting


@dataclass(slots=True)
class Held:
    held: int


def test_waiting_uses_the_patience_up_and_bytes_give_it_back() -> None:
    pace = Pace(30.0)
    pace.wait(10.0)
    assert pace.left == 20.0
    pace.add(4 * limits.BODY_MIN_RATE)
    assert pace.left == 24.0
    pace.wait(25.0)
    assert pace.left == 0.0


@given(st.integers(0, 10**9))
def test_what_came_before_buys_no_more_than_the_patience(count: int) -> None:
    pace = Pace(30.0)
    pace.add(count)
    assert pace.left == 30.0


@given(st.lists(st.floats(0.01, 29.0), max_size=50))
def test_who_keeps_the_rate_is_never_given_up(waits: list[float]) -> None:
    pace = Pace(30.0)
    for seconds in waits:
        pace.wait(seconds)
        assert pace.left > 0
        pace.add(math.ceil(seconds * limits.BODY_MIN_RATE))
    assert pace.left == pytest.approx(30.0)


def test_no_rate_is_told_of_a_body_that_came_almost_at_once() -> None:
    pace = Pace(30.0)
    pace.add(1000)
    assert pace.rate(limits.BODY_SURE) == math.inf
    assert pace.rate(10.0) == 100.0


@pytest.mark.parametrize(
    ("need", "rate", "chosen"),
    [
        (10, math.inf, [10]),
        (11, math.inf, [10, 20]),
        (30, 5.0, [10, 20]),
        (31, 5.0, []),
        (1, 1.0, []),
        (60, math.inf, []),
    ],
)
def test_the_slowest_make_room_and_no_more_than_are_needed(
    need: int, rate: float, chosen: list[int]
) -> None:
    holders = [(2.0, Held(20)), (math.inf, Held(40)), (1.0, Held(10))]
    assert [each.held for each in who_makes_room(need, rate, holders)] == chosen
