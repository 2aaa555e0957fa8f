"""A store's life: opened once, in one event loop, whoever else opens or closes it meanwhile."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.from_thread
import pytest

from tailrace.errors import StoreUnavailable
from tailrace.store import Append, NewStream
from tailrace.store.sqlite import SQLiteStore

pytestmark = pytest.mark.anyio


async def test_what_opens_it_while_it_closes_waits_and_opens_it_anew(file: Path) -> None:
    store = SQLiteStore(file)
    await store.open()
    await store.create("a", NewStream())
    async with anyio.create_task_group() as group:
        group.start_soon(store.aclose)
        group.start_soon(store.open)
    with anyio.fail_after(30):
        await store.open()
        await store.append("a", Append(data=b"x"))
        await store.aclose()


async def test_it_is_not_opened_in_a_second_event_loop(file: Path) -> None:
    def elsewhere() -> None:
        with anyio.from_thread.start_blocking_portal() as portal:
            with pytest.raises(StoreUnavailable, match="another event loop"):
                portal.call(store.open)

    async with SQLiteStore(file) as store:
        await anyio.to_thread.run_sync(elsewhere)
        await store.create("a", NewStream())
