"""Streams that are kept open while an application runs, and what is said while they cannot be.

A store that cannot be opened keeps nobody from the files: it is tried again every
`limits.STORE_REOPEN` seconds, by one task. Requests never try it themselves: each attempt at a file
that somebody else holds takes seconds, and a crowd of them, one behind the other, for ever.
"""

from __future__ import annotations

import logging

import anyio
from anyio.abc import TaskStatus
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace import limits
from tailrace.errors import StoreUnavailable
from tailrace.protocol import ProtocolOptions, refuse, replies_by_origin
from tailrace.streams import Streams

__all__ = ["StoreSupervisor"]

_log = logging.getLogger("tailrace")


class StoreSupervisor:
    """Keeps streams open, and serves them as long as they are.

    Args:
        streams: Which.
        served: The protocol on them.
        options: Its settings.
    """

    def __init__(self, streams: Streams, served: ASGIApp, options: ProtocolOptions) -> None:
        self._streams = streams
        self._served = served
        self._replies = replies_by_origin(options)
        self._stop = anyio.Event()
        self._problem: StoreUnavailable | None = StoreUnavailable("streams", "are not open yet")
        """Why they are not open."""
        self._is_told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for streams, or say at once why that cannot be."""
        if self._problem is None:
            await self._served(scope, receive, send)
            return
        origin = dict(scope["headers"]).get(b"origin")
        replies = self._replies.get(origin) or self._replies[None]
        await refuse(replies.problem(self._problem), scope, receive, send)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep them open until `stop` is called; for a task group, whose `start` returns after the
        first attempt."""
        is_started = False
        while not self._stop.is_set():
            try:
                async with self._streams:
                    self._set(None)
                    if not is_started:
                        is_started = True
                        task_status.started()
                    await self._stop.wait()
            except* StoreUnavailable as errors:
                self._set(_first(errors))
            if not is_started:
                is_started = True
                task_status.started()
            with anyio.move_on_after(limits.STORE_REOPEN):
                await self._stop.wait()

    def stop(self) -> None:
        """Let `run` close them and end."""
        self._stop.set()

    async def check(self) -> None:
        """Find out whether they can be read and written now.

        Raises:
            StoreUnavailable: They cannot; says why (503, or 507 for a full disk).
        """
        if self._problem is not None:
            raise self._problem.with_traceback(None)
        try:
            await self._streams.check()
        except StoreUnavailable as error:
            self._tell(error)
            raise
        self._tell(None)

    def _set(self, problem: StoreUnavailable | None) -> None:
        self._problem = problem
        self._tell(problem)

    def _tell(self, problem: StoreUnavailable | None) -> None:
        """Log what has changed, once: who asks each second must not fill the log."""
        if problem is not None and not self._is_told:
            _log.error("streams are not served: %s", problem)
        elif problem is None and self._is_told:
            _log.warning("streams are served again")
        self._is_told = problem is not None


def _first(errors: BaseExceptionGroup[StoreUnavailable]) -> StoreUnavailable:
    """One of them; each on its own would do."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StoreUnavailable)
    return error.with_traceback(None)
