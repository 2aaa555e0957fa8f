"""Durable Streams over HTTP: the open protocol, version 1.0, as a raw ASGI application."""

from tailrace.protocol.asgi import DurableStreams
from tailrace.protocol.engine import OnAppend
from tailrace.protocol.options import ProtocolOptions
from tailrace.protocol.path import path_below, stream_path
from tailrace.protocol.reply import Replies, Reply, replies_by_origin
from tailrace.protocol.sending import refuse
from tailrace.protocol.sse import SseFormat
from tailrace.protocol.subscriptions import SubscriptionOptions, Subscriptions

__all__ = [
    "DurableStreams",
    "OnAppend",
    "ProtocolOptions",
    "Replies",
    "Reply",
    "SseFormat",
    "SubscriptionOptions",
    "Subscriptions",
    "path_below",
    "refuse",
    "replies_by_origin",
    "stream_path",
]
