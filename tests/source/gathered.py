"""The sink of the tests of sources."""

from __future__ import annotations

import threading
from typing import Any

import anyio

from tailrace.runtime import Loop, current_loop
from tailrace.source import Source

__all__ = ["Gathered", "gather", "run"]


class Gathered:
    """A sink that keeps all items. The test decides when it is full.

    Args:
        full_after: The number of items after which it is full, until `make_room`; None: never.
    """

    def __init__(self, full_after: int | None = None) -> None:
        self.items: list[Any] = []
        self.places: list[int] = []
        self.waits = 0
        self.line: list[bool] = []
        self._full_after = full_after
        self._room = anyio.Event()
        self._changed = anyio.Event()

    def put(self, item: Any) -> bool:
        self.items.append(item)
        self.places.append(threading.get_ident())
        return not self._is_full

    async def room(self) -> None:
        if self._is_full:
            self.waits += 1
            await self._room.wait()

    def in_line(self, waits: bool) -> None:
        self.line.append(waits)

    def source_waits(self) -> None:
        """Nothing is sent."""

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed = anyio.Event()

    def wake(self) -> None:
        self._changed.set()

    def interrupted(self) -> None:
        """Nothing is shielded."""

    def room_in_thread(self, seconds: float) -> bool:
        return not self._is_full

    def make_room(self) -> None:
        self._full_after = None
        self._room.set()

    @property
    def _is_full(self) -> bool:
        return self._full_after is not None and len(self.items) >= self._full_after


async def run(source: Source, sink: Gathered) -> None:
    """Run a source to its end, without closing it."""
    async with anyio.create_task_group() as group:
        loop: Loop = current_loop(group)
        error: BaseException | None = None
        try:
            await source.run(sink, loop)
        except Exception as raised:  # noqa: BLE001 - not inside an exception group
            error = raised
        group.cancel_scope.cancel()
    if error is not None:
        raise error


async def gather(source: Source) -> list[Any]:
    """All items of a source; it is closed after them."""
    sink = Gathered()
    try:
        await run(source, sink)
    finally:
        await source.close()
    return sink.items
