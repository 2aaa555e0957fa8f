"""The end of a server: each open response is told, and none holds it beyond the budget.

uvicorn waits until every connection is closed, for ever unless it was given a time. A stream may
never end, and a client that never reads keeps a connection open that has nothing left to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from tailrace.connection import drain_beside, log
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["Shutdown"]

_LAST_WORDS = 0.1
"""Seconds between the end of the streams and the end of their connections."""


_STALLED = 0.5
"""Seconds without progress after which a client is thought not to take its farewell either."""


class Shutdown:
    """The end of the responses of one server.

    Args:
        buffers: The connections that are open now.
        tasks: Where the server keeps the tasks that it waits for.
    """

    def __init__(
        self, buffers: Callable[[], Collection[WriteBuffer]], tasks: set[asyncio.Task[Any]]
    ) -> None:
        self._buffers = buffers
        self._tasks = tasks
        self._empty = asyncio.Event()
        self._begun = False

    def begin(self, budget: float) -> None:
        """Tell the responses, and cut in `budget` seconds what has not ended. Once."""
        if self._begun:
            return
        self._begun = True
        # Among the server's own: it waits for them, and cancels them when its own time is up.
        task = asyncio.get_running_loop().create_task(
            self._run(budget, self._held()), name="tailrace-shutdown"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connection_lost(self) -> None:
        """A connection is gone."""
        if self._begun and not self._buffers():
            self._empty.set()

    def _held(self) -> int:
        """Responses that hold the server; a stream whose client stalls counts twice."""
        now = asyncio.get_running_loop().time()
        since = (buffer.stalled_since for buffer in self._buffers())
        stalled = sum(1 for each in since if each is not None and each + _STALLED <= now)
        return len(self._tasks) + stalled

    async def _run(self, budget: float, held: int) -> None:
        # A little later than the streams are cut, so that those that read get their last words.
        alarm = asyncio.get_running_loop().call_later(budget + _LAST_WORDS, self._cut, budget)
        try:
            await drain_beside(held, budget)
            if self._buffers():
                await self._empty.wait()
        finally:
            alarm.cancel()

    def _cut(self, budget: float) -> None:
        left = self._buffers()
        log.info("shutdown: %d connections cut off after %s s", len(left), budget)
        for buffer in left:
            buffer.abort("shut_down")
