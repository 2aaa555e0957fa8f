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
"""Seconds that the status line waits for the first item, so that an early error has its own status.

Responses of events do not wait: their head is sent alone, and after so many seconds an empty body
follows, because hypercorn, granian, daphne and Starlette's GZipMiddleware keep the head back until
a body comes. Not at once, so that the first body is the first item where one comes in time."""

CLEANUP_TIMEOUT: Final = 5.0
"""Seconds that a source's own cleanup may take. Stops: a `finally` that waits for ever."""

DRAIN_TIMEOUT: Final = 10.0
"""Seconds that `drain()` gives open streams. Kubernetes waits 30 s before SIGKILL."""

FAREWELL_RETRY: Final = (2.0, 5.0)
"""Seconds after the end of the old server after which a farewell asks an SSE client to come back,
at random between these two. A FastAPI application needs one to two seconds to start.

Stops: clients that come back before the new server listens (a browser then gives up for ever), and
all clients of a server that restarts coming back in the same instant.
"""

FAREWELL_RETRY_IN_LINE: Final = (0.1, 1.0)
"""The same seconds where the listening socket outlives the server (uvicorn's `--reload`): a client
that comes early waits until the next server answers."""

LONGEST_STOP: Final = 30.0
"""Seconds that a server takes to stop, if it has no limit of its own and so would wait for ever.
Kubernetes kills after 30 s, Docker after 10."""

SERVER_WATCH: Final = 0.25
"""Seconds between two checks whether the server was told to stop, while streams are open."""

TURN_BUDGET: Final = 0.005
"""Seconds of work without a real wait after which the event loop gets its turn.

CPython's own switch interval between threads. Stops: a tight generator that freezes its worker.
"""

SYNC_SOURCE_THREADS: Final = 4096
"""Threads for sync sources in one process, apart from those that serve anything else.

One that sleeps in a generator has touched 20 KiB, and the kernel keeps 16 KiB for it: 150 MB for
all of them. Where the system gives fewer (a container's `pids.max`), those have to do. Stops:
blocked generators without end.
"""

SYNC_SOURCE_WAIT: Final = 5.0
"""Seconds that a response waits for a thread, when all are busy, before it is refused with 503.

Most load balancers wait longer than this for a status (nginx: 60 s). Stops: 200 and then silence.
"""

SYNC_SOURCE_RETRY_AFTER: Final = 5
"""Seconds after which a client that found no thread free (503) is asked to try again."""

FILE_THREADS: Final = 64
"""Threads that wait for disks. nginx's `thread_pool` has 32, and queues 65,536 tasks.

Reads from the page cache are over in microseconds; 64 keep any disk busy. Stops: a disk that hangs
and takes the threads of everything else.
"""

SHORT_CALL_THREADS: Final = 16
"""Threads for what only computes: Python's lock lets one of them run at a time."""

FULL_TOLD_EVERY: Final = 60.0
"""Seconds between two lines of the log that say that all threads of a set are busy."""

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
"""Bytes between two ranges up to which they are sent as one range: another part's head has
"typically around 80 bytes", says RFC 9110 15.3.7.2. Stops: a hundred ranges of one byte, each with
a head.
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

The file is checked between two spans: so at most one span of a file that is being overwritten is
sent before the connection is cut. CPU for 512 MiB under our protocol, in spans of 1, 4, 16 and 64
MiB: 97, 74, 64 and 63 ms; of a whole path 59.
"""

# Directories ------------------------------------------------------------------------------------

MAX_LINK_TURNS: Final = 40
"""Links and turns back in one path beneath a served directory; Linux's own MAXSYMLINKS is 40.

Stops: links that point at each other, and links made to be walked for ever.
"""

MAX_LISTING_ENTRIES: Final = 10_000
"""Entries of a directory's listing; a longer one says that it was cut. Apache sends all of them.

10,000 rows are 3.3 MB of HTML (0.2 MB where a proxy compresses it) and 0.3 s of CPU in threads.
Stops: a directory of millions that is read, sorted and held for each request.
"""

MAX_ARCHIVE_ENTRIES: Final = 100_000
"""Files and directories in a ZIP that is made of a directory; counted before its first byte.

The archive's own directory is held in memory until its end, about 700 bytes for each. Stops: a
download that costs more memory the longer it runs.
"""

# Live streams -----------------------------------------------------------------------------------

RECENT_BYTES: Final = 256 * 1024
"""Bytes of a live stream's last changes that are kept for readers a little behind, as they were
appended and in each format that was asked for; the very last change is kept whatever its size.

Stops: a stream that fills the memory because somebody reads it. What is older is in the log.
"""

RECENT_AGE: Final = 5.0
"""Seconds without a change after which a live stream forgets its last changes."""

CATCH_UP_BYTES: Final = 64 * 1024
"""Bytes of the log that a reader that is behind gets at a time, as `max_batch_bytes`.

Stops: a thousand stalled readers that each hold a megabyte of it.
"""

EARLY_CHANGES: Final = 64
"""Changes that are kept while the log is being read; with more, it is read again.

Stops: a read that hangs, and changes that pile up meanwhile.
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

The most is 0.5 ms of work, and nginx's own step (`sendfile_max_chunk`). Stops: many fast downloads
that keep all other responses waiting.
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

MAX_HEAD_BYTES: Final = 64 * 1024
"""Bytes of a request's head, and of what else is not body: trailers, extensions of chunks.

nginx takes 32 KiB, uvicorn's parser in Python 64 KiB, the one that is used here whatever comes. It
is looked at after each piece that was read, of 256 KiB at most.

Stops: a head without an end, which would be kept in memory.
"""

HEAD_TIMEOUT: Final = 30.0
"""Seconds from a connection's beginning, or from the first byte of a later request, to the end of
the head. nginx's `client_header_timeout` is 60 s.

Stops: connections that are opened and say nothing, until no descriptor is left ("slowloris").
"""

MAX_PIPELINED_BYTES: Final = 64 * 1024
"""Bytes that are read ahead while a request is answered; then nothing more is read. They are not
parsed before the answer is complete. nginx keeps as much as its buffer for a head, 1 to 32 KiB.

Stops: requests that are sent without end by a client that takes no answer.
"""

INPUT_PIECE_BYTES: Final = 4 * 1024
"""Bytes of a head, or of a body in chunks, that are parsed in one go. A chunk of one byte takes six
of them and a call of Python: so these are half a millisecond.

Stops: bodies in pieces of a byte that hold the event loop for as long as there are any.
"""

INPUT_TURN: Final = 0.001
"""Seconds in which one connection's input is parsed before others have their turn; with a piece
that was begun, about twice as much.

Stops: as above.
"""

HALF_CLOSE_GRACE: Final = 0.5
"""Seconds in which a client that has ended its side right behind its request has to acknowledge a
byte of an endless response; then it is known to read. Two round trips to the other side of the
world.

Stops: event streams that are kept open for clients that have left.
"""

TLS_CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a client has to answer the end of TLS, once it has all that was sent. asyncio and
uvloop wait for 30 s.

Stops: clients that keep idle connections in a pool and do not read from them, which would hold a
server that stops.
"""

MAX_HOST_BYTES: Final = 512
"""Bytes of a request's Host. A name of DNS has 253, and a port follows it.

Stops: names that fill the cache of those that were found to be good.
"""

# The access log ----------------------------------------------------------------------------------

MAX_LOGGED_BYTES: Final = 2048
"""Bytes of a path that an access log line shows. Apache logs its whole request line, up to 8190.

Stops: a client that fills the disk with long paths.
"""

# Streams ----------------------------------------------------------------------------------------

MAX_APPEND_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one append, which is held in memory and written as one record. Kafka's brokers take 1
MiB, NATS 1 to 64 MiB; the conformance suite's largest is 10 MiB.

Stops: a body without an end, and one that makes every reader's answer as large.
"""

READ_BYTES: Final = 1024 * 1024
"""Bytes of a stream in one answer to a reader; it ends with the append that reaches the next whole
multiple, so that all who read from an offset get the same bytes, and a cache can answer them.

Stops: one request that reads a whole history into memory.
"""

LIST_STREAMS: Final = 1000
"""Streams in one page of a list. S3 gives as many keys."""

MAX_STREAM_PATH_BYTES: Final = 1024
"""Bytes of a stream's path in UTF-8; S3's keys have as many. Stops: names that fill the index."""

MAX_PRODUCER_ID_BYTES: Final = 256
"""Bytes of a Producer-Id in UTF-8. Stops: producers' names that fill the store."""

MAX_STREAM_SEQ_BYTES: Final = 256
"""Bytes of a Stream-Seq. Stops: one that fills the store."""

MAX_SEQUENCE: Final = 2**53 - 1
"""Greatest Producer-Epoch and Producer-Seq: what JavaScript counts exactly."""

MAX_TTL: Final = 10 * 365 * 24 * 60 * 60
"""Seconds of a stream's `ttl`, ten years. Stops: a sum that no clock can hold."""

MAX_CONTENT_TYPE_BYTES: Final = 256
"""Bytes of a stream's Content-Type. Stops: one that fills the index and every answer's head."""

MAX_JSON_DEPTH: Final = 128
"""Arrays and objects within each other in one message of a JSON stream; serde_json takes as many,
System.Text.Json 64. Stops: a few hundred bytes of brackets that make every reader's parser fail.
"""

MAX_APPEND_MESSAGES: Final = 256 * 1024
"""Messages in one append of JSON: a megabyte of tokens. Kinesis takes 500 in one request, Google's
Pub/Sub 1,000.

Stops: millions of `[],`, which take seconds to check, and are ten times as long when they are sent
as events.
"""

MAX_JSON_CONTAINERS: Final = 1024 * 1024
"""Arrays and objects in one append of JSON, with the brackets and braces in its strings; 16 MiB of
coordinates have fewer. They take up to a second to look at, in a thread, and 64 MiB.

Stops: brackets that become twenty times as much memory.
"""

MAX_FORK_DEPTH: Final = 64
"""Forks of forks. Stops: a chain whose every read walks through thousands of streams."""

# The protocol -----------------------------------------------------------------------------------

LONG_POLL_TIMEOUT: Final = 20.0
"""Seconds that a long-poll waits for data. Proxies cut silent requests from 30 s on (Heroku), nginx
and most load balancers at 60 s."""

SSE_LIFETIME: Final = 60.0
"""Seconds after which the protocol's SSE answer ends and the client comes back, give or take
`SSE_LIFETIME_SPREAD`; "roughly every ~60 seconds", says Durable Streams 5.8."""

SSE_LIFETIME_SPREAD: Final = 0.2
"""Part of an SSE answer's seconds by which it is made shorter, drawn evenly. Stops: all readers
that came back together after a restart coming back together for ever."""

SSE_RETRY: Final = 1.0
"""Seconds that a browser's EventSource waits before it comes back; browsers take 3 s by default."""

BODY_TIMEOUT: Final = 30.0
"""Seconds without a byte of a request's body that was announced; nginx's `client_body_timeout` is
60 s, counted the same way. Stops: a client that sends half a body and holds it for ever."""

BODY_MIN_RATE: Final = 500
"""Bytes per second of a request's body; each second of waiting for less uses up `BODY_TIMEOUT`, and
each 500 bytes give a second of it back. Apache's `mod_reqtimeout` has `MinRate=500`, IIS 240.

Stops: a client that sends a byte now and then, and holds its body for ever ("R-U-Dead-Yet").
"""

BODY_SURE: Final = 1.0
"""Seconds that the server waits for a body before the body can lose its room to another one, when
`BODIES_BYTES` are held.

To hold all the room, a client must send that much each second. Without this, bodies that come at
the same time would cut each other off, and none would be appended.
"""

LINGER: Final = 30.0
"""Seconds for which the rest of a request is still read, and thrown away, after an answer that ends
the connection; nginx's `lingering_time`. Without it the connection is reset, the client may never
see why it was refused, and a proxy says 502 in place of 413.

Stops, as a bound: a client that goes on sending for ever.
"""

LINGER_SILENCE: Final = 5.0
"""Seconds without a byte of that rest after which the connection is closed; nginx's
`lingering_timeout`. Our own server asks for `BODY_MIN_RATE`, also where the connection is kept."""

THROWN_AWAY_BYTES: Final = 2 * 1024 * 1024
"""Bytes behind the last request of a connection that are still read, so that its answer is not lost
with a reset. A pipeline that long is an attack.

Stops: a client that sends for as long as the server reads.
"""

BODY_LINGER_BYTES: Final = 1024 * 1024
"""Bytes of a refused body that are read for the sake of its connection, which is then kept."""

BODIES_BYTES: Final = 256 * 1024 * 1024
"""Bytes of all bodies that a process holds, each from its first byte until its append is made;
bodies of up to `BODY_FREE_BYTES` are not counted. If a body would exceed this, the slowest bodies
are cut off (408); if none is slower than this body, it is refused (503).

Sixteen of the largest. Stops: many clients that each send most of a large body, and stall.
"""

BODY_FREE_BYTES: Final = 64 * 1024
"""Bytes of a body that the server may hold for each connection anyway; uvicorn's own mark."""

JSON_INLINE_BYTES: Final = 128 * 1024
"""Bytes of a JSON body that are looked at in the event loop; that takes up to 5 ms, and 40 if it is
all brackets. A longer one is looked at in a thread: 13 MiB of messages hold up everything else for
10 ms then, instead of 520.

Stops: one large body that freezes its worker.
"""

MAX_QUERY_BYTES: Final = 4096
"""Bytes of a query string; ours need under 200. Stops: one of a megabyte that costs time to parse.
"""

CURSOR_INTERVAL: Final = 20.0
"""Seconds of one cursor: Durable Streams 10.1."""

CURSOR_JITTER: Final = 3600.0
"""Seconds by which a cursor is moved on at most when a client gives back the newest: Durable
Streams 10.1. Stops: a cache that answers a waiting client with its own old answer for ever."""

CACHE_MAX_AGE: Final = 60
"""Seconds for which a cache may answer a read of what was appended: Durable Streams 10.1."""

CACHE_STALE: Final = 300
"""Seconds for which it may do so while it asks again: Durable Streams 10.1."""

PREFLIGHT_MAX_AGE: Final = 24 * 60 * 60
"""Seconds for which a browser remembers what other origins may do; Chromium keeps it for 2 hours,
Firefox for a day. Stops: a second request before each append."""

RETRY_AFTER: Final = 1
"""Seconds after which a client is asked to try again while the store cannot work."""

# The embedded store -----------------------------------------------------------------------------

STORE_QUEUE_OPS: Final = 4096
"""Requests that wait for the writer thread of one process; the next caller waits for room.

At 20,000 a second that is a fifth of a second of work. Stops: a slow disk that fills the memory.
"""

STORE_QUEUE_BYTES: Final = 64 * 1024 * 1024
"""Bytes of data that wait for the writer thread; the next caller waits for room.

Four of the largest appends. Stops: large appends to a slow disk that fill the memory.
"""

STORE_BATCH_OPS: Final = 511
"""Requests in one commit: with its guard they are 512 rows, the longest statement that is kept
prepared. Over 100 the disk's sync is shared well enough; more would only make the first wait."""

STORE_BATCH_BYTES: Final = 16 * 1024 * 1024
"""Bytes of data in one commit; the append that reaches them is its last. Stops: a commit that keeps
all other processes from theirs for seconds."""

STORE_CACHED_STREAMS: Final = 10_000
"""Entries for streams whose state the writer keeps in memory, about 1 KiB each.

Stops: memory that grows with the number of streams. A stream that is not kept costs a read of the
file.
"""

STORE_CACHED_PRODUCERS: Final = 50_000
"""Entries for producers whose state the writer keeps in memory, about 300 bytes each."""

STORE_LOCK_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that holds the file; our own commits take milliseconds.

`sqlite3` of Python waits 5 s as well. Stops: a writer that never ends from holding all the others.
"""

STORE_READ_THREADS: Final = 4
"""Threads that read a file, each with a connection; a read that finds none free waits."""

STORE_READ_CACHE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of pages that a reading connection keeps; the system's page cache is behind it."""

STORE_WRITE_CACHE_BYTES: Final = 64 * 1024 * 1024
"""Bytes of pages that the writing connection keeps: the index pages of streams in use."""

STORE_SLICE_ROWS: Final = 1000
"""Entries that are deleted in one go, some 5 ms, so that no append waits long behind a deletion."""

STORE_SLICE_BYTES: Final = 16 * 1024 * 1024
"""Bytes that are deleted in one go, for the same reason; one append may be as large alone."""

STORE_TRIM_ROWS: Final = 10_000
"""Entries beyond a stream's retention that one commit removes, some 5 ms; the rest follows with the
next. This is more than one commit can add: otherwise it would never end."""

STORE_CHORE_STREAMS: Final = 200
"""Streams whose time has come (to expire, to be trimmed) that one commit handles, some 5 ms, for
the same reason; the rest follows with the next."""

STORE_WAL_BYTES: Final = 8 * 1024 * 1024
"""Bytes of the write-ahead log from which on it is copied into the file. SQLite's default is half
as much; a reader searches an index of it, and a restart reads all of it."""

STORE_WAL_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Bytes to which a write-ahead log that a long reader made larger is cut back.

Stops: one that stays as large as it ever was.
"""

HINT_BYTES: Final = 32 * 1024
"""Bytes of data that go with a datagram to the other processes; if there is more, they read it from
the file. The kernel's own bound for one datagram is 208 KiB here, and 11 of them queue."""

MAX_PEERS: Final = 256
"""Connections to other processes of one file, for datagrams. Stops: a directory filled with sockets
by somebody else."""

HINT_RETRY: Final = 0.005
"""Seconds until a process whose queue of datagrams was full is told again that it missed some."""

SAFETY_CHECK: Final = 1.0
"""Seconds between two checks whether the file changed without a datagram, while streams are
watched."""

SAFETY_STREAMS: Final = 1000
"""Watched streams that are compared with the file in one such check, some 3 ms."""

# Subscriptions ----------------------------------------------------------------------------------

MAX_SUBSCRIPTIONS: Final = 1000
"""Subscriptions of one store. Each process watches them all. Stops: clients that make them without
end, and with them requests to other servers."""

MAX_SUBSCRIPTION_STREAMS: Final = 5000
"""Streams of one subscription, whose cursors are written with each wake: half a megabyte, for which
the event loop stands still for about 20 ms. Stops: a pattern over everything that makes each append
as costly as everything."""

MAX_SUBSCRIPTION_PATH_BYTES: Final = 2 * 1024 * 1024
"""Bytes of the paths of one subscription's streams, so that what is stored of it is no larger than
one append may be. Stops: ten thousand of the longest paths."""

MAX_WAKE_STREAMS: Final = 1000
"""Streams that one wake names; the others come with the next wake. Stops: a webhook of
megabytes."""

MAX_SUBSCRIPTION_ID_BYTES: Final = 256
"""Bytes of a subscription's id in UTF-8. Stops: names that fill the directory."""

MAX_SUBSCRIPTION_BODY_BYTES: Final = 1024 * 1024
"""Bytes of a request to a subscription: thousands of paths. Stops: a body without an end."""

MAX_PATTERN_BYTES: Final = 1024
"""Bytes of a pattern, as many as a path may have."""

MAX_PATTERN_SEGMENTS: Final = 32
"""Segments of a pattern. Stops: matching that costs each append thousands of steps."""

MAX_DESCRIPTION_BYTES: Final = 1024
"""Bytes of a subscription's description. Stops: documents kept where cursors belong."""

MAX_WORKER_NAME_BYTES: Final = 256
"""Bytes of the name that a worker claims with, which others get to see."""

MAX_WEBHOOK_URL_BYTES: Final = 2048
"""Bytes of a webhook's URL; what browsers and proxies take."""

MIN_LEASE_MS: Final = 1000
"""Milliseconds of the shortest lease: Durable Streams 6.2. Stops: wakes in a tight loop."""

MAX_LEASE_MS: Final = 10 * 60 * 1000
"""Milliseconds of the longest lease: Durable Streams 6.2. Stops: a worker that died and holds a
subscription for ever."""

LEASE_MS: Final = 30_000
"""Milliseconds of a lease unless a client asks for another: Durable Streams 6.2."""

WAKE_TOKEN_LIFETIME: Final = 24 * 60 * 60
"""Seconds for which the token of a wake is good, however often its lease is extended. What makes it
useless earlier is the next wake. Stops: one that was found in an old log."""

WEBHOOK_TIMEOUT: Final = 30.0
"""Seconds for a webhook's answer, unless its lease is shorter; a receiver that needs longer answers
at once, and calls back later. GitHub waits 10 s. Stops: receivers that never answer."""

WEBHOOK_CONNECT_TIMEOUT: Final = 10.0
"""Seconds for a connection to a webhook's receiver. Stops: addresses that swallow everything."""

MAX_WEBHOOK_ANSWER_BYTES: Final = 64 * 1024
"""Bytes of a webhook's answer that are read; `{"done": true}` is all that it can say. Stops: an
answer without an end."""

MAX_DELIVERIES: Final = 256
"""Webhooks under way at once in one process; others wait. Stops: receivers that hang and take all
descriptors."""

MIN_WEBHOOK_RETRY: Final = 1.0
"""Seconds before the first repetition of a delivery: Durable Streams 7.1."""

MAX_WEBHOOK_RETRY: Final = 60.0
"""Seconds between repetitions at most: Durable Streams 7.1."""

WEBHOOK_RETRY_JITTER: Final = 0.2
"""Part by which a repetition comes earlier or later, drawn evenly: Durable Streams 7.1. Stops: all
that failed together coming back together."""

ANNOUNCE_GRACE: Final = 5.0
"""Seconds that a process has to write a wake event before another one does it. Stops: a wake that
died with its process."""

SUBSCRIPTION_SWEEP: Final = 300.0
"""Seconds between two checks of every subscription. They find what this process was not notified
of: an append by a program that only has the store, or a lost datagram."""

OLD_KEY_LIFETIME: Final = 24 * 60 * 60
"""Seconds for which a signing key stays published after another took its place; receivers accept
signatures for five minutes, caches keep the keys for as long."""

# Runs -------------------------------------------------------------------------------------------

LEASE: Final = 6
"""Whole seconds without a sign of life after which a worker counts as dead, and its runs as lost.

It gives a sign each third of that. Kafka's consumers have 45 s, etcd's leases a few. Stops: readers
that wait for ever for a worker that was killed, or that holds its event loop for so long.
"""

SWEEP_RUNS: Final = 250
"""Entries of the list of runs that a worker looks at in each `LEASE`, some 20 ms of work, for one
whose worker has died unseen.

When a worker dies that was seen alive, all entries are looked at. Stops: thousands of idle runs
that each process reads again and again."""

RUN_BATCH_BYTES: Final = 256 * 1024
"""Bytes of a run's items that wait while the append before them is being committed.

Half a millisecond of a disk's work; more bought nothing. Stops: a fast source that fills the memory
while the store is slow.
"""

FIRST_CLIENT: Final = 10.0
"""Seconds that a run waits for its first client, where it ends when its last one leaves.

Stops: a source that runs to its end for a client that has left before it began to listen.
"""

STORE_PATIENCE: Final = 30.0
"""Seconds that a run waits for a store that cannot work; then it fails. Its source is held back."""

STORE_RETRY: Final = (0.1, 2.0)
"""Seconds before a run asks such a store again: the first wait, doubled each time, and the
longest."""

MAX_END_CHARS: Final = 1000
"""Characters of the sentence that says how a run ended. Stops: an error's text of a megabyte."""

PROGRESS_INTERVAL: Final = 0.1
"""Seconds between two events of a progress: ten a second are what a person can read."""

PROGRESS_WINDOW: Final = 5.0
"""Seconds over which a progress's rate is averaged, newer ones weighing more."""

STORE_REOPEN: Final = 5.0
"""Seconds after which `tailrace serve` tries again to open a store that could not work."""
