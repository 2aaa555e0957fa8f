"""The place of subscriptions before 0.2; now they are in `tailrace.subscriptions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace._moved import moved

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in {"SubscriptionOptions", "Subscriptions"}:
            return moved(__name__, name, "tailrace.subscriptions")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
