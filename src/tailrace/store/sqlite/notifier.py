"""How watchers learn of changes: from this process's commits, by datagrams, and from the file.

The same change may come twice, by a datagram and from the file. So the notifier keeps what watchers
were last told of each stream: it does not tell them again, and it can ask the file which streams
differ from that.

While streams are watched, a thread listens for datagrams of other processes. Only the file is
certain. When a datagram was missed, all watched streams are compared with the file, and watchers
are told what differs. The same is done once a second if the file has changed, for a process may be
killed before it sends its datagram. Then `limits.SAFETY_STREAMS` streams are compared at a time, or
all of them if this process cannot receive datagrams.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import apsw

from tailrace import limits
from tailrace.runtime import Loop
from tailrace.store import rules
from tailrace.store.base import Watchers
from tailrace.store.rules import State
from tailrace.store.sqlite.connection import close
from tailrace.store.sqlite.lifetime import LastAccess
from tailrace.store.sqlite.peers import NoReceiver, Receiver, receiver_at
from tailrace.store.sqlite.rows import load_many
from tailrace.store.values import Change, Offset

__all__ = ["Listener", "Notifier"]

_log = logging.getLogger("tailrace")

_DIFFERENT: Final = """
SELECT json_group_array(json_array(w.path, w.id)) FROM (
  SELECT w.value ->> 0 path, w.value ->> 1 id, w.value ->> 2 tail, w.value ->> 3 closed
  FROM json_each(?) w
) w LEFT JOIN stream s ON s.path = w.path AND s.gone = 0
WHERE s.id IS NOT w.id OR (s.id IS NOT NULL AND (s.tail <> w.tail OR s.closed <> w.closed))
"""

_BY_PATHS: Final = "WHERE gone = 0 AND path IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What watchers were last told of a stream.

    Args:
        generation: The stream's; None: there is no stream at the path.
        position: The position of its tail.
        closed: Whether it was closed.
    """

    generation: int | None = None
    position: int = 0
    closed: bool = False


_NOTHING: Final = _Snapshot()


class Notifier:
    """Tells watchers of changes, in the event loop.

    Args:
        watchers: The functions to call, by path.
        accesses: When streams were last accessed.
        clock: Milliseconds since the epoch.
    """

    def __init__(self, watchers: Watchers, accesses: LastAccess, clock: Callable[[], int]) -> None:
        self._watchers = watchers
        self._accesses = accesses
        self._clock = clock
        self._snapshots: dict[str, _Snapshot] = {}
        self._round: list[str] = []
        """Paths that are still to be compared; like `_again`, used by the listening thread only."""
        self._again = False
        """The file has changed since the round began."""

    @property
    def is_needed(self) -> bool:
        """Whether anything is watched."""
        return len(self._watchers) > 0

    def see(self, state: State) -> None:
        """Take note of a stream that was read, in any thread.

        A watcher reads after it has begun to watch: what its first read shows need not be told.
        """
        if self._watchers.has(state.path) and state.path not in self._snapshots:
            snapshot = _Snapshot(state.generation, state.tail, state.closed)
            self._snapshots.setdefault(state.path, snapshot)
            if not self._watchers.has(state.path):  # the watching ended just now
                self._snapshots.pop(state.path, None)

    def forget(self, path: str) -> None:
        """Forget a path that is not watched any more."""
        self._snapshots.pop(path, None)

    def tell(self, changes: Iterable[Change]) -> None:
        """Tell watchers of the changes that they have not been told of."""
        for change in changes:
            path = change.path
            if not self._watchers.has(path):
                continue
            snapshot = self._snapshots.get(path, _NOTHING)
            known = (snapshot.generation or 0, snapshot.position)
            if (change.generation, change.tail.position) < known:
                continue  # older than what was told, or of a stream that had this path before
            now = _NOTHING
            if not change.deleted:
                now = _Snapshot(change.generation, change.tail.position, change.closed)
            if now != snapshot or (change.deleted and path not in self._snapshots):
                self._snapshots[path] = now
                self._watchers.tell(change)

    # In the listening thread

    def compare(self, connection: apsw.Connection) -> Sequence[Change]:
        """The changes in the file of which watchers were not told, for all watched streams."""
        return self._compare(connection, self._watchers)

    def compare_next(self, connection: apsw.Connection, changed: bool) -> Sequence[Change]:
        """The same for the next few streams; after a change of the file, several calls cover all.

        Args:
            connection: To the file.
            changed: The file has changed since the last call.
        """
        self._again = self._again or changed
        if self._again and not self._round:
            self._again = False
            self._round = list(self._watchers)
        some = self._round[-limits.SAFETY_STREAMS :]
        del self._round[-limits.SAFETY_STREAMS :]
        return self._compare(connection, some)

    def _compare(self, connection: apsw.Connection, paths: Iterable[str]) -> Sequence[Change]:
        """Compare these streams; those that differ count as accessed now, for they are watched."""
        snapshots = {path: self._snapshots.get(path, _NOTHING) for path in paths}
        watched = [
            [path, known.generation, known.position, int(known.closed)]
            for path, known in snapshots.items()
        ]
        if not watched:
            return ()
        different = json.loads(connection.execute(_DIFFERENT, (json.dumps(watched),)).get)
        if not different:
            return ()
        paths = json.dumps([path for path, _ in different])
        found = {stored.state.path: stored for stored in load_many(connection, _BY_PATHS, (paths,))}
        now = self._clock()
        changes: list[Change] = []
        for path, generation in different:
            stored = found.get(path)
            if stored is not None:
                state = stored.state
                self._accesses.see(path)
                if state.ttl is not None:
                    self._accesses.is_in_use(state, now)
                tail = rules.offset_at(state, state.tail)
                changes.append(Change(path, state.generation, tail, tail, closed=state.closed))
            elif generation is not None:
                tail = Offset(generation, snapshots[path].position)
                closed = snapshots[path].closed
                changes.append(Change(path, generation, tail, tail, None, closed, deleted=True))
        return changes


_LINGER: Final = 10.0
"""Seconds for which the thread goes on when nothing is watched: long-polls come and go."""


class Listener:
    """Listens for datagrams of other processes, in a thread, while streams are watched.

    Args:
        path: The directory of the sockets.
        name: The name of this process's socket.
        connect: Opens a reading connection.
        notifier: Tells watchers, and compares watched streams with the file.
        loop: The event loop of the notifier.
        changed: Called when it has started or stopped listening.
    """

    def __init__(
        self,
        path: str,
        name: str,
        connect: Callable[[], apsw.Connection],
        notifier: Notifier,
        loop: Loop,
        changed: Callable[[], None],
    ) -> None:
        self._path = path
        self._name = name
        self._connect = connect
        self._notifier = notifier
        self._loop = loop
        self._changed = changed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._receiver: Receiver | NoReceiver | None = None
        self._stopping = False

    def start(self) -> None:
        """Listen from now on: every later commit is noticed.

        The socket is made before the thread runs: the watcher reads next, and a commit after that
        read must be noticed.

        Raises:
            RuntimeError: The system gives no thread.
        """
        with self._lock:
            if self._thread is not None:
                return
            receiver = receiver_at(self._path, self._name)
            thread = threading.Thread(
                target=self._work, args=(receiver,), name="tailrace-store-listen", daemon=True
            )
            try:
                thread.start()
            except BaseException:
                receiver.close()
                raise
            self._stopping = False
            self._receiver, self._thread = receiver, thread
        self._changed()

    def close(self) -> None:
        """Stop listening; waits for the thread."""
        with self._lock:
            thread = self._thread
            self._stopping = True
            if self._receiver is not None:
                self._receiver.wake()
        if thread is not None:
            thread.join()

    # The thread

    def _work(self, receiver: Receiver | NoReceiver) -> None:
        file = _FileCheck(self._connect, self._notifier)
        idle_since: float | None = None
        try:
            while True:
                datagram = receiver.receive(file.next_in())
                changes: list[Change] = []
                if datagram is not None:
                    changes += datagram.changes or ()
                if receiver.missed():
                    changes += file.compare()
                elif file.next_in() == 0:
                    changes += file.compare_if_changed(whole=not receiver.receives)
                if changes:
                    self._loop.call_from_thread(partial(self._notifier.tell, changes))
                idle_since = None if self._notifier.is_needed else idle_since or time.monotonic()
                if self._ends(receiver, idle_since):
                    return
        finally:
            file.close()

    def _ends(self, receiver: Receiver | NoReceiver, idle_since: float | None) -> bool:
        is_idle = idle_since is not None and time.monotonic() - idle_since >= _LINGER
        with self._lock:
            # Checked once more under the lock: a watch may have begun just now.
            if not (self._stopping or (is_idle and not self._notifier.is_needed)):
                return False
            receiver.close()
            self._receiver = self._thread = None
        self._changed()
        return True


class _FileCheck:
    """Finds changes in the file that no datagram has told, over a connection of its own."""

    def __init__(self, connect: Callable[[], apsw.Connection], notifier: Notifier) -> None:
        self._connect = connect
        self._notifier = notifier
        self._connection: apsw.Connection | None = None
        self._version: int | None = None
        self._next_at = time.monotonic() + limits.SAFETY_CHECK

    def next_in(self) -> float:
        return max(0.0, self._next_at - time.monotonic())

    def compare(self) -> Sequence[Change]:
        """The changes of which watchers were not told, for all watched streams."""
        return self._ask(self._notifier.compare)

    def compare_if_changed(self, whole: bool) -> Sequence[Change]:
        """The same, if a process has committed since the last call.

        Args:
            whole: Compare all streams at once, and not only the next few.
        """
        self._next_at = time.monotonic() + limits.SAFETY_CHECK
        changed = True
        if self._connection is not None:
            try:
                version = int(self._connection.pragma("data_version"))
            except apsw.Error:
                return ()
            changed, self._version = version != self._version, version
        if whole:
            return self.compare() if changed else ()
        return self._ask(lambda connection: self._notifier.compare_next(connection, changed))

    def _ask(self, compare: Callable[[apsw.Connection], Sequence[Change]]) -> Sequence[Change]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return compare(self._connection)
        except apsw.Error as error:
            # Readers get the error, too; this thread tries again.
            _log.warning(
                "watched streams could not be compared with the store, trying again: %s",
                error,
            )
            self._version = None
            return ()

    def close(self) -> None:
        if self._connection is not None:
            close(self._connection)
