"""Telling of a wake: the webhook's body, and the event in a wake stream."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from tailrace.errors import ProducerFenced
from tailrace.store import Append, Producer, Store, is_json
from tailrace.subscriptions.keys import Keys
from tailrace.subscriptions.state import SubscriptionState
from tailrace.subscriptions.token import make_token

__all__ = ["snapshot_of", "webhook_body", "write_event"]


def snapshot_of(state: SubscriptionState) -> list[dict[str, Any]]:
    """The streams that the wake in flight tells of.

    Source: Durable Streams 7.1, 7.2.
    """
    return [
        {
            "path": path,
            "link_type": "explicit" if link.explicit else "glob",
            "acked_offset": str(link.acked),
            "tail_offset": str(link.snapshot),
            "has_pending": link.snapshot > link.acked,
        }
        for path, link in sorted(state.links.items())
        if link.snapshot is not None
    ]


def webhook_body(state: SubscriptionState, keys: Keys, now: int) -> bytes:
    """What a receiver is sent.

    Source: Durable Streams 7.1.
    """
    name = quote(state.id, safe="")
    told = {
        "subscription_id": state.id,
        "wake_id": state.wake_id,
        "generation": state.generation,
        "streams": snapshot_of(state),
        "callback_url": f"{state.base_url}/__ds/subscriptions/{name}/callback",
        "callback_token": make_token(keys.secret, state, now),
    }
    return json.dumps(told).encode()


async def write_event(store: Store, state: SubscriptionState, now: int) -> None:
    """Write a wake into the wake stream: once, however many processes try.

    The generation is the epoch of a producer, so the store tells a repetition from the first.

    Raises:
        StreamError: The wake stream does not exist, or takes nothing.

    Source: Durable Streams 7.2.
    """
    path = state.config.wake_stream
    assert path is not None
    told = (each for each in snapshot_of(state) if each["has_pending"])
    event = {
        "type": "wake",
        "subscription_id": state.id,
        "stream": next(told, {"path": ""})["path"],
        "generation": state.generation,
        "ts": now,
    }
    end = b"," if is_json((await store.head(path)).content_type) else b"\n"
    producer = Producer(f"__ds:{state.nonce}", state.generation, 0)
    try:
        await store.append(path, Append(data=json.dumps(event).encode() + end, producer=producer))
    except ProducerFenced:
        return  # a later wake has been written
