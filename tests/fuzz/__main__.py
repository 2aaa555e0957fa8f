"""The long run of the fuzz.

python -m tests.fuzz --requests 100000 --loop uvloop
python -m tests.fuzz --replay 7:4711
"""

from __future__ import annotations

import argparse
import random
import signal
import sys

from tests.fuzz.conversation import Conversation
from tests.fuzz.generate import conversation
from tests.fuzz.run import MOST_FAILURES, fuzz, replay
from tests.fuzz.shrink import shrink
from tests.fuzz.target import Target, server_name, target


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server ends with us
    name = server_name(options.server, options.loop)
    with target(name) as found:
        if options.replay:
            seed, _, number = options.replay.partition(":")
            one = conversation(int(seed), int(number), options.without)
            return _replay(found, one, shrinks=options.shrink)
        report = fuzz(
            found,
            options.seed,
            requests=options.requests,
            seconds=options.seconds,
            at_once=options.connections,
            left_out=options.without,
            most_failures=options.failures,
        )
    print(f"{name}, {report}")  # noqa: T201
    return report.failed


def _replay(found: Target, one: Conversation, *, shrinks: bool) -> int:
    failures = replay(found, [one])
    if failures and shrinks:
        one = shrink(one, lambda each: bool(replay(found, [each])))
        failures = replay(found, [one]) or failures
    for step in one.steps:
        print(step)  # noqa: T201
    for failure in failures:
        print(failure)  # noqa: T201
    left = found.faults()
    print("\n".join(left))  # noqa: T201
    return bool(failures or left)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, help="end after so many")
    parser.add_argument("--seconds", type=float, help="end after so long")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--connections", type=int, default=64, help="at the same time")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument(
        "--server", choices=("tailrace", "uvicorn", "uvicorn-h11"), default="tailrace"
    )
    parser.add_argument("--without", action="append", default=[], help="a kind of request")
    parser.add_argument("--failures", type=int, default=MOST_FAILURES, help="end after so many")
    parser.add_argument("--replay", metavar="SEED:NUMBER", help="one conversation again")
    parser.add_argument("--shrink", action="store_true", help="with --replay: make it smaller")
    options = parser.parse_args()
    if options.requests is None and options.seconds is None:
        options.requests = 100_000
    return options


if __name__ == "__main__":
    sys.exit(main())
