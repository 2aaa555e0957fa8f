"""A file that a sync generator reads 1,024 bytes at a time."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from benchmarks.apps import sources
from benchmarks.client import Body, Client, Transfer, digest_of
from benchmarks.measure import Cost, Side, download, in_turn, scaled
from benchmarks.report import Finding, compare
from benchmarks.server import Server

FILE_MIB = 512
AT_LEAST = 30

PEER = "Starlette StreamingResponse"
OURS = "Tailrace StreamingResponse"


def run(scale: float) -> list[Finding]:
    mebibytes = scaled(FILE_MIB, scale)
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        path = Path(folder, "file")
        costs = _send(path, _make(path, mebibytes))
    what = f"a {mebibytes} MB file, sync generator of {sources.FILE_CHUNK_BYTES:,}-byte chunks"
    return [compare(what, costs, peer=PEER, ours=OURS, account="wall", at_least=AT_LEAST)]


def _make(path: Path, mebibytes: int) -> Body:
    """Write a file of random bytes, which is then in the page cache. Returns length and digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(mebibytes):
            piece = os.urandom(1024 * 1024)
            digest.update(piece)
            file.write(piece)
    return Body(mebibytes * 1024 * 1024, digest.hexdigest())


def _send(path: Path, expected: Body) -> dict[str, list[Cost]]:
    # Each chunk of 1,024 bytes has 7 bytes of framing when it is sent alone.
    client = Client(expected.length + expected.length // 64 + 64 * 1024)
    env = {sources.FILE_VARIABLE: str(path)}

    def check(transfer: Transfer) -> None:
        if digest_of(transfer) != expected:
            raise RuntimeError("what arrived is not byte-equal to the file")

    with (
        Server("benchmarks.apps.starlette_theirs:app", env) as theirs,
        Server("benchmarks.apps.starlette_ours:app", env) as ours,
    ):
        for server in (theirs, ours):
            client.transfer(server.port, "/numbers?count=100")
        # Theirs takes most of a minute, and one turn is enough to see a factor of 30.
        return in_turn(
            [
                Side(PEER, theirs, download(client, theirs, "/file", check), rounds=1),
                Side(OURS, ours, download(client, ours, "/file", check)),
            ]
        )
