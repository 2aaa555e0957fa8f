"""What is sent of a resource: one file of several, and the headers that are true of it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from tailrace.errors import FileUnavailable, InvalidOption
from tailrace.semantics import choose_encoding, format_date, is_entity_tag
from tailrace.source import Opener, OpenFile, RangeSource, open_file

__all__ = [
    "ETagKind",
    "Representation",
    "check_etag",
    "of_file",
    "of_ranges",
    "open_representation",
]

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
    modification time can be set back by who writes it (`rsync --inplace --times`), the time of its
    last change (`ctime`) cannot. It is a hash, for an inode's number is nobody's business
    (CVE-2003-1418). A portable one is the same for copies on several machines, and believes the
    modification time, in whole seconds: that is what tools that copy a file keep.
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
