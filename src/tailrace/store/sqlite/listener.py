"""Listens for the hints of other processes, in a thread, while streams are watched.

The file is the truth. When a hint was missed, what is watched is compared with the file, and what
differs is told. And once a second, if the file has changed: for a process that was killed before it
could tell. Of thousands it is some at a time then, unless no hints can be heard at all.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import apsw

from tailrace import limits
from tailrace.store.sqlite.connection import close
from tailrace.store.sqlite.hint import MOST_BYTES, Hint, News, parse
from tailrace.store.sqlite.sockets import TELLS_SENDER, Sockets
from tailrace.store.sqlite.telling import Telling

__all__ = ["Listener"]

_log = logging.getLogger("tailrace")

_LINGER: Final = 10.0
"""Seconds for which it goes on listening when nothing is watched: long-polls come and go."""

_MOST_SENDERS: Final = 4 * limits.MAX_PEERS

_CREDENTIALS: Final = struct.Struct("3i")


class Listener:
    """The listening of one process; its methods are the event loop's, but for the thread.

    Args:
        path: The directory of the sockets.
        name: That of our socket.
        connect: Opens a reading connection.
        is_watching: Whether anything is watched.
        telling: Compares the file with what was told; in the thread.
        tell: Told of news; in the thread.
        changed: Called when it begins or ends to listen.
    """

    def __init__(
        self,
        path: str,
        name: str,
        *,
        connect: Callable[[], apsw.Connection],
        is_watching: Callable[[], bool],
        telling: Telling,
        tell: Callable[[Sequence[News]], None],
        changed: Callable[[], None],
    ) -> None:
        self._path = path
        self._name = name
        self._connect = connect
        self._is_watching = is_watching
        self._telling = telling
        self._tell = tell
        self._changed = changed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ear: _Ear | _Deaf | None = None
        self._stopping = False

    def start(self) -> None:
        """Listen from now on: what is committed after this is heard of.

        Not in the thread: who watches reads next, and nothing may slip in between.
        """
        with self._lock:
            if self._thread is not None:
                return
            self._stopping = False
            self._ear = _listen(self._path, self._name)
            self._thread = threading.Thread(
                target=self._work, args=(self._ear,), name="tailrace-store-listen", daemon=True
            )
            self._thread.start()
        self._changed()

    def close(self) -> None:
        """Stop listening; waits for the thread."""
        with self._lock:
            thread = self._thread
            self._stopping = True
            if self._ear is not None:
                self._ear.wake()
        if thread is not None:
            thread.join()

    # The thread

    def _work(self, ear: _Ear | _Deaf) -> None:
        watch = _FileWatch(self._connect, self._telling)
        idle_since: float | None = None
        try:
            while True:
                hint = ear.hear(watch.next_in())
                news: list[News] = []
                if hint is not None:
                    news += hint.news or ()
                if ear.missed():
                    news += watch.look()
                elif watch.next_in() == 0:
                    news += watch.look_if_changed(whole=ear.is_deaf)
                if news:
                    self._tell(news)
                idle_since = None if self._is_watching() else idle_since or time.monotonic()
                lingered = 0.0 if idle_since is None else time.monotonic() - idle_since
                if self._ends(ear, lingered):
                    return
        finally:
            watch.close()

    def _ends(self, ear: _Ear | _Deaf, lingered: float) -> bool:
        with self._lock:
            # Looked at once more under the lock: a watching may have begun right now.
            is_idle = lingered >= _LINGER and not self._is_watching()
            if not (self._stopping or is_idle):
                return False
            ear.close()
            self._ear = self._thread = None
        self._changed()
        return True


def _listen(path: str, name: str) -> _Ear | _Deaf:
    """Where hints are heard.

    Args:
        path: The directory of the sockets.
        name: That of ours.
    """
    try:
        sockets = Sockets(path)
    except OSError:
        return _Deaf()
    try:
        return _Ear(sockets, name)
    except OSError:
        sockets.close()
        return _Deaf()


class _Deaf:
    """Where there can be no socket: the file is looked at each second, and no more."""

    is_deaf = True

    def __init__(self) -> None:
        self._woken = threading.Event()

    def wake(self) -> None:
        self._woken.set()

    def hear(self, seconds: float) -> Hint | None:
        self._woken.wait(seconds)
        return None

    def missed(self) -> bool:
        return False

    def close(self) -> None:
        pass


class _Ear:
    """The socket, and what it was told.

    Args:
        sockets: The directory of the sockets; closed with this one.
        name: That of this one.
    """

    is_deaf = False

    def __init__(self, sockets: Sockets, name: str) -> None:
        self._sockets = sockets
        self._name = name
        self._counters: dict[bytes, int] = {}
        self._missed = False
        sockets.remove(name)
        self._waker = sockets.new()
        try:
            self._socket = sockets.bind(name)
        except BaseException:
            self._waker.close()
            raise
        if TELLS_SENDER:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._waker.setblocking(False)

    def wake(self) -> None:
        """Let `hear` return; from another thread."""
        with suppress(OSError):  # its queue is full: that wakes it as well
            self._waker.sendto(b"", self._sockets.address(self._name))

    def hear(self, seconds: float) -> Hint | None:
        """The next hint; None after so long, and for what is none."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            data, extra, flags, _ = self._socket.recvmsg(MOST_BYTES, socket.CMSG_SPACE(12))
        except TimeoutError:
            return None
        hint = parse(data) if _is_ours(extra) and not flags & socket.MSG_TRUNC else None
        if hint is None:
            return None
        if len(self._counters) > _MOST_SENDERS:
            self._counters.clear()
        expected = self._counters.get(hint.sender, 0) + 1
        self._counters[hint.sender] = hint.counter
        self._missed = self._missed or hint.news is None or hint.counter != expected
        return hint

    def missed(self) -> bool:
        """Whether something was missed since this was asked last."""
        missed, self._missed = self._missed, False
        return missed

    def close(self) -> None:
        """Remove the socket."""
        self._socket.close()
        self._waker.close()
        self._sockets.remove(self._name)
        self._sockets.close()


def _is_ours(extra: Sequence[tuple[int, int, bytes]]) -> bool:
    """Whether a datagram comes from a process of our user, or of root; the kernel says so."""
    if not TELLS_SENDER:
        return True  # nobody else comes into the directory: see `Sockets`
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            _, user, _ = _CREDENTIALS.unpack(data)
            return user in (os.geteuid(), 0)
    return False


class _FileWatch:
    """Looks into the file for what no hint has told; a connection of the thread's own."""

    def __init__(
        self,
        connect: Callable[[], apsw.Connection],
        telling: Telling,
    ) -> None:
        self._connect = connect
        self._telling = telling
        self._connection: apsw.Connection | None = None
        self._version: int | None = None
        self._look_at = time.monotonic() + limits.SAFETY_CHECK

    def next_in(self) -> float:
        return max(0.0, self._look_at - time.monotonic())

    def look(self) -> Sequence[News]:
        """What differs from what was told."""
        return self._ask(self._telling.compare)

    def look_if_changed(self, whole: bool) -> Sequence[News]:
        """The same, if somebody has committed since.

        Args:
            whole: Of all at once.
        """
        self._look_at = time.monotonic() + limits.SAFETY_CHECK
        changed = True
        if self._connection is not None:
            try:
                version = int(self._connection.pragma("data_version"))
            except apsw.Error:
                return ()
            changed, self._version = version != self._version, version
        if whole:
            return self.look() if changed else ()
        return self._ask(lambda connection: self._telling.compare_next(connection, changed))

    def _ask(self, compare: Callable[[apsw.Connection], Sequence[News]]) -> Sequence[News]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return compare(self._connection)
        except apsw.Error as error:
            # Those who read find out for themselves; this thread tries again.
            _log.warning("watched streams could not be compared with the store: %s", error)
            self._version = None
            return ()

    def close(self) -> None:
        if self._connection is not None:
            close(self._connection)
