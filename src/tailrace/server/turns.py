"""Whose input is parsed next, where there is more than one turn of the event loop has time for.

A turn of the loop calls all who are ready. With forty connections that each take a millisecond,
everybody else waits for forty. So those that have more to parse stand in one line, of which as many
go on in a turn of the loop as fit into the time of one or two.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from weakref import WeakKeyDictionary

from tailrace import limits

__all__ = ["Turns", "turns_of"]


class Turns:
    """The line of one event loop.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, go_on: Callable[[], None]) -> None:
        """Call when its turn has come; it adds itself again if it has more to do."""
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._call_soon(self._run)

    def _run(self) -> None:
        ends = monotonic() + 2 * limits.INPUT_TURN
        # Those that add themselves while this runs have their turn in a later one.
        for _ in range(len(self._waiting)):
            go_on = self._waiting[0]
            try:
                go_on()
            finally:
                self._waiting.popleft()
            if monotonic() >= ends:
                break
        if self._waiting:
            self._call_soon(self._run)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """The line of an event loop."""
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = Turns(loop)
    return turns
