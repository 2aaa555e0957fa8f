"""Every error that Tailrace raises, in one tree.

```
TailraceError
├── ArchiveTooLarge  a directory has too many files for one ZIP
├── DownloadFailed   `tailrace get` could not get a file (the message is for a person)
├── FileChanged      a file was truncated, overwritten, deleted or replaced while it was sent
├── FileUnavailable  a file that is to be sent is not there, is none, or cannot be read
├── InvalidOption    a setting is out of its range (the application's fault; also a ValueError)
├── InvalidChunk     a source gave what its format cannot carry (also a TypeError)
├── InvalidEvent     a field of an SSE event cannot be written (also a ValueError)
├── InvalidItem      an item does not fit the endpoint's return annotation (also a ValueError)
├── PathRefused      a path leads out of the directory that is served, or to no plain file
├── SourceSpent      a response was sent a second time, and its source can be read only once
├── TransferFailed   a file could not be sent whole: cut short, gone, or its disk failed
└── WrongLength      a range source gave more or fewer bytes than it was asked for
```

Each class says who caused it and carries its facts as fields. `status` is the HTTP status that a
response gives for it while its status line has not been sent; `code` is a stable name for programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "ArchiveTooLarge",
    "DownloadFailed",
    "FileChanged",
    "FileUnavailable",
    "InvalidChunk",
    "InvalidEvent",
    "InvalidItem",
    "InvalidOption",
    "PathRefused",
    "Problem",
    "SourceSpent",
    "TailraceError",
    "TransferFailed",
    "WrongLength",
    "problem_of",
]


class TailraceError(Exception):
    """The root: anything that Tailrace itself found wrong."""

    status = 500
    code = "error"


class ArchiveTooLarge(TailraceError):
    """A directory has too many files for one ZIP; told before its first byte.

    Args:
        most: Entries that one archive may have.
    """

    status = 403
    code = "archive_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most:,} files: too many for one archive, take its parts")
        self.most = most


class DownloadFailed(TailraceError):
    """A download could not be done; the message says why, and what to do where that is known."""

    code = "download_failed"


class FileChanged(TailraceError, RuntimeError):
    """A file is no longer what its headers have promised; the connection is cut.

    Write a new file beside the old one and rename it: then nobody gets a mix of the two.

    Args:
        path: The file.
        what: What happened to it: "was truncated".
    """

    code = "file_changed"

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"File at path {_escaped(path)} {what} while it was being sent.")
        self.path = path
        self.what = what


class FileUnavailable(TailraceError, RuntimeError):
    """A file that is to be sent cannot be.

    Args:
        path: The file.
        reason: What is wrong with it: "does not exist".
    """

    code = "file_unavailable"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"File at path {_escaped(path)} {reason}.")  # as Starlette words it
        self.path = path
        self.reason = reason


class InvalidOption(TailraceError, ValueError):
    """A setting is out of its range.

    Args:
        name: The setting, as the caller spelt it.
        value: What was given.
        allowed: The range in words: "seconds, more than 0".
    """

    code = "invalid_option"

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(f"{name}={value!r} is out of range: give {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed


class InvalidChunk(TailraceError, TypeError):
    """A source gave an item that its format cannot carry.

    Args:
        item: The item itself; only its type is named in the message.
        format: The framing's name: "raw", "sse", "csv".
        wanted: What the format takes, in words.
    """

    code = "invalid_chunk"

    def __init__(self, item: Any, format: str, wanted: str) -> None:  # noqa: A002 - HTTP's own word
        super().__init__(
            f"a source of a {format} response gave {_type_name(item)}: give it {wanted}"
        )
        self.item_type = type(item)
        self.format = format
        self.wanted = wanted


class InvalidEvent(TailraceError, ValueError):
    """A field of a server-sent event cannot be written on the wire.

    Args:
        field: "id", "event" or "retry".
        value: What was given.
        reason: Why it cannot be sent.
    """

    code = "invalid_event"

    def __init__(self, field: str, value: Any, reason: str) -> None:
        super().__init__(f"event {field}={value!r} cannot be sent: {reason}")
        self.field = field
        self.value = value
        self.reason = reason


class InvalidItem(TailraceError, ValueError):
    """An item does not fit the item type that the endpoint's return annotation names.

    Args:
        endpoint: The endpoint's name.
        errors: pydantic's list of what is wrong.
    """

    code = "invalid_item"

    def __init__(self, endpoint: str, errors: list[Any]) -> None:
        first = errors[0] if errors else {}
        super().__init__(
            f"{endpoint} yielded an item that does not fit its return annotation: "
            f"{first.get('msg', 'invalid')} at {first.get('loc', ())}"
        )
        self.endpoint = endpoint
        self.errors = errors


class PathRefused(TailraceError):
    """A path leads out of the directory that is served, or to what is never opened (the client's).

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


class SourceSpent(TailraceError, RuntimeError):
    """A response was sent a second time, though its source can be iterated only once."""

    code = "source_spent"

    def __init__(self, source: Any) -> None:
        super().__init__(
            f"this response was sent before and its source, {_type_name(source)}, can be read only "
            "once: make a new response for each request"
        )


class TransferFailed(TailraceError, RuntimeError):
    """A file could not be sent whole; the connection has been cut, so that the client can tell.

    Not an OSError, though one may be its cause: of an OSError from `send` ASGI says that the
    client has left.

    Args:
        file: The path, or the descriptor as "descriptor 7".
        reason: What went wrong.
        sent: Bytes of it that were sent.
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
    """What a client is told of an error in mid-stream: a stable code and a sentence."""

    code: str
    message: str


def problem_of(error: BaseException, *, expose: bool) -> Problem:
    """What a stream's tail tells of an error.

    Args:
        error: What ended the source.
        expose: True tells the exception's own type and text. They may hold secrets (a database
            URL, a path), so without it only our own errors keep their code.

    Returns:
        The code and the message for the client.
    """
    code = error.code if isinstance(error, TailraceError) else "stream_failed"
    if expose:
        return Problem(code, f"{type(error).__name__}: {error}")
    return Problem(code, "the stream failed before its end")


def _escaped(path: str) -> str:
    # A name on disk may hold line breaks, and must not make lines in a log.
    return ascii(path)[1:-1]


def _type_name(item: Any) -> str:
    kind = type(item)
    name: str = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
