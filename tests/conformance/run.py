"""Runs the conformance suite by hand, against a server that is running already:

    TAILRACE_CONFORMANCE_URL=http://127.0.0.1:8000 .venv/bin/python -m tests.conformance.run

TAILRACE_CONFORMANCE_LONG_POLL is that server's long-poll timeout in seconds; 0.5 without it.
Without a URL the suite runs against the reference server.
"""

from __future__ import annotations

import os
import sys

from tests.conformance.serving import LONG_POLL, reference_server
from tests.conformance.suite import TESTS, Verdict, judge


def main() -> int:
    url = os.environ.get("TAILRACE_CONFORMANCE_URL")
    if url is not None:
        long_poll = float(os.environ.get("TAILRACE_CONFORMANCE_LONG_POLL", LONG_POLL))
        verdict = judge(url, long_poll=long_poll)
    else:
        with reference_server() as server:
            verdict = judge(server.url, long_poll=LONG_POLL)
    sys.stdout.write(f"{verdict}\n")
    return 0 if verdict == Verdict(TESTS, ()) else 1


if __name__ == "__main__":
    sys.exit(main())
