"""Finds what is wrong with the answers on one connection, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.fuzz.answers import Answer, Answers
from tests.fuzz.conversation import MARK, Conversation, Ends, Request
from tests.fuzz.frames import Opcode, messages

__all__ = ["judge"]

OWN_ERRORS = frozenset({501, 503, 505})
"""The 5xx that do not mean that a program has failed."""

CUT = frozenset({400, 408})
"""Allowed for a request that was not sent completely."""

PROBE = frozenset({100})
"""May be sent to a client that has ended its side, if its answer takes long."""


def judge(conversation: Conversation, answers: Answers, sent_bytes: int) -> list[str]:
    """What is wrong, in words; empty if nothing is.

    Args:
        conversation: What the client wanted to do.
        answers: What came.
        sent_bytes: How many bytes of the requests were sent; there may be fewer than wanted,
            because the connection was closed.
    """
    return [*_judge(conversation, answers, sent_bytes)]


def _judge(conversation: Conversation, answers: Answers, sent: int) -> Iterator[str]:
    begun = _begun(conversation.requests, sent)
    if answers.fault is not None:
        yield f"malformed: {answers.fault}"
    if len(answers.found) > len(begun):
        extra = answers.found[len(begun)]
        yield f"{len(answers.found)} answers to {len(begun)} requests: {extra.raw_head[:300]!r}"
    over = False
    for request, answer in zip(begun, answers.found, strict=False):
        if over:
            yield f"an answer behind the connection's end: {answer.raw_head[:200]!r}"
            break
        yield from _judge_answer(conversation, request, answer)
        over = request.ends is Ends.MUST or _says_close(answer)
    yield from _judge_frames(conversation, begun, answers)
    yield from _foreign(conversation, "rest", answers.rest)
    if not conversation.leaves:
        yield from _judge_missing(conversation, answers, sent)


def _begun(requests: Sequence[Request], sent: int) -> list[Request]:
    """The requests of which any byte was sent. One that was not sent completely may be refused."""
    begun, at = [], 0
    for request in requests:
        if at >= sent:
            break
        at += len(request.raw)
        whole = at <= sent
        begun.append(request if whole else replace(request, statuses=request.statuses | CUT))
    return begun


def _says_close(answer: Answer) -> bool:
    return answer.head.headers.get("connection", "").lower() == "close"


# One answer ---------------------------------------------------------------------------------------


def _judge_answer(conversation: Conversation, request: Request, answer: Answer) -> Iterator[str]:
    name, status = f"#{request.number} {request.kind}", answer.head.status
    if status >= 500 and status not in OWN_ERRORS:
        yield f"{status} to {name}: {bytes(answer.body[:200])!r}"
    elif status not in request.statuses:
        yield f"{status} to {name}, wanted one of {sorted(request.statuses)}"
    interim = request.interim | (PROBE if conversation.half_closes else frozenset())
    if set(answer.interim) - interim:
        yield f"{answer.interim} before the answer to {name}"
    answers = answer.head.headers.get("x-answers")
    if answers is not None and answers != f"{conversation.mark}.{request.number}":
        yield f"the answer to {answers} came as that to {name}"
    yield from _foreign(conversation, f"head of {name}", answer.raw_head)
    yield from _judge_body(conversation, request, answer)


def _judge_body(conversation: Conversation, request: Request, answer: Answer) -> Iterator[str]:
    body, wanted = bytes(answer.body), request.body
    if wanted is None or not 200 <= answer.head.status < 300 or request.method == "HEAD":
        yield from _foreign(conversation, f"body of #{request.number}", body)
        return
    if isinstance(wanted, bytes):
        right = body == wanted if answer.complete else wanted.startswith(body.removesuffix(b"\r"))
    else:
        right = not answer.complete or wanted.fullmatch(body) is not None
        yield from _foreign(conversation, f"body of #{request.number}", body)
    if not right:
        part = "" if answer.complete else " (a part)"
        yield f"the body of #{request.number} {request.kind}{part} is {_short(body)}"


def _short(body: bytes) -> str:
    return repr(body) if len(body) < 300 else f"{body[:150]!r}...{body[-150:]!r} ({len(body)})"


def _foreign(conversation: Conversation, where: str, data: bytes) -> Iterator[str]:
    if b"smuggled by" in data:
        yield f"{where}: {data[:200]!r}"
    foreign = set(MARK.findall(data)) - {conversation.mark.encode()}
    if foreign:
        yield f"{where}: bytes of {sorted(foreign)[:3]}: {data[:200]!r}"


def _judge_frames(
    conversation: Conversation, begun: list[Request], answers: Answers
) -> Iterator[str]:
    if not answers.frames:
        return
    wanted = begun[len(answers.found) - 1].frames if len(answers.found) <= len(begun) else ()
    yield from _foreign(conversation, "frames", bytes(answers.frames))
    try:
        data = [each for code, each in messages(bytes(answers.frames)) if code == Opcode.TEXT]
    except ValueError as error:
        yield str(error)
        return
    if data != list(wanted[: len(data)]):
        yield f"frames {data[:5]}, wanted {wanted[:5]}"
    owed = not conversation.leaves and conversation.excused_from is None
    if owed and len(data) < len(wanted):
        yield f"{len(data)} of {len(wanted)} frames came"


# What did not come --------------------------------------------------------------------------------


def _judge_missing(conversation: Conversation, answers: Answers, sent: int) -> Iterator[str]:
    if answers.ended is None:
        yield "the server did not end the connection, which the client had ended"
    at = 0
    for number, request in enumerate(conversation.requests):
        at += len(request.raw)
        if number == conversation.excused_from or _is_last(request, answers, number):
            return
        if number < answers.complete:
            continue
        if number < len(answers.found):
            if conversation.half_closes and _is_endless(answers.found[number]):
                return  # a slow server may think that the client has left
            yield f"the answer to #{number} {request.kind} was cut ({answers.ended})"
        elif at <= sent:
            yield f"no answer to #{number} {request.kind} ({answers.ended})"
        else:
            yield f"#{number} {request.kind} could not be sent whole ({answers.ended})"
        return


def _is_endless(answer: Answer) -> bool:
    return "content-length" not in answer.head.headers


def _is_last(request: Request, answers: Answers, number: int) -> bool:
    """Whether no later request need be answered; nor this one, if its answer is not complete."""
    if number >= answers.complete:
        return request.ends is not Ends.NO
    return request.ends is Ends.MUST or (
        request.ends is Ends.MAY and len(answers.found) == number + 1
    )
