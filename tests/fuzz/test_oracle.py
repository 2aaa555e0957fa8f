"""The oracle sees what is wrong; each test shows it answers that are, and some that are right."""

from __future__ import annotations

import re

import pytest

from tests.fuzz.answers import Answers
from tests.fuzz.conversation import Close, Conversation, Ends, Request, Send, Step, mark_of
from tests.fuzz.frames import Opcode, masked, messages
from tests.fuzz.oracle import judge
from tests.fuzz.requests import head, smuggled

MARK = mark_of(1, 1)
FOREIGN = mark_of(1, 2)
OK = frozenset({200})


def asked(count: int, *, ends: Ends = Ends.NO, statuses: frozenset[int] = OK) -> list[Request]:
    return [
        Request("text", head("GET", f"/text/{MARK}?r={n}"), "GET", n, statuses, body_of(n), ends)
        for n in range(count)
    ]


def body_of(number: int, mark: str = MARK) -> bytes:
    return f"{mark} {number}\n".encode()


def answer(number: int, *, mark: str = MARK, status: int = 200, body: bytes | None = None) -> bytes:
    body = body_of(number, mark) if body is None else body
    return (
        f"HTTP/1.1 {status} \r\nx-answers: {mark}.{number}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


def verdict(
    requests: list[Request],
    received: bytes,
    *steps: Step,
    ended: str | None = "closed",
    excused_from: int | None = None,
) -> list[str]:
    """What the oracle says of these bytes, however they are cut into pieces."""
    sent = tuple(Send(request.raw) for request in requests)
    whole = Conversation(1, 1, MARK, tuple(requests), (*sent, *steps), excused_from)
    verdicts = []
    for size in (1, 7, 1 << 20):
        answers = Answers([request.method for request in requests])
        for at in range(0, len(received), size):
            answers.feed(received[at : at + size])
        if ended is not None:
            answers.end(ended)
        verdicts.append(judge(whole, answers, sum(len(request.raw) for request in requests)))
    # What is shown of bytes that cannot be read depends on how they came.
    assert len({bool(each) for each in verdicts}) == 1
    return verdicts[-1]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def test_right_answers_are_right() -> None:
    assert verdict(asked(2), answer(0) + answer(1)) == []
    assert (
        verdict(asked(1), CHUNKED + chunk(body_of(0)[:5]) + chunk(body_of(0)[5:]) + chunk(b""))
        == []
    )
    assert verdict(asked(1), b"HTTP/1.1 200 OK\r\n\r\n" + body_of(0)) == []
    assert verdict([], b"") == []


@pytest.mark.parametrize(
    ("received", "said"),
    [
        (answer(0), "no answer to #1"),
        (answer(0) + answer(1)[:-3], "the answer to #1 text was cut"),
        (answer(0) + answer(1) + answer(2), "3 answers to 2 requests"),
        (answer(1) + answer(0), "came as that to #0"),
        (answer(0) + answer(1, mark=FOREIGN), FOREIGN),
        (answer(0) + answer(1, status=500), "500 to #1"),
        (answer(0) + answer(1, status=404), "404 to #1 text, wanted one of"),
        (answer(0) + answer(1, body=body_of(1) + b"x"), "the body of #1"),
        (answer(0) + answer(1, body=b""), "the body of #1"),
        (answer(0) + b"HTTP/1.1 100 \r\n\r\n" + answer(1), "before the answer to #1"),
        (answer(0) + body_of(1, FOREIGN), "malformed"),
        (answer(0) + b"HTTP/1.1 200 OK\r\nx y: z\r\n\r\n", "malformed"),
        (answer(0) + b"HTTP/1.1 200 OK\r\nx: a\nb: c\r\n\r\n", "malformed"),
        (answer(0) + b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n", "malformed"),
        (answer(0) + CHUNKED + b"zz\r\n", "malformed"),
        (answer(0) + CHUNKED + b"1\r\nabc", "malformed"),
        (answer(0) + CHUNKED + b"0\r\nmk", "malformed"),
        (answer(0) + CHUNKED + chunk(body_of(1)), "the answer to #1 text was cut"),
        (answer(0) + CHUNKED + chunk(body_of(1)[:4] + b"HTTP/1.1"), "the body of #1 text (a part)"),
    ],
)
def test_wrong_answers_are_seen(received: bytes, said: str) -> None:
    assert any(said in fault for fault in verdict(asked(2), received))


def test_bytes_for_somebody_who_asked_nothing_are_seen() -> None:
    assert verdict([], f"data: {FOREIGN}\n\n".encode())
    assert verdict([], answer(0))


def test_an_answer_behind_the_last_one_is_seen() -> None:
    closing = asked(1, ends=Ends.MUST) + asked(2)[1:]
    assert verdict(closing, answer(0)) == []
    assert any(
        "behind the connection's end" in each for each in verdict(closing, answer(0) + answer(1))
    )


def test_a_request_that_was_carried_out_though_it_is_a_body_is_seen() -> None:
    data = smuggled(MARK)
    post = Request(
        "upload",
        head("POST", "/upload", [("Content-Length", str(len(data)))]) + data,
        "POST",
        0,
        OK,
        body_of(0),
    )
    assert verdict([post], answer(0)) == []
    said = verdict([post], answer(0) + answer(0, body=f"smuggled by {MARK}\n".encode()))
    assert any("2 answers to 1 requests" in each for each in said)
    said = verdict([post], answer(0, body=f"smuggled by {MARK}\n".encode()))
    assert said


def test_a_connection_that_stays_is_seen() -> None:
    assert any("did not end" in each for each in verdict(asked(1), answer(0), ended=None))


def test_nothing_is_owed_to_a_client_that_has_left() -> None:
    assert verdict(asked(2), answer(0)[:20], Close()) == []
    assert verdict(asked(2), answer(0, mark=FOREIGN), Close())


def test_a_refusal_may_be_silent_but_no_other_request_may() -> None:
    refused = frozenset({400})
    wrong = asked(2)[:1] + asked(2, ends=Ends.MUST, statuses=refused)[1:]
    assert verdict(wrong, answer(0), excused_from=1) == []
    assert verdict(wrong, answer(0) + answer(1, status=400, body=b""), excused_from=1) == []
    assert verdict(wrong, answer(0) + answer(1), excused_from=1)
    assert verdict(wrong, b"", excused_from=1)
    assert verdict(wrong, b"", excused_from=0) == []


def test_an_offer_may_close_the_connection_behind_its_answer() -> None:
    offer = asked(1, ends=Ends.MAY) + asked(3)[1:]
    assert verdict(offer, answer(0)) == []
    assert verdict(offer, answer(0) + answer(1))
    assert verdict(offer, answer(0) + answer(1) + answer(2)) == []


def test_part_of_a_request_may_be_refused() -> None:
    request = asked(1)[0]
    cut = Conversation(1, 1, MARK, (request,), (Send(request.raw[:9]),), 0)
    answers = Answers(["GET"])
    answers.feed(answer(0, status=400, body=b""))
    answers.end("closed")
    assert judge(cut, answers, 9) == []


def test_frames_are_the_connections_own() -> None:
    hello = Request(
        "websocket", b"x", "GET", 0, frozenset({101}), None, Ends.MUST, frames=(b"a", b"b")
    )
    switched = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
    assert verdict([hello], switched + b"\x81\x01a\x81\x01b\x88\x02\x03\xe8") == []
    assert verdict([hello], switched + b"\x81\x01a\x81\x01c")
    assert verdict([hello], switched + b"\x81\x01a")
    assert verdict([hello], switched + b"HTTP/1.1 200 OK\r\n\r\n")
    assert verdict([hello], switched + b"\x81\x0e" + FOREIGN.encode())


def test_patterns_match_the_whole_body() -> None:
    request = Request("sse", b"x", "GET", 0, OK, re.compile(rb"id: [0-9]+\n\n"))
    assert verdict([request], answer(0, body=b"id: 17\n\n")) == []
    assert verdict([request], answer(0, body=b"id: 17\n\nx"))


def test_a_masked_frame_is_what_a_server_unmasks() -> None:
    frame = masked(Opcode.TEXT, b"x" * 300, b"\x01\x02\x03\x04")
    assert frame[:4] == b"\x81\xfe\x01\x2c"
    assert bytes(byte ^ (at % 4 + 1) for at, byte in enumerate(frame[8:])) == b"x" * 300
    assert list(messages(b"\x81\x7e\x01\x2c" + b"x" * 300)) == [(1, b"x" * 300)]
