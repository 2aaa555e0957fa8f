"""Streams as applications use them: append, read, subscribe, run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace._moved import moved
from tailrace.streams.channel import Channel
from tailrace.streams.item import Message
from tailrace.streams.progress import Progress, ProgressPart, ProgressState, Step, Thinned
from tailrace.streams.reading import Reader
from tailrace.streams.run import Run
from tailrace.streams.streams import Streams
from tailrace.streams.subscribers import Grace
from tailrace.streams.sync import SyncReader, SyncRun, SyncStreams

__all__ = [
    "Channel",
    "Grace",
    "Message",
    "Progress",
    "ProgressPart",
    "ProgressState",
    "Reader",
    "Run",
    "Step",
    "Streams",
    "SyncReader",
    "SyncRun",
    "SyncStreams",
    "Thinned",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "Part":  # its name until 0.2; `tailrace.Part` is a part of a multipart response
            return moved(__name__, name, __name__, "ProgressPart")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
