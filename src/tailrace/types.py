"""The settings of a stream, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tailrace import limits
from tailrace.errors import InvalidOption

__all__ = ["StreamOptions", "check_flag"]

_FLAGS = ("release_dependencies", "pin_thread", "expose_errors", "blank_lines", "compress")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream behaves; one frozen object, given to a response or to the application.

    For a whole application: `app.state.stream_options = StreamOptions(send_timeout=10)`. The
    applications that are mounted in it use the same, unless they have options of their own. If a
    response is given options, none of the application's are used.

    Args:
        send_timeout: Seconds without progress on a write before the client is cut off; None: it is
            never cut off.
        min_rate: Bytes per second that a client must take, counted over
            `limits.MIN_RATE_WINDOW` seconds of waiting for it; None (the default): any rate.
        heartbeat: Seconds of silence before the format's heartbeat is sent, where it has one
            (SSE: a comment); None sends none.
        blank_lines: Send a heartbeat in JSON Lines, too: an empty line, which readers must skip.
            For proxies that cut silent connections.
        start_grace: Seconds that the status line waits for the first item, so that an error
            before it is an ordinary error response; 0 sends the status line at once. None (the
            default) is `limits.START_GRACE`, and 0 for events: a browser is connected only when it
            has the status line, and a source of events may be silent for long.
        cleanup_timeout: Seconds that closing the source may take, more than 0.
        shutdown_grace: Seconds that the source has to end by itself after the server stops, which
            `shutdown_event()` tells it; 0 ends it at once. Only for formats with a farewell (SSE):
            all others have as long as the server gives them.
        max_batch_bytes: Bytes that are put together for one write, from `limits.MIN_BATCH_BYTES`
            to `limits.LARGEST_BATCH_BYTES`. For a stalled client, twice as many are in memory: one
            batch that is being sent, and one that waits.
        release_dependencies: Close the request's `yield` dependencies before the source starts,
            so that a stream does not hold a pooled database session. The source must not use them.
        pin_thread: Run a sync source in one thread, from its first line to its cleanup: for locks,
            and for objects that belong to a thread, such as those of `sqlite3`. The source keeps
            that thread until its end, also while the client is slow.
        expose_errors: Tell the client the type and text of an error that ends the stream.
        compress: Compress by Accept-Encoding, unless the content is compressed already, or a
            middleware that may look at bodies is in front. An open stream then takes 60 to 350 KiB
            more memory.

    Raises:
        InvalidOption: A value is out of its range; the error names the option, value and range.
    """

    send_timeout: float | None = limits.SEND_TIMEOUT
    min_rate: float | None = None
    heartbeat: float | None = limits.HEARTBEAT
    start_grace: float | None = None
    cleanup_timeout: float = limits.CLEANUP_TIMEOUT
    shutdown_grace: float = 0
    max_batch_bytes: int = limits.MAX_BATCH_BYTES
    release_dependencies: bool = False
    pin_thread: bool = False
    expose_errors: bool = False
    blank_lines: bool = False
    compress: bool = False

    def __post_init__(self) -> None:
        _check_positive("send_timeout", self.send_timeout, "seconds, more than 0, or None")
        _check_positive("min_rate", self.min_rate, "bytes per second, more than 0, or None")
        _check_positive("heartbeat", self.heartbeat, "seconds, more than 0, or None")
        if self.start_grace != 0 or isinstance(self.start_grace, bool):
            _check_positive("start_grace", self.start_grace, "seconds, 0 or more, or None")
        _check_number("cleanup_timeout", self.cleanup_timeout, "seconds, more than 0")
        if self.shutdown_grace != 0 or isinstance(self.shutdown_grace, bool):
            _check_number("shutdown_grace", self.shutdown_grace, "seconds, 0 or more")
        smallest, largest = limits.MIN_BATCH_BYTES, limits.LARGEST_BATCH_BYTES
        batch = self.max_batch_bytes
        if type(batch) is not int or not smallest <= batch <= largest:
            raise InvalidOption("max_batch_bytes", batch, f"{smallest} to {largest} bytes")
        for name in _FLAGS:
            check_flag(name, getattr(self, name))

    def beat_every(self, heartbeat: bytes) -> float:
        """Seconds of silence after which a format's heartbeat is sent; infinite if none is sent.

        Args:
            heartbeat: The bytes of the format's heartbeat; empty if it has none.
        """
        if self.heartbeat is None or not heartbeat or (heartbeat == b"\n" and not self.blank_lines):
            return math.inf
        return self.heartbeat


def check_flag(name: str, value: object) -> None:
    """Refuse a setting that is not a bool: the text "false", for example, would count as true.

    Raises:
        InvalidOption: The value is neither True nor False.
    """
    if type(value) is not bool:
        raise InvalidOption(name, value, "True or False")


def _check_positive(name: str, value: float | None, allowed: str) -> None:
    if value is not None:
        _check_number(name, value, allowed)


def _check_number(name: str, value: float, allowed: str) -> None:
    # bool is an int: `send_timeout=True` is a mistake, not one second.
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or value <= 0:
        raise InvalidOption(name, value, allowed)
