"""Durable Streams over HTTP: the open protocol, version 1.0, as a raw ASGI application."""

from tailrace.protocol.asgi import DurableStreams, refuse, send_small
from tailrace.protocol.authorize import Action, Authorize, Right, ask, ask_scope
from tailrace.protocol.body import Body
from tailrace.protocol.engine import OnAppend
from tailrace.protocol.fields import Fields, fields_of
from tailrace.protocol.live import SseFormat
from tailrace.protocol.options import ProtocolOptions
from tailrace.protocol.path import is_reserved, path_below, stream_path
from tailrace.protocol.reply import Replies, Reply, fields_of_refusal, replies_by_origin

__all__ = [
    "Action",
    "Authorize",
    "Body",
    "DurableStreams",
    "Fields",
    "OnAppend",
    "ProtocolOptions",
    "Replies",
    "Reply",
    "Right",
    "SseFormat",
    "ask",
    "ask_scope",
    "fields_of",
    "fields_of_refusal",
    "is_reserved",
    "path_below",
    "refuse",
    "replies_by_origin",
    "send_small",
    "stream_path",
]
