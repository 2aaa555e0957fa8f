"""Server-sent events from a `yield` endpoint: many at once, and live to many subscribers."""

from __future__ import annotations

import json

from benchmarks.apps.prices import plain_prices
from benchmarks.client import Client, Transfer, body_of
from benchmarks.measure import Cost, Side, download, in_turn, middle, scaled
from benchmarks.report import Finding, compare
from benchmarks.server import Server
from benchmarks.subscribers import Subscribers

EVENTS = 20_000
SUBSCRIBERS = 200
LIVE_EVENTS = 50
AT_LEAST = 5

FASTAPI = "FastAPI EventSourceResponse"
SSE_STARLETTE = "sse-starlette"
OURS = "Tailrace EventSourceResponse"
CHECKED = "Tailrace EventSourceResponse, StreamRoute"
"""With the route class that validates each item by the annotation, as FastAPI always does."""

WIRE_BYTES = 160
"""More bytes than one event has on the wire, with its chunk framing."""


def run(scale: float) -> list[Finding]:
    with (
        Server("benchmarks.apps.fastapi_theirs:app") as fastapi,
        Server("benchmarks.apps.sse_starlette_theirs:app") as sse_starlette,
        Server("benchmarks.apps.fastapi_ours:app") as ours,
        Server("benchmarks.apps.fastapi_ours_checked:app") as checked,
    ):
        servers = {FASTAPI: fastapi, OURS: ours, CHECKED: checked, SSE_STARLETTE: sse_starlette}
        count = scaled(EVENTS, scale)
        typed = _burst(servers, "/events", count)
        untyped = _burst(servers, "/events-untyped", count)
        subscribers, events = scaled(SUBSCRIBERS, scale), scaled(LIVE_EVENTS, scale)
        live = _live(servers, subscribers, events)
    validated = f"{count:,} events from a `yield` endpoint, models, validated"
    findings = [
        compare(validated, typed, peer=FASTAPI, ours=CHECKED, account="cpu", at_least=AT_LEAST)
    ]
    for peer in (FASTAPI, SSE_STARLETTE):
        at_least = AT_LEAST if peer == FASTAPI else None
        for what, costs in (("models", typed), ("dicts, no annotation", untyped)):
            what = f"{count:,} events from a `yield` endpoint, {what}"
            findings.append(
                compare(what, costs, peer=peer, ours=OURS, account="cpu", at_least=at_least)
            )
        findings.append(_delivery(live, peer, subscribers, events))
    return findings


def _burst(servers: dict[str, Server], endpoint: str, count: int) -> dict[str, list[Cost]]:
    expected = list(plain_prices(count))
    client = Client(WIRE_BYTES * count + 64 * 1024)
    path = f"{endpoint}?count={count}"

    def check(transfer: Transfer) -> None:
        # The sides differ in spaces and line ends, as JSON and SSE allow. The data must be equal.
        lines = body_of(transfer).splitlines()
        if [json.loads(line[5:]) for line in lines if line.startswith(b"data:")] != expected:
            raise RuntimeError(f"{path} did not send what its generator gave")

    for server in servers.values():
        client.transfer(server.port, f"{endpoint}?count=10")
    return in_turn(
        [
            Side(name, server, download(client, server, path, check), rounds=5)
            for name, server in servers.items()
        ]
    )


def _live(servers: dict[str, Server], subscribers: int, events: int) -> dict[str, list[Cost]]:
    """The costs of publishing `events` events; each waits until all have the one before."""
    costs: dict[str, list[Cost]] = {name: [] for name in servers}
    for _ in range(3):
        for name, server in servers.items():
            costs[name].append(_broadcast(server, subscribers, events))
    return costs


def _broadcast(server: Server, subscribers: int, events: int) -> Cost:
    with Subscribers(server.port, "/ticker", subscribers) as crowd:
        crowd.publish("/publish")  # the first one alone, so that nothing is cold
        before = server.cpu()
        wall = sum(crowd.publish("/publish") for _ in range(events))
        return Cost(wall, server.cpu() - before)


def _delivery(costs: dict[str, list[Cost]], peer: str, subscribers: int, events: int) -> Finding:
    deliveries = subscribers * events

    def micros(name: str) -> float:
        return middle(costs[name], "cpu") / deliveries * 1e6

    def told(name: str) -> str:
        each = middle(costs[name], "wall") / events * 1e3
        return f"{micros(name):.1f} µs CPU ({each:.1f} ms to reach all)"

    def turns(name: str) -> str:
        each = (f"{cost.cpu / deliveries * 1e6:.1f} µs" for cost in costs[name])
        return f"{name}: {', '.join(each)}"

    return Finding(
        what=f"a live event to one of {subscribers:,} subscribers",
        peer=peer,
        theirs=told(peer),
        ours=told(OURS),
        ratio=f"{micros(peer) / micros(OURS):.1f}x",
        target="",
        holds=None,
        rounds=(turns(peer), turns(OURS)),
    )
