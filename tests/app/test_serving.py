"""Streams that are kept open: what is said while they cannot be, and that they come back."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tailrace import limits
from tailrace.app.serving import StoreSupervisor
from tailrace.errors import StoreFull, StoreUnavailable
from tailrace.protocol import ProtocolOptions
from tailrace.store import MemoryStore
from tailrace.streams import Streams
from tailrace.testing import Client, Clock

pytestmark = pytest.mark.anyio


class Moody(MemoryStore):
    """A store that works as long as nothing is wrong."""

    wrong: StoreUnavailable | None = None
    attempts = 0

    async def open(self) -> None:
        self.attempts += 1
        self._complain()
        await super().open()

    async def check(self) -> None:
        self._complain()
        await super().check()

    def _complain(self) -> None:
        if self.wrong is not None:
            raise self.wrong


@asynccontextmanager
async def held(store: Moody) -> AsyncIterator[StoreSupervisor]:
    options = ProtocolOptions()
    streams = Streams(store)
    supervisor = StoreSupervisor(streams, streams.asgi(options), options)
    async with anyio.create_task_group() as group:
        await group.start(supervisor.run)
        yield supervisor
        supervisor.stop()


async def test_streams_are_served_while_they_are_open() -> None:
    async with held(Moody()) as supervisor, Client(supervisor) as client:
        await supervisor.check()
        async with client.open("PUT", "/a", headers={"content-type": "text/plain"}) as exchange:
            assert (await exchange.response()).status == 201


async def test_a_store_that_cannot_be_opened_is_told_and_not_tried_by_requests() -> None:
    store = Moody()
    store.wrong = StoreFull("/secret/path", "has no room left")
    async with held(store) as supervisor, Client(supervisor) as client:
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            async with client.open(method, "/a") as exchange:
                response = await exchange.response()
                assert response.status == 507
                body = await exchange.read_all()
                assert b"secret" not in body
                if method == "HEAD":
                    assert body == b""
                else:
                    assert json.loads(body)["code"] == "store_full"
        with pytest.raises(StoreFull):
            await supervisor.check()
        assert store.attempts == 1


async def test_it_is_tried_again_until_it_works(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Moody()
    store.wrong = StoreUnavailable("file", "is away")
    async with held(store) as supervisor:
        for _ in range(3):
            await clock.advance(limits.STORE_REOPEN)
        assert store.attempts == 4
        store.wrong = None
        await clock.advance(limits.STORE_REOPEN)
        await supervisor.check()
    assert [record.getMessage() for record in caplog.records if record.name == "tailrace"] == [
        "streams are not served, trying again: the store 'file' is away",
        "streams are served again",
    ]


async def test_what_goes_wrong_later_is_logged_once_and_its_end_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tailrace")
    store = Moody()
    async with held(store) as supervisor:
        for wrong in (StoreFull("file", "is full"), None):
            store.wrong = wrong
            for _ in range(5):
                try:
                    await supervisor.check()
                except StoreFull:
                    assert wrong is not None
                else:
                    assert wrong is None
    assert len([record for record in caplog.records if record.name == "tailrace"]) == 2


async def test_it_ends_at_once_while_it_waits_to_try_again(tmp_path: Path) -> None:
    store = Moody()
    store.wrong = StoreUnavailable("file", "is away")
    with anyio.fail_after(2):
        async with held(store):
            pass
