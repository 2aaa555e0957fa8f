"""Real servers under random conversations: half a minute of `python -m tests.fuzz`."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.conversation import Conversation, Request, Send, mark_of
from tests.fuzz.generate import conversation
from tests.fuzz.requests import head
from tests.fuzz.run import fuzz, replay
from tests.fuzz.target import Loop, Target, server_name, target

pytestmark = pytest.mark.slow

SECONDS = 12.0
"""For each event loop; with start, rest and old seeds it is a quarter of a minute."""

OLD_SEED = 1
# fmt: off
OLD = (
    0, 1, 8, 12, 15, 20, 22, 42, 46, 52, 56, 75, 85, 95, 113, 142,
    144, 153, 213, 325, 351, 383, 407, 414, 460, 470, 517, 524, 583, 623, 626, 651,
    663, 667, 680, 709, 778, 823, 845, 936,
)
# fmt: on
"""Numbers of conversations that went wrong once; a change of the generator makes others of them."""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_nothing_goes_wrong(loop: Loop) -> None:
    seed = random.randrange(1 << 31)
    with target(server_name("tailrace", loop)) as found:
        assert replay(found, [conversation(OLD_SEED, number) for number in OLD], at_once=32) == []
        report = fuzz(found, seed, seconds=SECONDS)
    assert not report.failed, str(report)
    assert report.requests > 100
    assert report.health.asked > 10


def test_the_faults_of_a_broken_server_are_found() -> None:
    """One that fails, answers with another's mark, or keeps a task, for some of its clients."""
    with target("uvicorn", "tests.apps.fuzzed:broken") as found:
        found.rest = 1.0
        said = str(faults_of(found))
    assert "500 to #" in said
    assert "bytes of [b'mk000000000000']" in said
    assert "RuntimeError: on purpose" in said
    assert "tasks" in said


def faults_of(found: Target) -> list[object]:
    asked = [_asking(number) for number in range(16)]
    return [*replay(found, asked), *found.faults()]


def _asking(number: int) -> Conversation:
    """One request for a text."""
    mark = mark_of(3, number)
    body = f"{mark} 0\n".encode()
    raw = head("GET", f"/text/{mark}")
    request = Request("text", raw, "GET", 0, frozenset({200}), body)
    return Conversation(3, number, mark, (request,), (Send(raw),))
