"""Notices that a client goes from whom nothing is read.

A transport that is paused sees no end of the connection, and one that has seen the client's end of
it reads no more, so that a reset behind that is not seen either. Linux tells both without a read.
Elsewhere the next write tells.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress

__all__ = ["HangupWatch"]


class HangupWatch:
    """Calls once when the client has gone.

    Args:
        loop: The event loop.
        descriptor: The socket's, open until `close` was called.
        call: Told.
        half: The client's end of its own side counts, too; False if that was seen before.
    """

    __slots__ = ("_call", "_epoll", "_loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        call: Callable[[], None],
        *,
        half: bool,
    ) -> None:
        self._loop = loop
        self._call = call
        # One of our own: the loop refuses to watch a descriptor that a transport has.
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            self._epoll.register(descriptor, select.EPOLLRDHUP if half else 0)
            loop.add_reader(self._epoll.fileno(), self._tell)

    def _tell(self) -> None:
        self.close()
        self._call()

    def close(self) -> None:
        """Watch no longer; a second time does nothing."""
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(epoll.fileno())
            epoll.close()
