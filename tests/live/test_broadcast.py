"""Those that are written to: who gets what, in turns, and who joins and leaves meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tailrace import limits
from tailrace.connection import Frame
from tailrace.live import Entry, Format, broadcast
from tailrace.live.broadcast import Broadcast
from tailrace.runtime import current_loop
from tailrace.store import Chunk, Offset, Retention, Slice, StreamInfo
from tailrace.testing import settle

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Plain(Format):
    """Bytes as they are; breaks where a test wants it."""

    name: str = ""

    def frame(self, part: Slice, now: float) -> bytes:
        if self.name == "broken":
            raise ValueError("a format with a mistake")
        return part.data


class Listener:
    """A reader that is written to."""

    def __init__(self, takes: int = 1000) -> None:
        self.takes = takes
        self.got = b""
        self.frames: list[Frame] = []
        self.behind: int | None = None
        self.woken = 0

    def write(self, frame: Frame) -> bool:
        if not self.takes:
            return False
        self.takes -= 1
        self.got += frame.data
        self.frames.append(frame)
        return True

    def wake(self) -> None:
        self.woken += 1

    def lagging(self, offset: Offset) -> None:
        self.behind = offset.position


def change(start: int, data: bytes) -> Entry:
    end = Offset(1, start + len(data))
    info = StreamInfo(
        path="s",
        content_type="text/plain",
        first=Offset(0, 0),
        tail=end,
        closed=False,
        ttl=None,
        expires_at=None,
        retention=Retention(),
        forked_from=None,
        created_at=0,
    )
    return Entry(Slice(info, Offset(1, start), (Chunk(data, end),)), 0.0)


class Settled:
    count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def one_by_one() -> Iterator[None]:
    """Everything else gets its turn after each write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broadcast, "_LOOK_AFTER", 1)
        patch.setattr(limits, "TURN_BUDGET", -1.0)
        yield


def broadcast_to(*listeners: Listener, settled: Settled | None = None) -> Broadcast:
    made = Broadcast(current_loop(), settled or Settled())
    for listener in listeners:
        made.join(listener, Plain(), listener.write)
    return made


async def test_all_of_one_format_get_one_and_the_same_frame() -> None:
    listeners = [Listener() for _ in range(100)]
    broadcast_to(*listeners).serve(change(0, b"hello"))
    await settle()
    assert {listener.got for listener in listeners} == {b"hello"}
    assert len({id(listener.frames[0]) for listener in listeners}) == 1


async def test_who_cannot_take_it_falls_behind_with_the_offset_before_it() -> None:
    slow, quick = Listener(takes=1), Listener()
    here = broadcast_to(slow, quick)
    here.serve(change(0, b"ab"))
    here.serve(change(2, b"cd"))
    here.serve(change(4, b"ef"))
    assert (slow.got, slow.behind) == (b"ab", 2)
    assert (quick.got, quick.behind) == (b"abcdef", None)
    assert len(here) == 1


async def test_a_format_with_a_mistake_harms_only_its_own_readers() -> None:
    good, bad = Listener(), Listener()
    here = broadcast_to(good)
    here.join(bad, Plain("broken"), bad.write)
    here.serve(change(0, b"ab"))
    assert (good.got, bad.got, bad.behind) == (b"ab", b"", 0)


async def test_changes_that_come_while_it_is_served_are_written_as_one(one_by_one: None) -> None:
    listeners, settled = [Listener() for _ in range(5)], Settled()
    here = broadcast_to(*listeners, settled=settled)
    for at in range(4):
        here.serve(change(at, b"abcd"[at : at + 1]))
    assert not here.settled
    await settle()
    assert [listener.got for listener in listeners] == [b"abcd"] * 5
    assert [len(listener.frames) for listener in listeners] == [2] * 5
    assert here.settled
    assert settled.count == 1


async def test_who_leaves_is_told_the_first_change_that_it_has_not_got(one_by_one: None) -> None:
    listeners = [Listener() for _ in range(3)]
    here = broadcast_to(*listeners)
    here.serve(change(0, b"ab"))
    here.serve(change(2, b"cd"))
    served = next(listener for listener in listeners if listener.got)
    missing = here.leave(served, Plain())
    assert missing is not None
    assert missing.part.start.position == 2
    other = next(listener for listener in listeners if not listener.got)
    missing = here.leave(other, Plain())
    assert missing is not None
    assert missing.part.start.position == 0
    await settle()
    assert (served.got, other.got) == (b"ab", b"")
    assert here.leave(listeners[0], Plain()) is None
    (last,) = (listener for listener in listeners if listener not in (served, other))
    assert last.got == b"abcd"


async def test_who_has_everything_misses_nothing_when_it_leaves() -> None:
    listener = Listener()
    here = broadcast_to(listener)
    here.serve(change(0, b"ab"))
    assert here.leave(listener, Plain()) is None
    assert not here


async def test_dispersed_each_goes_on_from_where_it_is(one_by_one: None) -> None:
    listeners = [Listener() for _ in range(3)]
    here = broadcast_to(*listeners)
    here.serve(change(0, b"ab"))
    here.disperse(Offset(1, 2))
    await settle()
    assert sorted((listener.behind, listener.got) for listener in listeners) == [
        (0, b""),
        (0, b""),
        (2, b"ab"),
    ]
