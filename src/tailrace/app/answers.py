"""What the tour's chat says: a few paragraphs on streams, picked by the words of a question."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["answer_to"]

_OTHERWISE: Final = (
    "I only know about streams. An answer like this one is a run: its words go into a log as they "
    "are found, and each reader takes them from the log. So you may close this tab, open another, "
    "or lose your connection: the words go on, and wait for you where you left off."
)

_PARAGRAPHS: Final = (
    (
        {"survive", "survives", "close", "leave", "lost", "lose", "disconnect", "reload", "tab"},
        (
            "A stream survives because nobody owns it. The words you read are appended to a "
            "log, and every event carries the offset after it. When you come back, the "
            "browser says the last offset that it saw, and the log gives what follows: "
            "nothing is missing, nothing comes twice."
        ),
    ),
    (
        {"slow", "stall", "stalled", "backpressure", "memory", "wait"},
        (
            "A slow reader costs nothing but its socket. At the tail it is written to "
            "directly; when it lags it is left out, reads the log at its own pace, and is written "
            "to again when it has caught up. Nobody else waits for it."
        ),
    ),
    (
        {"crash", "kill", "power", "durable", "sqlite", "disk", "safe"},
        (
            "What was acknowledged was on the disk before: the words, the offset and the "
            "writer's own count are one commit. If the power fails in the middle of it, all "
            "of it is there afterwards, or none."
        ),
    ),
    (
        {"why", "tailrace", "name", "mill", "water", "river"},
        (
            "A tailrace is the channel that carries the water away from a mill as fast as it "
            "arrives, so that nothing backs up into the wheel. Your code is the wheel."
        ),
    ),
)


def answer_to(question: str) -> str:
    """A paragraph that has most to do with a question."""
    asked = set(re.findall(r"[a-z]+", question.lower()))
    words, paragraph = max(_PARAGRAPHS, key=lambda known: len(known[0] & asked))
    return paragraph if words & asked else _OTHERWISE
