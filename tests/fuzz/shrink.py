"""Removes requests from a conversation that goes wrong, as long as it still goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tests.fuzz.conversation import Await, Conversation, Request, Send, Step

__all__ = ["shrink"]


@dataclass(slots=True)
class _Part:
    """A request, and the steps after it. The first part has no request."""

    request: Request | None
    behind: list[Step] = field(default_factory=list)


def shrink(conversation: Conversation, goes_wrong: Callable[[Conversation], bool]) -> Conversation:
    """A smaller conversation that also goes wrong; the same one if there is none.

    In the smaller one, each request is sent completely and in one piece.

    Args:
        conversation: A conversation that goes wrong.
        goes_wrong: Plays a conversation, and returns whether it goes wrong.
    """
    parts = _parts(conversation)
    smallest = conversation
    number = 0
    while number < len(parts):
        fewer = parts[:number] + parts[number + 1 :]
        tried = _joined(conversation, fewer)
        if goes_wrong(tried):
            parts, smallest = fewer, tried
        else:
            number += 1
    return smallest


def _parts(conversation: Conversation) -> list[_Part]:
    parts = [_Part(None)]
    left = list(conversation.requests)
    sent = begins = 0
    for step in conversation.steps:
        if not isinstance(step, Send):
            parts[-1].behind.append(step)
            continue
        sent += len(step.data)
        while left and begins < sent:
            parts.append(_Part(left.pop(0)))
            begins += len(parts[-1].request.raw)  # type: ignore[union-attr] # just given
        if sent > begins:
            parts[-1].behind.append(step)  # frames, which belong to no request
    return parts


def _joined(conversation: Conversation, parts: Sequence[_Part]) -> Conversation:
    requests: list[Request] = []
    steps: list[Step] = []
    for part in parts:
        if part.request is not None:
            requests.append(part.request)
            steps.append(Send(part.request.raw))
        steps += [Await(len(requests)) if isinstance(step, Await) else step for step in part.behind]
    excused = conversation.excused_from
    if excused is not None:
        excused = sum(request.number < excused for request in requests)
    return replace(conversation, requests=tuple(requests), steps=tuple(steps), excused_from=excused)
