"""Telling of a wake: the webhook's body, and the event in a wake stream."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from tailrace.errors import ProducerFenced
from tailrace.store import Append, Producer, Store, is_json
from tailrace.subscriptions.keys import Keys
from tailrace.subscriptions.record import Record
from tailrace.subscriptions.token import make_token

__all__ = ["told_streams", "webhook_body", "write_event"]


def told_streams(record: Record) -> list[dict[str, Any]]:
    """The streams that the wake in flight tells of.

    Source: Durable Streams 7.1, 7.2.
    """
    return [
        {
            "path": path,
            "link_type": "explicit" if link.explicit else "glob",
            "acked_offset": str(link.acked),
            "tail_offset": str(link.promised),
            "has_pending": link.promised > link.acked,
        }
        for path, link in sorted(record.links.items())
        if link.promised is not None
    ]


def webhook_body(record: Record, keys: Keys, now: int) -> bytes:
    """What a receiver is sent.

    Source: Durable Streams 7.1.
    """
    name = quote(record.id, safe="")
    told = {
        "subscription_id": record.id,
        "wake_id": record.wake_id,
        "generation": record.generation,
        "streams": told_streams(record),
        "callback_url": f"{record.base_url}/__ds/subscriptions/{name}/callback",
        "callback_token": make_token(keys.secret, record, now),
    }
    return json.dumps(told).encode()


async def write_event(store: Store, record: Record, now: int) -> None:
    """Write a wake into the wake stream: once, however many processes try.

    The generation is the epoch of a producer, so the store tells a repetition from the first.

    Raises:
        StreamError: The wake stream does not exist, or takes nothing.

    Source: Durable Streams 7.2.
    """
    path = record.config.wake_stream
    assert path is not None
    told = (each for each in told_streams(record) if each["has_pending"])
    event = {
        "type": "wake",
        "subscription_id": record.id,
        "stream": next(told, {"path": ""})["path"],
        "generation": record.generation,
        "ts": now,
    }
    end = b"," if is_json((await store.head(path)).content_type) else b"\n"
    producer = Producer(f"__ds:{record.nonce}", record.generation, 0)
    try:
        await store.append(path, Append(data=json.dumps(event).encode() + end, producer=producer))
    except ProducerFenced:
        return  # a later wake has been written
