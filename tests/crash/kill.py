"""Kill a server again and again while clients write and read, and look for what was lost.

python -m tests.crash.kill --seconds 60 --workers 4
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tailrace.errors import StoreUnavailable
from tests.crash.checks import Lost, check_file
from tests.crash.clients import LongPollReader, Reader, SseReader, Writer, catch_up, create
from tests.crash.served import Served

__all__ = ["LEAST_KILLS", "Report", "kill_and_check"]

WRITERS = 3
"""How many writers each stream has."""

LEAST_KILLS = 5
"""How many workers must be killed at least; until then, the run may take three times as long."""

CATCH_UP = 20.0
"""Seconds that readers have to come to the tail, when nothing is killed any more."""

_Message = tuple[str, int]
"""The name of the writer, and the number of the message."""


@dataclass(slots=True)
class Report:
    """What was done, and what was found.

    Attributes:
        seconds: How long processes were killed.
        worker_kills: How often a worker was killed.
        server_kills: How often all processes were killed at once.
        acked: How many appends were acknowledged.
        retried: How many of these were acknowledged only when they were repeated.
        cuts: How many connections of clients broke.
        read: How many messages the readers received.
        lost, doubled, reordered: How many messages of the stream; each must be 0.
        problems: Everything else that was wrong, in words; must be empty.
    """

    seconds: float = 0
    worker_kills: int = 0
    server_kills: int = 0
    acked: int = 0
    retried: int = 0
    cuts: int = 0
    read: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.seconds:.1f} s: {self.worker_kills} workers killed",
            f"the whole server killed {self.server_kills} times, {self.cuts} connections broken",
            f"{self.acked} appends acknowledged, of these {self.retried} after a retry",
            f"{self.lost} lost, {self.doubled} doubled, {self.reordered} reordered",
            f"{self.read} messages read by readers that went on",
            *(self.problems or ["nothing else was wrong; the file checks out"]),
        ]
        return "\n".join(lines)


class Crowd:
    """Writers and readers of a few streams. Every other stream is JSON."""

    def __init__(self, port: int, streams: int) -> None:
        self._port = port
        self.writers: list[Writer] = []
        self.readers: list[Reader] = []
        self.paths: dict[str, bool] = {}
        for number in range(streams):
            path, is_json = f"/v1/stream/kill/{number}", number % 2 == 1
            self.paths[path] = is_json
            create(port, path, "application/json" if is_json else "text/plain")
            self.writers += [
                Writer(port, path, f"w{number}{letter}", is_json) for letter in "abc"[:WRITERS]
            ]
            self.readers += [LongPollReader(port, path), SseReader(port, path)]
        for client in (*self.writers, *self.readers):
            client.start()

    def finish(self, report: Report) -> None:
        """Stop the writers, let the readers come to the tail, and add the result to the report."""
        _end(self.writers)
        data = {path: b"".join(self._bodies(path)) for path in self.paths}
        deadline = time.monotonic() + CATCH_UP
        expected = {path: list(_messages(self._bodies(path), self.paths[path])) for path in data}
        while time.monotonic() < deadline and not all(
            len(self._read(reader)) >= len(expected[reader.path]) for reader in self.readers
        ):
            time.sleep(0.05)
        _end(self.readers)
        for writer in self.writers:
            self._judge(writer, expected[writer.path], report)
            if not self.paths[writer.path]:
                report.problems += _misplaced(writer, data[writer.path])
        for reader in self.readers:
            got = self._read(reader)
            report.read += len(got)
            if got != expected[reader.path]:
                report.problems.append(_difference(reader.name, got, expected[reader.path]))
        for client in (*self.writers, *self.readers):
            report.problems += client.problems
            report.cuts += client.cuts

    def _bodies(self, path: str) -> list[bytes]:
        return catch_up(self._port, path)

    def _read(self, reader: Reader) -> list[_Message]:
        return list(_messages(list(reader.got), self.paths[reader.path]))

    @staticmethod
    def _judge(writer: Writer, there: list[_Message], report: Report) -> None:
        numbers = [number for name, number in there if name == writer.name]
        counts = Counter(numbers)
        report.acked += len(writer.acked)
        report.retried += writer.retried
        report.lost += sum(acked.seq not in counts for acked in writer.acked)
        report.doubled += sum(count - 1 for count in counts.values())
        report.reordered += sum(b < a for a, b in itertools.pairwise(numbers))
        if set(numbers) - set(range(writer.sent)):
            report.problems.append(f"{writer.name}: a message that was never sent")
        if not writer.acked:
            report.problems.append(f"{writer.name}: nothing was ever acknowledged")


def _messages(bodies: Iterable[bytes], is_json: bool) -> Iterator[_Message]:
    if is_json:
        for body in bodies:
            for message in json.loads(body or b"[]"):
                yield message["writer"], message["number"]
    else:
        for line in b"".join(bodies).splitlines():
            name, number, *_ = line.decode().split(" ")
            yield name, int(number)


def _misplaced(writer: Writer, data: bytes) -> list[str]:
    return [
        f"{writer.name}: {acked.seq} does not end at {acked.end}, as was acknowledged"
        for acked in writer.acked
        if acked.end is not None and not data[: acked.end].endswith(writer.message(acked.seq))
    ][:3]


def _difference(name: str, got: list[_Message], expected: list[_Message]) -> str:
    at = next(
        (at for at, pair in enumerate(zip(got, expected, strict=False)) if pair[0] != pair[1]),
        min(len(got), len(expected)),
    )
    return (
        f"{name}: {len(got)} of {len(expected)} messages; at {at}: got {got[at : at + 3]}, "
        f"expected {expected[at : at + 3]}"
    )


def _end(clients: Iterable[Writer | Reader]) -> None:
    for client in (clients := list(clients)):
        client.finish()
    for client in clients:
        client.join()


def kill_and_check(
    folder: Path, seconds: float, workers: int = 4, streams: int = 4, seed: int = 0
) -> Report:
    """Run a server in a folder, kill its processes at random, and check what is left.

    Args:
        folder: For the store, the files and the log.
        seconds: How long processes are killed.
        workers: The number of worker processes.
        streams: The number of streams; each has three writers and two readers.
        seed: Decides which processes are killed, and when.
    """
    rng = random.Random(seed)
    report = Report()
    server = Served(folder, workers)
    server.start()
    try:
        crowd = Crowd(server.port, streams)
        begin = time.monotonic()
        next_server_kill = begin + rng.uniform(0.3, 0.5) * min(seconds, 20)
        while time.monotonic() < begin + seconds * (1 if report.worker_kills >= LEAST_KILLS else 3):
            time.sleep(rng.uniform(0.2, 1.0))
            if time.monotonic() < next_server_kill:
                report.worker_kills += server.kill_worker(rng)
            else:
                server.kill()
                report.server_kills += 1
                server.start()
                next_server_kill = time.monotonic() + rng.uniform(4, 10)
        report.seconds = time.monotonic() - begin
        crowd.finish(report)
    finally:
        server.stop()
    try:
        check_file(server.database)
    except (Lost, StoreUnavailable) as error:
        report.problems.append(str(error))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    with tempfile.TemporaryDirectory(prefix="tailrace-kill-") as folder:
        report = kill_and_check(Path(folder), asked.seconds, asked.workers, asked.streams, seed)
    sys.stdout.write(f"seed {seed}\n{report}\n")
    return 1 if report.problems or report.lost or report.doubled or report.reordered else 0


if __name__ == "__main__":
    sys.exit(main())
