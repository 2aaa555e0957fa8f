"""Reading a stream from its beginning, beside the reference server of Durable Streams."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from benchmarks.follower import Follower
from benchmarks.measure import Cost, Side, in_turn, middle, scaled
from benchmarks.peers import NOT_INSTALLED, NodeServer, has_node_server
from benchmarks.report import Finding
from benchmarks.served import Served
from benchmarks.server import Server
from benchmarks.writers import Writer, create, write_all

APPENDS: Final = {200: 10_000, 4096: 4_000}
"""Bytes of an append, and how many appends the stream has: what can be made in some seconds."""

TURN_BYTES = 64 * 1024 * 1024
"""Bytes that are read in a turn: the stream is read again and again, until it is about so much."""

ROUNDS = 5
WRITERS = 100

OURS: Final = "Tailrace, SQLite"
NODE: Final = "@durable-streams/server, file store"


def run(scale: float) -> list[Finding]:
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        if has_node_server():
            servers[NODE] = stack.enter_context(NodeServer())
        servers[OURS] = stack.enter_context(Served())
        return [
            _compare(servers, size, scaled(appends, scale), scaled(TURN_BYTES, scale))
            for size, appends in APPENDS.items()
        ]


def _compare(servers: dict[str, Server], size: int, appends: int, wanted: int) -> Finding:
    length = size * appends
    times = max(1, wanted // length)
    sides = []
    with ExitStack() as stack:
        for name, server in servers.items():
            path = f"/v1/stream/bench/{size}"
            _fill(server.port, path, size, appends)
            # Room for a server that answers with the whole stream at once.
            follower = stack.enter_context(Follower(server.port, 2 * length + 1024 * 1024))
            turn = _turn(follower, path, length, times)
            _, check = turn()  # so that nothing is cold
            check()
            sides.append(Side(name, server, turn, ROUNDS))
        return finding(in_turn(sides), size, length, times)


def _fill(port: int, path: str, size: int, appends: int) -> None:
    create(port, path)
    shares = [range(n, appends, WRITERS) for n in range(WRITERS)]
    body = bytes(range(256)) * (size // 256 + 1)
    write_all(port, [Writer(path, [body[:size]] * len(share)) for share in shares if share])


def _turn(
    follower: Follower, path: str, length: int, times: int
) -> Callable[[], tuple[float, Callable[[], None]]]:
    def turn() -> tuple[float, Callable[[], None]]:
        seconds = sum(follower.time(path) for _ in range(times))

        def check() -> None:
            if len(follower.read(path)) != length:
                raise RuntimeError(f"{path} was not read whole")

        return seconds, check

    return turn


def finding(costs: dict[str, list[Cost]], size: int, length: int, times: int) -> Finding:
    megabytes = length * times / 1e6

    def rate(name: str) -> float:
        return megabytes / middle(costs[name], "wall")

    def told(name: str) -> str:
        each = middle(costs[name], "cpu") / megabytes * 1e3
        return f"{rate(name):,.0f} MB/s ({each:.1f} ms CPU per MB)"

    def turns(name: str) -> str:
        return f"{name}: {', '.join(f'{megabytes / cost.wall:,.0f} MB/s' for cost in costs[name])}"

    there = NODE in costs
    ratio = f"{rate(OURS) / rate(NODE):.1f}x" if there else ""
    return Finding(
        what=f"reading a stream of {length / 1e6:.0f} MB in appends of {size:,} bytes",
        peer=NODE,
        theirs=told(NODE) if there else NOT_INSTALLED,
        ours=told(OURS),
        ratio=ratio,
        target="",
        holds=None,
        rounds=tuple(turns(name) for name in (NODE, OURS) if name in costs),
    )
