"""The settings of the protocol, checked when they are made."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Final

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.types import StreamOptions, check_flag

__all__ = ["ANY_ORIGIN", "ProtocolOptions"]

ANY_ORIGIN: Final = "*"
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#,;\"\\@]+|null", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolOptions:
    """How Durable Streams are served.

    Args:
        long_poll_timeout: Seconds that a long-poll waits for data.
        sse_lifetime: Seconds after which an SSE answer ends and its client reconnects; each answer
            is shorter by a random part of up to `limits.SSE_LIFETIME_SPREAD`. None never ends it.
        body_timeout: Seconds to wait for a body before its client is cut off; each
            `limits.BODY_MIN_RATE` bytes that arrive give one of them back.
        max_append_bytes: Bytes of one request's body, at most `limits.MAX_APPEND_BYTES`.
        read_bytes: Bytes of a stream in one answer. The answer ends after the append that reaches
            the next multiple of this number, counted from the beginning of the stream.
        shared: Streams may be shown to every user: shared caches may keep what was read
            (`Cache-Control: public`).
        cors_origins: Web origins beside the server's own whose pages may use the streams
            ("https://example.org"), or "*" alone for any. Pages of other origins cannot read the
            answers, and their writes get 403. With more than one origin, answers vary by `Origin`.
        cors_credentials: Browsers of these origins may send cookies; not with "*".
        forks: Streams may be created as forks of others. A fork reads its source, which a header
            names: a dependency or a proxy that looks at the URL does not see it. None: only if
            there is an `authorize`, which is asked for the source too.
        stream: `heartbeat` holds for SSE answers, `min_rate` for large ones, `send_timeout` for
            both.

    Raises:
        InvalidOption: A value is out of its range; it names the option, the value and the range.
    """

    long_poll_timeout: float = limits.LONG_POLL_TIMEOUT
    sse_lifetime: float | None = limits.SSE_LIFETIME
    body_timeout: float = limits.BODY_TIMEOUT
    max_append_bytes: int = limits.MAX_APPEND_BYTES
    read_bytes: int = limits.READ_BYTES
    shared: bool = False
    cors_origins: tuple[str, ...] = ()
    cors_credentials: bool = False
    forks: bool | None = None
    stream: StreamOptions = field(default_factory=StreamOptions)

    def __post_init__(self) -> None:
        _check_seconds("long_poll_timeout", self.long_poll_timeout)
        if self.sse_lifetime is not None:
            _check_seconds("sse_lifetime", self.sse_lifetime)
        _check_seconds("body_timeout", self.body_timeout)
        _check_bytes("max_append_bytes", self.max_append_bytes, limits.MAX_APPEND_BYTES)
        _check_bytes("read_bytes", self.read_bytes, limits.MAX_APPEND_BYTES)
        for name in ("shared", "cors_credentials"):
            check_flag(name, getattr(self, name))
        if self.forks is not None and type(self.forks) is not bool:
            raise InvalidOption("forks", self.forks, "True, False or None")
        _check_origins(self.cors_origins, credentials=self.cors_credentials)
        if not isinstance(self.stream, StreamOptions):
            raise InvalidOption("stream", self.stream, "a StreamOptions")


def _check_seconds(name: str, value: float) -> None:
    # bool is an int: `body_timeout=True` is a mistake, not one second.
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or value <= 0:
        raise InvalidOption(name, value, "seconds, more than 0")


def _check_bytes(name: str, value: int, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidOption(name, value, f"1 to {most} bytes")


def _check_origins(origins: tuple[str, ...], *, credentials: bool) -> None:
    if not isinstance(origins, tuple) or not all(isinstance(each, str) for each in origins):
        raise InvalidOption("cors_origins", origins, "a tuple of origins")
    if ANY_ORIGIN in origins:
        if len(origins) > 1:
            raise InvalidOption("cors_origins", origins, '"*" alone, or origins')
        if credentials:
            raise InvalidOption(
                "cors_credentials", True, 'origins by name: with "*" browsers send no cookies'
            )
        return
    for origin in origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise InvalidOption("cors_origins", origin, 'origins such as "https://example.org"')
