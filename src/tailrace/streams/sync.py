"""`SyncStreams`: streams for workers and scripts that are not asynchronous."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from tailrace import limits
from tailrace.store import Producer, Retention, StreamInfo
from tailrace.streams.item import Message, Status
from tailrace.streams.reading import Reader
from tailrace.streams.run import Run
from tailrace.streams.streams import Streams
from tailrace.streams.subscribers import OnDisconnect
from tailrace.types import StreamOptions

__all__ = ["SyncReader", "SyncRun", "SyncStreams"]

T = TypeVar("T")


@dataclass(slots=True)
class _Live:
    """Streams in a thread of their own.

    Args:
        portal: To the thread.
        streams: In its loop.
        tasks: The block in which they have tasks, as runs need; None until there is a run.
    """

    portal: Portal
    streams: Streams
    tasks: AbstractContextManager[Any] | None = None


class SyncStreams:
    """As `Streams`, with verbs that block: for Celery, scripts, threads.

    ```
    with SyncStreams("sqlite:///data/streams.db") as streams:
        streams.append("ticker", {"price": 3})
    ```

    May be used from several threads at once. Its event loop runs in a thread of its own, from the
    first call on; so one that is made before a fork (as Celery makes its workers) works in each
    child. An SQLite file that was in use at the fork cannot be used in the child: `shutdown` first.

    Args: As `Streams`; a store of one's own cannot be given, for it belongs to its event loop.
    """

    def __init__(
        self, url: str, *, options: StreamOptions | None = None, lease: int = limits.LEASE
    ) -> None:
        self._make = partial(Streams, url, options=options, lease=lease)
        self._make()  # a mistake is told where it was made
        self._live: _Live | None = None
        self._lock = threading.Lock()
        self._of_parent: list[_Live] = []
        """What was begun before a fork: not ours to close, not even by forgetting it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Stop the runs, end the iterators, close the store. The next call opens it again."""
        with self._lock:
            live, self._live = self._live, None
        if live is None or not live.portal.here:
            return
        try:
            if live.tasks is None:
                live.portal.call(live.streams.aclose)
            else:
                live.tasks.__exit__(None, None, None)
        finally:
            live.portal.close()

    def check(self) -> None:
        """As `Streams.check`."""
        self._call(lambda streams: streams.check())

    # Writing

    def create(
        self,
        path: str,
        *,
        content_type: str = "application/json",
        ttl: int | None = None,
        retention: Retention | None = None,
    ) -> bool:
        """As `Streams.create`."""
        return self._call(
            lambda streams: streams.create(
                path, content_type=content_type, ttl=ttl, retention=retention
            )
        )

    def append(self, path: str, item: Any, *, producer: Producer | None = None) -> str:
        """As `Streams.append`."""
        return self._call(lambda streams: streams.append(path, item, producer=producer))

    def publish(self, path: str, item: Any, *, retention: Retention) -> str:
        """As `Channel.publish`: append to a stream that is created with short retention."""
        return self._call(lambda streams: streams.channel(path, retention=retention).publish(item))

    def close(self, path: str) -> str:
        """As `Streams.close`: close a stream."""
        return self._call(lambda streams: streams.close(path))

    def fork(
        self,
        path: str,
        source: str,
        offset: str | None = None,
        *,
        sub_offset: int = 0,
        ttl: int | None = None,
    ) -> bool:
        """As `Streams.fork`."""
        return self._call(
            lambda streams: streams.fork(path, source, offset, sub_offset=sub_offset, ttl=ttl)
        )

    def delete(self, path: str) -> None:
        """As `Streams.delete`."""
        self._call(lambda streams: streams.delete(path))

    # Reading

    def read(self, path: str, start: str = "start", *, follow: bool = False) -> SyncReader:
        """As `Streams.read`: `for message in streams.read(path)`."""
        live = self._begin()
        return SyncReader(live.portal, live.streams.read(path, start, follow=follow))

    def head(self, path: str) -> StreamInfo:
        """As `Streams.head`."""
        return self._call(lambda streams: streams.head(path))

    def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        """As `Streams.list`."""
        return self._call(lambda streams: streams.list(prefix, after, limit))

    # Runs

    def run(
        self,
        path: str,
        source: Any,
        *,
        on_disconnect: OnDisconnect = "continue",
        restart: bool = False,
        ttl: int | None = None,
        retention: Retention | None = None,
    ) -> SyncRun:
        """As `Streams.run`, but it goes on without clients unless told otherwise.

        The source is iterated in another thread than this one; the call returns when it is under
        way.
        """
        live = self._begin(tasks=True)
        run = live.portal.call(
            lambda: live.streams.run(
                path,
                source,
                on_disconnect=on_disconnect,
                restart=restart,
                ttl=ttl,
                retention=retention,
            )
        )
        return SyncRun(live.portal, run)

    def stop(self, path: str) -> bool:
        """As `Streams.stop`."""
        return self._call(lambda streams: streams.stop(path))

    def _call(self, work: Callable[[Streams], Awaitable[T]]) -> T:
        live = self._begin()
        return live.portal.call(lambda: work(live.streams))

    def _begin(self, *, tasks: bool = False) -> _Live:
        with self._lock:
            live = self._live
            if live is not None and not live.portal.here:
                self._of_parent.append(live)
                live = None
            if live is None:
                live = self._live = _Live(Portal(), self._make())
            if tasks and live.tasks is None:
                block = live.portal.hold(live.streams)
                block.__enter__()
                live.tasks = block
            return live


class SyncReader(Iterator[Message]):
    """The messages of a stream, as they come; for one thread.

    It may be left at any time. `close()`, from any thread, ends it, also while it waits; so does
    the end of a `with` block around it, and of the streams.
    """

    def __init__(self, portal: Portal, reader: Reader) -> None:
        self._portal = portal
        self._reader = reader
        self._messages: deque[Message] = deque()
        self._closed = False

    def __next__(self) -> Message:
        if not self._messages:
            self._fill()
        return self._messages.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it. Nothing the second time."""
        if not self._closed:
            self._closed = True
            try:
                self._portal.call(self._reader.aclose)
            except (RuntimeError, CancelledError):
                return  # the streams are closed already

    def _fill(self) -> None:
        if self._closed:
            raise StopIteration
        try:
            # As many as there are: one change of threads for all of them.
            self._messages.extend(self._portal.call(self._reader.take))
        except CancelledError:
            self._closed = True  # the streams were closed meanwhile
        if not self._messages:
            raise StopIteration


class SyncRun:
    """As `Run`, with verbs that block; made by `SyncStreams.run`."""

    def __init__(self, portal: Portal, run: Run) -> None:
        self._portal = portal
        self._run = run
        self.path = run.path

    def __repr__(self) -> str:
        return repr(self._run)

    @property
    def status(self) -> Status:
        """As `Run.status`."""
        return self._run.status

    def wait(self) -> None:
        """As `Run.wait`: wait for its end, and raise `RunEnded` if it is no good one."""
        self._portal.call(self._run.wait)

    def stop(self) -> None:
        """As `Run.stop`."""
        self._portal.call(self._run.stop)

    def __iter__(self) -> SyncReader:
        return SyncReader(self._portal, aiter(self._run))


class Portal:
    """A thread with an event loop, started with the first call; for calls from any thread.

    anyio's own helper has a thread that is waited for when the program ends: one that forgets to
    close this would never end. This thread is a daemon.

    After a fork the child has no thread any more: `here` tells.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._portal: BlockingPortal | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tailrace-streams", daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def here(self) -> bool:
        """It was started in this process."""
        return self._process == os.getpid()

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """What a coroutine function gives, called in the loop; blocks.

        Interrupted (Ctrl-C), the call is cancelled.

        Raises:
            RuntimeError: It was closed, or this is its own thread.
            CancelledError: It was closed meanwhile.
        """
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError("this would wait for itself: call it from another thread")
        assert self._portal is not None
        future: Future[T] = self._portal.start_task_soon(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def hold(self, block: AbstractAsyncContextManager[Any]) -> AbstractContextManager[Any]:
        """An asynchronous block, in a task of the loop, as one for threads."""
        assert self._portal is not None
        return self._portal.wrap_async_context_manager(block)

    def close(self) -> None:
        """Cancel what is under way, and end the thread."""
        assert self._portal is not None
        self._portal.start_task_soon(self._portal.stop, True)
        self._thread.join()

    def _run(self) -> None:
        anyio.run(self._serve)

    async def _serve(self) -> None:
        async with BlockingPortal() as self._portal:
            self._started.set()
            await self._portal.sleep_until_stopped()
