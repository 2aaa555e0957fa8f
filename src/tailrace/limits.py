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

# Files -------------------------------------------------------------------------------------------

MAX_RANGES: Final = 100
"""Ranges of bytes in one Range header; one with more is ignored. Starlette's number; Apache: 200.

Stops: a small request that makes a large answer of part heads (CVE-2011-3192, "Apache Killer").
"""

MAX_RANGE_HEADER_BYTES: Final = 4096
"""Bytes of a Range header that is read; a longer one is ignored. 100 ranges in 10 TB need 2,900.

Stops: a header of a megabyte that costs time to parse.
"""

COALESCE_GAP_BYTES: Final = 80
"""Bytes between two ranges that are sent rather than another part's head, "typically around 80
bytes" says RFC 9110 15.3.7.2. Stops: a hundred ranges of one byte, each with a head.
"""

MAX_CONDITION_BYTES: Final = 8192
"""Bytes of If-Match or If-None-Match that are read; a tag beyond them matches nothing.

nginx takes 8 KiB for a header line. Stops: a header of a megabyte that costs time to parse.
"""

MAX_FILENAME_CHARS: Final = 255
"""Characters of a name in Content-Disposition: as many as a file system has bytes for one.

Stops: a name that makes a header longer than proxies take (nginx: 4 or 8 KiB for all of them).
"""

ZERO_COPY_SPAN_BYTES: Final = 16 * 1024 * 1024
"""Bytes that the server is told to copy of a file at a time, where it shows its progress.

Between two, the file is looked at: as much of one that is being overwritten can go out before the
connection is cut. CPU for 512 MiB under our protocol, in spans of 1, 4, 16 and 64 MiB: 97, 74, 64
and 63 ms; of a whole path 59.
"""

# `tailrace get` ----------------------------------------------------------------------------------

GET_TIMEOUT: Final = 30.0
"""Seconds in which a server must connect, and then send something. wget waits 900 s, pip 15 s.

Stops: a server that accepts and says nothing.
"""

GET_RETRIES: Final = 5
"""Attempts in a row without a new byte after which a download fails. pip's default too."""

RETRY_BASE: Final = 0.5
"""Seconds before the first new attempt, doubled for each one after it."""

RETRY_CAP: Final = 30.0
"""Seconds between two attempts, at most. Google's API clients wait 32 s to 60 s."""

MAX_RETRY_AFTER: Final = 300.0
"""Seconds of a Retry-After that are waited for. Stops: a server that parks clients for a day."""

MAX_JOBS: Final = 16
"""Connections of one download; aria2 allows as many to one server."""

MIN_PIECE_BYTES: Final = 1024 * 1024
"""Bytes in one range request of a parallel download, at least: each costs a round trip."""

MAX_PIECE_BYTES: Final = 64 * 1024 * 1024
"""Bytes in one range request of a parallel download, at most.

Stops: one slow connection that holds a large rest while the others have nothing left to do.
"""

PIECES_PER_JOB: Final = 8
"""Range requests for each connection of a parallel download, within the sizes above."""

CHECKPOINT: Final = 2.0
"""Seconds between two writes of what a download has; a crash loses no more than this."""

MAX_SIDECAR_BYTES: Final = 64 * 1024
"""Bytes of a `.part.json` that are read; ours has under 4 KiB. Stops: a file that is not ours."""

MAX_FILE_NAME_BYTES: Final = 240
"""Bytes of a file name that a server chose: 255 on Linux, less what `.part.json` adds.

Stops: a name that cannot be created.
"""

# Directories ------------------------------------------------------------------------------------

MAX_LINK_TURNS: Final = 40
"""Links and turns back in one path beneath a served directory; Linux's own MAXSYMLINKS is 40.

Stops: links that point at each other, and links made to be walked for ever.
"""

MAX_LISTING_ENTRIES: Final = 10_000
"""Entries of a directory's listing; a longer one says that it was cut. Apache sends all of them.

10,000 rows are 3.3 MB of HTML (0.2 MB compressed) and 0.3 s of CPU in threads. Stops: a directory
of millions that is read, sorted and held for each request.
"""

MAX_ARCHIVE_ENTRIES: Final = 100_000
"""Files and directories in a ZIP that is made of a directory; counted before its first byte.

The archive's own directory is held in memory until its end, about 300 bytes for each. Stops: a
download that costs more memory the longer it runs.
"""

# The server protocol ----------------------------------------------------------------------------

WRITE_PIECE_BYTES: Final = 16 * 1024
"""Bytes of a message from which on it is not given to the transport as a whole; one TLS record.

A transport copies what it cannot send. Stops: a stalled client that holds a whole batch a second
time.
"""

STALLED_PIECE_BYTES: Final = 4 * 1024
"""Bytes of a message that the transport holds while the socket is full, and waits to send.

All behind them stays where it is, and goes to the socket directly when there is room again.
"""

ATTACH_BUFFER_BYTES: Final = 64 * 1024
"""Bytes of frames that wait for one attached client, over which it gets no more.

The frames are shared by all clients that wait for them; uvicorn's own mark for one client is as
high. Stops: one client that stops reading and keeps every message since in memory.
"""

SENDFILE_BYTES: Final = (256 * 1024, 2 * 1024 * 1024)
"""Bytes of a file in one `sendfile`, after which the event loop gets its turn: the least, and the
most, which all files that are being sent share.

The most is 0.5 ms of work, and nginx's own step (`sendfile_max_chunk`). Stops: a crowd of fast
downloads that keeps everybody else waiting.
"""

SMALL_FILE_BYTES: Final = 32 * 1024
"""Bytes of a file up to which it is read and written as one message, if it is in the page cache.

For less the kernel's copy costs less than watching the socket does.
"""

READ_AHEAD_BYTES: Final = (256 * 1024, 2 * 1024 * 1024)
"""Bytes of a cold file that are read into the page cache at a time: the first step, and the most.

Small at first for an early first byte; the kernel's own read-ahead is 128 KiB.
"""

COPY_BYTES: Final = 64 * 1024
"""Bytes of a file in one ordinary message, where `sendfile` cannot be used. nginx's output buffers
are 2 x 32 KiB."""

# The access log ----------------------------------------------------------------------------------

MAX_LOGGED_BYTES: Final = 2048
"""Bytes of a path that an access log line shows. Apache logs its whole request line, up to 8190.

Stops: a client that fills the disk with long paths.
"""
