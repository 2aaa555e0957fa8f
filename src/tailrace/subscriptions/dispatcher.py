"""Takes wakes to those who are to have them."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from tailrace import limits
from tailrace.errors import StoreUnavailable, StreamError, SubscriptionRefused
from tailrace.store import Store
from tailrace.subscriptions.delivery import webhook_body, write_event
from tailrace.subscriptions.keys import Keys
from tailrace.subscriptions.log import log
from tailrace.subscriptions.service import SubscriptionService
from tailrace.subscriptions.state import SubscriptionState
from tailrace.subscriptions.transitions import Wake
from tailrace.subscriptions.webhook import Undeliverable, Webhooks, is_done

__all__ = ["WakeDispatcher"]


class WakeDispatcher:
    """Delivers, and says what became of it.

    What the store cannot take down then is not lost: the state says when the wake is taken back.

    Args:
        store: Where wake streams are.
        service: Told what became of each wake.
        keys: What signs.
        webhooks: What sends.
        clock: Milliseconds since the epoch.
        timeout: Seconds for a webhook's answer.
        appended: Told of each event in a wake stream.
    """

    def __init__(
        self,
        store: Store,
        service: SubscriptionService,
        keys: Keys,
        webhooks: Webhooks,
        *,
        clock: Callable[[], int],
        timeout: float,
        appended: Callable[[str], None],
    ) -> None:
        self._store = store
        self._service = service
        self._keys = keys
        self._webhooks = webhooks
        self._clock = clock
        self._timeout = timeout
        self._appended = appended
        self._places = anyio.CapacityLimiter(limits.MAX_DELIVERIES)
        self._under_way: dict[str, anyio.CancelScope] = {}

    def recall(self, name: str) -> None:
        """Cut off the delivery of a wake that is not in flight any more."""
        scope = self._under_way.pop(name, None)
        if scope is not None:
            scope.cancel()

    async def deliver(self, state: SubscriptionState) -> None:
        """Send a webhook. A later wake of the same subscription cuts it off."""
        wake = _wake(state)
        self.recall(state.id)
        scope = self._under_way[state.id] = anyio.CancelScope()
        done: bool | None = None
        with scope:
            done = await self._sent(state)
        if self._under_way.get(state.id) is scope:
            del self._under_way[state.id]
        if scope.cancelled_caught:
            return
        try:
            if done is None:
                await self._service.failed(state, wake)
            else:
                await self._service.delivered(state, wake, done=done)
        except StoreUnavailable as error:
            log.warning("subscription %a: %s", state.id, error)

    async def announce(self, state: SubscriptionState) -> None:
        """Write the event of a wake."""
        wake = _wake(state)
        path = state.config.wake_stream
        assert path is not None
        try:
            try:
                await write_event(self._store, state, self._clock())
            except StreamError as error:
                log.warning("subscription %a cannot wake anybody: %s", state.id, error)
                await self._service.failed(state, wake)
            else:
                self._appended(path)
                await self._service.announced(state, wake)
        except StoreUnavailable as error:
            log.warning("subscription %a: %s", state.id, error)

    async def _sent(self, state: SubscriptionState) -> bool | None:
        """Whether the receiver said that all is done; None if it did not take the wake."""
        url, until = state.config.webhook_url, state.lease_until
        assert url is not None
        assert until is not None
        async with self._places:
            now = self._clock()
            seconds = min(self._timeout, (until - now) / 1000)
            try:
                body = webhook_body(state, self._keys, now)
                signature = (await self._keys.signing()).sign(body, now // 1000)
                with anyio.fail_after(seconds):
                    return is_done(await self._webhooks.post(url, body, signature))
            except TimeoutError:
                why = f"no answer in {seconds:.1f} s"
            except (Undeliverable, SubscriptionRefused) as error:
                why = str(error)
        log.info(
            "subscription %a: webhook failed, attempt %d: %s", state.id, state.attempts + 1, why
        )
        return None


def _wake(state: SubscriptionState) -> Wake:
    assert state.wake_id is not None
    return Wake(state.wake_id, state.generation)
