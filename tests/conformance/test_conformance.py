"""The conformance suite of the protocol against `tailrace serve`: every test, on every store.

One of the three runs takes 30 s, most of which waits for streams to expire.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.serving import LONG_POLL, stream_server
from tests.conformance.suite import TESTS, Verdict, judge

pytestmark = pytest.mark.slow


def test_memory_conforms() -> None:
    with stream_server("memory://") as server:
        verdict = judge(server.url, long_poll=LONG_POLL)
        assert verdict == Verdict(TESTS, ()), f"{verdict}\n\n{server.log}"


def test_sqlite_conforms(tmp_path: Path) -> None:
    with stream_server(f"sqlite:///{tmp_path / 'streams.db'}") as server:
        verdict = judge(server.url, long_poll=LONG_POLL)
        assert verdict == Verdict(TESTS, ()), f"{verdict}\n\n{server.log}"


def test_sqlite_conforms_with_four_workers(tmp_path: Path) -> None:
    with stream_server(f"sqlite:///{tmp_path / 'streams.db'}", workers=4) as server:
        verdict = judge(server.url, long_poll=LONG_POLL)
        assert verdict == Verdict(TESTS, ()), f"{verdict}\n\n{server.log}"
