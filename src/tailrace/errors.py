"""Every error that Tailrace raises, in one tree.

```
TailraceError
├── ArchiveTooLarge  a directory has too many files for one ZIP (403)
├── FileChanged      a file was truncated, overwritten, deleted or replaced while it was sent
├── FileUnavailable  a file that is to be sent is missing, not a regular file, or not readable
├── InvalidOption    a setting is out of its range (the application's fault; also a ValueError)
├── InvalidChunk     a source gave what its format cannot carry (also a TypeError)
├── InvalidEvent     a field of an SSE event cannot be written (also a ValueError)
├── InvalidItem      an item does not fit the endpoint's return annotation (also a ValueError)
├── PathRefused      a path leads out of the directory that is served, or to no plain file (404)
├── RunEnded         a run failed, was cancelled, or was lost with its worker
├── SourceBusy       no thread was free for a sync source in time (503)
├── SourceExited     a source raised SystemExit or KeyboardInterrupt, which are not an `Exception`
├── SourceSpent      a response was sent a second time, and its source can be read only once
├── StoreUnavailable a store cannot work (503); its kinds say why
│   ├── StoreCorrupt      its file is damaged, or is not a store
│   ├── StoreFull         its disk is full (507)
│   ├── StoreLocked       another program holds its file
│   ├── StoreReadOnly     its file cannot be written
│   └── StoreVersion      its file was written by another version of Tailrace
├── StreamError      an operation on a stream cannot be done, and the client is told why
│   ├── AccessRefused        `authorize` refused it (403, or the status that it gave)
│   ├── BodyStalled          a request's body came too slowly (408)
│   ├── ContentTypeMismatch  an append has another content type than the stream (409)
│   ├── ForkRefused          a fork's source, offset or type does not fit (400, 403, 404, 409)
│   ├── InvalidBody          what was sent cannot be appended (400)
│   ├── InvalidOffset        an offset was not given out for this stream (400)
│   ├── InvalidProducer      a new producer epoch does not begin at sequence 0 (400)
│   ├── InvalidRequest       a header or parameter is missing or not valid (400)
│   ├── OffsetGone           what is to be read is no longer retained (410)
│   ├── OriginRefused        a page of another site may not write here (403)
│   ├── Overloaded           this process holds too many bytes of requests already (503)
│   ├── ProducerFenced       a newer epoch of the producer has been seen (403)
│   ├── ProducerGap          a sequence of the producer was left out (409)
│   ├── SequenceConflict     Stream-Seq did not grow (409)
│   ├── StreamClosed         the stream is closed for writing (409)
│   ├── StreamDamaged        what a JSON stream holds is not JSON messages (500)
│   ├── StreamExists         the stream exists with another configuration (409)
│   ├── StreamNotFound       the stream was never created, was deleted, or has expired (404)
│   │   └── StreamGone       it was deleted or has expired, but forks still read it (410)
│   ├── SubscriptionRefused  a subscription's API cannot do what was asked (its status varies)
│   └── TooLarge             an append has more bytes than is allowed (413)
├── TransferFailed   a file could not be sent whole: it was cut short, is gone, or its disk failed
└── WrongLength      a range source gave more or fewer bytes than it was asked for
```

Each class has its facts as attributes. `status` is the HTTP status of the response, if its status
line was not sent before the error; `code` is a stable name for programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "AccessRefused",
    "ArchiveTooLarge",
    "BodyStalled",
    "ContentTypeMismatch",
    "FileChanged",
    "FileUnavailable",
    "ForkRefused",
    "InvalidBody",
    "InvalidChunk",
    "InvalidEvent",
    "InvalidItem",
    "InvalidOffset",
    "InvalidOption",
    "InvalidProducer",
    "InvalidRequest",
    "OffsetGone",
    "OriginRefused",
    "Overloaded",
    "PathRefused",
    "Problem",
    "ProducerFenced",
    "ProducerGap",
    "RunEnded",
    "SequenceConflict",
    "SourceBusy",
    "SourceExited",
    "SourceSpent",
    "StoreCorrupt",
    "StoreFull",
    "StoreLocked",
    "StoreReadOnly",
    "StoreUnavailable",
    "StoreVersion",
    "StreamClosed",
    "StreamDamaged",
    "StreamError",
    "StreamExists",
    "StreamGone",
    "StreamNotFound",
    "SubscriptionRefused",
    "TailraceError",
    "TooLarge",
    "TransferFailed",
    "WrongLength",
    "problem_of",
]


_MOST_SHOWN = 200
"""How many characters a message repeats of what a client sent."""


class TailraceError(Exception):
    """The root of every error that Tailrace raises."""

    status = 500
    code = "error"


class ArchiveTooLarge(TailraceError):
    """A directory has too many files for one ZIP; nothing of the ZIP was sent.

    Args:
        most: Entries that one archive may have.
    """

    status = 403
    code = "archive_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"more than {most:,} files are too many for one ZIP: download the directories in it"
        )
        self.most = most


class FileChanged(TailraceError, RuntimeError):
    """A file changed after the headers were sent; the connection is cut.

    Write a new file beside the old one and rename it: then no client gets a mix of the two.

    Args:
        path: The file.
        what: What happened to it: "was truncated".
    """

    code = "file_changed"

    def __init__(self, path: str, what: str) -> None:
        super().__init__(
            f"File at path {_escaped(path)} {what} while it was being sent: to replace a file, "
            "write a new one and rename it."
        )
        self.path = path
        self.what = what


class FileUnavailable(TailraceError, RuntimeError):
    """A file that is to be sent is missing, not a regular file, or not readable.

    Args:
        path: The file.
        reason: What is wrong with it: "does not exist".
    """

    code = "file_unavailable"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"File at path {_escaped(path)} {reason}.")  # as Starlette words it
        self.path = path
        self.reason = reason


class _OfAnItem(Exception):
    """An error of one item, which the framing raises and the pump counts."""

    number: int | None = None

    def count(self, number: int) -> None:
        """Say which item it was, by its `number` from 1."""
        self.number = number
        self.args = (self._message(),)

    def _message(self) -> str:
        raise NotImplementedError


class InvalidChunk(_OfAnItem, TailraceError, TypeError):
    """A source gave an item that its format cannot carry.

    Args:
        item: The item, or the cell of a row; the message names only its type.
        format: The framing's name: "raw", "sse", "csv".
        wanted: What the format takes, in words.
        column: The column of the cell: its name, or its number from 1; None: the item as a whole.

    Attributes:
        number: Which item it was, from 1 (in CSV the row, without the header); None if it is not
            known.
    """

    code = "invalid_chunk"

    def __init__(
        self,
        item: Any,
        format: str,  # noqa: A002 - HTTP's own word
        wanted: str,
        *,
        column: Any = None,
    ) -> None:
        self.item_type = type(item)
        self.format = format
        self.wanted = wanted
        self.column = column
        super().__init__(self._message())

    def _message(self) -> str:
        given = _name_of(self.item_type)
        row = [] if self.number is None else [f"row {self.number}"]
        if self.column is not None:
            given += f" in {', '.join([*row, f'column {self.column!r}'])}"
        elif self.number is not None:
            given += f" as item {self.number}"
        return f"a source of a {self.format} response gave {given}: give it {self.wanted}"


class InvalidEvent(_OfAnItem, TailraceError, ValueError):
    """A field of a server-sent event cannot be written on the wire.

    Args:
        field: "data", "event", "id", "retry" or "comment".
        value: What was given.
        reason: Why it cannot be sent.

    Attributes:
        number: Which item of its source the event was, from 1; None if it is not known.
    """

    code = "invalid_event"

    def __init__(self, field: str, value: Any, reason: str) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        super().__init__(self._message())

    def _message(self) -> str:
        which = "" if self.number is None else f" of item {self.number}"
        return f"event {self.field}={self.value!r}{which} cannot be sent: {self.reason}"


class InvalidItem(_OfAnItem, TailraceError, ValueError):
    """An item does not fit the item type that the endpoint's return annotation names.

    Args:
        endpoint: The endpoint's name.
        errors: pydantic's list of what is wrong.

    Attributes:
        number: Which item it was, from 1; None if it is not known.
    """

    code = "invalid_item"

    def __init__(self, endpoint: str, errors: list[Any]) -> None:
        self.endpoint = endpoint
        self.errors = errors
        super().__init__(self._message())

    def _message(self) -> str:
        first = self.errors[0] if self.errors else {}
        which = "" if self.number is None else f", as item {self.number}"
        return (
            f"{self.endpoint} yielded an item that does not fit its return annotation: "
            f"{first.get('msg', 'invalid')} at {first.get('loc', ())}{which}"
        )


class InvalidOption(TailraceError, ValueError):
    """A setting is out of its range.

    Args:
        name: The setting, as the caller spelt it.
        value: What was given.
        allowed: The range in words: "seconds, more than 0".
    """

    code = "invalid_option"

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(f"{name}={value!r} is not valid: give {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed


class PathRefused(TailraceError):
    """A path that a client asked for leads out of the served directory, or to no plain file.

    Args:
        path: The name at which it was refused; it is escaped in the message.
        reason: What is wrong with it.
    """

    status = 404
    code = "path_refused"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!a} {reason}")
        self.path = path
        self.reason = reason


class RunEnded(TailraceError):
    """A run did not come to the end of its source: it failed, was cancelled, or was lost.

    Args:
        path: The stream of the run.
        status: "failed", "cancelled" or "lost" (its worker died); the attribute is `run_status`.
        reason: A stable code: that of the error, "cancelled" or "worker_lost"; `code` is the same.
        message: A sentence for people.
    """

    code = "run_ended"

    def __init__(self, path: str, status: str, reason: str, message: str) -> None:
        super().__init__(f"the run {path!a} {_ENDED.get(status, status)}: {message}")
        self.path = path
        self.run_status = status
        self.code = reason
        self.reason = reason
        self.message = message


_ENDED = {"failed": "failed", "cancelled": "was cancelled", "lost": "was lost"}


class SourceBusy(TailraceError):
    """All threads for sync sources were busy for too long, so the source did not begin.

    Args:
        waited: Seconds for which the source waited for a thread.
    """

    status = 503
    code = "source_busy"

    def __init__(self, waited: float) -> None:
        super().__init__(
            f"the server is busy: no thread was free within {waited:g} seconds, try again later"
        )
        self.waited = waited


class SourceExited(TailraceError, RuntimeError):
    """A source raised something that is not an `Exception`, such as `sys.exit()` in a library.

    It ends that source alone, never the server; `__cause__` is what was raised.

    Args:
        raised: The repr of what was raised.
    """

    code = "source_exited"

    def __init__(self, raised: str) -> None:
        super().__init__(
            f"a source raised {raised}, which is not an Exception: it ends this source alone"
        )
        self.raised = raised


class SourceSpent(TailraceError, RuntimeError):
    """A response was sent a second time, though its source can be iterated only once.

    Args:
        source: The source; only its type is named in the message.
    """

    code = "source_spent"

    def __init__(self, source: Any) -> None:
        super().__init__(
            f"this response was sent before, and its source, {_name_of(type(source))}, can be read "
            "only once: make a new response for each request"
        )


class StoreUnavailable(TailraceError):
    """A store cannot work now; nothing that it acknowledged is lost.

    Args:
        store: Its URL or file, without a password.
        reason: What is wrong, and what to do.
    """

    status = 503
    code = "store_unavailable"

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"the store {store!a} {reason}")
        self.store = store
        self.reason = reason


class StoreCorrupt(StoreUnavailable):
    """A store's file is damaged, or is not a store."""

    code = "store_corrupt"


class StoreFull(StoreUnavailable):
    """A store's disk is full; what was to be written was not written."""

    status = 507
    code = "store_full"


class StoreLocked(StoreUnavailable):
    """Another program holds a store's file."""

    code = "store_locked"


class StoreReadOnly(StoreUnavailable):
    """A store's file cannot be written."""

    code = "store_read_only"


class StoreVersion(StoreUnavailable):
    """A store's file was written by another version of Tailrace."""

    code = "store_version"


class StreamError(TailraceError):
    """An operation on a stream cannot be done; the client gets the error's message."""

    status = 400
    code = "stream_error"


class AccessRefused(StreamError):
    """The application's `authorize` refused a request.

    Args:
        status: The HTTP status.
        detail: What the client is told; "" gives a general sentence.
        headers: Header fields of the answer, such as `WWW-Authenticate`.
    """

    code = "access_refused"

    def __init__(
        self, status: int = 403, detail: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail or "this request may not do that")
        self.status = status
        self.headers = dict(headers or {})


class BodyStalled(StreamError):
    """A request's body came too slowly, or stopped coming; nothing of it was appended.

    Args:
        seconds: How long the server waits for a body that does not come.
    """

    status = 408
    code = "body_stalled"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body came too slowly for {seconds:g} seconds: send it again")
        self.seconds = seconds


class ContentTypeMismatch(StreamError):
    """An append has another content type than the stream.

    Args:
        given: The content type of the append.
        wanted: The content type of the stream.
    """

    status = 409
    code = "content_type_mismatch"

    def __init__(self, given: str, wanted: str) -> None:
        super().__init__(
            f"{given!a} was sent to a stream of {wanted!a}: send the stream's content type"
        )
        self.given = given
        self.wanted = wanted


class ForkRefused(StreamError):
    """A stream cannot be forked as it was asked for.

    Args:
        source: The path of the stream that was to be forked.
        reason: Why it cannot be forked.
        status: 400, 403 (forks are turned off), 404 or 409.
    """

    code = "fork_refused"

    def __init__(self, source: str, reason: str, status: int) -> None:
        super().__init__(f"the stream {source!a} cannot be forked: {reason}")
        self.source = source
        self.reason = reason
        self.status = status


class InvalidBody(StreamError):
    """What was sent cannot be appended.

    Args:
        reason: Why it cannot be appended.
    """

    code = "invalid_body"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidOffset(StreamError):
    """An offset was not given out for this stream.

    Args:
        token: What was sent as an offset.
    """

    code = "invalid_offset"

    def __init__(self, token: str) -> None:
        super().__init__(
            f"{_shown(token)} is not an offset of this stream: send a Stream-Next-Offset as it was "
            "received, -1 for the beginning, or now"
        )
        self.token = token


class InvalidProducer(StreamError):
    """A new epoch of a producer does not begin at sequence 0.

    Args:
        epoch: The new epoch.
        seq: The sequence that it begins with.
    """

    code = "invalid_producer"

    def __init__(self, epoch: int, seq: int) -> None:
        super().__init__(f"epoch {epoch} is new and must begin with sequence 0, but {seq} was sent")
        self.epoch = epoch
        self.seq = seq


class InvalidRequest(StreamError):
    """A header or a parameter of a request is missing or not valid.

    Args:
        name: "Stream-TTL", "offset".
        value: What was sent; None if it is missing.
        allowed: What is valid, in words.
    """

    code = "invalid_request"

    def __init__(self, name: str, value: str | None, allowed: str) -> None:
        given = "is missing" if value is None else f"cannot be {_shown(value)}"
        super().__init__(f"{name} {given}: give {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed


class OffsetGone(StreamError):
    """What was to be read is no longer retained, or was in an earlier stream of the same path.

    Args:
        offset: The offset that was asked for.
        first: The earliest offset that is retained.
    """

    status = 410
    code = "offset_gone"

    def __init__(self, offset: str, first: str) -> None:
        super().__init__(
            f"what follows {offset} is no longer retained: read the stream from {first}"
        )
        self.offset = offset
        self.first = first


class OriginRefused(StreamError):
    """A page of another site may not change anything here.

    Args:
        origin: The origin of the page, as its browser sent it.
    """

    status = 403
    code = "origin_not_allowed"

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"pages of {_shown(origin)} may not write here: name the origin in cors_origins"
        )
        self.origin = origin


class Overloaded(StreamError):
    """This process holds too many bytes of requests already; nothing of this one was done.

    Args:
        most: Bytes that all requests of a process may hold together.
    """

    status = 503
    code = "overloaded"

    def __init__(self, most: int) -> None:
        super().__init__(f"this process holds {most:,} bytes of requests already: try again later")
        self.most = most


class ProducerFenced(StreamError):
    """A newer epoch of the producer has been seen: this producer has been replaced.

    Args:
        epoch: The newest epoch.
    """

    status = 403
    code = "producer_fenced"

    def __init__(self, epoch: int) -> None:
        super().__init__(
            f"the producer has begun epoch {epoch}: older epochs may not append, begin a newer one"
        )
        self.epoch = epoch


class ProducerGap(StreamError):
    """A sequence of the producer was left out.

    Args:
        expected: The next sequence.
        received: The sequence that was sent.
    """

    status = 409
    code = "producer_gap"

    def __init__(self, expected: int, received: int) -> None:
        super().__init__(
            f"the producer sent sequence {received}, but {expected} is next: send that first"
        )
        self.expected = expected
        self.received = received


class SequenceConflict(StreamError):
    """Stream-Seq is not greater than the last one.

    Args:
        last: The last Stream-Seq.
        given: The one that was sent.
    """

    status = 409
    code = "sequence_conflict"

    def __init__(self, last: str, given: str) -> None:
        super().__init__(f"Stream-Seq {_shown(given)} is not greater than the last, {_shown(last)}")
        self.last = last
        self.given = given


class StreamClosed(StreamError):
    """The stream is closed for writing.

    Args:
        path: The stream.
        tail: The stream's final offset.
    """

    status = 409
    code = "stream_closed"

    def __init__(self, path: str, tail: str) -> None:
        super().__init__(f"the stream {_shown(path)} is closed: nothing can be appended")
        self.path = path
        self.tail = tail


class StreamDamaged(StreamError):
    """What a JSON stream holds is not JSON messages.

    Its store is damaged, or another program has written to it.

    Args:
        reason: What does not fit.
    """

    status = 500
    code = "stream_damaged"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the stream is damaged: {reason}; restore a copy of its store, or delete the stream"
        )
        self.reason = reason


class StreamExists(StreamError):
    """A stream exists with another configuration, or was deleted while forks read it.

    Args:
        path: The stream.
        reason: What differs from what was asked for.
    """

    status = 409
    code = "stream_exists"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the stream {_shown(path)} exists already, and {reason}")
        self.path = path
        self.reason = reason


class StreamNotFound(StreamError):
    """The stream was never created, was deleted, or has expired.

    Args:
        path: The stream.
    """

    status = 404
    code = "stream_not_found"
    _what = "does not exist"

    def __init__(self, path: str) -> None:
        super().__init__(f"the stream {_shown(path)} {self._what}")
        self.path = path


class StreamGone(StreamNotFound):
    """The stream was deleted or has expired, and its data stays only for the forks that read it."""

    status = 410
    code = "stream_gone"
    _what = "is gone: it was deleted or has expired"


class SubscriptionRefused(StreamError):
    """The API of a subscription cannot do what was asked.

    Args:
        wire_code: The protocol's code: "FENCED", "ALREADY_CLAIMED".
        status: 400 to 503.
        reason: A sentence for people.
        **facts: What else the client gets by the protocol: `current_holder`, `generation`.

    Source: Durable Streams 6 and 7.
    """

    code = "subscription_refused"

    def __init__(self, wire_code: str, status: int, reason: str, **facts: str | int) -> None:
        super().__init__(reason)
        self.wire_code = wire_code
        self.code = wire_code.lower()
        self.status = status
        self.reason = reason
        self.facts = facts


class TooLarge(StreamError):
    """An append has more bytes than is allowed.

    Args:
        most: The limit, in bytes.
    """

    status = 413
    code = "too_large"

    def __init__(self, most: int) -> None:
        super().__init__(f"an append may have at most {most:,} bytes: send it in parts")
        self.most = most


class TransferFailed(TailraceError, RuntimeError):
    """A file could not be sent whole; the connection has been cut, so that the client can tell.

    It is not an OSError, though one may be its cause: in ASGI, an OSError from `send` means that
    the client has left.

    Args:
        file: The path, or the descriptor as "descriptor 7".
        reason: What went wrong.
        sent: Bytes of the file that were sent.
    """

    code = "transfer_failed"

    def __init__(self, file: str, reason: str, sent: int) -> None:
        super().__init__(f"{file!a} was cut off after {sent} bytes: {reason}")
        self.file = file
        self.reason = reason
        self.sent = sent


class WrongLength(TailraceError, RuntimeError):
    """A range source gave more or fewer bytes than it was asked for; the connection is cut.

    Args:
        start: Where the range begins.
        stop: Where it ends, exclusive.
        given: Bytes that came.
    """

    code = "wrong_length"

    def __init__(self, start: int, stop: int, given: int) -> None:
        than = "more" if given > stop - start else "fewer"
        super().__init__(
            f"read({start}, {stop}) gave {given} bytes, {than} than the {stop - start} asked for"
        )
        self.start = start
        self.stop = stop
        self.given = given


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told of an error in mid-stream.

    Args:
        code: A stable name, for programs.
        message: A sentence, for people.
    """

    code: str
    message: str


def problem_of(error: BaseException, *, expose: bool) -> Problem:
    """What a client is told when an error ends its stream.

    Args:
        error: What ended the source.
        expose: Give the exception's own type and text, which may hold secrets (a database URL, a
            path). Otherwise the client gets a general sentence, and the code: "stream_failed" for
            an error that is not Tailrace's.

    Returns:
        The code and the message for the client.
    """
    code = error.code if isinstance(error, TailraceError) else "stream_failed"
    if expose:
        return Problem(code, f"{type(error).__name__}: {error}")
    return Problem(code, "the stream failed before its end")


def _escaped(path: str) -> str:
    # A name on disk may have line breaks, which must not make lines in a log.
    return ascii(path)[1:-1]


def _shown(text: str) -> str:
    # What a client sent becomes short and printable: the message is sent back, and logged.
    return ascii(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "...")


def _name_of(kind: type) -> str:
    name: str = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
