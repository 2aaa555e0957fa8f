"""A large file from the page cache, beside nginx with sendfile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.apps import sources
from benchmarks.client import Body
from benchmarks.disk import make
from benchmarks.measure import Account, Cost, Side, in_turn, middle, scaled
from benchmarks.peers import NOT_INSTALLED, Granian, Nginx, has_granian, has_nginx
from benchmarks.report import Finding
from benchmarks.server import Server
from benchmarks.sink import digest, take

FILE_MIB = 512
ROUNDS = 15
STARLETTE_ROUNDS = 5
AT_LEAST = 3
WALL_WITHIN = 1.10

APP: Final = "benchmarks.apps.files:app"
PROTOCOL: Final = "tailrace.server:HttpProtocol"

OURS: Final = "Tailrace FileResponse, --http tailrace"
FLAG: Final = "Starlette FileResponse, --http tailrace"
PLAIN: Final = "Starlette FileResponse, plain uvicorn"
NGINX: Final = "nginx, sendfile"
GRANIAN: Final = "granian, pathsend"


@dataclass(frozen=True, slots=True)
class Contender:
    """One side: how its server is started, and the path of the file on it."""

    name: str
    start: Callable[[], Server]
    path: str
    rounds: int = ROUNDS


def run(scale: float) -> list[Finding]:
    mebibytes = scaled(FILE_MIB, scale)
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        path = Path(folder, "file")
        expected = make(path, mebibytes)
        contenders = _contenders(path)
        costs = _send(contenders, expected)
        closest = [each for each in contenders if each.name in (NGINX, OURS)]
        copied = _send(closest, expected, copies=True)
    what = f"a {mebibytes} MB file from the page cache"
    # Half of the measured time is then the client's, so there is no target.
    beside = f"{what}, a client that copies it"
    size = expected.length
    return [
        _against(what, costs, size, NGINX, OURS, "cpu", "no more CPU", 1.0),
        _against(what, costs, size, NGINX, OURS, "wall", "within 10 % (wall)", 1 / WALL_WITHIN),
        _against(what, costs, size, NGINX, FLAG, "cpu", "", None),
        _against(what, costs, size, PLAIN, FLAG, "cpu", f"at least {AT_LEAST}x (cpu)", AT_LEAST),
        _against(what, costs, size, GRANIAN, OURS, "cpu", "", None),
        _against(beside, copied, size, NGINX, OURS, "cpu", "", None),
        _against(beside, copied, size, NGINX, OURS, "wall", "", None),
    ]


def _contenders(path: Path) -> list[Contender]:
    env = {sources.FILE_VARIABLE: str(path)}
    found = []
    if has_nginx():
        location = f"location = /file {{ alias {path}; }}"
        found.append(Contender(NGINX, lambda: Nginx(location), "/file"))
    found.append(Contender(OURS, lambda: Server(APP, env, http=PROTOCOL), "/ours"))
    found.append(Contender(FLAG, lambda: Server(APP, env, http=PROTOCOL), "/theirs"))
    if has_granian():
        found.append(Contender(GRANIAN, lambda: Granian(APP, env), "/theirs"))
    found.append(Contender(PLAIN, lambda: Server(APP, env), "/theirs", STARLETTE_ROUNDS))
    return found


def _send(
    contenders: list[Contender], expected: Body, *, copies: bool = False
) -> dict[str, list[Cost]]:
    with ExitStack() as stack:
        sides = []
        for each in contenders:
            server = stack.enter_context(each.start())
            if digest(server.port, each.path) != expected:
                raise RuntimeError(f"{each.name}: what arrived is not byte-equal to the file")
            turn = _turn(server, each.path, expected.length, copies)
            turn()
            sides.append(Side(each.name, server, turn, each.rounds))
        return in_turn(sides)


def _turn(
    server: Server, path: str, length: int, copies: bool
) -> Callable[[], tuple[float, Callable[[], None]]]:
    def turn() -> tuple[float, Callable[[], None]]:
        taken = take(server.port, path, copies=copies)

        def check() -> None:
            if taken.length != length:
                raise RuntimeError(f"{path} has {taken.length} bytes, the file {length}")

        return taken.seconds, check

    return turn


def _against(
    what: str,
    costs: dict[str, list[Cost]],
    size: int,
    peer: str,
    ours: str,
    account: Account,
    target: str,
    at_least: float | None,
) -> Finding:
    """A line for two sides; CPU is given for each gigabyte (10^9 bytes)."""
    what = f"{what}, {ours}: {'CPU per GB' if account == 'cpu' else 'wall'}"
    if peer not in costs:
        told = _told(costs[ours], size, account)
        return Finding(
            what=what, peer=peer, theirs=NOT_INSTALLED, ours=told, ratio="", target=target,
            holds=None,
        )  # fmt: skip
    ratio = middle(costs[peer], account) / middle(costs[ours], account)
    return Finding(
        what=what,
        peer=peer,
        theirs=_told(costs[peer], size, account),
        ours=_told(costs[ours], size, account),
        ratio=f"{ratio:.2f}x",
        target=target,
        holds=None if at_least is None else ratio >= at_least,
        rounds=tuple(f"{name}: {_each(costs[name], size)}" for name in (peer, ours)),
    )


def _told(costs: list[Cost], size: int, account: Account) -> str:
    cpu, wall = middle(costs, "cpu") / size * 1e9, middle(costs, "wall")
    if account == "cpu":
        return f"{cpu:.3f} s CPU per GB ({wall:.3f} s)"
    return f"{wall:.3f} s ({cpu:.3f} s CPU per GB)"


def _each(costs: list[Cost], size: int) -> str:
    return ", ".join(f"{cost.wall:.3f} s ({cost.cpu / size * 1e9:.3f} s/GB)" for cost in costs)
