"""Makes conversations. The same seed and number give the same conversation on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.fuzz.conversation import (
    Await,
    AwaitBytes,
    AwaitFrames,
    Close,
    Conversation,
    Ends,
    HalfClose,
    Pause,
    Request,
    Reset,
    Send,
    Stall,
    Step,
    mark_of,
)
from tests.fuzz.frames import Opcode, masked
from tests.fuzz.protocol import StreamsModel
from tests.fuzz.requests import OFFERS, RIGHT, WRONG, Make, handshake

__all__ = ["SHAPES", "conversation"]

MOST_PIPELINED: Final = 50


@dataclass(slots=True)
class _Draft:
    """A conversation that is being made."""

    rng: Random
    mark: str
    left_out: frozenset[str]
    requests: list[Request] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    excused_from: int | None = None
    small_buffer: bool = False

    def make(self, *tables: Mapping[str, tuple[int, Make]]) -> Request:
        """Add one more request, of one of these kinds."""
        kinds = {name: each for table in tables for name, each in table.items()}
        names = [name for name in kinds if name not in self.left_out] or list(kinds)
        weights = [kinds[name][0] for name in names]
        kind = self.rng.choices(names, weights)[0]
        request = kinds[kind][1](self.rng, self.mark, len(self.requests))
        self.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        """Add steps that send the data, in one piece or in several."""
        cuts = self.rng.choice((0, 0, 0, 1, 2, 5))
        places = sorted(self.rng.randrange(len(data)) for _ in range(cuts)) if data else []
        for start, stop in zip([0, *places], [*places, len(data)], strict=True):
            if start < stop:
                self.steps.append(Send(data[start:stop]))
                if stop < len(data) and self.rng.random() < 0.5:
                    self.steps.append(Pause(self.rng.choice((0.0, 0.001, 0.01))))

    def await_all(self) -> None:
        self.steps.append(Await(len(self.requests)))

    def leave(self) -> None:
        self.steps.append(self.rng.choice((Close(), Close(), Reset())))


# Shapes: each of them fills a draft ---------------------------------------------------------------


def _one_by_one(draft: _Draft) -> None:
    for _ in range(draft.rng.randint(1, 8)):
        request = draft.make(RIGHT)
        if request.kind == "expect":
            _send_expecting(draft, request)
        else:
            draft.send(request.raw)
        draft.await_all()


def _send_expecting(draft: _Draft, request: Request) -> None:
    """Send the head, and after a short pause the body."""
    at = request.raw.index(b"\r\n\r\n") + 4
    draft.steps += [Send(request.raw[:at]), Pause(draft.rng.choice((0.0, 0.01, 0.03)))]
    if at < len(request.raw):
        draft.send(request.raw[at:])


def _pipelined(draft: _Draft) -> None:
    most = draft.rng.choice((2, 5, 10, 20, MOST_PIPELINED))
    for _ in range(draft.rng.randint(2, most)):
        if draft.make(RIGHT).ends is Ends.MUST:
            # Only a little after it: what the server has not read when it closes makes the kernel
            # send a reset, which may overtake the answers.
            draft.make({"text": RIGHT["text"]})
            break
    draft.send(b"".join(request.raw for request in draft.requests))
    draft.await_all()


def _wrong(draft: _Draft) -> None:
    """Right requests, and then a wrong one, before or after the right ones are answered."""
    first = 0
    for _ in range(draft.rng.randrange(4)):
        draft.send(draft.make(RIGHT).raw)
        if draft.rng.random() < 0.6:
            draft.await_all()
            first = len(draft.requests)
    draft.excused_from = first
    draft.send(draft.make(WRONG).raw)
    if draft.rng.random() < 0.3:
        draft.send(draft.make(RIGHT).raw)


def _offers(draft: _Draft) -> None:
    for _ in range(draft.rng.randint(1, 4)):
        draft.send(draft.make(OFFERS, RIGHT).raw)
        if draft.rng.random() < 0.5:
            draft.await_all()
        if draft.requests[-1].ends is Ends.MUST:
            break


def _offer_behind(draft: _Draft) -> None:
    """An upgrade while an answer is still coming; often the client then leaves."""
    for _ in range(draft.rng.randint(1, 2)):
        open_ones = {name: RIGHT[name] for name in ("subscribed", "poll", "run", "file", "blocks")}
        draft.send(draft.make(open_ones).raw)
        if draft.rng.random() < 0.6:
            draft.steps.append(AwaitBytes(1))
    if draft.rng.random() < 0.5:
        raw = handshake(f"/ws/{draft.mark}", draft.rng)
        number = len(draft.requests)
        statuses = frozenset({101, 200, 400, 403, 404, 405, 426, 501, 503})
        draft.requests.append(
            Request("handshake behind", raw, "GET", number, statuses, None, Ends.MAY)
        )
        draft.send(raw)
    else:
        draft.send(draft.make(OFFERS).raw)
    if draft.rng.random() < 0.6:
        draft.steps.append(Pause(draft.rng.choice((0.0, 0.005, 0.02))))
        draft.leave()


def _websocket(draft: _Draft) -> None:
    for _ in range(draft.rng.randrange(2)):
        draft.send(draft.make({"text": RIGHT["text"]}).raw)
        draft.await_all()
    words = [f"w{n}" for n in range(draft.rng.randrange(6))]
    number = len(draft.requests)
    raw = handshake(f"/ws/{draft.mark}", draft.rng)
    frames = tuple(f"{draft.mark} {word}".encode() for word in words)
    hello = Request(
        "websocket", raw, "GET", number, frozenset({101}), None, Ends.MUST, frames=frames
    )
    draft.requests.append(hello)
    draft.send(raw)
    draft.await_all()
    for word in words:
        draft.steps.append(Send(masked(Opcode.TEXT, word.encode(), draft.rng.randbytes(4))))
        if draft.rng.random() < 0.3:
            draft.steps.append(Send(masked(Opcode.PING, b"p", draft.rng.randbytes(4))))
    match draft.rng.randrange(4):
        case 0:
            draft.leave()
        case 1:
            draft.steps.append(Send(draft.rng.randbytes(20)))
            draft.excused_from = number
            draft.leave()
        case _:
            draft.steps.append(AwaitFrames(len(words)))
            draft.steps.append(Send(masked(Opcode.CLOSE, b"\x03\xe8", draft.rng.randbytes(4))))


def _trickle(draft: _Draft) -> None:
    requests = [draft.make(RIGHT, OFFERS) for _ in range(draft.rng.randint(1, 2))]
    data = b"".join(request.raw for request in requests)
    at = 0
    while at < len(data):
        size = 1 if at < 300 else 4096  # one byte takes as long as a piece
        draft.steps.append(Send(data[at : at + size]))
        if draft.rng.random() < 0.05:
            draft.steps.append(Pause(0.001))
        at += size
    draft.await_all()


def _slow_reader(draft: _Draft) -> None:
    large = {name: RIGHT[name] for name in ("blocks", "file", "subscribed", "lines")}
    requests = [draft.make(large) for _ in range(draft.rng.randint(1, 4))]
    draft.small_buffer = True
    draft.send(b"".join(request.raw for request in requests))
    draft.steps.append(Stall(draft.rng.choice((0.02, 0.1, 0.3))))
    if draft.rng.random() < 0.4:
        draft.leave()


def _streams(draft: _Draft) -> None:
    """Requests of the streams protocol, one by one or pipelined."""
    model = StreamsModel(draft.rng, draft.mark)
    waits = draft.rng.random() < 0.5
    for number in range(draft.rng.randint(1, 15)):
        draft.requests.append(model.request(number))
        draft.send(draft.requests[-1].raw)
        if waits:
            draft.await_all()


def _silent(draft: _Draft) -> None:
    """The client sends nothing, so nothing may come."""
    draft.steps.append(Pause(draft.rng.choice((0.01, 0.05, 0.2))))


SHAPES: Final[Mapping[Callable[[_Draft], None], int]] = {
    _one_by_one: 30,
    _pipelined: 20,
    _wrong: 15,
    _offers: 10,
    _offer_behind: 8,
    _websocket: 5,
    _trickle: 3,
    _slow_reader: 5,
    _silent: 4,
    _streams: 8,
}


def conversation(seed: int, number: int, left_out: Iterable[str] = ()) -> Conversation:
    """The conversation of this number.

    Args:
        seed: The seed of the run.
        number: The number of the conversation, 0 or more.
        left_out: Kinds of requests that must not be sent.
    """
    rng = Random(f"{seed}:{number}")
    draft = _Draft(rng, mark_of(seed, number), frozenset(left_out))
    rng.choices(list(SHAPES), list(SHAPES.values()))[0](draft)
    chance = rng.random()
    if chance < 0.12:
        _cut(draft)
    elif chance < 0.3 and not any(isinstance(step, Close | Reset) for step in draft.steps):
        draft.steps.append(HalfClose())
    return Conversation(
        seed,
        number,
        draft.mark,
        tuple(draft.requests),
        tuple(draft.steps),
        draft.excused_from,
        draft.small_buffer,
    )


def _cut(draft: _Draft) -> None:
    """Let the client leave early: before a head, within it, within a body or within an answer."""
    at = draft.rng.randrange(len(draft.steps) + 1)
    kept = draft.steps[:at]
    step = draft.steps[at] if at < len(draft.steps) else None
    if isinstance(step, Send) and len(step.data) > 1:
        kept.append(Send(step.data[: draft.rng.randrange(1, len(step.data))]))
    if draft.rng.random() < 0.4:
        kept.append(AwaitBytes(draft.rng.choice((1, 100, 1000, 100_000))))
    draft.steps = kept
    if draft.rng.random() < 0.3:
        draft.steps.append(HalfClose())
        draft.excused_from = min(_whole(draft), draft.excused_from or MOST_PIPELINED)
    else:
        draft.leave()


def _whole(draft: _Draft) -> int:
    """How many requests the steps send completely."""
    left = sum(len(step.data) for step in draft.steps if isinstance(step, Send))
    for number, request in enumerate(draft.requests):
        left -= len(request.raw)
        if left < 0:
            return number
    return len(draft.requests)
