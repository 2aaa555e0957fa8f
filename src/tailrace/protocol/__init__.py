"""Durable Streams over HTTP: the open protocol, version 1.0, as a raw ASGI application."""

from tailrace.protocol.asgi import DurableStreams
from tailrace.protocol.authorize import Action, Authorize, Right, ask, ask_scope
from tailrace.protocol.engine import OnAppend
from tailrace.protocol.options import ProtocolOptions
from tailrace.protocol.path import path_below, stream_path
from tailrace.protocol.reply import Replies, Reply, fields_of_refusal, replies_by_origin
from tailrace.protocol.sending import refuse
from tailrace.protocol.sse import SseFormat

__all__ = [
    "Action",
    "Authorize",
    "DurableStreams",
    "OnAppend",
    "ProtocolOptions",
    "Replies",
    "Reply",
    "Right",
    "SseFormat",
    "ask",
    "ask_scope",
    "fields_of_refusal",
    "path_below",
    "refuse",
    "replies_by_origin",
    "stream_path",
]
