"""What a request gets of a file or a range source: decided before a byte of it is read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Scope

from tailrace.responses.representation import Representation
from tailrace.semantics import (
    DIGESTS,
    Answer,
    ByteRanges,
    Outcome,
    Validators,
    answer,
    content_range,
    parse_date,
    tag_as_named,
    unsatisfied,
)
from tailrace.source import Extent, OpenFile, Piece

__all__ = ["FileRequest", "Plan", "make_plan"]

_CONDITIONS: Final = (
    *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"),
    *("if-range", "range"),
)
_OF_THE_BYTES: Final = (
    *("accept-ranges", "content-disposition", "content-encoding", "content-language"),
    *("content-length", "content-type", "last-modified"),
    *(name.decode() for name in DIGESTS),
)
"""Headers about bytes, which a response without them does not have."""

_OF_ALL_CONTENT: Final = ("content-digest", "content-md5")
"""Digests of what one response carries: not of the whole, where it carries a part (RFC 9530 2)."""


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What of a request decides the answer.

    Args:
        method: In capitals; "" where there is none, as for a WebSocket that is denied.
        conditions: The headers that it depends on, lines of one name joined with commas.
        accept_encoding: The same for this one.
        now: Seconds since the epoch.
    """

    method: str
    conditions: dict[str, str]
    accept_encoding: str | None
    now: float

    @classmethod
    def of(cls, scope: Scope) -> FileRequest:
        headers = Headers(scope=scope)
        given = {name: headers.getlist(name) for name in (*_CONDITIONS, "accept-encoding")}
        joined = {name: ", ".join(lines) for name, lines in given.items() if lines}
        accept_encoding = joined.pop("accept-encoding", None)
        return cls(scope.get("method", "").upper(), joined, accept_encoding, time.time())


@dataclass(slots=True)
class Plan:
    """A response that is decided.

    Args:
        status: The HTTP status.
        headers: All of them.
        pieces: The body.
        whole: It is the whole file and nothing else.
        file: What extents are of; None where they are of a range source, or there are none.
        path: What the server sends, in place of the pieces.
    """

    status: int
    headers: MutableHeaders
    pieces: list[Piece]
    whole: bool = False
    file: OpenFile | None = None
    path: str | None = None

    @property
    def file_bytes(self) -> int:
        """Bytes of the body that are still to be read."""
        return sum(piece.size for piece in self.pieces if isinstance(piece, Extent))

    @property
    def body(self) -> bytes:
        """The body, where nothing of it is still to be read."""
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))

    def close(self) -> None:
        """Close the file, where the plan holds one."""
        if self.file is not None:
            self.file.close()


def make_plan(
    request: FileRequest,
    state: Representation,
    status: int,
    headers: MutableHeaders,
    max_ranges: int,
) -> Plan:
    """What a request gets.

    Args:
        request: Its method and conditions.
        state: Of what is sent.
        status: The application's. Conditions are for 2xx (RFC 9110 13.2.1), ranges for 200.
        headers: Of the whole representation; the plan's own from now on.
        max_ranges: A Range with more is ignored.
    """
    verdict = Answer(Outcome.WHOLE)
    if 200 <= status < 300:
        conditions = request.conditions
        if status != 200:
            conditions = {name: conditions[name] for name in conditions if name != "range"}
        verdict = answer(
            request.method,
            conditions,
            _validators(headers, request.now),
            state.size,
            now=request.now,
            max_ranges=max_ranges,
        )
    if verdict.outcome is Outcome.PARTIAL:
        return _partial(verdict, state.size, headers)
    if verdict.outcome is Outcome.WHOLE:
        pieces: list[Piece] = [Extent(0, state.size)] if state.size else []
        return Plan(status, headers, pieces, whole=True)
    if verdict.outcome is Outcome.NOT_MODIFIED and "etag" in headers:
        headers["etag"] = tag_as_named(headers["etag"], request.conditions.get("if-none-match"))
    return _without_bytes(verdict.outcome, state.size, headers)


def _validators(headers: MutableHeaders, now: float) -> Validators:
    """What conditions are compared with: what the client would be told."""
    date = headers.get("last-modified")
    return Validators(headers.get("etag"), None if date is None else parse_date(date, now=now))


def _partial(verdict: Answer, size: int, headers: MutableHeaders) -> Plan:
    for name in _OF_ALL_CONTENT:
        del headers[name]
    extents = [Extent(range_.start, range_.stop) for range_ in verdict.ranges]
    if len(extents) == 1:
        headers["content-range"] = content_range(verdict.ranges[0], size)
        headers["content-length"] = str(extents[0].size)
        return Plan(206, headers, list(extents))
    parts = ByteRanges(verdict.ranges, size, headers["content-type"], token_hex(13))
    headers["content-type"] = parts.media_type
    headers["content-length"] = str(parts.content_length)
    pieces: list[Piece] = []
    for place, extent in enumerate(extents):
        pieces += [parts.head(place), extent]
    return Plan(206, headers, [*pieces, parts.closing])


def _without_bytes(outcome: Outcome, size: int, headers: MutableHeaders) -> Plan:
    for name in _OF_THE_BYTES:
        del headers[name]
    if outcome is Outcome.NOT_MODIFIED:
        return Plan(304, headers, [])
    # The file's own life in caches is not that of an error.
    for name in ("cache-control", "expires"):
        del headers[name]
    text = "Precondition Failed"
    if outcome is Outcome.UNSATISFIABLE:
        text = "Range Not Satisfiable"
        headers["content-range"] = unsatisfied(size)
        headers["accept-ranges"] = "bytes"
    headers["content-type"] = "text/plain; charset=utf-8"
    headers["content-length"] = str(len(text))
    return Plan(outcome.value, headers, [text.encode()])
