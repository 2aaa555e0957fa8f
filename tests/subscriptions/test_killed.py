"""Four worker processes on one file, killed again and again: no subscriber is left unwoken."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.servers import RunningServer, serve
from tests.subscriptions.world import receiver

pytestmark = pytest.mark.slow

SECONDS = 6.0
PAUSE = 0.7
"""Seconds between two kills: a worker takes about as long to start."""

STREAMS = 5


@contextlib.contextmanager
def four_workers(path: Path) -> Iterator[RunningServer]:
    env = {"TAILRACE_STORE": f"sqlite:///{path}"}
    with serve("tests.apps.subscribed:app", "uvicorn", env=env, workers=4) as server:
        yield server


def workers(server: RunningServer) -> list[psutil.Process]:
    """Those that serve and live; the supervisor has a helper, too."""
    found = []
    for child in psutil.Process(server.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is none, too
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def ask(method: str, url: str, told: Any = None, **more: Any) -> Any:
    """A request that is made again while a worker dies under it."""
    until = time.monotonic() + 60
    while True:
        try:
            answer = httpx2.request(method, url, json=told, timeout=5, **more)
        except httpx2.TransportError:
            if time.monotonic() > until:
                raise
        else:
            if answer.status_code < 500 or time.monotonic() > until:
                return answer


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.1)


def test_every_stream_is_acked_to_its_end_however_many_workers_were_killed(
    tmp_path: Path,
) -> None:
    with receiver([(200, b'{"done":true}')]) as box, four_workers(tmp_path / "s.db") as server:
        base = f"{server.url}/v1/stream"
        sub = f"{base}/__ds/subscriptions/s"
        told = {
            "type": "webhook",
            "pattern": "e/*",
            "webhook": {"url": box.url},
            "lease_ttl_ms": 1000,
        }
        assert ask("PUT", sub, told).status_code in (200, 201)
        chance = random.Random(7)
        begin = time.monotonic()
        killed = count = 0
        while (took := time.monotonic() - begin) < SECONDS or (killed < 5 and took < 60):
            path = f"{base}/e/{chance.randrange(STREAMS)}"
            if ask("POST", path, {"n": count}).status_code == 404:
                ask("PUT", path, {"n": count})
            count += 1
            alive = workers(server) if time.monotonic() - begin > PAUSE * (killed + 1) else []
            if len(alive) > 1:
                chance.choice(alive).kill()
                killed += 1
        assert killed >= 5

        def tails() -> dict[str, str]:
            paths = [f"e/{number}" for number in range(STREAMS)]
            return {
                path: ask("HEAD", f"{base}/{path}").headers["stream-next-offset"] for path in paths
            }

        def acked() -> dict[str, str]:
            streams = ask("GET", sub).json()["streams"]
            return {each["path"]: each["acked_offset"] for each in streams}

        wanted = tails()
        until(lambda: acked() == wanted, 20)
        generations = [each.json["generation"] for each in box.received]
        assert generations == sorted(generations)
        wakes = {each.json["wake_id"] for each in box.received}
        assert len(wakes) == len(set(generations))
        # Nothing goes on once all is acked.
        seen = len(box.received)
        time.sleep(1.5)
        assert len(box.received) == seen
