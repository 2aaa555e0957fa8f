"""Conversations come again from their seed, and every kind of them comes."""

from __future__ import annotations

from collections import Counter

from tests.fuzz.conversation import Await, Close, Conversation, HalfClose, Reset, Send
from tests.fuzz.generate import conversation
from tests.fuzz.requests import OFFERS, RIGHT, WRONG
from tests.fuzz.shrink import shrink

SOME = [conversation(5, number) for number in range(1500)]


def sent(each: Conversation) -> bytes:
    return b"".join(step.data for step in each.steps if isinstance(step, Send))


def test_the_same_seed_and_number_make_the_same_conversation() -> None:
    assert conversation(5, 17) == SOME[17]
    assert conversation(6, 17) != SOME[17]


def test_every_kind_of_request_and_of_leaving_comes() -> None:
    kinds = Counter(request.kind for each in SOME for request in each.requests)
    names = {"subscribed to events", "run as events", "websocket", "handshake behind"}
    streams = {kind for kind in kinds if kind.startswith("stream: ")}
    assert len(streams) > 8
    assert set(kinds) - streams == {*RIGHT, *OFFERS, *WRONG, *names}
    steps = Counter(type(step) for each in SOME for step in each.steps)
    assert min(steps[kind] for kind in (Close, Reset, HalfClose)) > 20
    assert max(len(each.requests) for each in SOME) > 40


def test_what_is_sent_is_the_requests_or_a_beginning_of_them() -> None:
    for each in SOME:
        whole = b"".join(request.raw for request in each.requests)
        assert whole.startswith(sent(each)[: len(whole)])


def test_marks_differ() -> None:
    assert len({each.mark for each in SOME}) == len(SOME)


def test_a_kind_can_be_left_out() -> None:
    kinds = {request.kind for n in range(300) for request in conversation(5, n, ["echo"]).requests}
    assert "echo" not in kinds


def test_a_failure_is_made_smaller() -> None:
    large = next(each for each in SOME if len(each.requests) > 10 and not each.leaves)
    culprit = large.requests[7]

    def goes_wrong(each: Conversation) -> bool:
        return culprit in each.requests

    small = shrink(large, goes_wrong)
    assert small.requests == (culprit,)
    assert sent(small) == culprit.raw
    waits = [step.answers for step in small.steps if isinstance(step, Await)]
    assert all(count <= 1 for count in waits)
