"""Stores keep streams: append-only logs of bytes, each under a path."""

from tailrace.store.base import OnChange, Store, open_store
from tailrace.store.json_mode import array_of, is_json, message_ends, split, value_of, wire_of
from tailrace.store.memory import MemoryStore
from tailrace.store.private import (
    DIRECTORY,
    HEAD_BYTES,
    companion_of,
    is_open_store,
    is_store_head,
    may_be_store,
)
from tailrace.store.rules import DEFAULT_CONTENT_TYPE, INTERNAL, essence
from tailrace.store.schedule import Schedule
from tailrace.store.values import (
    START,
    Append,
    Appended,
    Change,
    Chunk,
    Created,
    Fork,
    Mark,
    NewStream,
    Offset,
    Producer,
    Retention,
    Slice,
    StreamInfo,
    Where,
)

__all__ = [
    "DEFAULT_CONTENT_TYPE",
    "DIRECTORY",
    "HEAD_BYTES",
    "INTERNAL",
    "START",
    "Append",
    "Appended",
    "Change",
    "Chunk",
    "Created",
    "Fork",
    "Mark",
    "MemoryStore",
    "NewStream",
    "Offset",
    "OnChange",
    "Producer",
    "Retention",
    "Schedule",
    "Slice",
    "Store",
    "StreamInfo",
    "Where",
    "array_of",
    "companion_of",
    "essence",
    "is_json",
    "is_open_store",
    "is_store_head",
    "may_be_store",
    "message_ends",
    "open_store",
    "split",
    "value_of",
    "wire_of",
]
