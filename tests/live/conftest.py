"""A store with one stream, its hub, and clients that a test can keep from reading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.abc
import pytest
from starlette.types import Receive, Scope, Send

from tailrace.live import Format, Hub, LiveResponse
from tailrace.store import Append, Mark, NewStream, Slice, Where
from tailrace.testing import settle
from tests.live.formats import Seen, Traced, seen_in
from tests.live.stores import CountingStore
from tests.live.wire import Wire


class Site:
    """One stream, "s", and the clients that read it live.

    Args:
        group: The task group in which their requests run.
        attach: The server hands its connections over to the hub.
        offered: The server gives the application its connections.
    """

    def __init__(self, group: anyio.abc.TaskGroup, *, attach: bool, offered: bool = True) -> None:
        self._offered = offered
        self._group = group
        self._attach = attach
        self.store = CountingStore()
        self.hub = Hub(self.store)
        self.wires: list[Wire] = []

    async def append(self, data: bytes = b"", *, close: bool = False, path: str = "s") -> None:
        await self.store.append(path, Append(data=data, close=close))
        await settle()

    async def hint(self, data: bytes, *, settled: bool = True) -> None:
        """Append as another process does: the hub gets a hint of the change, without its bytes."""
        self.store.bare_hints = True
        await self.store.append("s", Append(data=data))
        self.store.bare_hints = False
        if settled:
            await settle()

    async def read(
        self,
        start: Where | Slice = Mark.BEGINNING,
        format: Format | None = None,  # noqa: A002
        *,
        path: str = "s",
        method: str = "GET",
        **options: Any,
    ) -> Wire:
        """Begin to read. Returns when the client has received what there is."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            made = LiveResponse(self.hub, path, start, format or Traced(), **options)
            await made(scope, receive, send)

        wire = Wire(app, attach=self._attach, method=method, offered=self._offered)
        self.wires.append(wire)
        self._group.start_soon(wire.run)
        await settle()
        return wire


def seen(wire: Wire) -> Seen:
    return seen_in(bytes(wire.body))


@pytest.fixture(params=["attached", "by send"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A stream, under a server that hands its connections over, and under one that does not."""
    async with anyio.create_task_group() as group:
        made = Site(group, attach=request.param == "attached", offered=request.param != "unseen")
        await made.store.create("s", NewStream())
        yield made
        for wire in made.wires:
            wire.leave()
        await settle()
        assert len(made.hub) == 0, "a stream is still watched"
        assert made.store.watched == 0
