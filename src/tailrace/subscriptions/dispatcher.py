"""Delivers wakes: sends a webhook to its receiver, or writes an event into a wake stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import anyio

from tailrace import limits
from tailrace.connection import log
from tailrace.errors import ProducerFenced, StoreUnavailable, StreamError, SubscriptionRefused
from tailrace.store import Append, Producer, Store, is_json
from tailrace.subscriptions.keys import Keys, make_token
from tailrace.subscriptions.service import SubscriptionService
from tailrace.subscriptions.state import SubscriptionState
from tailrace.subscriptions.transitions import Wake
from tailrace.subscriptions.webhook import Undeliverable, Webhooks, is_done

__all__ = ["WakeDispatcher"]


class WakeDispatcher:
    """Delivers wakes, and has the service record the outcome of each.

    If the outcome cannot be written to the store, nothing is lost: the state says when the wake is
    tried again.

    Args:
        store: Where wake streams are.
        service: Records outcomes.
        keys: Sign webhooks and tokens.
        webhooks: Send webhooks.
        clock: Milliseconds since the epoch.
        timeout: Seconds to wait for a webhook's answer; the end of the lease may come earlier.
        appended: Called with the path of a wake stream that got an event.
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
        self._in_flight: dict[str, anyio.CancelScope] = {}

    def recall(self, name: str) -> None:
        """Cut off the webhook that is being sent for a subscription, if there is one."""
        scope = self._in_flight.pop(name, None)
        if scope is not None:
            scope.cancel()

    async def deliver(self, state: SubscriptionState) -> None:
        """Send a webhook, and record the outcome. A later wake of its subscription cuts it off."""
        wake = _wake_of(state)
        self.recall(state.id)
        scope = self._in_flight[state.id] = anyio.CancelScope()
        done: bool | None = None
        with scope:
            done = await self._send(state)
        if self._in_flight.get(state.id) is scope:
            del self._in_flight[state.id]
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
        """Write the event of a wake into its wake stream, and record the outcome."""
        wake = _wake_of(state)
        path = state.config.wake_stream
        assert path is not None
        try:
            try:
                await self._write_event(path, state)
            except StreamError as error:
                log.warning(
                    "subscription %a: the event cannot be written to the wake stream: %s",
                    state.id,
                    error,
                )
                await self._service.failed(state, wake)
            else:
                self._appended(path)
                await self._service.announced(state, wake)
        except StoreUnavailable as error:
            log.warning("subscription %a: %s", state.id, error)

    async def _send(self, state: SubscriptionState) -> bool | None:
        """Whether the receiver answered that all is done; None if it did not accept the webhook."""
        url, until = state.config.webhook_url, state.lease_until
        assert url is not None
        assert until is not None
        async with self._places:
            now = self._clock()
            seconds = min(self._timeout, (until - now) / 1000)
            try:
                if seconds <= 0:
                    raise Undeliverable("its lease ended while it waited for other webhooks")
                body = self._webhook_body(state, now)
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

    def _webhook_body(self, state: SubscriptionState, now: int) -> bytes:
        """The body of a webhook: JSON.

        Source: Durable Streams 7.1.
        """
        name = quote(state.id, safe="")
        document = {
            "subscription_id": state.id,
            "wake_id": state.wake_id,
            "generation": state.generation,
            "streams": state.snapshot,
            "callback_url": f"{state.base_url}/__ds/subscriptions/{name}/callback",
            "callback_token": make_token(self._keys.secret, state, now),
        }
        return json.dumps(document).encode()

    async def _write_event(self, path: str, state: SubscriptionState) -> None:
        """Write the event of a wake; it is appended once, however many processes try.

        The generation is the epoch of a producer, so the store recognizes a duplicate.

        Raises:
            StreamError: The wake stream does not exist, or accepts no append.

        Source: Durable Streams 7.2.
        """
        pending = (each for each in state.snapshot if each["has_pending"])
        event = {
            "type": "wake",
            "subscription_id": state.id,
            "stream": next(pending, {"path": ""})["path"],
            "generation": state.generation,
            "ts": self._clock(),
        }
        end = b"," if is_json((await self._store.head(path)).content_type) else b"\n"
        producer = Producer(f"__ds:{state.nonce}", state.generation, 0)
        append = Append(data=json.dumps(event).encode() + end, producer=producer)
        try:
            await self._store.append(path, append)
        except ProducerFenced:
            return  # the event of a later wake is there already


def _wake_of(state: SubscriptionState) -> Wake:
    assert state.wake_id is not None
    return Wake(state.wake_id, state.generation)
