"""The settings of subscriptions, checked when they are made."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import Final

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.types import check_flag

__all__ = ["SubscriptionOptions"]

_BASE: Final = re.compile(r"https?://[!-~]+", re.ASCII)
_SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionOptions:
    """How subscriptions are served.

    Args:
        public_url: The URL at which clients and webhook receivers reach the streams, such as
            "https://api.example.org/v1/stream". None: it is made of the `Host` of each request.
        allow_localhost: Webhooks may be sent to `http://localhost` and `http://127.x.y.z`: for
            development, on a machine where nothing else listens.
        patterns: Subscriptions may follow all streams that match a pattern. The client that
            creates one learns the names of these streams.
        webhook_timeout: Seconds to wait for a webhook's answer; a shorter lease ends the wait
            earlier.
        signing_key: The 32 bytes of an Ed25519 key, if the store is not to keep one. None: one is
            made, and kept in the store.
        ssl_context: How certificates of receivers are checked; None: against public authorities.
        sweep: Seconds between two checks of all subscriptions.

    Raises:
        InvalidOption: A value is out of its range.
    """

    public_url: str | None = None
    allow_localhost: bool = False
    patterns: bool = True
    webhook_timeout: float = limits.WEBHOOK_TIMEOUT
    signing_key: bytes | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None
    sweep: float = limits.SUBSCRIPTION_SWEEP

    def __post_init__(self) -> None:
        url, key, context = self.public_url, self.signing_key, self.ssl_context
        if url is not None and not (isinstance(url, str) and _BASE.fullmatch(url)):
            raise InvalidOption("public_url", url, "an http or https URL, or None")
        if key is not None and not (isinstance(key, bytes) and len(key) == _SEED_BYTES):
            raise InvalidOption("signing_key", "...", f"{_SEED_BYTES} bytes, or None")
        if context is not None and not isinstance(context, ssl.SSLContext):
            raise InvalidOption("ssl_context", context, "an ssl.SSLContext, or None")
        for name in ("allow_localhost", "patterns"):
            check_flag(name, getattr(self, name))
        for name in ("webhook_timeout", "sweep"):
            value = getattr(self, name)
            # bool is an int: `sweep=True` is a mistake, not one second.
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not good or not 0 < value <= limits.MAX_TTL:
                allowed = f"seconds, more than 0 and at most {limits.MAX_TTL}"
                raise InvalidOption(name, value, allowed)
