"""The problem document: the body of an answer that says why a request was refused.

Source: RFC 9457.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from tailrace.errors import RunEnded, StreamError, TailraceError

__all__ = ["PROBLEM", "detail_of", "problem_document"]

PROBLEM: Final = "application/problem+json"
"""The media type of a problem document."""


def problem_document(status: int, code: str, detail: str, **members: Any) -> dict[str, Any]:
    """A problem document, to be written as JSON.

    Args:
        status: The HTTP status of the answer.
        code: A stable name, for programs.
        detail: What was wrong and what to do, for people.
        members: More facts.

    Source: RFC 9457 3.1, 3.2.
    """
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **members,
    }


def detail_of(error: TailraceError) -> str:
    """What a client may read of an error.

    The message of an error that the client did not cause may name the server's files.
    """
    if isinstance(error, (StreamError, RunEnded)):
        return str(error)
    return "the server cannot do that now"
