"""The clients of a run, and what happens to the run when it has none.

Each process counts its own clients: responses that are being sent, and iterators. The owner of the
run ends it when it has no client any more, as its policy says. The other processes tell the owner,
by the run's claim, whether they have clients.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import anyio

from tailrace import limits
from tailrace.connection import log
from tailrace.errors import InvalidOption, StoreUnavailable
from tailrace.runtime import Loop
from tailrace.streams.claims import Claim, Claims

__all__ = [
    "Grace",
    "LocalSubscribers",
    "OnDisconnect",
    "RemoteSubscribers",
    "check_policy",
    "patience_of",
]


@dataclass(frozen=True, slots=True)
class Grace:
    """A run goes on for some time after its last client has left, so that the client can return.

    Args:
        seconds: How long; more than 0.

    Raises:
        InvalidOption: The seconds are not a number above 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        seconds = self.seconds
        good = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not good or not 0 < seconds < math.inf:
            raise InvalidOption("seconds", seconds, "seconds, more than 0")


OnDisconnect: TypeAlias = Literal["cancel", "continue"] | Grace
"""What happens to a run when its last client has left."""


def check_policy(policy: OnDisconnect) -> None:
    """Refuse a value that is not a policy.

    Raises:
        InvalidOption: It is not "cancel", "continue" or a `Grace`.
    """
    if policy not in ("cancel", "continue") and not isinstance(policy, Grace):
        raise InvalidOption("on_disconnect", policy, '"cancel", "continue" or Grace(seconds)')


def patience_of(policy: OnDisconnect) -> float:
    """Seconds that a run goes on after its last client has left."""
    if isinstance(policy, Grace):
        return policy.seconds
    return 0.0 if policy == "cancel" else math.inf


class SubscriberCount(ABC):
    """Counts the clients of one run in this process."""

    def __init__(self) -> None:
        self._here = 0

    @contextmanager
    def present(self) -> Iterator[None]:
        """Count a client for the length of the block."""
        self._here += 1
        self._on_change()
        try:
            yield
        finally:
            self._here -= 1
            self._on_change()

    @abstractmethod
    def _on_change(self) -> None:
        """Called after a client has come or left."""


class LocalSubscribers(SubscriberCount):
    """The clients of a run that this process owns: without them it ends, as its policy says.

    Args:
        policy: What happens to the run when it has no clients.
        loop: The event loop, for timers.
        leave: Called when there has been no client for as long as the policy allows.
    """

    def __init__(self, policy: OnDisconnect, loop: Loop, leave: Callable[[], None]) -> None:
        super().__init__()
        self._patience = patience_of(policy)
        self._loop = loop
        self._leave = leave
        self._elsewhere: frozenset[str] = frozenset()
        self._stop_timer: Callable[[], None] | None = None
        if self._patience < math.inf:
            self._start_timer(max(self._patience, limits.FIRST_CLIENT))

    def set_elsewhere(self, workers: frozenset[str]) -> None:
        """Set which other workers have clients of the run."""
        if workers != self._elsewhere:
            self._elsewhere = workers
            self._on_change()

    def close(self) -> None:
        """Stop the timer, when the run has ended: clients do not count any more."""
        self._patience = math.inf
        self._on_change()

    def _on_change(self) -> None:
        if self._here or self._elsewhere or self._patience == math.inf:
            if self._stop_timer is not None:
                self._stop_timer()
                self._stop_timer = None
        elif self._stop_timer is None:
            if self._patience:
                self._start_timer(self._patience)
            else:
                self._leave()

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer = self._loop.call_at(self._loop.time() + seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._stop_timer = None
        self._leave()


class RemoteSubscribers(SubscriberCount):
    """The clients that a run of another process has here. Its owner is told when the first comes
    and when the last leaves.

    Args:
        claims: The claims, as this worker uses them.
        claim: The run's claim.
        group: Runs the task that tells the owner.
    """

    def __init__(self, claims: Claims, claim: Claim, group: anyio.abc.TaskGroup) -> None:
        super().__init__()
        self._claims = claims
        self._claim = claim
        self._group = group
        self._reported = False
        """Whether there are clients here, as the owner was told last."""
        self._reporting = False
        self._closed = False

    def close(self) -> None:
        """Tell the owner nothing more."""
        self._closed = True

    def _on_change(self) -> None:
        changed = bool(self._here) is not self._reported
        if self._claim.counts_clients and changed and not (self._reporting or self._closed):
            self._reporting = True
            self._group.start_soon(self._tell)

    async def _tell(self) -> None:
        wait, longest = limits.STORE_RETRY
        try:
            while (present := bool(self._here)) is not self._reported and not self._closed:
                try:
                    goes_on = await self._claims.tell_clients(self._claim, present=present)
                except StoreUnavailable as error:
                    # Tried until it works. Otherwise the run would be cancelled while a client
                    # here reads it, or would go on without clients.
                    path = self._claim.path
                    log.error(
                        "the worker of run %a cannot be told of its clients, trying again: %s",
                        path,
                        error,
                    )
                    await anyio.sleep(wait)
                    wait = min(2 * wait, longest)
                else:
                    self._reported = present
                    self._closed = not goes_on
        finally:
            self._reporting = False
