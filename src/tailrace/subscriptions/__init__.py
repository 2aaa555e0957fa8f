"""Subscriptions: durable cursors that wake workers, by webhook or over a wake stream."""

from tailrace.subscriptions.options import SubscriptionOptions
from tailrace.subscriptions.subscriptions import Subscriptions

__all__ = ["SubscriptionOptions", "Subscriptions"]
