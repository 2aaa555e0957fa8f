"""Who listens to a run, and what becomes of it when nobody does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.runtime import Loop

__all__ = ["Clients", "Grace", "OnDisconnect", "check_policy", "patience_of"]


@dataclass(frozen=True, slots=True)
class Grace:
    """A run goes on for some time after its last client has left, so that one can come back.

    Args:
        seconds: More than 0.

    Raises:
        InvalidOption: Not so.
    """

    seconds: float

    def __post_init__(self) -> None:
        seconds = self.seconds
        good = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not good or not 0 < seconds < math.inf:
            raise InvalidOption("seconds", seconds, "seconds, more than 0")


OnDisconnect: TypeAlias = Literal["cancel", "continue"] | Grace
"""What becomes of a run when its last client has left."""


def check_policy(policy: OnDisconnect) -> None:
    """Refuse what is none.

    Raises:
        InvalidOption: It is none.
    """
    if policy not in ("cancel", "continue") and not isinstance(policy, Grace):
        raise InvalidOption("on_disconnect", policy, '"cancel", "continue" or Grace(seconds)')


def patience_of(policy: OnDisconnect) -> float:
    """Seconds that a run goes on without a client, once it had one."""
    if isinstance(policy, Grace):
        return policy.seconds
    return 0.0 if policy == "cancel" else math.inf


class Clients:
    """The clients of one run, counted by its owner.

    Args:
        policy: What becomes of it without them.
        loop: Has timers.
        leave: Called once nobody has listened for as long as the policy allows.
    """

    def __init__(self, policy: OnDisconnect, loop: Loop, leave: Callable[[], None]) -> None:
        self._patience = patience_of(policy)
        self._loop = loop
        self._leave = leave
        self._here = 0
        self._elsewhere: frozenset[str] = frozenset()
        self._stop_waiting: Callable[[], None] | None = None
        if self._patience < math.inf:
            self._wait(max(self._patience, limits.FIRST_CLIENT))

    @property
    def matter(self) -> bool:
        """The run ends without them."""
        return self._patience < math.inf

    @property
    def elsewhere(self) -> frozenset[str]:
        """The other workers that have clients of it."""
        return self._elsewhere

    @contextmanager
    def present(self) -> Iterator[None]:
        """A client that listens for the length of the block."""
        self._here += 1
        self._look()
        try:
            yield
        finally:
            self._here -= 1
            self._look()

    def set_elsewhere(self, workers: frozenset[str]) -> None:
        """Which other workers have clients of it."""
        if workers != self._elsewhere:
            self._elsewhere = workers
            self._look()

    def close(self) -> None:
        """The run has ended: nothing is waited for any more."""
        self._patience = math.inf
        self._look()

    def _look(self) -> None:
        if self._here or self._elsewhere or not self.matter:
            if self._stop_waiting is not None:
                self._stop_waiting()
                self._stop_waiting = None
        elif self._stop_waiting is None:
            if self._patience:
                self._wait(self._patience)
            else:
                self._leave()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting = self._loop.call_at(self._loop.time() + seconds, self._over)

    def _over(self) -> None:
        self._stop_waiting = None
        self._leave()
