"""Downloads: what `tailrace get` does. `transfer` drives, `partial` writes, the rest decides."""

from __future__ import annotations

from tailrace.cli.download.order import Order
from tailrace.cli.download.retry import RetryPolicy
from tailrace.cli.download.transfer import Transfer, Watcher

__all__ = ["Order", "RetryPolicy", "Transfer", "Watcher"]
