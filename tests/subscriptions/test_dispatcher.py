"""What a dispatcher does with a wake that cannot be delivered."""

from __future__ import annotations

import logging
from typing import Any, cast

import anyio
import pytest

from tailrace.store import MemoryStore
from tailrace.subscriptions.dispatcher import WakeDispatcher
from tailrace.subscriptions.keys import Keys
from tailrace.subscriptions.service import SubscriptionService
from tailrace.subscriptions.state import Config, SubscriptionState
from tailrace.subscriptions.transitions import Wake
from tailrace.subscriptions.webhook import Webhooks

pytestmark = pytest.mark.anyio


class Outcomes:
    """Notes what became of each delivery, where a service would record it."""

    def __init__(self) -> None:
        self.failures: list[Wake] = []

    async def failed(self, state: SubscriptionState, wake: Wake) -> None:
        self.failures.append(wake)


class Nowhere:
    """Sends no webhook, and counts those that it was given."""

    def __init__(self) -> None:
        self.asked = 0

    async def post(self, *given: Any) -> bytes:
        self.asked += 1
        await anyio.sleep_forever()
        raise AssertionError


def leased(until: int) -> SubscriptionState:
    config = Config(
        type="webhook",
        pattern=None,
        streams=("a",),
        webhook_url="https://example.org/hook",
        wake_stream=None,
        lease_ms=1000,
        description=None,
    )
    return SubscriptionState(
        id="s",
        nonce="n",
        version=1,
        config=config,
        base_url="https://example.org",
        created_at=0,
        generation=1,
        wake_id="w_1",
        lease_until=until,
    )


async def test_a_webhook_whose_lease_ended_while_it_waited_is_not_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tailrace")
    store, now = MemoryStore(), 4000
    keys = Keys(store, None, lambda: now)
    await keys.open()
    outcomes, webhooks = Outcomes(), Nowhere()
    dispatcher = WakeDispatcher(
        store,
        cast(SubscriptionService, outcomes),
        keys,
        cast(Webhooks, webhooks),
        clock=lambda: now,
        timeout=30.0,
        appended=lambda path: None,
    )
    await dispatcher.deliver(leased(until=1000))
    assert outcomes.failures == [Wake("w_1", 1)]
    assert not webhooks.asked
    assert "its lease ended while it waited for other webhooks" in caplog.text
