"""Subscriptions: durable cursors that wake workers, by webhook or over a wake stream."""

from tailrace.protocol.subscriptions.options import SubscriptionOptions
from tailrace.protocol.subscriptions.service import Subscriptions

__all__ = ["SubscriptionOptions", "Subscriptions"]
