"""The server that is tested by the fuzz, and what it must not hold when all clients have left."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from tests.fuzz.conversation import mark_of
from tests.rawhttp import request
from tests.servers import RunningServer, ServerName, serve

__all__ = ["GROWTH_BYTES", "Loop", "Target", "server_name", "target"]

Loop = Literal["asyncio", "uvloop"]

REST = 30.0
"""Seconds after which the server must hold nothing of clients that have left."""

GROWTH_BYTES = 128 * 1024 * 1024
"""Bytes by which the process may have grown at the end: caches, arenas of the allocator."""

COUNTED = ("tasks", "descriptors", "busy_threads", "generators", "open")

_TROUBLE = re.compile(
    r"Traceback|Exception|ERROR|CRITICAL|never retrieved|was never awaited|was destroyed"
)

_WARM = ("text", "chunks", "lines", "events", "subscribed", "run", "file")


def server_name(server: str, loop: Loop) -> ServerName:
    """The name in `tests.servers` of the server with this event loop."""
    names: dict[tuple[str, str], ServerName] = {
        ("tailrace", "asyncio"): "uvicorn-tailrace",
        ("tailrace", "uvloop"): "uvloop-tailrace",
        ("uvicorn", "asyncio"): "uvicorn",
        ("uvicorn", "uvloop"): "uvloop",
        ("uvicorn-h11", "asyncio"): "uvicorn-h11",
    }
    if (server, loop) not in names:
        raise ValueError(f"no {server} on {loop}: there are {sorted(names)}")
    return names[server, loop]


@dataclass(slots=True)
class Target:
    """A server that runs the application of the fuzz."""

    running: RunningServer
    before: dict[str, int]
    rss_before: int
    rest: float = REST

    @property
    def address(self) -> tuple[str, int]:
        return self.running.host, self.running.port

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(request(*self.address, "/state").body)
        return found

    def growth_bytes(self) -> int:
        return int(self.running.worker.memory_info().rss) - self.rss_before

    def faults(self) -> list[str]:
        """What is wrong when all clients have left: what the server still holds, what it served
        that was never sent, and what it logged."""
        deadline = time.monotonic() + self.rest
        state = self.state()
        while (left := self._left(state)) and time.monotonic() < deadline:
            time.sleep(0.1)
            state = self.state()
        faults = [f"left {self.rest:.0f} s after the last client: {left}"] if left else []
        if state["smuggled"]:
            faults.append(f"carried out, though nobody asked: {state['smuggled'][:5]}")
        if self.growth_bytes() > GROWTH_BYTES:
            faults.append(f"grown by {self.growth_bytes():,} bytes, the bound is {GROWTH_BYTES:,}")
        return faults + self.log_faults()

    def _left(self, state: dict[str, Any]) -> str:
        more = {name: state[name] - self.before[name] for name in COUNTED}
        return ", ".join(f"{count} {name}" for name, count in more.items() if count > 0)

    def log_faults(self) -> list[str]:
        """The errors in the log: the kinds, how often each came, and the text of the first."""
        log = self.running.log
        found = list(_TROUBLE.finditer(log))
        if not found:
            return []
        at = found[0].start()
        errors = re.findall(r"^(?:\w+\.)*\w+(?:Error|Exception|Disconnected)\b.*$", log, re.M)
        kinds = [f"{error[:160]} x{count}" for error, count in Counter(errors).most_common(12)]
        return [f"{len(found)} troubles in the log: {kinds}", log[max(0, at - 300) : at + 3000]]


@contextlib.contextmanager
def target(server: ServerName, app: str = "tests.apps.fuzzed:app") -> Iterator[Target]:
    """A server that is warmed up, while the block runs."""
    options: dict[str, Any] = {"no_access_log": True, "log_level": "warning"}
    with serve(app, server, **options) as running:
        for kind in _WARM:
            request(running.host, running.port, f"/{kind}/{mark_of(0, 0)}")
        found = Target(running, {}, psutil.Process(running.pid).memory_info().rss)
        # The stream of the warm-up goes on for a moment: wait until nothing changes.
        deadline = time.monotonic() + REST
        found.before = _counted(found.state())
        while time.monotonic() < deadline:
            time.sleep(0.2)
            now = _counted(found.state())
            if now == found.before:
                break
            found.before = now
        found.rss_before = running.worker.memory_info().rss
        yield found


def _counted(state: dict[str, Any]) -> dict[str, int]:
    return {name: int(state[name]) for name in COUNTED}
