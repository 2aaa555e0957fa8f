"""`SyncStreams`: streams for workers and scripts that are not asynchronous."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from tailrace import limits
from tailrace.store import Retention, Store
from tailrace.streams.item import Message, Status
from tailrace.streams.reading import Reader
from tailrace.streams.run import Run
from tailrace.streams.streams import Streams
from tailrace.streams.subscribers import OnDisconnect
from tailrace.types import StreamOptions

__all__ = ["SyncReader", "SyncRun", "SyncStreams"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Live:
    """Streams whose event loop runs in a thread of its own.

    Args:
        portal: Calls into that event loop.
        streams: The streams, open in that event loop.
        tasks: The entered `async with streams`, which runs need; None until the first run.
    """

    portal: Portal
    streams: Streams
    tasks: AbstractContextManager[Any] | None = None


def _blocking(
    verb: Callable[Concatenate[Streams, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncStreams, P], T]:
    """A method of `SyncStreams` that calls a method of `Streams` and blocks until it returns.

    It takes the same arguments and has the same docstring.
    """

    @wraps(verb)
    def call(self: SyncStreams, /, *args: P.args, **kwargs: P.kwargs) -> T:
        live = self._begin()
        return live.portal.call(lambda: verb(live.streams, *args, **kwargs))

    return call


class SyncStreams:
    """As `Streams`, with methods that block: for Celery, scripts, threads.

    ```
    with SyncStreams("sqlite:///data/streams.db") as streams:
        streams.append("ticker", {"price": 3})
    ```

    Several threads may use one object at once. The first call starts an event loop in a thread of
    its own. So an object that was made before a fork (Celery forks its workers) works in each
    child. But a child cannot use an SQLite file that was open at the fork: call `shutdown` before
    the fork.

    Args:
        url: As in `Streams`. A store is opened in the event loop of this object, so nothing else
            may use it, and a child of a fork cannot: give a URL for that.
        options: As in `Streams`.
        lease: As in `Streams`.
    """

    def __init__(
        self, url: str | Store, *, options: StreamOptions | None = None, lease: int = limits.LEASE
    ) -> None:
        self._make = partial(Streams, url, options=options, lease=lease)
        self._make()  # a wrong argument is refused now, not by the first call
        self._live: _Live | None = None
        self._lock = threading.Lock()
        self._of_parent: list[_Live] = []
        """What the parent process had opened before a fork. Only the parent may close it. It is
        referred to here, so that the garbage collector does not close it."""

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
        """Stop the runs, end the iterators, close the store. The next call opens all again."""
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

    check = _blocking(Streams.check)

    # Writing

    create = _blocking(Streams.create)
    append = _blocking(Streams.append)
    close = _blocking(Streams.close)
    fork = _blocking(Streams.fork)
    delete = _blocking(Streams.delete)

    def publish(self, path: str, item: Any, *, retention: Retention) -> str:
        """As `Channel.publish`: append to a stream, which is created first with this retention."""
        live = self._begin()
        channel = live.streams.channel(path, retention=retention)
        return live.portal.call(lambda: channel.publish(item))

    # Reading

    def read(self, path: str, start: str = "start", *, follow: bool = False) -> SyncReader:
        """As `Streams.read`: `for message in streams.read(path)`."""
        live = self._begin()
        return SyncReader(live.portal, live.streams.read(path, start, follow=follow))

    head = _blocking(Streams.head)
    list = _blocking(Streams.list)

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
        """As `Streams.run`, but by default the run goes on without clients.

        The source is iterated in another thread. The call returns when the run has begun.
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

    stop = _blocking(Streams.stop)

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
    """Iterates over the messages of a stream as they come; for one thread.

    The iteration may be left at any time. `close()` ends it, from any thread, even while it waits
    for a message. The end of a `with` block around the reader ends it too, and so does `shutdown`.
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
        """End the iteration. A second call does nothing."""
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
            # All that are ready at once: switching threads costs more than a message.
            self._messages.extend(self._portal.call(self._reader.take))
        except CancelledError:
            self._closed = True  # the streams were closed meanwhile
        if not self._messages:
            raise StopIteration


class SyncRun:
    """As `Run`, with methods that block; made by `SyncStreams.run`."""

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
        """As `Run.wait`: wait for the end, and raise `RunEnded` unless the run is done."""
        self._portal.call(self._run.wait)

    def stop(self) -> None:
        """As `Run.stop`."""
        self._portal.call(self._run.stop)

    def __iter__(self) -> SyncReader:
        return SyncReader(self._portal, aiter(self._run))


class Portal:
    """A thread with an event loop, which any thread may call into.

    The thread is a daemon. anyio's own helper starts one that Python waits for when the program
    ends, so a program that forgot to close it would never end.

    After a fork the child does not have the thread: `here` is False there.
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
        """Whether the thread was started in this process."""
        return self._process == os.getpid()

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Call a coroutine function in the loop, block until it returns, and return its result.

        If the calling thread is interrupted (Ctrl-C), the call is cancelled.

        Raises:
            RuntimeError: The portal is closed, or this is its own thread.
            CancelledError: The portal was closed during the call.
        """
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError(
                "a blocking call from the streams' own thread would wait for itself: "
                "call it from another thread"
            )
        assert self._portal is not None
        future: Future[T] = self._portal.start_task_soon(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def hold(self, block: AbstractAsyncContextManager[Any]) -> AbstractContextManager[Any]:
        """A `with` block for threads. It enters and leaves `block` in a task of the loop."""
        assert self._portal is not None
        return self._portal.wrap_async_context_manager(block)

    def close(self) -> None:
        """Cancel the calls under way, and end the thread."""
        assert self._portal is not None
        self._portal.start_task_soon(self._portal.stop, True)
        self._thread.join()

    def _run(self) -> None:
        anyio.run(self._serve)

    async def _serve(self) -> None:
        async with BlockingPortal() as self._portal:
            self._started.set()
            await self._portal.sleep_until_stopped()
