"""Streaming compression: what was given can be decoded at once, and an open stream costs little.

The settings are chosen for many streams that stay open for long. Measured with 200 compressors
open in one process after 64 KiB of SSE messages of 150 bytes each, every message flushed
(resident KiB for each, ratio, CPU for a message; Python 3.11, brotli 1.2.1, zstandard 0.25.0):

    zstd  level 3 (its default)                            882 KiB   2.1    2.0 µs
    zstd  level 1                                          178 KiB   2.0    1.7 µs
    zstd  fast, window 2^15, hash 2^13       <- ours       122 KiB   2.0    1.6 µs
    zstd  fast, window 2^13, hash 2^11                      66 KiB   1.8    1.4 µs
    br    quality 11, window 2^22 (its default)          1,181 KiB   2.2    319 µs
    br    quality 5, window 2^22                         1,465 KiB   2.1     11 µs
    br    quality 4, window 2^16                           661 KiB   2.1     11 µs
    br    quality 3, window 2^16             <- ours       353 KiB   2.1      8 µs
    br    quality 1, window 2^16                            15 KiB   1.0      3 µs
    gzip  level 6, window 2^15, memory 8 (its default)     207 KiB   2.4    6.5 µs
    gzip  level 6, window 2^13, memory 6     <- ours        63 KiB   2.2    6.6 µs
    gzip  level 6, window 2^11, memory 4                    22 KiB   2.0    6.3 µs

Below quality 2 brotli keeps nothing from before a flush, so short messages grow; its tables cannot
be made smaller from Python.
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]  # the package ships no types
import zstandard

from tailrace.errors import InvalidOption

__all__ = ["ENCODINGS", "Codec", "codec_for", "is_compressible"]

ENCODINGS: Final = ("zstd", "gzip", "br")
"""The codings on offer, the one that costs the least CPU first."""


class Codec(Protocol):
    """One compressed stream, from its first byte to its last."""

    @property
    def name(self) -> str:
        """The Content-Encoding."""

    def compress(self, data: bytes) -> bytes:
        """The next compressed bytes; all that was given up to here can be decoded from them."""

    def finish(self) -> bytes:
        """The end of the stream; nothing may be compressed after it."""


class _Zstd:
    name = "zstd"

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        # A compressor of its own for each stream: the library allows one open stream for each.
        settings = zstandard.ZstdCompressionParameters(
            window_log=15,
            hash_log=13,
            chain_log=13,
            search_log=1,
            min_match=5,
            strategy=zstandard.STRATEGY_FAST,
        )
        self._stream = zstandard.ZstdCompressor(compression_params=settings).compressobj()

    def compress(self, data: bytes) -> bytes:
        if not data:  # a flush without data would still write an empty block
            return b""
        head = self._stream.compress(data)
        return head + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


class _Brotli:
    name = "br"

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream = brotli.Compressor(quality=3, lgwin=16)

    def compress(self, data: bytes) -> bytes:
        if not data:
            return b""
        head: bytes = self._stream.process(data)
        tail: bytes = self._stream.flush()
        return head + tail

    def finish(self) -> bytes:
        end: bytes = self._stream.finish()
        return end


class _Gzip:
    name = "gzip"

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        # 16 + 13: a gzip header (16) and a window of 2^13 bytes.
        self._stream = zlib.compressobj(6, zlib.DEFLATED, 16 + 13, 6)

    def compress(self, data: bytes) -> bytes:
        if not data:
            return b""
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._stream.flush(zlib.Z_FINISH)


_CODECS: Final[dict[str, type[_Zstd | _Brotli | _Gzip]]] = {
    "zstd": _Zstd,
    "br": _Brotli,
    "gzip": _Gzip,
}


def codec_for(name: str) -> Codec:
    """A new stream of a content coding.

    Args:
        name: One of `ENCODINGS`.

    Raises:
        InvalidOption: No such coding.

    Source: RFC 9110 section 8.4.1; RFC 7932; RFC 8878.
    """
    codec = _CODECS.get(name)
    if codec is None:
        raise InvalidOption("encoding", name, "one of " + ", ".join(ENCODINGS))
    return codec()


_TEXTUAL: Final = frozenset(
    {
        "application/ecmascript",
        "application/graphql",
        "application/javascript",
        "application/json",
        "application/json-seq",
        "application/jsonl",
        "application/jsonlines",
        "application/ndjson",
        "application/rtf",
        "application/sql",
        "application/toml",
        "application/wasm",
        "application/x-javascript",
        "application/x-json-stream",
        "application/x-jsonlines",
        "application/x-ndjson",
        "application/x-sh",
        "application/x-yaml",
        "application/xml",
        "application/xml-dtd",
        "application/yaml",
    }
)


def is_compressible(media_type: str | None) -> bool:
    """Whether compression is worth its CPU: text and its like, never what is compressed already.

    Args:
        media_type: A Content-Type with or without parameters; None is unknown, so not compressed.
    """
    if media_type is None:
        return False
    essence = media_type.partition(";")[0].strip().lower()
    if essence.startswith("text/") or essence in _TEXTUAL:
        return True
    # Structured text by its suffix (RFC 6839), which takes in image/svg+xml.
    return essence.endswith(("+json", "+xml", "+yaml"))
