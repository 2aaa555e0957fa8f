"""The classic example: lines from a sync generator."""

from __future__ import annotations

from benchmarks.apps import sources
from benchmarks.client import Client, Transfer, body_of
from benchmarks.measure import Side, download, in_turn, scaled
from benchmarks.report import Finding, compare
from benchmarks.server import Server

LINES = 200_000
AT_LEAST = 100

PEER = "Starlette StreamingResponse"
OURS = "Tailrace StreamingResponse"


def run(scale: float) -> list[Finding]:
    count = scaled(LINES, scale)
    expected = "".join(sources.numbers(count)).encode()
    client = Client(2 * len(expected) + 64 * 1024)
    path = f"/numbers?count={count}"

    def check(transfer: Transfer) -> None:
        if body_of(transfer) != expected:
            raise RuntimeError(f"{path} is not byte-equal to what the generator gave")

    with (
        Server("benchmarks.apps.starlette_theirs:app") as theirs,
        Server("benchmarks.apps.starlette_ours:app") as ours,
    ):
        for server in (theirs, ours):
            client.transfer(server.port, "/numbers?count=100")
        costs = in_turn(
            [
                Side(PEER, theirs, download(client, theirs, path, check)),
                Side(OURS, ours, download(client, ours, path, check), rounds=5),
            ]
        )
    what = f'{count:,} lines "Number i\\n", sync generator'
    return [compare(what, costs, peer=PEER, ours=OURS, account="wall", at_least=AT_LEAST)]
