"""Makes answers, each of a status, headers and a body, from what a store returns. Pure.

The headers that every answer has (for the security of browsers, and for other origins) are put
together once; each answer then adds its own.

Source: Durable Streams 5, 8, 10.1, 12.7; RFC 9457; RFC 9110.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tailrace import limits
from tailrace.errors import (
    AccessRefused,
    BodyStalled,
    ContentTypeMismatch,
    InvalidRequest,
    OffsetGone,
    Overloaded,
    ProducerFenced,
    ProducerGap,
    SequenceConflict,
    StoreUnavailable,
    StreamClosed,
    TailraceError,
    TooLarge,
)
from tailrace.protocol.options import ANY_ORIGIN, ProtocolOptions
from tailrace.semantics import (
    PROBLEM,
    SANDBOX_HEADERS,
    Outcome,
    Validators,
    answer,
    detail_of,
    problem_document,
    tag_as_named,
)
from tailrace.store import (
    START,
    Appended,
    Created,
    Mark,
    Offset,
    Slice,
    StreamInfo,
    Where,
    array_of,
    is_json,
)

__all__ = [
    "METHODS",
    "Headers",
    "Replies",
    "Reply",
    "etag_of",
    "fields_of_refusal",
    "replies_by_origin",
]

Headers = list[tuple[bytes, bytes]]

METHODS: Final = b"GET, HEAD, POST, PUT, DELETE, OPTIONS"

_SANDBOX_HEADERS: Final = tuple((name.encode(), value.encode()) for name, value in SANDBOX_HEADERS)
_TRUE: Final = b"true"
_CLOSED: Final = (b"stream-closed", _TRUE)
_UP_TO_DATE: Final = (b"stream-up-to-date", _TRUE)
_NO_STORE: Final = (b"cache-control", b"no-store")
_NO_BODY: Final = (b"content-length", b"0")

_EXPOSED: Final = ", ".join(
    (
        *("Stream-Next-Offset", "Stream-Cursor", "Stream-Up-To-Date", "Stream-Closed"),
        *("Stream-First-Offset", "Stream-SSE-Data-Encoding", "Stream-TTL", "Stream-Expires-At"),
        *("Stream-Retain-Bytes", "Stream-Retain-Records", "Stream-Retain-Age"),
        *("Producer-Epoch", "Producer-Seq", "Producer-Expected-Seq", "Producer-Received-Seq"),
        *("ETag", "Location", "Retry-After", "Content-Type"),
    )
).encode()
_ACCEPTED: Final = ", ".join(
    (
        # The wildcard at the end is for a page's own fields (tracing). It does not cover
        # Authorization, and nothing at all in a request with credentials.
        *("Authorization", "Content-Type", "If-None-Match", "Last-Event-ID", "Cache-Control"),
        *("Stream-Seq", "Stream-TTL", "Stream-Expires-At", "Stream-Closed"),
        *("Stream-Forked-From", "Stream-Fork-Offset", "Stream-Fork-Sub-Offset"),
        *("Stream-Retain-Bytes", "Stream-Retain-Records", "Stream-Retain-Age"),
        *("Producer-Id", "Producer-Epoch", "Producer-Seq", "*"),
    )
).encode()

_OUR_OWN: Final = (b"content-type", b"content-length", b"transfer-encoding")
"""Fields that `authorize` cannot set: they describe the body, which is made here."""

_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_UNSENDABLE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_FACTS: Final[dict[type[TailraceError], tuple[str, ...]]] = {
    BodyStalled: ("seconds",),
    ContentTypeMismatch: ("given", "wanted"),
    InvalidRequest: ("name", "allowed"),
    OffsetGone: ("offset", "first"),
    Overloaded: ("most",),
    ProducerFenced: ("epoch",),
    ProducerGap: ("expected", "received"),
    SequenceConflict: ("last",),
    StreamClosed: ("tail",),
    TooLarge: ("most",),
}
"""Fields of an error that its problem document shows."""

_SAYS: Final[dict[type[TailraceError], tuple[tuple[bytes, str], ...]]] = {
    OffsetGone: ((b"stream-first-offset", "first"),),
    ProducerFenced: ((b"producer-epoch", "epoch"),),
    ProducerGap: ((b"producer-expected-seq", "expected"), (b"producer-received-seq", "received")),
    StreamClosed: ((b"stream-next-offset", "tail"),),
}
"""Headers that the protocol has for fields of an error."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Args:
        status: The HTTP status.
        headers: A list of its own, since middleware changes it.
        body: The whole body.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""


def replies_by_origin(options: ProtocolOptions) -> dict[bytes | None, Replies]:
    """The `Replies` for each Origin of a request; None stands for all other origins.

    If answers do not depend on the origin, there is only None.
    """
    origins = options.cors_origins
    if len(origins) < 2:
        return {None: Replies(options, origins[0] if origins else None)}
    replies: dict[bytes | None, Replies] = {None: Replies(options, None, varies=True)}
    for origin in origins:
        replies[origin.encode()] = Replies(options, origin, varies=True)
    return replies


class Replies:
    """Makes answers.

    Args:
        options: The settings.
        origin: The other origin whose pages may read the answer, or "*"; None: no other.
        varies: Other origins get other answers: each answer says `Vary: Origin`.
    """

    def __init__(
        self, options: ProtocolOptions, origin: str | None, *, varies: bool = False
    ) -> None:
        self._reach = b"public" if options.shared else b"private"
        self._base = tuple(_base(options, origin, varies=varies))
        self._unstored = (*self._base, _NO_STORE)
        self._written = (*self._unstored, _NO_BODY)

    # Writing

    def appended(self, done: Appended) -> Reply:
        """Answer a POST with data: 200 if it is a producer's and new, 204 otherwise."""
        producer = done.producer
        next_offset = (b"stream-next-offset", str(done.tail).encode())
        if producer is None:
            return Reply(204, _closing([*self._unstored, next_offset], done.closed))
        is_new = not done.duplicate
        headers = [
            *(self._written if is_new else self._unstored),
            next_offset,
            (b"producer-epoch", b"%d" % producer.epoch),
            (b"producer-seq", b"%d" % producer.seq),
        ]
        return Reply(200 if is_new else 204, _closing(headers, done.closed))

    def closed(self, done: Appended) -> Reply:
        """Answer a POST that only closes: 204."""
        reply = self.appended(done)
        headers = [each for each in reply.headers if each is not _NO_BODY]
        return Reply(204, headers)

    def created(self, created: Created, url: bytes) -> Reply:
        """Answer a PUT: 201, or 200 if the stream existed."""
        info = created.info
        headers = [*self._written, *_described(info)]
        if created.is_new:
            headers.append((b"location", url))
        return Reply(201 if created.is_new else 200, headers)

    def deleted(self) -> Reply:
        """Answer a DELETE: 204."""
        return Reply(204, [*self._unstored])

    # Reading

    def head(self, info: StreamInfo) -> Reply:
        """Answer a HEAD: 200 with what is known of the stream."""
        return Reply(200, [*self._unstored, *_described(info), *_lifetime(info)])

    def read(
        self,
        part: Slice,
        *,
        cursor: int | None = None,
        condition: str | None = None,
        where: Where = START,
    ) -> Reply:
        """Answer a GET: 200 with data, or 304 if the client has it.

        Args:
            part: What was read.
            cursor: For the answer to a long-poll; None for any other.
            condition: `If-None-Match`; None if not given.
            where: Where the client asked to begin.
        """
        etag = etag_of(part)
        has_it = condition is not None and _has(condition, etag)
        headers = [
            *self._base,
            (b"cache-control", self._caching(part, where)),
            (b"etag", (tag_as_named(etag, condition) if has_it else etag).encode()),
            *_position_fields(part, cursor),
        ]
        if where is Mark.BEGINNING and part.start.position:
            headers.append((b"stream-first-offset", str(part.start).encode()))
        if has_it:
            return Reply(304, headers)
        return self._whole(headers, part)

    def tail(self, part: Slice, cursor: int | None = None) -> Reply:
        """Answer a GET of `offset=now`: the tail, or data that came after it. It is not cached."""
        return self._whole([*self._unstored, *_position_fields(part, cursor)], part)

    def waited(self, part: Slice, cursor: int) -> Reply:
        """Answer a long-poll that got no data in time, or at the end of a closed stream: 204."""
        return Reply(204, [*self._unstored, *_position_fields(part, cursor)])

    def finished(self, part: Slice) -> Reply:
        """Answer an EventSource that reconnects and has all of a closed stream: 204, after which
        it does not reconnect (WHATWG HTML 9.2.3)."""
        return Reply(204, [*self._unstored, *_position_fields(part, None)])

    def live(self) -> dict[str, str]:
        """The headers of an SSE answer, beside those that its format adds."""
        return {name.decode(): value.decode() for name, value in self._base}

    def _whole(self, headers: Headers, part: Slice) -> Reply:
        content_type, body = part.info.content_type, part.data
        if is_json(content_type):
            body = array_of(body)
        headers += (
            (b"content-type", content_type.encode("latin-1")),
            (b"content-length", b"%d" % len(body)),
        )
        return Reply(200, headers, body)

    def _caching(self, part: Slice, where: Where) -> bytes:
        """`Cache-Control`: how long a cache may use the answer before it asks again by ETag."""
        info = part.info
        # "Nothing yet" is only true until the next append: a browser that cached it for a minute
        # would not see what it has written itself.
        is_nothing_yet = not part.chunks and not part.closed
        # A later stream of this path would have some of the same URLs: those of its beginning, and
        # of what a fork shares with its source. A cache would then answer with this stream's data.
        is_this_streams = isinstance(where, Offset) and where.generation == info.generation
        if is_nothing_yet or not is_this_streams:
            return self._reach + b", no-cache"
        age = limits.CACHE_MAX_AGE
        if info.ttl is not None:
            age = min(age, info.ttl)  # a cached answer must not outlive the stream by much
        return b"%b, max-age=%d, stale-while-revalidate=%d" % (
            self._reach,
            age,
            limits.CACHE_STALE if age == limits.CACHE_MAX_AGE else 0,
        )

    # Refusing

    def problem(self, error: TailraceError) -> Reply:
        """Answer a request that is refused, or that failed, with a problem document."""
        kind = type(error)
        facts = {name: getattr(error, name) for name in _FACTS.get(kind, ())}
        headers: Headers = []
        for name, fact in _SAYS.get(kind, ()):
            headers.append((name, str(getattr(error, fact)).encode()))
        if kind is StreamClosed:
            headers.append(_CLOSED)
        elif isinstance(error, AccessRefused):
            headers += fields_of_refusal(error)
        elif isinstance(error, (Overloaded, StoreUnavailable)):
            headers.append((b"retry-after", b"%d" % limits.RETRY_AFTER))
        document = problem_document(error.status, error.code, detail_of(error), **facts)
        return self._problem(document, headers)

    def not_allowed(self, method: str, what: str = "streams", allowed: bytes = METHODS) -> Reply:
        """Answer a method that streams (or `what`, in the plural) do not support: 405."""
        detail = f"{what} do not support {method[:20]!a}: use {allowed.decode()}"
        document = problem_document(405, "method_not_allowed", detail)
        return self._problem(document, [(b"allow", allowed)])

    def options(self) -> Reply:
        """Answer an OPTIONS: the methods and headers that are allowed, also for other origins."""
        headers = [*self._base, (b"allow", METHODS)]
        if any(name == b"access-control-allow-origin" for name, _ in self._base):
            headers += (
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", _ACCEPTED),
                (b"access-control-max-age", b"%d" % limits.PREFLIGHT_MAX_AGE),
            )
        return Reply(204, headers)

    def _problem(self, document: dict[str, Any], headers: Headers) -> Reply:
        body = json.dumps(document).encode()
        about = (
            (b"content-type", PROBLEM.encode()),
            (b"content-length", b"%d" % len(body)),
        )
        return Reply(document["status"], [*self._unstored, *headers, *about], body)


def fields_of_refusal(error: AccessRefused) -> Headers:
    """The header fields that `authorize` gave with its refusal, except those of the body.

    A field that is not valid is left out too, so that the refusal does not become an error 500.

    Source: RFC 9110 5.1, 5.5.
    """
    fields = ((name.lower().encode(), _encoded(value)) for name, value in error.headers.items())
    return [
        (name, value)
        for name, value in fields
        if name not in _OUR_OWN and _NAME.fullmatch(name) and not _UNSENDABLE.search(value)
    ]


def _encoded(value: object) -> bytes:
    """A field's value in Latin-1, as Starlette writes it, or in UTF-8 if that is not possible."""
    text = str(value)
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def etag_of(part: Slice) -> str:
    """The entity tag of a part of a stream.

    The offset at its end identifies all bytes before it, even if other streams had this path
    before. The time of creation tells streams apart that have no bytes yet.
    """
    start, end = part.start.position, part.end
    closed = ":c" if part.closed else ""
    return f'"{end.generation:x}.{part.info.created_at:x}:{start}:{end.position}{closed}"'


def _base(options: ProtocolOptions, origin: str | None, *, varies: bool) -> Headers:
    policy = b"cross-origin" if origin == ANY_ORIGIN else b"same-origin"
    headers = [*_SANDBOX_HEADERS, (b"cross-origin-resource-policy", policy)]
    if varies:
        headers.append((b"vary", b"Origin"))
    if origin is not None:
        headers += (
            (b"access-control-allow-origin", origin.encode()),
            # With credentials, "*" is not a wildcard (Fetch 3.3.3); without, it is shorter.
            (b"access-control-expose-headers", _EXPOSED if options.cors_credentials else b"*"),
        )
        if options.cors_credentials:
            headers.append((b"access-control-allow-credentials", _TRUE))
    return headers


def _closing(headers: Headers, closed: bool) -> Headers:
    if closed:
        headers.append(_CLOSED)
    return headers


def _described(info: StreamInfo) -> Headers:
    headers = [
        (b"content-type", info.content_type.encode("latin-1")),
        (b"stream-next-offset", str(info.tail).encode()),
    ]
    return _closing(headers, info.closed)


def _lifetime(info: StreamInfo) -> Headers:
    headers: Headers = []
    if info.ttl is not None:
        headers.append((b"stream-ttl", b"%d" % info.ttl))
    if info.expires_at is not None:
        headers.append((b"stream-expires-at", _rfc3339(info.expires_at)))
    if info.first.position:
        headers.append((b"stream-first-offset", str(info.first).encode()))
    keep = info.retention
    for name, bound in (
        (b"stream-retain-bytes", keep.max_bytes),
        (b"stream-retain-records", keep.max_records),
        (b"stream-retain-age", keep.max_age),
    ):
        if bound is not None:
            headers.append((name, b"%d" % bound))
    return headers


def _position_fields(part: Slice, cursor: int | None) -> Headers:
    headers = [(b"stream-next-offset", str(part.end).encode())]
    if part.up_to_date:
        headers.append(_UP_TO_DATE)
    if cursor is not None and not part.closed:
        headers.append((b"stream-cursor", b"%d" % cursor))
    return _closing(headers, part.closed)


def _has(condition: str, etag: str) -> bool:
    asked = {"if-none-match": condition}
    return answer("GET", asked, Validators(etag, None), 0, now=0).outcome is Outcome.NOT_MODIFIED


def _rfc3339(milliseconds: int) -> bytes:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    text = f"{instant:%H:%M:%S}.{milliseconds % 1000:03d}Z"
    return f"{instant.year:04d}-{instant:%m-%d}T{text}".encode()
