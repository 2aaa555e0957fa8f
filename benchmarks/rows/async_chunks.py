"""Small chunks from an async generator: plain, with a `sleep(0)` after each, and in FastAPI."""

from __future__ import annotations

from benchmarks.apps import sources
from benchmarks.client import Client, Transfer, body_of
from benchmarks.measure import Cost, Side, download, in_turn, scaled
from benchmarks.report import Finding, compare
from benchmarks.server import Server

CHUNKS = 200_000
AT_LEAST = 5

PEER = "Starlette StreamingResponse"
OURS = "Tailrace StreamingResponse"


def run(scale: float) -> list[Finding]:
    count = scaled(CHUNKS, scale)
    plain = _costs("starlette", "/numbers-async", count)
    turns = _costs("starlette", "/numbers-with-turns", count)
    fastapi = _costs("fastapi", "/numbers-async", count)
    what = f"{count:,} small chunks, async generator"
    with_turns = f"{what}, `sleep(0)` after each"
    from_yield = f"{what}, FastAPI `yield` endpoint"
    return [
        compare(what, plain, peer=PEER, ours=OURS, account="wall", at_least=AT_LEAST),
        compare(with_turns, turns, peer=PEER, ours=OURS, account="wall"),
        compare(from_yield, fastapi, peer=PEER, ours=OURS, account="wall"),
    ]


def _costs(framework: str, endpoint: str, count: int) -> dict[str, list[Cost]]:
    expected = "".join(sources.numbers(count)).encode()
    client = Client(2 * len(expected) + 64 * 1024)
    path = f"{endpoint}?count={count}"

    def check(transfer: Transfer) -> None:
        if body_of(transfer) != expected:
            raise RuntimeError(f"{path} is not byte-equal to what the generator gave")

    with (
        Server(f"benchmarks.apps.{framework}_theirs:app") as theirs,
        Server(f"benchmarks.apps.{framework}_ours:app") as ours,
    ):
        for server in (theirs, ours):
            client.transfer(server.port, f"{endpoint}?count=100")
        return in_turn(
            [
                Side(PEER, theirs, download(client, theirs, path, check), rounds=5),
                Side(OURS, ours, download(client, ours, path, check), rounds=5),
            ]
        )
