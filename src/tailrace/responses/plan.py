"""What a request gets of a file or a range source: decided before a byte of it is read.

A `Representation` is what is sent of it: the file itself or a compressed one beside it, and the
headers that are true of that. A `Plan` is the answer to one request for it.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, Literal, TypeAlias, get_args

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Scope

from tailrace.errors import FileUnavailable, InvalidOption
from tailrace.semantics import (
    DIGESTS,
    Answer,
    ByteRanges,
    Outcome,
    Validators,
    answer,
    choose_encoding,
    content_range,
    format_date,
    is_entity_tag,
    parse_date,
    tag_as_named,
    unsatisfied,
)
from tailrace.source import Extent, Opener, OpenFile, Piece, RangeSource, open_file

__all__ = [
    "ETagKind",
    "FileRequest",
    "Plan",
    "Representation",
    "check_etag",
    "make_plan",
    "of_file",
    "of_ranges",
    "open_representation",
]

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

_SUFFIXES: Final = {"zstd": ".zst", "br": ".br", "gzip": ".gz"}
"""By content coding, the one that usually makes the smallest file first."""

ETagKind: TypeAlias = Literal["exact", "portable"]


@dataclass(frozen=True, slots=True)
class Representation:
    """The state of what is sent, as its headers tell it.

    Args:
        size: Bytes.
        etag: With its quotes; None where there is none.
        last_modified: Seconds since the epoch; None where it is not known.
        encoding: The content coding of the bytes; None for the plain ones.
    """

    size: int
    etag: str | None
    last_modified: float | None
    encoding: str | None = None

    def headers(self, now: float) -> dict[str, str]:
        """The headers that say so.

        Args:
            now: Seconds since the epoch. No date later than this is told (RFC 9110 8.8.2.1).
        """
        headers = {"content-length": str(self.size)}
        if self.last_modified is not None:
            headers["last-modified"] = format_date(min(self.last_modified, now))
        if self.etag is not None:
            headers["etag"] = self.etag
        if self.encoding is not None:
            headers["content-encoding"] = self.encoding
        return headers


def of_file(
    found: os.stat_result, encoding: str | None = None, etag: ETagKind = "exact"
) -> Representation:
    """The state of a file.

    Its ETag is strong. An exact one is another whenever anything was done to the file: size and
    modification time can be set back by what writes it (`rsync --inplace --times`), the time of its
    last change (`ctime`) cannot. It is a hash, so that no inode number is told (CVE-2003-1418). A
    portable one is the same for copies on several machines, and believes the modification time, in
    whole seconds: that is what tools that copy a file keep.
    """
    if etag == "portable":
        identity = f"{found.st_size}-{int(found.st_mtime)}-{encoding or ''}"
    else:
        times = f"{found.st_mtime_ns}-{found.st_ctime_ns}"
        identity = f"{found.st_size}-{times}-{found.st_ino}-{encoding or ''}"
    digest = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
    return Representation(found.st_size, f'"{digest}"', found.st_mtime, encoding)


def check_etag(kind: Any) -> ETagKind:
    """A kind of ETag that an application has asked for.

    Raises:
        InvalidOption: There is no such kind.
    """
    if kind not in get_args(ETagKind):
        raise InvalidOption("etag", kind, '"exact" or "portable"')
    return kind  # type: ignore[no-any-return] # one of them


def of_ranges(ranges: RangeSource) -> Representation:
    """The state of a range source.

    Raises:
        InvalidOption: Its size or its ETag cannot be sent.
    """
    size: Any = ranges.size
    if type(size) is not int or size < 0:
        raise InvalidOption("size", size, "bytes, 0 or more")
    etag: str | None = getattr(ranges, "etag", None)
    if etag is not None and not is_entity_tag(etag):
        if not is_entity_tag(f'"{etag}"'):
            raise InvalidOption("etag", etag, "characters without quotes, spaces and controls")
        etag = f'"{etag}"'
    return Representation(size, etag, getattr(ranges, "last_modified", None))


def open_representation(
    path: str, opener: Opener | None, *, precompressed: bool, accept_encoding: str | None
) -> tuple[OpenFile, str | None]:
    """Open the file itself, or the compressed one beside it that the client likes best. Blocks.

    A compressed file that is older than the plain one is not of it any more, and is passed over.

    Returns:
        The file, and its content coding.

    Raises:
        FileUnavailable: The file itself cannot be opened.
    """
    plain = open_file(path, opener)
    offered = list(_SUFFIXES) if precompressed else []
    while offered:
        encoding = choose_encoding(accept_encoding, offered)
        if encoding is None:
            break
        sibling = _open_sibling(path + _SUFFIXES[encoding], opener)
        if sibling is not None:
            # In whole seconds: tools that copy times keep no more.
            if int(sibling.stat.st_mtime) >= int(plain.stat.st_mtime):
                plain.close()
                return sibling, encoding
            sibling.close()
        offered.remove(encoding)
    return plain, None


def _open_sibling(path: str, opener: Opener | None) -> OpenFile | None:
    try:
        return open_file(path, opener)
    except FileUnavailable:
        return None


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
        file: What the extents are of; None if they are of a range source, or if there are none.
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
