"""Plays many conversations at the same time, on non-blocking sockets and one selector."""

from __future__ import annotations

import contextlib
import heapq
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.fuzz.answers import Answers
from tests.fuzz.conversation import (
    Await,
    AwaitBytes,
    AwaitFrames,
    Close,
    Conversation,
    HalfClose,
    Pause,
    Reset,
    Send,
    Stall,
    Step,
)
from tests.fuzz.frames import Opcode, messages

__all__ = ["PATIENCE", "Played", "play"]

PATIENCE = 20.0
"""Seconds for a whole conversation. On an idle machine it takes less than one."""

ENOUGH = 0.3
"""Seconds to wait for bytes that may not come."""

READ_BYTES = 64 * 1024
SMALL_BUFFER = 4096


@dataclass(frozen=True, slots=True)
class Played:
    """A conversation that is over."""

    conversation: Conversation
    answers: Answers
    sent_bytes: int


class _Player:
    """A conversation that is being played."""

    def __init__(self, conversation: Conversation, address: tuple[str, int]) -> None:
        self.conversation = conversation
        self.answers = Answers([request.method for request in conversation.requests])
        self.steps = iter(_to_the_end(conversation))
        self.step: Step | None = next(self.steps, None)
        self.asked = sum(len(request.raw) for request in conversation.requests)
        self.sent = 0
        self.outbox = b""
        self.wake: float | None = None
        self.reading = True
        self.over = self.reset = False
        self.deadline = time.monotonic() + PATIENCE
        self.sock = socket.socket()
        if conversation.small_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect(address)
        self.sock.setblocking(False)

    @property
    def events(self) -> int:
        return (selectors.EVENT_READ if self.reading and self.answers.ended is None else 0) | (
            selectors.EVENT_WRITE if self.outbox else 0
        )

    def advance(self, now: float) -> None:
        """Do steps until one must wait, or all are done."""
        while self.step is not None:
            if not self._do(self.step, now):
                return
            self.step = next(self.steps, None)
            self.outbox, self.wake = b"", None
        if not self.over:
            self.over = True
            self.sock.close()

    def _do(self, step: Step, now: float) -> bool:
        """Do a step, as far as possible. Returns whether it is done."""
        gone = self.answers.ended is not None
        match step:
            case Send(data):
                return gone or self._send(data)
            case Pause(seconds):
                return self._passed(seconds, now)
            case Stall(seconds):
                self.reading = self._passed(seconds, now)
                return self.reading
            case Await(count):
                return gone or self.answers.complete >= count
            case AwaitBytes(count):
                return gone or self.answers.received >= count or self._passed(ENOUGH, now)
            case AwaitFrames(count):
                return gone or self._frames() >= count
            case HalfClose():
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)
            case Reset():
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._leave()
            case Close():
                self._leave()
        return True

    def _leave(self) -> None:
        self.sock.close()
        self.steps = iter(())

    def _passed(self, seconds: float, now: float) -> bool:
        if self.wake is None:
            self.wake = now + seconds
        return now >= self.wake

    def _send(self, data: bytes) -> bool:
        """Send what the kernel takes. Returns whether all was sent."""
        rest = self.outbox or data
        try:
            count = self.sock.send(rest)
        except BlockingIOError:
            count = 0
        except OSError:  # the server is gone; what it sent before is still read
            self.reset = True  # the kernel reports it only once
            return True
        self.sent = min(self.sent + count, self.asked)
        self.outbox = rest[count:]
        return not self.outbox

    def _frames(self) -> int:
        try:
            return sum(code == Opcode.TEXT for code, _ in messages(bytes(self.answers.frames)))
        except ValueError:
            return 0

    def read(self) -> None:
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.answers.end("reset")
            return
        if data:
            self.answers.feed(data)
        else:
            self.answers.end("reset" if self.reset else "closed")


def _to_the_end(conversation: Conversation) -> Iterator[Step]:
    """The steps of a conversation; if the client has not left then, it waits for all answers."""
    yield from conversation.steps
    if not conversation.leaves:
        yield Await(len(conversation.requests))
        yield HalfClose()
        yield Await(1 << 30)  # until the server ends its side, too


def play(
    conversations: Iterable[Conversation], address: tuple[str, int], at_once: int
) -> Iterator[Played]:
    """Play conversations. They are yielded in the order in which they end.

    Args:
        conversations: The next one is taken when a connection is free.
        address: The server's.
        at_once: The number of connections at the same time.
    """
    with selectors.DefaultSelector() as selector:
        stage = _Stage(selector)
        coming = iter(conversations)
        while True:
            while len(stage.players) < at_once and (coming_next := next(coming, None)):
                stage.enter(_Player(coming_next, address))
            if not stage.players:
                return
            yield from stage.turn()


class _Stage:
    """The conversations that are being played."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.players: dict[int, _Player] = {}
        self._selector = selector
        self._timers: list[tuple[float, int]] = []
        self._watched: dict[int, tuple[socket.socket, int]] = {}
        self._done: list[Played] = []
        self._looked = 0.0

    def enter(self, player: _Player) -> None:
        self.players[id(player)] = player
        self._advance(player, time.monotonic())

    def turn(self) -> Iterator[Played]:
        """Wait for events, and go on with the conversations that they concern."""
        now = time.monotonic()
        wait = min(0.5, max(0.0, self._timers[0][0] - now)) if self._timers else 0.5
        for key, events in self._selector.select(0 if self._done else wait):
            player = self.players[key.data]
            if events & selectors.EVENT_READ:
                player.read()
            self._advance(player, time.monotonic())
        self._ring(time.monotonic())
        done, self._done = self._done, []
        yield from done

    def _ring(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            _, number = heapq.heappop(self._timers)
            if number in self.players:
                self._advance(self.players[number], now)
        if now - self._looked > 0.5:
            self._looked = now
            for player in [each for each in self.players.values() if now > each.deadline]:
                self._finish(player)

    def _advance(self, player: _Player, now: float) -> None:
        number, wake = id(player), player.wake
        player.advance(now)
        if player.over:
            self._finish(player)
            return
        if player.wake is not None and player.wake != wake:
            heapq.heappush(self._timers, (player.wake, number))
        self._watch(player)

    def _watch(self, player: _Player) -> None:
        number, events = id(player), player.events
        _, watched = self._watched.get(number, (None, 0))
        if events == watched:
            return
        if not watched:
            self._selector.register(player.sock, events, number)
        elif events:
            self._selector.modify(player.sock, events, number)
        else:
            self._selector.unregister(player.sock)
        self._watched[number] = (player.sock, events)

    def _finish(self, player: _Player) -> None:
        number = id(player)
        del self.players[number]
        _, watched = self._watched.pop(number, (None, 0))
        if watched:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(player.sock)
        player.sock.close()
        self._done.append(Played(player.conversation, player.answers, player.sent))
