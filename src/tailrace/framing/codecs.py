"""Streaming compression: each batch can be decoded at once, and an open stream needs little memory.

The settings are chosen for many streams that stay open for long. They were measured with 200
compressors in one process. Each had compressed 64 KiB of SSE messages of 150 bytes, and flushed
after every message. The columns: resident memory of one compressor, compression ratio, CPU for one
message (Python 3.11, brotli 1.2.1, zstd 1.5):

    zstd  level 3 (its default)                            882 KiB   2.1    2.0 µs
    zstd  level 1                                          178 KiB   2.0    1.7 µs
    zstd  fast, window 2^15, hash 2^13       <- ours       112 KiB   2.0    1.6 µs
    zstd  fast, window 2^13, hash 2^11                      66 KiB   1.8    1.4 µs
    br    quality 11, window 2^22 (its default)          1,181 KiB   2.2    319 µs
    br    quality 5, window 2^22                         1,465 KiB   2.1     11 µs
    br    quality 4, window 2^16                           661 KiB   2.1     11 µs
    br    quality 3, window 2^16             <- ours       353 KiB   2.1      8 µs
    br    quality 1, window 2^16                            15 KiB   1.0      3 µs
    gzip  level 6, window 2^15, memory 8 (its default)     207 KiB   2.4    6.5 µs
    gzip  level 6, window 2^13, memory 6     <- ours        63 KiB   2.2    6.6 µs
    gzip  level 6, window 2^11, memory 4                    22 KiB   2.0    6.3 µs

Below quality 2, brotli forgets at each flush what came before it, so short messages do not become
shorter. Its tables cannot be made smaller from Python. brotli is an extra (`tailrace[brotli]`),
because it takes 5 MB, and every browser that reads it reads gzip too.
"""

from __future__ import annotations

import sys
import zlib
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

from tailrace.errors import InvalidOption

if TYPE_CHECKING:
    from backports.zstd import ZstdCompressor

__all__ = ["ENCODINGS", "Codec", "codec_for", "is_compressible"]

_MODULES: Final = {
    # Python 3.14 may have been built without `_zstd`.
    "zstd": "_zstd" if sys.version_info >= (3, 14) else "backports.zstd",
    "gzip": "zlib",
    "br": "brotli",
}
"""The module that each content coding needs."""

ENCODINGS: Final = tuple(name for name, module in _MODULES.items() if find_spec(module))
"""The content codings whose module is installed; the one that costs the least CPU is first."""


class Codec(Protocol):
    """One compressed stream, from its first byte to its last."""

    @property
    def name(self) -> str:
        """The value of the Content-Encoding header."""

    def compress(self, data: bytes) -> bytes:
        """The next compressed bytes. A client that has them can decode all data given so far."""

    def finish(self) -> bytes:
        """The last bytes of the stream. Do not call `compress` after it."""


# The libraries are loaded by the first response that is compressed, not by an import of Tailrace.


class _Zstd:
    name = "zstd"

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        compressor, settings = _zstd()
        self._stream = compressor(options=settings)

    def compress(self, data: bytes) -> bytes:
        if not data:  # a flush without data would still write an empty block
            return b""
        return self._stream.compress(data, self._stream.FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._stream.flush()


@cache
def _zstd() -> tuple[type[ZstdCompressor], dict[int, int]]:
    """The class of the compressor, and the settings of each compressor."""
    if sys.version_info >= (3, 14):
        from compression.zstd import CompressionParameter, Strategy, ZstdCompressor
    else:
        from backports.zstd import CompressionParameter, Strategy, ZstdCompressor
    return ZstdCompressor, {
        CompressionParameter.window_log: 15,
        CompressionParameter.hash_log: 13,
        CompressionParameter.chain_log: 13,
        CompressionParameter.search_log: 1,
        CompressionParameter.min_match: 5,
        CompressionParameter.strategy: Strategy.fast,
    }


class _Brotli:
    name = "br"

    __slots__ = ("_stream",)

    def __init__(self) -> None:
        import brotli  # type: ignore[import-untyped]  # the package ships no types

        self._stream: Any = brotli.Compressor(quality=3, lgwin=16)

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
    """A new compressed stream.

    Args:
        name: The content coding, one of `ENCODINGS`.

    Raises:
        InvalidOption: The coding is unknown, or its library is not installed.

    Source: RFC 9110 section 8.4.1; RFC 7932; RFC 8878.
    """
    if name not in ENCODINGS:
        raise InvalidOption("encoding", name, "one of " + ", ".join(ENCODINGS))
    return _CODECS[name]()


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
    """Whether compression is worth its CPU: for text and the like, not for what is compressed.

    Args:
        media_type: A Content-Type with or without parameters; None (unknown) gives False.
    """
    if media_type is None:
        return False
    essence = media_type.partition(";")[0].strip().lower()
    if essence.startswith("text/") or essence in _TEXTUAL:
        return True
    # Structured text has a suffix (RFC 6839): image/svg+xml, for example.
    return essence.endswith(("+json", "+xml", "+yaml"))
