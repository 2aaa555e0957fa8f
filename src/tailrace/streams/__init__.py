"""Streams as applications use them: append, read, subscribe, run."""

from __future__ import annotations

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
