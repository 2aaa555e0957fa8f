"""What a process knows of subscriptions, and what it looks at when that is behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailrace.store import MemoryStore, NewStream
from tailrace.subscriptions.repository import StoredState, SubscriptionRepository
from tailrace.subscriptions.service import SubscriptionService
from tailrace.subscriptions.state import Config, Link, SubscriptionState
from tailrace.subscriptions.views import Todo, Views

pytestmark = pytest.mark.anyio


class Process:
    """The view of one process, and another process that writes behind its back."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.repository = SubscriptionRepository(self.store)
        self.told = 0
        self.gone: list[str] = []
        self.views = Views(self.store, self.tell, self.gone.append)
        self.service = SubscriptionService(
            self.store, self.repository, self.views, lambda: 1000, lambda *_: None
        )

    def tell(self) -> None:
        self.told += 1

    async def begin(self, **fields: object) -> StoredState:
        info = (await self.store.create("e/a", NewStream(data=b"x"))).info
        config = Config("webhook", "e/*", (), "https://example.com/", None, 60_000, None)
        state = SubscriptionState(
            id="s",
            nonce="n",
            version=0,
            config=config,
            base_url="http://h",
            created_at=0,
            links={"e/a": Link(False, info.tail, info.created_at)},
        )
        stored = await self.repository.add(replace(state, **fields))  # type: ignore[arg-type] # as the test says
        assert stored is not None
        self.views.put(stored)
        assert self.views.take("s") == Todo(everything=True)
        return stored

    async def elsewhere(self, stored: StoredState, **fields: object) -> StoredState:
        state = replace(stored.state, **fields)  # type: ignore[arg-type] # as the test says
        saved = await self.repository.save(state)
        assert saved is not None
        return saved


BUSY = {"wake_id": "w", "generation": 1, "lease_until": 50_000}
IDLE = {"wake_id": None, "lease_until": None}


async def test_an_append_to_an_idle_subscription_is_looked_at() -> None:
    process = Process()
    await process.begin()
    process.views.appended("e/a")
    process.views.appended("e/b")
    process.views.appended("x/a")
    assert process.views.take("s") == Todo(paths={"e/a", "e/b"})
    assert process.views.take("s") is None


async def test_an_append_during_a_wake_is_looked_at_when_it_is_over() -> None:
    process = Process()
    stored = await process.begin(**BUSY)
    process.views.appended("e/a")
    assert process.views.take("s") is None
    process.views.put(await process.elsewhere(stored, **IDLE))
    assert process.views.take("s") == Todo(tails=True)


async def test_an_append_that_met_a_view_which_was_behind_is_looked_at_when_the_wake_is_over() -> (
    None
):
    process = Process()
    stored = await process.begin()
    process.views.appended("e/a")
    todo = process.views.take("s")
    assert todo is not None
    busy = await process.elsewhere(stored, **BUSY)  # and its hint is still on its way
    await process.service.advance("s", todo)
    process.views.take("s")
    await process.elsewhere(busy, **IDLE)
    await process.service.advance("s", Todo())
    assert process.views.take("s") == Todo(tails=True)


async def test_a_state_that_is_older_than_the_view_is_not_believed() -> None:
    process = Process()
    old = await process.begin()
    process.views.put(await process.elsewhere(old, **BUSY))
    process.views.put(old)
    view = process.views.get("s")
    assert view is not None
    assert view.stored.state.wake_id == "w"


async def test_a_change_by_another_process_is_heard_of() -> None:
    process = Process()
    stored = await process.begin()
    told = process.told
    await process.elsewhere(stored, **BUSY)
    assert process.told > told
    assert process.views.take("s") == Todo()


async def test_a_deadline_comes_up_once_it_is_reached_and_only_the_latest() -> None:
    process = Process()
    stored = await process.begin(**BUSY)
    process.views.put(await process.elsewhere(stored, lease_until=70_000))
    process.views.take("s")
    assert process.views.next_due() == 70_000
    assert process.views.waiting(69_999) == []
    assert process.views.waiting(70_000) == ["s"]


async def test_what_was_postponed_is_not_done_before() -> None:
    process = Process()
    await process.begin()
    process.views.postpone("s", 9000, Todo(tails=True))
    process.views.appended("e/a")
    assert process.views.waiting(8999) == []
    assert process.views.next_due() == 9000
    assert process.views.waiting(9000) == ["s"]
    assert process.views.take("s") == Todo(paths={"e/a"}, tails=True)


async def test_a_subscription_that_is_forgotten_is_watched_no_more() -> None:
    process = Process()
    stored = await process.begin()
    process.views.drop("s")
    assert process.gone == ["s"]
    told = process.told
    await process.elsewhere(stored, **BUSY)
    process.views.appended("e/a")
    assert process.told == told
    assert len(process.views) == 0


async def test_many_paths_become_a_look_at_everything() -> None:
    todo = Todo()
    for number in range(1000):
        todo.add(str(number))
    assert not todo.everything
    todo.add("0")
    assert not todo.everything
    todo.add("1000")
    assert todo.everything
    assert len(todo.paths) == 1000
