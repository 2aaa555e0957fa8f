"""Every bound in Tailrace: its unit, where the number comes from, and what it stops."""

from __future__ import annotations

from typing import Final

# The pump ---------------------------------------------------------------------------------------

MAX_BATCH_BYTES: Final = 64 * 1024
"""Bytes in one batch, the default of `StreamOptions.max_batch_bytes`.

One TCP send of this size costs about as much as one of 1 KiB; more bought nothing in our
measurements (benchmarks/RESULTS.md). Stops: a fast source that fills the memory for a slow client.
"""

MIN_BATCH_BYTES: Final = 1024
"""Smallest allowed `max_batch_bytes`: below it the cost for a batch outweighs the data."""

LARGEST_BATCH_BYTES: Final = 16 * 1024 * 1024
"""Largest allowed `max_batch_bytes`. Stops: a setting that undoes the backpressure."""

SEND_TIMEOUT: Final = 30.0
"""Seconds without progress on a write. nginx's `send_timeout` is 60 s, counted the same way.

Stops: a client that stops reading and holds a task, a generator and its session for ever.
"""

MIN_RATE_WINDOW: Final = 30.0
"""Seconds over which `min_rate` is counted, so that one lost packet cuts nobody off."""

HEARTBEAT: Final = 15.0
"""Seconds of silence before an SSE comment; the WHATWG text advises "every 15 seconds or so"."""

START_GRACE: Final = 0.1
"""Seconds that the status line waits for the first item, to be a truthful one."""

CLEANUP_TIMEOUT: Final = 5.0
"""Seconds that a source's own cleanup may take. Stops: a `finally` that waits for ever."""

DRAIN_TIMEOUT: Final = 10.0
"""Seconds that `drain()` gives open streams. Kubernetes waits 30 s before SIGKILL."""

FAREWELL_RETRY: Final = (1.0, 5.0)
"""Seconds, drawn evenly, that a farewell asks an SSE client to wait before it comes back.

Stops: all clients of a server that restarts coming back in the same instant.
"""

TURN_BUDGET: Final = 0.005
"""Seconds of work without a real wait after which the event loop gets its turn.

CPython's own switch interval between threads. Stops: a tight generator that freezes its worker.
"""

SYNC_SOURCE_THREADS: Final = 512
"""Threads for sync sources in one process, apart from those that serve `def` endpoints.

Each holds a stack (touched pages only, about 64 KiB). Stops: blocked generators without end.
"""

THREAD_LINGER: Final = 0.01
"""Seconds that a sync source's thread waits for room before it is given back.

A fast client takes a batch in well under a millisecond, so the same thread goes on; a stalled
client holds it no longer than this.
"""

# Server-sent events -----------------------------------------------------------------------------

MAX_RETRY_MS: Final = 24 * 60 * 60 * 1000
"""Milliseconds in an event's `retry`, at most a day. Stops: a client told to stay away for ever."""

# Negotiation ------------------------------------------------------------------------------------

MAX_ACCEPT_BYTES: Final = 4096
"""Bytes of an Accept or Accept-Encoding header that are read; what is beyond is not looked at.

Browsers send under 200. Stops: a header of a megabyte that costs time to parse.
"""
