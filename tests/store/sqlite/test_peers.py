"""How many processes are told, and when those are that missed something: sockets alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace import limits
from tailrace.store import Change, Offset
from tailrace.store.sqlite.datagram import MOST_BYTES, parse
from tailrace.store.sqlite.lock import WriteLock
from tailrace.store.sqlite.peers import Peers, SocketDirectory

pytestmark = pytest.mark.posix

TAIL = Offset(7, 1)
CHANGES = [Change("a", 7, TAIL, TAIL)]


class Group:
    """Processes that listen, as far as their sockets go."""

    def __init__(self, folder: Path) -> None:
        self._sockets = SocketDirectory(str(folder / "peers"))
        self.lock = WriteLock(str(folder / "lock"), lambda: None)
        self.peers = Peers(str(folder / "peers"), "me", self.lock)
        self.receivers: list[socket.socket] = []

    def add(self, count: int) -> None:
        for number in range(count):
            receiver = self._sockets.bind(f"{number:04d}")
            receiver.setblocking(False)
            self.receivers.append(receiver)
        self.lock.tell_peers_changed()

    def received(self) -> list[int]:
        """How many datagrams have come to each."""
        return [len(self.datagrams(number)) for number in range(len(self.receivers))]

    def datagrams(self, number: int) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.receivers[number].recv(MOST_BYTES))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.peers.close()
        for receiver in self.receivers:
            receiver.close()
        self._sockets.close()
        self.lock.close()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path)
    yield group
    group.close()


@pytest.mark.parametrize("extra", [0, 1])
def test_so_many_processes_are_told_and_no_more(group: Group, extra: int) -> None:
    group.add(limits.MAX_PEERS + extra)
    assert group.peers.look()
    group.peers.tell(CHANGES)
    assert group.received() == [1] * limits.MAX_PEERS + [0] * extra


def test_one_that_does_not_read_is_told_later_that_it_missed_something(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HINT_RETRY", 0.0)
    group.add(1)
    group.peers.look()
    count = 0
    while group.peers.next_in() is None:
        group.peers.tell(CHANGES)
        count += 1
    group.peers.tell(CHANGES)  # is not even tried
    first = group.datagrams(0)
    assert len(first) == count - 1
    assert group.peers.next_in() == 0
    group.peers.retry()
    (word,) = group.datagrams(0)
    datagram = parse(word)
    assert datagram is not None
    assert datagram.changes is None, "it is to look into the file"
    assert group.peers.next_in() is None
    group.peers.tell(CHANGES)
    assert group.received() == [1]


def test_it_is_not_told_before_its_pause_is_over(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HINT_RETRY", 1000.0)
    group.add(1)
    group.peers.look()
    while group.peers.next_in() is None:
        group.peers.tell(CHANGES)
    group.datagrams(0)
    pause = group.peers.next_in()
    assert pause is not None
    assert 990 < pause <= 1000
    group.peers.retry()
    assert group.received() == [0]
