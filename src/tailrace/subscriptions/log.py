"""The log of subscriptions."""

from __future__ import annotations

import logging

__all__ = ["log"]

log = logging.getLogger("tailrace")
