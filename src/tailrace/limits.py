"""Every bound in Tailrace: its unit, where the number comes from, and what it stops."""

from __future__ import annotations

from typing import Final

# The pump ---------------------------------------------------------------------------------------

MAX_BATCH_BYTES: Final = 64 * 1024
"""Bytes in one batch, the default of `StreamOptions.max_batch_bytes`.

One TCP send of this size costs about as much as one of 1 KiB; in our measurements, larger batches
gained nothing (benchmarks/RESULTS.md). Stops: a fast source that fills the memory for a slow
client.
"""

MIN_BATCH_BYTES: Final = 1024
"""Smallest allowed `max_batch_bytes`: with less, a batch costs more than its data."""

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

Responses of events do not wait: their head is sent at once. If no item comes in these seconds, an
empty body follows, because hypercorn, granian, daphne and Starlette's GZipMiddleware keep the head
back until a body comes. It does not follow at once, so that the first item can be the first body.
"""

CLEANUP_TIMEOUT: Final = 5.0
"""Seconds that a source's own cleanup may take. Stops: a `finally` that waits for ever."""

DRAIN_TIMEOUT: Final = 10.0
"""Seconds that `drain()` gives open streams. Kubernetes waits 30 s before SIGKILL."""

FAREWELL_RETRY: Final = (2.0, 5.0)
"""Seconds after the end of the old server at which a farewell asks an SSE client to come back: at
random between these two. A FastAPI application needs one to two seconds to start.

Stops: clients that come back before the new server listens (a browser then gives up for ever), and
all clients of a server that restarts coming back in the same instant.
"""

FAREWELL_RETRY_IN_LINE: Final = (0.1, 1.0)
"""The same seconds if the listening socket stays open for the next server (uvicorn's `--reload`): a
client that comes early waits until that server answers."""

LONGEST_STOP: Final = 30.0
"""Seconds that a server is assumed to need to stop, if it has no limit of its own: SSE clients are
asked to come back after them. Kubernetes kills after 30 s, Docker after 10."""

SERVER_WATCH: Final = 0.25
"""Seconds between two checks whether the server was told to stop, while streams are open."""

TURN_BUDGET: Final = 0.005
"""Seconds for which a source may work without a wait; then the event loop gets its turn.

CPython switches between threads after as many. Stops: a tight generator that freezes its worker.
"""

SYNC_SOURCE_THREADS: Final = 4096
"""Threads for sync sources in one process; nothing else uses them.

A thread that sleeps in a generator has touched 20 KiB, and the kernel keeps 16 KiB for it: 150 MB
for all of them. If the system allows fewer (a container's `pids.max`), only those are used. Stops:
more and more blocked generators.
"""

SYNC_SOURCE_WAIT: Final = 5.0
"""Seconds that a response waits for a thread, when all are busy, before it is refused with 503.

Most load balancers wait longer for a status (nginx: 60 s). Stops: a status of 200, and then
silence.
"""

SYNC_SOURCE_RETRY_AFTER: Final = 5
"""Seconds after which a client that found no thread free (503) is asked to try again."""

FILE_THREADS: Final = 64
"""Threads that wait for disks. nginx's `thread_pool` has 32, and queues 65,536 tasks.

Reads from the page cache take microseconds; 64 threads keep any disk busy. Stops: a disk that hangs
and blocks the threads that everything else needs.
"""

SHORT_CALL_THREADS: Final = 16
"""Threads for short calls that only compute: Python's lock lets one of them run at a time."""

FULL_TOLD_EVERY: Final = 60.0
"""Seconds between two log lines that say that all threads of one kind are busy."""

THREAD_LINGER: Final = 0.01
"""Seconds that a sync source's thread waits until the client takes more; then it is given back.

A fast client takes a batch in well under a millisecond, so the same thread goes on. A client that
stalls holds the thread no longer than this.
"""

# Server-sent events -----------------------------------------------------------------------------

MAX_RETRY_MS: Final = 24 * 60 * 60 * 1000
"""Milliseconds in an event's `retry`: at most a day. Stops: clients that are sent away for ever."""

# Negotiation ------------------------------------------------------------------------------------

MAX_ACCEPT_BYTES: Final = 4096
"""Bytes of an Accept or Accept-Encoding header that are read; the rest is ignored.

Browsers send under 200. Stops: a header of a megabyte that costs time to parse.
"""

# Files -------------------------------------------------------------------------------------------

MAX_RANGES: Final = 100
"""Ranges of bytes in one Range header; one with more is ignored. Starlette's number; Apache: 200.

Stops: a small request that makes a large answer of part heads (CVE-2011-3192, "Apache Killer").
"""

MAX_RANGE_HEADER_BYTES: Final = 4096
"""Bytes that a Range header may have; a longer one is ignored. 100 ranges in 10 TB need 2,900.

Stops: a header of a megabyte that costs time to parse.
"""

COALESCE_GAP_BYTES: Final = 80
"""Bytes between two ranges that are sent as one range: a further part needs a head, of "typically
around 80 bytes" (RFC 9110 15.3.7.2). Stops: a hundred ranges of one byte, each with a head.
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
"""Bytes of a file that the server is told to send at a time, by zero copy.

The file is checked after each span: if it is being overwritten, at most one span of it is sent
before the connection is cut. CPU for 512 MiB under our protocol, in spans of 1, 4, 16 and 64 MiB:
97, 74, 64 and 63 ms; for a whole path 59 ms.
"""

# Directories ------------------------------------------------------------------------------------

MAX_LINK_TURNS: Final = 40
"""Links that are followed, and walks begun again for a "..", in one path beneath a served
directory; Linux's own MAXSYMLINKS is 40.

Stops: links that point at each other, and links that are made to be walked for ever.
"""

MAX_LISTING_ENTRIES: Final = 10_000
"""Entries in a directory's listing, which says if there are more. Apache sends all of them.

10,000 rows are 3.3 MB of HTML (0.2 MB where a proxy compresses it) and 0.3 s of CPU in threads.
Stops: a directory of millions that is read, sorted and held for each request.
"""

MAX_ARCHIVE_ENTRIES: Final = 100_000
"""Files and directories in a ZIP that is made of a directory; counted before its first byte.

The archive's central directory is held in memory until the end, about 700 bytes for each. Stops: a
download that needs more memory the longer it runs.
"""

# Live streams -----------------------------------------------------------------------------------

RECENT_BYTES: Final = 256 * 1024
"""Bytes of a live stream's last changes that are kept in memory for readers that are a little
behind, as appended and in each format that is read. The last change is kept whatever its size.

Stops: a stream that fills the memory because it is read. Older changes are in the log.
"""

RECENT_AGE: Final = 5.0
"""Seconds without a change after which a live stream forgets its last changes."""

CATCH_UP_BYTES: Final = 64 * 1024
"""Bytes of the log that are read at a time for a reader that is behind; as `max_batch_bytes`.

Stops: a thousand stalled readers that each hold a megabyte of the log in memory.
"""

EARLY_CHANGES: Final = 64
"""Changes that are kept while the log is being read; if there are more, the log is read again.

Stops: changes that pile up while a read hangs.
"""

# The server protocol ----------------------------------------------------------------------------

WRITE_PIECE_BYTES: Final = 16 * 1024
"""Bytes of a message above which it is not given to the transport as a whole; one TLS record.

A transport copies what it cannot send. Stops: a second copy of a whole batch in memory for each
client that stalls.
"""

STALLED_PIECE_BYTES: Final = 4 * 1024
"""Bytes of a message that the transport gets to send when the socket is full.

The rest of the message is not copied, and goes to the socket directly when there is room again.
"""

ATTACH_BUFFER_BYTES: Final = 64 * 1024
"""Bytes of frames that may wait for one attached client; with more, it gets no further frame.

All clients that wait for a frame share its bytes. uvicorn's own high-water mark is the same. Stops:
one client that stops reading and keeps every later message in memory.
"""

SENDFILE_BYTES: Final = (256 * 1024, 2 * 1024 * 1024)
"""Bytes of a file in one `sendfile`, after which the event loop gets its turn: the least, and the
most, which is divided by the number of files that are being sent.

The most is 0.5 ms of work, and nginx's own step (`sendfile_max_chunk`). Stops: many fast downloads
that keep all other responses waiting.
"""

SMALL_FILE_BYTES: Final = 32 * 1024
"""Bytes of a file up to which it is read and sent as one message, if it is in the page cache.

Up to this size, the copy costs less than it costs to watch the socket for `sendfile`.
"""

READ_AHEAD_BYTES: Final = (256 * 1024, 2 * 1024 * 1024)
"""Bytes of a file that are read into the page cache at a time: in the first step, and at most.

The first step is small so that the first byte is early; the kernel's own read-ahead is 128 KiB.
"""

COPY_BYTES: Final = 64 * 1024
"""Bytes of a file in one ordinary message, where `sendfile` cannot be used. nginx's output buffers
are 2 x 32 KiB."""

MAX_HEAD_BYTES: Final = 64 * 1024
"""Bytes of a request's head, and of all else that is not body: trailers, extensions of chunks.

nginx takes 32 KiB, uvicorn's h11 protocol 64 KiB; its httptools protocol, which is used here, has
no limit. The bytes are counted after each piece that is parsed.

Stops: a head without an end, which would be kept in memory.
"""

HEAD_TIMEOUT: Final = 30.0
"""Seconds from a connection's beginning, or from the first byte of a later request, to the end of
the head. nginx's `client_header_timeout` is 60 s.

Stops: connections that are opened and say nothing, until no descriptor is left ("slowloris").
"""

MAX_PIPELINED_BYTES: Final = 64 * 1024
"""Bytes that are read ahead while a request is answered; with more, reading stops. They are not
parsed before the answer is complete. nginx keeps as much as its buffer for a head, 1 to 32 KiB.

Stops: requests that are sent without end by a client that takes no answer.
"""

INPUT_PIECE_BYTES: Final = 4 * 1024
"""Bytes of a head, or of a body in chunks, that are parsed in one go. A chunk of one byte takes six
of them and one call of Python, so this is half a millisecond of work.

Stops: chunks of one byte that hold the event loop for as long as they come.
"""

INPUT_TURN: Final = 0.001
"""Seconds for which one connection's input is parsed before others have their turn; with the last
piece, which is not interrupted, it may be twice as long.

Stops: the same.
"""

HALF_CLOSE_GRACE: Final = 0.5
"""Seconds in which a client that has ended its side right after its request has to acknowledge a
byte of an endless response, which shows that it still reads. Two round trips to the other side of
the world.

Stops: event streams that are kept open for clients that have left.
"""

TLS_CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a client has to answer the end of TLS, once it has all that was sent. asyncio and
uvloop wait for 30 s.

Stops: clients that do not read from the idle connections in their pool, and so delay a server that
stops.
"""

MAX_HOST_BYTES: Final = 512
"""Bytes of a request's Host. A name of DNS has 253, and a port follows it.

Stops: long names that fill the cache of valid ones.
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

Stops: a body without an end, and one that makes the answer to every reader as large.
"""

READ_BYTES: Final = 1024 * 1024
"""Bytes of a stream in one answer to a reader. The answer ends with the append that reaches the
next multiple of this, so that all readers at one offset get the same bytes, and a cache can answer.

Stops: one request that reads a whole history into memory.
"""

LIST_STREAMS: Final = 1000
"""Streams in one page of a list. S3 gives as many keys in one."""

MAX_STREAM_PATH_BYTES: Final = 1024
"""Bytes of a stream's path in UTF-8; S3 allows as many. Stops: names that fill the index."""

MAX_PRODUCER_ID_BYTES: Final = 256
"""Bytes of a Producer-Id in UTF-8. Stops: producers' names that fill the store."""

MAX_STREAM_SEQ_BYTES: Final = 256
"""Bytes of a Stream-Seq. Stops: one that fills the store."""

MAX_SEQUENCE: Final = 2**53 - 1
"""Greatest Producer-Epoch and Producer-Seq: up to here JavaScript counts exactly."""

MAX_TTL: Final = 10 * 365 * 24 * 60 * 60
"""Seconds of a stream's `ttl`: ten years. Stops: a time of expiry that no clock can hold."""

MAX_CONTENT_TYPE_BYTES: Final = 256
"""Bytes of a stream's Content-Type. Stops: one that fills the index and every answer's head."""

MAX_JSON_DEPTH: Final = 128
"""Nested arrays and objects in one message of a JSON stream; serde_json takes as many,
System.Text.Json 64. Stops: a few hundred bytes of brackets with which every reader's parser fails.
"""

MAX_APPEND_MESSAGES: Final = 256 * 1024
"""Messages in one append of JSON: a megabyte of tokens. Kinesis takes 500 in one request, Google's
Pub/Sub 1,000.

Stops: millions of `[],`, which take seconds to check, and ten times as many bytes as events.
"""

MAX_JSON_CONTAINERS: Final = 1024 * 1024
"""Arrays and objects in one append of JSON; brackets and braces in strings are counted as well. 16
MiB of coordinates have fewer. To parse so many takes up to a second, in a thread, and 64 MiB.

Stops: brackets that take twenty times their size in memory.
"""

MAX_FORK_DEPTH: Final = 64
"""Forks of forks in one chain. Stops: a read that has to walk through thousands of streams."""

# The protocol -----------------------------------------------------------------------------------

LONG_POLL_TIMEOUT: Final = 20.0
"""Seconds that a long-poll waits for data. Proxies cut silent requests from 30 s on (Heroku), nginx
and most load balancers at 60 s."""

SSE_LIFETIME: Final = 60.0
"""Seconds for which the protocol's SSE answer lasts at most; then the client comes back. Each
answer is shorter than this by a random part, up to `SSE_LIFETIME_SPREAD` of it. "Roughly every ~60
seconds", says Durable Streams 5.8."""

SSE_LIFETIME_SPREAD: Final = 0.2
"""Largest part of an SSE answer's seconds by which it is made shorter, at random. Stops: readers
that came back at the same time after a restart, and then would do so for ever."""

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
"""Seconds that the server waits for a body before it may cut it off to make room for another one,
when `BODIES_BYTES` are held.

To hold all the room, a client must send that much each second. Without this, bodies that come at
the same time would cut each other off, and none would be appended.
"""

LINGER: Final = 30.0
"""Seconds for which the rest of a request is still read, and thrown away, after an answer that ends
the connection; nginx's `lingering_time`. Without it the connection is reset, the client may never
see why it was refused, and a proxy says 502 instead of 413.

Stops, as a bound: a client that goes on sending for ever.
"""

LINGER_SILENCE: Final = 5.0
"""Seconds without a byte of that rest after which the connection is closed; nginx's
`lingering_timeout`. Our own server asks for `BODY_MIN_RATE`, also if the connection is kept."""

THROWN_AWAY_BYTES: Final = 2 * 1024 * 1024
"""Bytes after the last request of a connection that are still read, so that no reset overtakes its
answer. A pipeline that long is an attack.

Stops: a client that sends for as long as the server reads.
"""

BODY_LINGER_BYTES: Final = 1024 * 1024
"""Bytes of a refused body that are read so that its connection can be kept."""

BODIES_BYTES: Final = 256 * 1024 * 1024
"""Bytes of all bodies that a process holds, each from its first byte until its append is made;
bodies of up to `BODY_FREE_BYTES` are not counted. If a body would exceed this, the slowest bodies
are cut off (408). If all bodies that are slower than this one hold too little together, or none is
slower, none is cut off, and this one is refused (503).

Sixteen of the largest bodies. Stops: many clients that send most of a large body, and stall.
"""

BODY_FREE_BYTES: Final = 64 * 1024
"""Bytes of a body that the server may hold for each connection anyway; uvicorn's high-water mark.
"""

JSON_INLINE_BYTES: Final = 128 * 1024
"""Bytes of a JSON body up to which it is parsed in the event loop: that takes up to 5 ms, or 40 ms
if it is all brackets. A longer one is parsed in a thread: 13 MiB of messages then delay everything
else by 10 ms, instead of 520 ms.

Stops: one large body that freezes its worker.
"""

MAX_QUERY_BYTES: Final = 4096
"""Bytes of a query string; ours need under 200. Stops: one of a megabyte that costs time to parse.
"""

CURSOR_INTERVAL: Final = 20.0
"""Seconds for which a cursor stays the same: Durable Streams 10.1."""

CURSOR_JITTER: Final = 3600.0
"""Seconds by which a cursor is moved on, at most, if a client sends the newest one: Durable Streams
10.1. Stops: a cache that answers a waiting client with its own old answer for ever."""

CACHE_MAX_AGE: Final = 60
"""Seconds for which a cache may keep an answer with appended data: Durable Streams 10.1."""

CACHE_STALE: Final = 300
"""Seconds for which a cache may then still use it, while it asks again: Durable Streams 10.1."""

PREFLIGHT_MAX_AGE: Final = 24 * 60 * 60
"""Seconds for which a browser remembers what another origin may do; Chromium does so for 2 hours at
most, Firefox for a day. Stops: a second request before each append."""

RETRY_AFTER: Final = 1
"""Seconds after which a client is asked to try again while the store cannot work."""

# The embedded store -----------------------------------------------------------------------------

STORE_QUEUE_OPS: Final = 4096
"""Requests that wait for the writer thread of one process; further callers wait for room.

At 20,000 a second they are a fifth of a second of work. Stops: memory that fills while the disk is
slow.
"""

STORE_QUEUE_BYTES: Final = 64 * 1024 * 1024
"""Bytes of data that wait for the writer thread; further callers wait for room.

Four of the largest appends. Stops: memory that fills with large appends while the disk is slow.
"""

STORE_BATCH_OPS: Final = 511
"""Requests in one commit: with a guard row they are 512 rows, the longest statement that is kept
prepared. Already 100 share the disk's sync well; more would only make the first one wait longer."""

STORE_BATCH_BYTES: Final = 16 * 1024 * 1024
"""Bytes of data in one commit; the append that reaches them is its last. Stops: a commit for which
all other processes wait for seconds."""

STORE_CACHED_STREAMS: Final = 10_000
"""Entries for streams whose state the writer keeps in memory, about 1 KiB each. For any other
stream, it reads the file.

Stops: memory that grows with the number of streams.
"""

STORE_CACHED_PRODUCERS: Final = 50_000
"""Entries for producers whose state the writer keeps in memory, about 300 bytes each."""

STORE_LOCK_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that holds the file; our own commits take milliseconds.

Python's `sqlite3` waits 5 s as well. Stops: a writer that never ends and keeps all others waiting.
"""

STORE_READ_THREADS: Final = 4
"""Threads that read a file, each with a connection; a read that finds none free waits."""

STORE_READ_CACHE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of pages that a reading connection keeps; the system's page cache is behind it."""

STORE_WRITE_CACHE_BYTES: Final = 64 * 1024 * 1024
"""Bytes of pages that the writing connection keeps: the index pages of streams in use."""

STORE_SLICE_ROWS: Final = 1000
"""Entries that are deleted in one go, some 5 ms, so that no append waits long for a deletion."""

STORE_SLICE_BYTES: Final = 16 * 1024 * 1024
"""Bytes that are deleted in one go, for the same reason; one append alone may have as many."""

STORE_TRIM_ROWS: Final = 10_000
"""Entries beyond a stream's retention that one commit removes, some 5 ms; the next commit goes on.
This is more than one commit can add: otherwise the removal would never end."""

STORE_CHORE_STREAMS: Final = 200
"""Streams that are due (to expire or to be trimmed) and that one commit handles, some 5 ms; the
next commit goes on."""

STORE_WAL_BYTES: Final = 8 * 1024 * 1024
"""Bytes of the write-ahead log after which it is copied into the file. SQLite's default is half as
much. A reader searches an index of the log, and a restart reads all of it."""

STORE_WAL_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Bytes to which a write-ahead log is cut back that grew larger during a long read.

Stops: a log that stays as large as it ever was.
"""

HINT_BYTES: Final = 32 * 1024
"""Bytes of data that a datagram to the other processes has; if there is more, they read it from the
file. The kernel's own bound for one datagram is 208 KiB here, and 11 of them can wait."""

MAX_PEERS: Final = 256
"""Connections to other processes with the same file, for datagrams. Stops: a directory that another
program fills with sockets."""

HINT_RETRY: Final = 0.005
"""Seconds until a process whose queue of datagrams was full is told again that it missed some."""

SAFETY_CHECK: Final = 1.0
"""Seconds between two checks whether the file changed without a datagram, while streams are
watched."""

SAFETY_STREAMS: Final = 1000
"""Watched streams that are compared with the file in one such check, some 3 ms."""

# Subscriptions ----------------------------------------------------------------------------------

MAX_SUBSCRIPTIONS: Final = 1000
"""Subscriptions of one store. Each process watches them all. Stops: clients that make more and more
of them, and so more and more requests to other servers."""

MAX_SUBSCRIPTION_STREAMS: Final = 5000
"""Streams of one subscription. Their cursors are written with each wake: half a megabyte, for which
the event loop stops for about 20 ms. Stops: a pattern that matches all streams, so that each append
costs as much as all of them."""

MAX_SUBSCRIPTION_PATH_BYTES: Final = 2 * 1024 * 1024
"""Bytes of the paths of one subscription's streams, so that its record is not larger than one
append may be. Stops: ten thousand of the longest paths."""

MAX_WAKE_STREAMS: Final = 1000
"""Streams that one wake names; the others come with the next wake. Stops: a webhook of
megabytes."""

MAX_SUBSCRIPTION_ID_BYTES: Final = 256
"""Bytes of a subscription's id in UTF-8. Stops: names that fill the index."""

MAX_SUBSCRIPTION_BODY_BYTES: Final = 1024 * 1024
"""Bytes of a request to a subscription: thousands of paths. Stops: a body without an end."""

MAX_PATTERN_BYTES: Final = 1024
"""Bytes of a pattern; a path may have as many."""

MAX_PATTERN_SEGMENTS: Final = 32
"""Segments of a pattern. Stops: matching that costs each append thousands of steps."""

MAX_DESCRIPTION_BYTES: Final = 1024
"""Bytes of a subscription's description. Stops: whole documents as descriptions."""

MAX_WORKER_NAME_BYTES: Final = 256
"""Bytes of the name with which a worker claims a wake; other workers can see it."""

MAX_WEBHOOK_URL_BYTES: Final = 2048
"""Bytes of a webhook's URL; browsers and proxies take as many."""

MIN_LEASE_MS: Final = 1000
"""Milliseconds of the shortest lease: Durable Streams 6.2. Stops: wakes in a tight loop."""

MAX_LEASE_MS: Final = 10 * 60 * 1000
"""Milliseconds of the longest lease: Durable Streams 6.2. Stops: a worker that died and holds a
subscription for ever."""

LEASE_MS: Final = 30_000
"""Milliseconds of a lease unless a client asks for another: Durable Streams 6.2."""

WAKE_TOKEN_LIFETIME: Final = 24 * 60 * 60
"""Seconds for which the token of a wake is valid, however often its lease is extended; the next
wake makes it invalid earlier. Stops: the use of a token that was found in an old log."""

WEBHOOK_TIMEOUT: Final = 30.0
"""Seconds to wait for a webhook's answer, unless its lease is shorter. A receiver that needs longer
answers at once, and calls back later. GitHub waits 10 s. Stops: receivers that never answer."""

WEBHOOK_CONNECT_TIMEOUT: Final = 10.0
"""Seconds to connect to a webhook's receiver. Stops: addresses that never answer."""

MAX_WEBHOOK_ANSWER_BYTES: Final = 64 * 1024
"""Bytes of a webhook's answer that are read; `{"done": true}` is all that it can say. Stops: an
answer without an end."""

MAX_DELIVERIES: Final = 256
"""Webhooks that one process sends at the same time; others wait. Stops: receivers that hang, and
take all descriptors."""

MIN_WEBHOOK_RETRY: Final = 1.0
"""Seconds before the first repetition of a delivery: Durable Streams 7.1."""

MAX_WEBHOOK_RETRY: Final = 60.0
"""Seconds between two repetitions, at most: Durable Streams 7.1."""

WEBHOOK_RETRY_JITTER: Final = 0.2
"""Part by which a repetition comes earlier or later, at random: Durable Streams 7.1. Stops:
deliveries that failed at the same time being repeated at the same time."""

ANNOUNCE_GRACE: Final = 5.0
"""Seconds that a process has to write a wake event before another process does it. Stops: a wake
that is lost when its process dies."""

SUBSCRIPTION_SWEEP: Final = 300.0
"""Seconds between two checks of every subscription. They find what this process was not notified
of: an append by a program that only has the store, or a lost datagram."""

OLD_KEY_LIFETIME: Final = 24 * 60 * 60
"""Seconds for which a signing key stays published after another took its place; receivers accept
signatures for five minutes, caches keep the keys for as long."""

MAX_SIGNING_KEYS: Final = 256
"""Signing keys that a store keeps and publishes, the newest: all of the last `OLD_KEY_LIFETIME`, if
the key changes every six minutes. Stops: servers with different keys that restart again and again,
and fill the answer that lists them."""

# Runs -------------------------------------------------------------------------------------------

LEASE: Final = 6
"""Whole seconds without a sign of life after which a worker counts as dead, and its runs as lost.

A worker gives a sign after each third of them. Kafka's consumers have 45 s, etcd's leases a few.
Stops: readers that wait for ever for a worker that was killed, or whose event loop hangs.
"""

SWEEP_RUNS: Final = 250
"""Entries of the list of runs that a worker checks in each `LEASE`, some 20 ms of work, to find a
run of a worker that it has never seen alive.

When a worker dies that it has seen, it checks all entries. Stops: thousands of idle runs that each
process reads again and again."""

RUN_BATCH_BYTES: Final = 256 * 1024
"""Bytes of a run's items that wait while the append before them is being committed.

Half a millisecond of a disk's work; larger ones gained nothing. Stops: a fast source that fills the
memory while the store is slow.
"""

FIRST_CLIENT: Final = 10.0
"""Seconds that a run waits for its first client, if it is to end when its last client leaves.

Stops: a source that runs to its end for a client that left before it began to listen.
"""

STORE_PATIENCE: Final = 30.0
"""Seconds that a run, and so its source, waits for a store that cannot work; then the run fails."""

STORE_RETRY: Final = (0.1, 2.0)
"""Seconds before a run tries such a store again: the first wait, which is doubled each time, and
the longest."""

MAX_END_CHARS: Final = 1000
"""Characters of the sentence that says how a run ended. Stops: an error with a text of a megabyte.
"""

PROGRESS_INTERVAL: Final = 0.1
"""Seconds between two events of a `Progress`: a person can read ten in a second."""

PROGRESS_WINDOW: Final = 5.0
"""Seconds over which the rate of a `Progress` is averaged; newer ones weigh more."""

STORE_REOPEN: Final = 5.0
"""Seconds after which `tailrace serve` tries again to open a store that could not work."""
