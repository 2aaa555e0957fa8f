"""How many are sent a hint, and when those are that missed one: sockets, without processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace import limits
from tailrace.store import Change, Offset
from tailrace.store.sqlite.hint import MOST_BYTES, News, parse
from tailrace.store.sqlite.lock import WriteLock
from tailrace.store.sqlite.peers import Peers
from tailrace.store.sqlite.sockets import Sockets

pytestmark = pytest.mark.posix

TAIL = Offset(7, 1)
NEWS = [News("a", 7, Change(TAIL, TAIL))]


class Group:
    """Processes that listen, as far as their sockets go."""

    def __init__(self, folder: Path) -> None:
        self._sockets = Sockets(str(folder / "peers"))
        self.lock = WriteLock(str(folder / "lock"), lambda: None)
        self.peers = Peers(str(folder / "peers"), "me", self.lock)
        self.ears: list[socket.socket] = []

    def add(self, count: int) -> None:
        for number in range(count):
            ear = self._sockets.bind(f"{number:04d}")
            ear.setblocking(False)
            self.ears.append(ear)
        self.lock.tell_peers_changed()

    def heard(self) -> list[int]:
        """How many hints have come to each."""
        return [len(self.hints(number)) for number in range(len(self.ears))]

    def hints(self, number: int) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.ears[number].recv(MOST_BYTES))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.peers.close()
        for ear in self.ears:
            ear.close()
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
    group.peers.tell(NEWS)
    assert group.heard() == [1] * limits.MAX_PEERS + [0] * extra


def test_one_that_does_not_read_is_told_later_that_it_missed_something(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HINT_RETRY", 0.0)
    group.add(1)
    group.peers.look()
    count = 0
    while group.peers.next_in() is None:
        group.peers.tell(NEWS)
        count += 1
    group.peers.tell(NEWS)  # is not even tried
    first = group.hints(0)
    assert len(first) == count - 1
    assert group.peers.next_in() == 0
    group.peers.retry()
    (word,) = group.hints(0)
    hint = parse(word)
    assert hint is not None
    assert hint.news is None, "it is to look into the file"
    assert group.peers.next_in() is None
    group.peers.tell(NEWS)
    assert group.heard() == [1]


def test_it_is_not_told_before_its_pause_is_over(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HINT_RETRY", 1000.0)
    group.add(1)
    group.peers.look()
    while group.peers.next_in() is None:
        group.peers.tell(NEWS)
    group.hints(0)
    pause = group.peers.next_in()
    assert pause is not None
    assert 990 < pause <= 1000
    group.peers.retry()
    assert group.heard() == [0]
