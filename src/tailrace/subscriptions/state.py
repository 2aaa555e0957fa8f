"""What is known of a subscription: one immutable value, kept in the store as a JSON snapshot.

Times in it are milliseconds since the epoch: they outlive the process that wrote them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from tailrace.protocol.authorize import Right
from tailrace.store import START, Offset
from tailrace.subscriptions.pattern import Pattern

__all__ = ["PULL_WAKE", "WEBHOOK", "Config", "Link", "SubscriptionState", "Tail"]

WEBHOOK: Final = "webhook"
PULL_WAKE: Final = "pull-wake"


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a stream ends now.

    Args:
        offset: After its last byte.
        created_at: When it was created: another stream that took its path later has another.
    """

    offset: Offset
    created_at: int


@dataclass(frozen=True, slots=True)
class Link:
    """The cursor of one stream.

    Args:
        explicit: Named by a client; False: only found by the pattern.
        acked: What was processed ends here.
        created_at: When the stream that `acked` is of was created; None if there was none yet.
        snapshot: Its tail as the wake that is in flight told it.
        woken: The last generation that told of it.
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
        streams: Sorted, each once.
        webhook_url: Of a webhook.
        wake_stream: Of a pull-wake.
        lease_ms: Lease in milliseconds.
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
        """The same for every request that asks for the same.

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
        """What somebody needs who makes the subscription, sees it or changes it.

        A pattern stands for all that it will ever match, also for streams that do not exist yet:
        it is asked for itself. Names are what it lists.
        """
        rights = [Right("subscribe", path) for path in self.streams]
        if self.pattern is not None:
            rights += (Right("list", self.pattern), Right("subscribe", self.pattern))
        if self.wake_stream is not None:
            rights.append(Right("append", self.wake_stream))  # each wake is an event in it
        return tuple(rights)

    def matches(self, path: str) -> bool:
        """Whether the pattern means a path. A wake stream never wakes its own subscription."""
        return path != self.wake_stream and self.glob is not None and self.glob.matches(path)


@dataclass(frozen=True, kw_only=True)
class SubscriptionState:
    """A subscription as it is now.

    Args:
        id: The client's name for it.
        nonce: Ours for this life of it; a later subscription of the same id has another.
        version: Grows by one with each change; the compare-and-set goes by it.
        config: As it was created.
        base_url: Under which its creator reached us, for the callback URL.
        created_at: Milliseconds.
        links: The cursors, by path.
        generation: Of the last wake; fences those before.
        wake_id: Of the wake in flight, or None.
        holder: The worker that claimed it, or None.
        lease_until: When the wake is taken back unless somebody is acknowledged of.
        retry_at: When the wake is (again) to be delivered.
        attempts: Deliveries that failed since the last that did not.
        acknowledged: The worker of this wake has called back: it is alive, whatever its answer was.
        full: A stream that the pattern means was left out: there were too many.
        deleted: It is a tombstone.
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
        """When something must be done though nothing happens; milliseconds."""
        times = [at for at in (self.lease_until, self.retry_at) if at is not None]
        return min(times) if times else None

    @property
    def status(self) -> str:
        return "failed" if self.attempts else "active"

    def encode(self) -> bytes:
        """As it is stored."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        fields["config"] = {name: getattr(self.config, name) for name in _CONFIG}
        fields["links"] = {path: _packed(link) for path, link in self.links.items()}
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> SubscriptionState:
        """What was stored."""
        fields = json.loads(data)
        config = fields.pop("config")
        links = {path: _unpacked(link) for path, link in fields.pop("links").items()}
        config["streams"] = tuple(config["streams"])
        return cls(**fields, config=Config(**config), links=links)

    def with_links(self, changed: Mapping[str, Link | None]) -> SubscriptionState:
        """With other cursors; None takes one away."""
        links = {**self.links, **changed}
        return replace(self, links={path: link for path, link in links.items() if link})


_CONFIG: Final = tuple(Config.__dataclass_fields__)
_PLAIN: Final = tuple(
    name for name in SubscriptionState.__dataclass_fields__ if name not in ("config", "links")
)


def _packed(link: Link) -> list[int | None]:
    # Plain numbers: a state with thousands of links is read while streams wait.
    acked, told = link.acked, link.snapshot
    snapshot = (None, None) if told is None else (told.generation, told.position)
    return [
        *(int(link.explicit), acked.generation, acked.position),
        *(link.created_at, link.woken, *snapshot),
    ]


def _unpacked(fields: list[Any]) -> Link:
    explicit, generation, position, created_at, woken, told_generation, told = fields
    snapshot = None if told is None else Offset(told_generation, told)
    return Link(explicit == 1, Offset(generation, position), created_at, snapshot, woken)
