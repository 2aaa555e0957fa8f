"""Durable appends by many writers at once, beside the reference server of Durable Streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from benchmarks.follower import Follower
from benchmarks.measure import Cost, Side, in_turn, middle, scaled
from benchmarks.peers import NOT_INSTALLED, NodeServer, has_node_server
from benchmarks.report import Finding
from benchmarks.served import Served
from benchmarks.server import Server
from benchmarks.writers import Writer, create, delete, write_all

WRITERS = 100
EACH = 20
BODY_BYTES = 200
ROUNDS = 5
AT_LEAST = 3

STREAMS: Final = (50, 1)
"""How many streams the writers share, in each of the two measurements.

There is none with a stream for each writer: the reference server keeps 100 files open, and answers
404 to an append that needs another one.
"""

OURS: Final = "Tailrace, SQLite"
NODE: Final = "@durable-streams/server, file store"

_LONGEST_ANSWER: Final = 4 * 1024 * 1024


def run(scale: float) -> list[Finding]:
    each = scaled(EACH, scale)
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        if has_node_server():
            servers[NODE] = stack.enter_context(NodeServer())
        servers[OURS] = stack.enter_context(Served())
        return [_compare(servers, streams, each) for streams in STREAMS]


def _compare(servers: dict[str, Server], streams: int, each: int) -> Finding:
    sides = []
    for name, server in servers.items():
        turn = _turn(server, streams, each)
        _, check = turn()  # so that nothing is cold
        check()
        sides.append(Side(name, server, turn, ROUNDS))
    return finding(in_turn(sides), streams, WRITERS * each)


def _turn(
    server: Server, streams: int, each: int
) -> Callable[[], tuple[float, Callable[[], None]]]:
    paths = [f"/v1/stream/bench/{streams}-{n}" for n in range(streams)]
    writers = [
        Writer(paths[n % streams], [_body(n, at) for at in range(each)]) for n in range(WRITERS)
    ]

    def turn() -> tuple[float, Callable[[], None]]:
        for path in paths:
            create(server.port, path)
        seconds = write_all(server.port, writers)

        def check() -> None:
            with Follower(server.port, _LONGEST_ANSWER) as follower:
                for path in paths:
                    _check(follower.read(path), [each for each in writers if each.path == path])
                    delete(server.port, path)

        return seconds, check

    return turn


def _body(writer: int, at: int) -> bytes:
    return (b"%d %d " % (writer, at)).ljust(BODY_BYTES, b"x")


def _check(held: bytes, writers: Sequence[Writer]) -> None:
    """Check that the stream holds every append once, and those of each writer in its order."""
    records = [held[at : at + BODY_BYTES] for at in range(0, len(held), BODY_BYTES)]
    if Counter(records) != Counter(body for writer in writers for body in writer.bodies):
        raise RuntimeError("a stream does not hold each append once")
    place = {record: at for at, record in enumerate(records)}
    for writer in writers:
        places = [place[body] for body in writer.bodies]
        if places != sorted(places):
            raise RuntimeError("a stream does not hold a writer's appends in order")


def finding(costs: dict[str, list[Cost]], streams: int, appends: int) -> Finding:
    def rate(name: str) -> float:
        return appends / middle(costs[name], "wall")

    def told(name: str) -> str:
        each = middle(costs[name], "cpu") / appends * 1e6
        return f"{rate(name):,.0f} a second ({each:.0f} µs CPU each)"

    def turns(name: str) -> str:
        return f"{name}: {', '.join(f'{appends / cost.wall:,.0f}/s' for cost in costs[name])}"

    there = NODE in costs
    ratio = rate(OURS) / rate(NODE) if there else None
    to = "one stream" if streams == 1 else f"{streams} streams"
    return Finding(
        what=f"durable appends of {BODY_BYTES} bytes by {WRITERS} writers to {to}",
        peer=NODE,
        theirs=told(NODE) if there else NOT_INSTALLED,
        ours=told(OURS),
        ratio="" if ratio is None else f"{ratio:.1f}x",
        target=f"at least {AT_LEAST}x as many",
        holds=None if ratio is None else ratio >= AT_LEAST,
        rounds=tuple(turns(name) for name in (NODE, OURS) if name in costs),
    )
