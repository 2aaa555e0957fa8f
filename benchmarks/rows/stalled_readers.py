"""Readers of one stream, beside readers of the same stream that stopped reading."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks.client import connect, order, request_bytes
from benchmarks.measure import percentile, scaled
from benchmarks.report import Finding
from benchmarks.server import Server
from benchmarks.subscribers import Subscribers

READERS = 900
STALLED = 100
MESSAGES = 200
MESSAGE_BYTES = 8 * 1024
WARM_UP = 10
AT_MOST = 1.5
STATED_BYTES = 24 * 1024 + 64 * 1024
"""An idle reader, and the bytes that may wait for it (`limits.ATTACH_BUFFER_BYTES`)."""

_PATH: Final = "/bench"
_NUMBER: Final = re.compile(rb"^data: (\d+) x", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Side:
    """One server's readers.

    Args:
        delays: Seconds of each delivery to each reader that reads.
        bytes_each: Memory of the server for each stalled reader.
        missed: Messages that stalled readers did not get when they read again, all together.
    """

    delays: list[float]
    bytes_each: float
    missed: int


def run(scale: float) -> list[Finding]:
    readers, stalled = scaled(READERS, scale), scaled(STALLED, scale)
    alone, beside = _measure(readers, stalled, MESSAGES)
    what = f"{stalled:,} stalled readers of a stream among {readers + stalled:,}"
    ratios = [percentile(beside.delays, at) / percentile(alone.delays, at) for at in (0.5, 0.99)]
    return [
        Finding(
            what=f"{what}: a message to the others, beside them and without",
            peer="none stalled",
            theirs=_told(alone.delays),
            ours=_told(beside.delays),
            ratio=f"median {ratios[0]:.2f}x, p99 {ratios[1]:.2f}x",
            target=f"p99 at most {AT_MOST:g}x",
            holds=ratios[1] <= AT_MOST,
        ),
        Finding(
            what=f"{what}: memory for each of the stalled",
            peer="",
            theirs="",
            ours=f"{beside.bytes_each / 1024:.1f} KB",
            ratio="",
            target=f"under {STATED_BYTES // 1024} KB",
            holds=beside.bytes_each < STATED_BYTES,
        ),
        Finding(
            what=f"{what}: what they miss of {MESSAGES} messages of 8 KB, once they read again",
            peer="",
            theirs="",
            ours=f"{beside.missed}",
            ratio="",
            target="nothing",
            holds=beside.missed == 0,
        ),
    ]


def _measure(readers: int, stalled: int, messages: int) -> tuple[Side, Side]:
    """Two servers take turns, message by message: one with stalled readers, one without."""
    protocol = "tailrace.server:HttpProtocol"
    app = "benchmarks.apps.live:app"
    with Server(app, http=protocol) as quiet, Server(app, http=protocol) as busy:
        for server in (quiet, busy):
            order(server.port, "PUT", _PATH)
        with ExitStack() as stack:
            alone = stack.enter_context(Subscribers(quiet.port, _PATH, readers))
            beside = stack.enter_context(Subscribers(busy.port, _PATH, readers))
            for number in range(WARM_UP):
                for crowd in (alone, beside):
                    crowd.publish(_PATH, _message(number))
            busy.settle()
            held = [busy.memory().now_bytes - quiet.memory().now_bytes]
            socks = [stack.enter_context(_stall(busy.port)) for _ in range(stalled)]
            busy.settle()
            for crowd in (alone, beside):
                crowd.delays.clear()
            for number in range(messages):
                for crowd in (alone, beside):
                    crowd.publish(_PATH, _message(number))
            busy.settle()
            held.append(busy.memory().now_bytes - quiet.memory().now_bytes)
            missed = sum(messages - _read_rest(sock, messages) for sock in socks)
            each = (held[1] - held[0]) / stalled
            return Side(alone.delays, 0.0, 0), Side(beside.delays, each, missed)


def _message(number: int) -> bytes:
    return (b"%d x" % number).ljust(MESSAGE_BYTES, b"x")


def _stall(port: int) -> socket.socket:
    sock = connect(port, remote=True)
    sock.sendall(request_bytes(_PATH, headers=["accept: text/event-stream"]))
    return sock


def _read_rest(sock: socket.socket, messages: int) -> int:
    """Read until the last message. Returns how many messages came; they must be in order."""
    got = bytearray()
    last = b"data: %d x" % (messages - 1)
    while last not in got[-2 * MESSAGE_BYTES :] and (some := sock.recv(1024 * 1024)):
        got += some
    numbers = [int(number) for number in _NUMBER.findall(got)]
    if numbers != sorted(set(numbers)):
        raise RuntimeError("a stalled reader got a message twice, or out of order")
    return len(numbers)


def _told(delays: Sequence[float]) -> str:
    median, tail = percentile(delays, 0.5), percentile(delays, 0.99)
    return f"{median * 1e3:.1f} ms (p99 {tail * 1e3:.1f} ms)"
