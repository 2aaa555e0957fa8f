"""The state of a subscription: one immutable value, kept in the store as a JSON object.

Times in it are milliseconds since the epoch, since it outlives the process that wrote it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from tailrace.protocol import Right
from tailrace.store import START, Offset
from tailrace.subscriptions.pattern import Pattern

__all__ = ["PULL_WAKE", "WEBHOOK", "Config", "Link", "StreamTail", "SubscriptionState", "link_type"]

WEBHOOK: Final = "webhook"
PULL_WAKE: Final = "pull-wake"


@dataclass(frozen=True, slots=True)
class StreamTail:
    """Where a stream ends now.

    Args:
        offset: After its last byte.
        created_at: When the stream was created: a later stream of the same path has another time.
    """

    offset: Offset
    created_at: int


@dataclass(frozen=True, slots=True)
class Link:
    """The cursor of a subscription in one stream.

    Args:
        explicit: A client named the stream; False: only the pattern matches it.
        acked: The offset before which everything is processed.
        created_at: When the stream that `acked` belongs to was created; None: it did not exist yet.
        snapshot: The tail that the wake in flight names; None: that wake does not name the stream.
        woken: The generation of the last wake that named the stream.
    """

    explicit: bool
    acked: Offset = START
    created_at: int | None = None
    snapshot: Offset | None = None
    woken: int = 0


@dataclass(frozen=True)
class Config:
    """What a client asked for when it created the subscription.

    Args:
        type: `webhook` or `pull-wake`.
        pattern: A glob over paths, or None.
        streams: The paths that the client named, sorted, each once.
        webhook_url: Where webhooks are sent; None for a pull-wake.
        wake_stream: The path of the stream that gets the events of wakes; None for a webhook.
        lease_ms: How long a lease lasts, in milliseconds.
        description: For people, or None.
    """

    type: str
    pattern: str | None
    streams: tuple[str, ...]
    webhook_url: str | None
    wake_stream: str | None
    lease_ms: int
    description: str | None

    @cached_property
    def hash(self) -> str:
        """A hash of all fields: the same for every request that asks for the same.

        Source: Durable Streams 6.2.
        """
        asked = [
            *(self.type, self.pattern, self.streams, self.webhook_url),
            *(self.wake_stream, self.lease_ms, self.description),
        ]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    @cached_property
    def glob(self) -> Pattern | None:
        """The pattern, compiled."""
        return None if self.pattern is None else Pattern(self.pattern)

    @property
    def rights(self) -> tuple[Right, ...]:
        """The rights that a client needs to create the subscription, to see it or to change it.

        A pattern stands for all streams that it will ever match, also those that do not exist yet.
        So `authorize` is asked for the pattern itself; and for "list", since the client learns the
        names of the streams.
        """
        rights = [Right("subscribe", path) for path in self.streams]
        if self.pattern is not None:
            rights += (Right("list", self.pattern), Right("subscribe", self.pattern))
        if self.wake_stream is not None:
            rights.append(Right("append", self.wake_stream))  # each wake is an event in it
        return tuple(rights)

    def matches(self, path: str) -> bool:
        """Whether the pattern matches a path. A wake stream never wakes its own subscription."""
        return path != self.wake_stream and self.glob is not None and self.glob.matches(path)


@dataclass(frozen=True, kw_only=True)
class SubscriptionState:
    """A subscription as it is now.

    Args:
        id: The client's name for it.
        nonce: Drawn when it was created; a later subscription of the same id has another one.
        version: Grows by one with each change, for the compare-and-set.
        config: As it was created.
        base_url: The URL by which its creator reached this server, for the callback URL.
        created_at: Milliseconds since the epoch, as all times here.
        links: The cursors, by path.
        generation: Number of the last wake; a worker of an earlier one is refused.
        wake_id: Of the wake in flight, or None.
        holder: The worker that claimed the wake, or None.
        lease_until: When the lease ends, unless its worker extends it; None: there is no lease.
        retry_at: When the wake is to be delivered (again); None: it need not be.
        attempts: Deliveries that failed since the last one that succeeded.
        acknowledged: The worker has called back: it has the wake, whatever it answers the webhook.
        full: The pattern matches more streams than a subscription may have; some were left out.
        deleted: This is a tombstone.
    """

    id: str
    nonce: str
    version: int
    config: Config
    base_url: str
    created_at: int
    links: Mapping[str, Link] = field(default_factory=dict)
    generation: int = 0
    wake_id: str | None = None
    holder: str | None = None
    lease_until: int | None = None
    retry_at: int | None = None
    attempts: int = 0
    acknowledged: bool = False
    full: bool = False
    deleted: bool = False

    @property
    def rights(self) -> tuple[Right, ...]:
        """As `Config.rights`, with the streams that were added since."""
        added = (path for path, link in sorted(self.links.items()) if link.explicit)
        known = set(self.config.streams)
        more = (Right("subscribe", path) for path in added if path not in known)
        return (*self.config.rights, *more)

    @property
    def is_webhook(self) -> bool:
        return self.config.type == WEBHOOK

    @property
    def due(self) -> int | None:
        """When the lease ends or the wake is to be delivered; None if there is no such time."""
        times = [at for at in (self.lease_until, self.retry_at) if at is not None]
        return min(times) if times else None

    @property
    def status(self) -> str:
        return "failed" if self.attempts else "active"

    @property
    def snapshot(self) -> list[dict[str, Any]]:
        """The streams that the wake in flight names, as its worker is sent them.

        Source: Durable Streams 7.1, 7.2.
        """
        return [
            {
                "path": path,
                "link_type": link_type(link),
                "acked_offset": str(link.acked),
                "tail_offset": str(link.snapshot),
                "has_pending": link.snapshot > link.acked,
            }
            for path, link in sorted(self.links.items())
            if link.snapshot is not None
        ]

    def encode(self) -> dict[str, Any]:
        """The JSON object that is stored."""
        fields: dict[str, Any] = {
            stored: getattr(self, name) for name, stored in _STORED_NAMES.items()
        }
        fields["config"] = {name: getattr(self.config, name) for name in _CONFIG}
        fields["links"] = {path: _encode_link(link) for path, link in self.links.items()}
        return fields

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> SubscriptionState:
        """The subscription that was stored as a JSON object."""
        config = {**fields["config"], "streams": tuple(fields["config"]["streams"])}
        links = {path: _decode_link(link) for path, link in fields["links"].items()}
        plain = {name: fields[stored] for name, stored in _STORED_NAMES.items()}
        return cls(**plain, config=Config(**config), links=links)

    def with_links(self, changed: Mapping[str, Link | None]) -> SubscriptionState:
        """The subscription with some cursors changed, by path; None removes one."""
        links = {**self.links, **changed}
        return replace(self, links={path: link for path, link in links.items() if link})


_CONFIG: Final = tuple(Config.__dataclass_fields__)
_STORED_NAMES: Final = {
    name: "heard" if name == "acknowledged" else name  # its name in the first stores
    for name in SubscriptionState.__dataclass_fields__
    if name not in ("config", "links")
}


def link_type(link: Link) -> str:
    """How a stream came into the subscription, in the protocol's words."""
    return "explicit" if link.explicit else "glob"


def _encode_link(link: Link) -> list[int | None]:
    # Plain numbers, which are fast to read: while thousands of links are read, all streams wait.
    acked, tail = link.acked, link.snapshot
    snapshot = (None, None) if tail is None else (tail.generation, tail.position)
    return [
        *(int(link.explicit), acked.generation, acked.position),
        *(link.created_at, link.woken, *snapshot),
    ]


def _decode_link(fields: list[Any]) -> Link:
    explicit, generation, position, created_at, woken, tail_generation, tail_position = fields
    snapshot = None if tail_position is None else Offset(tail_generation, tail_position)
    return Link(explicit == 1, Offset(generation, position), created_at, snapshot, woken)
