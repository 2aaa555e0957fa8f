"""Reads under way: done once for all who ask, and never older than the question."""

from __future__ import annotations

import anyio
import pytest

from tailrace.runtime.single_flight import SingleFlight
from tailrace.testing import settle

pytestmark = pytest.mark.anyio


class Source:
    """Something to be read, whose reading a test holds."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0
        self.gate = anyio.Event()
        self.fails: Exception | None = None

    async def read(self) -> int:
        self.reads += 1
        value = self.value
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return value


async def test_a_thousand_who_ask_at_once_cost_two_reads() -> None:
    source, flights, got = Source(), SingleFlight(), []

    async def ask() -> None:
        got.append(await flights.do("key", source.read))

    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(ask)
        await settle()
        source.gate.set()
    assert (len(got), source.reads) == (1000, 2)
    assert len(flights) == 0


async def test_who_asks_during_a_read_does_not_get_what_was_before_his_question() -> None:
    source, flights, got = Source(), SingleFlight(), []

    async def ask() -> None:
        got.append(await flights.do("key", source.read))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await settle()
        source.value = 1
        group.start_soon(ask)
        await settle()
        source.gate.set()
    assert got == [0, 1]


async def test_different_questions_do_not_wait_for_each_other() -> None:
    source, flights = Source(), SingleFlight()

    async def at_once() -> int:
        return 7

    async with anyio.create_task_group() as group:
        group.start_soon(flights.do, "key", source.read)
        await settle()
        assert await flights.do("other", at_once) == 7
        source.gate.set()


async def test_if_the_one_who_reads_is_cancelled_another_one_reads() -> None:
    source, flights, got = Source(), SingleFlight(), []

    async def ask() -> None:
        got.append(await flights.do("key", source.read))

    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()

        async def ask_first() -> None:
            with first:
                await ask()

        group.start_soon(ask_first)
        await settle()
        group.start_soon(ask)
        group.start_soon(ask)
        await settle()
        assert source.reads == 1
        first.cancel()
        await settle()
        assert source.reads == 2
        source.gate.set()
    assert (got, source.reads) == ([0, 0], 2)
    assert len(flights) == 0


async def test_if_the_one_who_reads_for_others_is_cancelled_one_of_them_reads() -> None:
    source, flights, got, readers = Source(), SingleFlight(), list[int](), list[int]()
    scopes = [anyio.CancelScope() for _ in range(4)]

    async def ask(number: int) -> None:
        async def read() -> int:
            readers.append(number)
            return await source.read()

        with scopes[number]:
            got.append(await flights.do("key", read))

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(ask, number)
            await settle()
        first, source.gate = source.gate, anyio.Event()
        first.set()
        await settle()
        assert (got, len(readers)) == ([0], 2)
        source.value = 1
        scopes[readers[1]].cancel()
        await settle()
        assert (got, len(readers)) == ([0], 3)
        source.gate.set()
    assert got == [0, 1, 1]
    assert len(flights) == 0


async def test_a_read_that_does_not_wait_is_over_before_those_it_was_for_look() -> None:
    source, flights, got = Source(), SingleFlight(), []
    read = source.read

    async def at_once() -> int:
        source.reads += 1
        return 7

    async def ask() -> None:
        got.append(await flights.do("key", lambda: read()))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(ask)
        await settle()
        read = at_once
        source.gate.set()
    assert (got, source.reads) == ([0, 7, 7, 7], 2)
    assert len(flights) == 0


async def test_nothing_is_left_if_all_who_wait_are_cancelled() -> None:
    source, flights = Source(), SingleFlight()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(flights.do, "key", source.read)
        await settle()
        group.cancel_scope.cancel()
    assert len(flights) == 0


async def test_an_error_is_raised_for_all_who_asked() -> None:
    source, flights, errors = Source(), SingleFlight(), []
    source.fails = LookupError("no")

    async def ask() -> None:
        try:
            await flights.do("key", source.read)
        except LookupError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
        await settle()
        source.gate.set()
    assert (len(errors), source.reads) == (5, 2)
