"""JSON Lines from a `yield` endpoint."""

from __future__ import annotations

import json

from benchmarks.apps.prices import plain_prices
from benchmarks.client import Client, Transfer, body_of
from benchmarks.measure import Cost, Side, download, in_turn, scaled
from benchmarks.report import Finding, compare
from benchmarks.server import Server

LINES = 20_000

PEER = "FastAPI JSON Lines"
OURS = "Tailrace JSONLinesResponse"
CHECKED = "Tailrace JSONLinesResponse, StreamRoute"
"""With the route class that validates each item by the annotation, as FastAPI always does."""

WIRE_BYTES = 160
"""More bytes than one line has on the wire, with its chunk framing."""


def run(scale: float) -> list[Finding]:
    count = scaled(LINES, scale)
    what = f"{count:,} JSON lines from a `yield` endpoint"
    with (
        Server("benchmarks.apps.fastapi_theirs:app") as theirs,
        Server("benchmarks.apps.fastapi_ours:app") as ours,
        Server("benchmarks.apps.fastapi_ours_checked:app") as checked,
    ):
        servers = {PEER: theirs, OURS: ours, CHECKED: checked}
        typed = _costs(servers, "/lines", count)
        untyped = _costs(servers, "/lines-untyped", count)
    return [
        compare(f"{what}, models, validated", typed, peer=PEER, ours=CHECKED, account="cpu"),
        compare(f"{what}, models", typed, peer=PEER, ours=OURS, account="cpu"),
        compare(f"{what}, dicts, no annotation", untyped, peer=PEER, ours=OURS, account="cpu"),
    ]


def _costs(servers: dict[str, Server], endpoint: str, count: int) -> dict[str, list[Cost]]:
    expected = list(plain_prices(count))
    client = Client(WIRE_BYTES * count + 64 * 1024)
    path = f"{endpoint}?count={count}"

    def check(transfer: Transfer) -> None:
        # The sides differ in spaces, as JSON allows. The values must be equal.
        if [json.loads(line) for line in body_of(transfer).splitlines()] != expected:
            raise RuntimeError(f"{path} did not send what its generator gave")

    for server in servers.values():
        client.transfer(server.port, f"{endpoint}?count=10")
    return in_turn(
        [
            Side(name, server, download(client, server, path, check), rounds=5)
            for name, server in servers.items()
        ]
    )
