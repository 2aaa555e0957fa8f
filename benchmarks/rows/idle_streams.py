"""The memory of an idle reader, when each reads a stream of its own; and the CPU of an append to
one of these streams."""

from __future__ import annotations

import statistics
from typing import Final

from benchmarks.client import order
from benchmarks.measure import scaled
from benchmarks.report import Finding
from benchmarks.server import Server
from benchmarks.subscribers import Subscribers

READERS = 5_000
FEW = 50
WARM_UP = 20
APPENDS = 1_000
ROUNDS = 5
TOLD = 5
UNDER_BYTES = 24 * 1024
AT_MOST = 1.5

STARLETTE: Final = "Starlette StreamingResponse on uvicorn"
_APP: Final = "benchmarks.apps.live:app"
_PROTOCOL: Final = "tailrace.server:HttpProtocol"


def run(scale: float) -> list[Finding]:
    readers, appends = scaled(READERS, scale), scaled(APPENDS, scale)
    theirs = _theirs(readers)
    each, told, beside = _ours(readers, appends)
    _, _, alone = _ours(min(FEW, readers), appends)
    return [
        Finding(
            what=f"memory of an idle SSE reader, {readers:,} of them on as many streams",
            peer=STARLETTE,
            theirs=f"{theirs / 1024:.1f} KB",
            ours=f"{each / 1024:.1f} KB",
            ratio=f"{theirs / each:.2f}x",
            target="no more than theirs, under 24 KB",
            holds=each <= theirs and each < UNDER_BYTES,
        ),
        Finding(
            what=f"an append to one of {readers:,} streams with a reader each",
            peer=f"to one of {min(FEW, readers)}",
            theirs=f"{alone * 1e6:.0f} µs CPU",
            ours=f"{beside * 1e6:.0f} µs CPU; readers that got anything: {max(told)}",
            ratio=f"{beside / alone:.2f}x",
            target=f"only its reader is woken; at most {AT_MOST:g}x",
            holds=set(told) == {1} and beside / alone <= AT_MOST,
        ),
    ]


def _theirs(readers: int) -> float:
    """Growth of the resident memory for each reader; each reads a generator that is idle."""
    with Server("benchmarks.apps.starlette_theirs:app") as server:
        return _growth(server, readers, "/idle", "/idle", first_event=True)


def _ours(readers: int, appends: int) -> tuple[float, list[int], float]:
    """The memory as `_theirs`; how many readers got each append; seconds of CPU for an append."""
    with Server(_APP, http=_PROTOCOL) as server:
        # The streams are created before, so that their memory is not counted as the readers'.
        for number in range(readers):
            order(server.port, "PUT", f"/s{number}")
        for number in range(WARM_UP):
            order(server.port, "PUT", f"/warm{number}")
        each = _growth(server, readers, "/s{}", "/warm{}")
        with Subscribers(server.port, "/s{}", readers) as crowd:
            server.settle()
            step = max(1, readers // TOLD)
            told = [crowd.append(f"/s{at}", b"hello") for at in range(0, readers, step)]
            costs = []
            for _ in range(ROUNDS):
                before = server.cpu()
                for number in range(appends):
                    crowd.append_unheard(f"/s{number % readers}", b"hello")
                costs.append((server.cpu() - before) / appends)
            return each, told, statistics.median(costs)


def _growth(
    server: Server, readers: int, path: str, warm_up: str, *, first_event: bool = False
) -> float:
    with Subscribers(server.port, warm_up, WARM_UP, first_event=first_event):
        server.settle()
    server.settle()
    before = server.memory().now_bytes
    with Subscribers(server.port, path, readers, first_event=first_event):
        server.settle()
        return (server.memory().now_bytes - before) / readers
