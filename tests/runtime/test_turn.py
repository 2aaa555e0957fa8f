from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from typing import Any

import pytest

from tailrace.runtime import Rest, stepper


class Ask:
    """An awaitable that hands a question to whoever drives it, and gives back the answer."""

    def __init__(self, question: str) -> None:
        self._question = question

    def __await__(self) -> Generator[str, Any, Any]:
        answer = yield self._question
        return answer


def begun(coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    """A coroutine that awaits the rest of one whose first step was taken by hand."""
    rest = Rest(coroutine, coroutine.send(None))

    async def outer() -> Any:
        return await rest

    return outer()


def result_of(coroutine: Coroutine[Any, Any, Any], answer: Any) -> Any:
    with pytest.raises(StopIteration) as stop:
        coroutine.send(answer)
    return stop.value.value


def test_what_was_begun_by_hand_is_waited_for_with_what_it_asked_first() -> None:
    async def whole() -> Any:
        return [await Ask("first"), await Ask("second")]

    driven = begun(whole())
    assert driven.send(None) == "first"
    assert driven.send(1) == "second"
    assert result_of(driven, 2) == [1, 2]


def test_an_exception_is_thrown_into_it() -> None:
    async def whole() -> str:
        try:
            await Ask("first")
        except KeyError as error:
            return f"caught {error.args[0]}"
        return "nothing"

    driven = begun(whole())
    driven.send(None)
    with pytest.raises(StopIteration) as stop:
        driven.throw(KeyError("this"))
    assert stop.value.value == "caught this"


def test_it_may_wait_again_after_an_exception() -> None:
    async def whole() -> Any:
        try:
            await Ask("first")
        except KeyError:
            return await Ask("again")

    driven = begun(whole())
    driven.send(None)
    assert driven.throw(KeyError()) == "again"
    assert result_of(driven, 7) == 7


def test_an_exception_that_it_does_not_catch_comes_out() -> None:
    async def whole() -> None:
        await Ask("first")

    driven = begun(whole())
    driven.send(None)
    with pytest.raises(KeyError):
        driven.throw(KeyError())


def test_its_own_exception_comes_out() -> None:
    async def whole() -> None:
        await Ask("first")
        raise LookupError("gone")

    driven = begun(whole())
    driven.send(None)
    with pytest.raises(LookupError, match="gone"):
        driven.send(None)


def test_closing_runs_its_cleanup() -> None:
    cleaned: list[str] = []

    async def whole() -> None:
        try:
            await Ask("first")
        finally:
            cleaned.append("cleaned")

    driven = begun(whole())
    driven.send(None)
    driven.close()
    assert cleaned == ["cleaned"]


# What drives an awaitable ------------------------------------------------------------------------


def test_a_coroutine_and_a_generators_next_drive_themselves() -> None:
    async def whole() -> None:
        pass

    async def items() -> AsyncIterator[int]:
        yield 1

    coroutine, following = whole(), items().__anext__()
    assert stepper(coroutine) is coroutine
    assert stepper(following) is following
    coroutine.close()
    with pytest.raises(StopIteration):
        following.send(None)


def test_an_awaitable_is_driven_through_its_own_steps() -> None:
    steps = stepper(Ask("what"))
    assert steps.send(None) == "what"
    with pytest.raises(StopIteration) as stop:
        steps.send("that")
    assert stop.value.value == "that"


def test_an_exception_is_thrown_into_an_awaitables_steps() -> None:
    steps = stepper(Ask("what"))
    steps.send(None)
    with pytest.raises(KeyError):
        steps.throw(KeyError())
    with pytest.raises(StopIteration):
        steps.send(None)


def test_an_awaitables_steps_are_closed() -> None:
    steps = stepper(Ask("what"))
    steps.send(None)
    steps.close()
    with pytest.raises(StopIteration):
        steps.send(None)


class Plain:
    """An awaitable whose steps are an iterator and no generator, as an extension may have."""

    def __await__(self) -> Iterator[str]:
        return iter(["first", "second"])


def test_a_plain_iterator_is_stepped_with_next() -> None:
    steps = stepper(Plain())
    assert steps.send(None) == "first"
    assert steps.send(None) == "second"
    with pytest.raises(StopIteration):
        steps.send(None)


def test_a_plain_iterator_takes_no_exceptions_and_needs_no_closing() -> None:
    steps = stepper(Plain())
    steps.send(None)
    with pytest.raises(KeyError):
        steps.throw(KeyError())
    steps.close()


async def _future() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    steps = stepper(future)
    waiting = steps.send(None)
    asyncio.get_running_loop().call_soon(future.set_result, "done")
    assert await Rest(steps, waiting) == "done"


def test_a_future_is_waited_for() -> None:
    asyncio.run(_future())
