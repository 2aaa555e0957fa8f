"""One message to many readers of one stream by SSE, beside nginx with Nchan."""

from __future__ import annotations

import re
from typing import Final

from benchmarks.client import order
from benchmarks.measure import Cost, middle, scaled
from benchmarks.peers import NOT_INSTALLED, Nginx, has_nchan
from benchmarks.report import Finding
from benchmarks.server import Server
from benchmarks.subscribers import Subscribers

SUBSCRIBERS = 1_000
MESSAGES = 200
MESSAGE_BYTES = 100
ROUNDS = 5

OURS: Final = "Tailrace"
NCHAN: Final = "nginx with Nchan"

_LOCATIONS: Final = """
location = /subscribe { nchan_subscriber eventsource; nchan_channel_id bench; }
location = /publish { nchan_publisher; nchan_channel_id bench; }
"""

_DATA: Final = re.compile(rb"^data: (.*)$", re.MULTILINE)


def run(scale: float) -> list[Finding]:
    subscribers, messages = scaled(SUBSCRIBERS, scale), scaled(MESSAGES, scale)
    costs: dict[str, list[Cost]] = {}
    for _ in range(ROUNDS):
        # New servers for each turn, because Nchan gives old messages to new subscribers.
        if has_nchan():
            with Nginx(_LOCATIONS, nchan=True) as theirs:
                cost = _broadcast(theirs, subscribers, messages, "/subscribe", "/publish")
                costs.setdefault(NCHAN, []).append(cost)
        protocol = "tailrace.server:HttpProtocol"
        with Server("benchmarks.apps.live:app", http=protocol) as ours:
            order(ours.port, "PUT", "/bench")
            costs.setdefault(OURS, []).append(_broadcast(ours, subscribers, messages, "/bench"))
    return [finding(costs, subscribers, messages)]


def _broadcast(
    server: Server, subscribers: int, messages: int, path: str, publish: str | None = None
) -> Cost:
    """Publish all messages; each one when every subscriber has the one before it."""
    sent = [(b"%d " % n).ljust(MESSAGE_BYTES, b"x") for n in range(messages + 1)]
    with Subscribers(server.port, path, subscribers, keep=True) as crowd:
        crowd.publish(publish or path, sent[0])  # so that nothing is cold
        before = server.cpu()
        wall = sum(crowd.publish(publish or path, message) for message in sent[1:])
        cost = Cost(wall, server.cpu() - before)
        for pieces in crowd.received.values():
            if _DATA.findall(b"".join(pieces)) != sent:
                raise RuntimeError("a subscriber did not get each message once and in order")
    return cost


def finding(costs: dict[str, list[Cost]], subscribers: int, messages: int) -> Finding:
    deliveries = subscribers * messages

    def micros(name: str) -> float:
        return middle(costs[name], "cpu") / deliveries * 1e6

    def told(name: str) -> str:
        each = middle(costs[name], "wall") / messages * 1e3
        return f"{micros(name):.2f} µs CPU ({each:.1f} ms to reach all)"

    def turns(name: str) -> str:
        each = (f"{cost.cpu / deliveries * 1e6:.2f} µs" for cost in costs[name])
        return f"{name}: {', '.join(each)}"

    there = NCHAN in costs
    ratio = micros(NCHAN) / micros(OURS) if there else None
    return Finding(
        what=f"a message to one of {subscribers:,} SSE readers of a stream",
        peer=NCHAN,
        theirs=told(NCHAN) if there else NOT_INSTALLED,
        ours=told(OURS),
        ratio="" if ratio is None else f"{ratio:.2f}x",
        target="no more CPU",
        holds=None if ratio is None else ratio >= 1,
        rounds=tuple(turns(name) for name in (NCHAN, OURS) if name in costs),
    )
