"""Writing without waiting: order, what waits, and what an abort leaves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

from tailrace import limits
from tailrace.connection import Frame
from tailrace.runtime import Descriptor
from tailrace.server.extensions import ResponseConnection
from tailrace.server.response import AttachedConnection
from tailrace.server.transfer import Transfer
from tailrace.server.write_buffer import WriteBuffer

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Protocol(asyncio.Protocol):
    """Tells the buffer what the transport says, as `HttpProtocol` does."""

    buffer: WriteBuffer
    resumed = 0

    def connection_made(self, transport: Any) -> None:
        self.buffer = WriteBuffer(transport, asyncio.get_running_loop())

    def pause_writing(self) -> None:
        self.buffer.pause()

    def resume_writing(self) -> None:
        self.resumed += self.buffer.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.buffer.lose()


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket for the transport and the client's, that hold little between them."""
    mine, theirs = socket.socketpair()
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with mine, theirs:
        theirs.settimeout(5)
        mine.setblocking(False)
        yield mine, theirs


Test = Callable[[Protocol, socket.socket], Awaitable[None]]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Runs a test with a protocol and the client's end of its connection, on each loop."""

    def run(test: Test) -> None:
        async def main() -> None:
            with pair() as (mine, theirs):
                loop = asyncio.get_running_loop()
                _, protocol = await loop.create_connection(Protocol, sock=mine)
                try:
                    await test(protocol, theirs)
                finally:
                    protocol.buffer.abort()
                    await protocol.buffer.lost()

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return run


async def read(theirs: socket.socket, count: int) -> bytes:
    """So many bytes, while the event loop goes on writing."""
    got = bytearray()
    while len(got) < count:
        got += await asyncio.to_thread(theirs.recv, count - len(got))
    return bytes(got)


def test_what_is_written_comes_in_order_however_it_had_to_wait(
    run: Callable[[Test], None],
) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        messages = [bytes([at]) * (1 + at * 977 % 50_000) for at in range(256)]
        for message in messages:
            protocol.buffer.write(message, b"", message[:3])
        whole = b"".join(message + message[:3] for message in messages)
        assert protocol.buffer.buffered_bytes > len(whole) - 500_000
        assert await read(theirs, len(whole)) == whole
        assert protocol.buffer.buffered_bytes == 0
        assert not protocol.buffer.paused
        assert protocol.resumed == 1  # once, when nothing waited any more

    run(test)


def test_what_waits_is_not_copied_but_for_a_piece(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        protocol.buffer.write(bytes(10_000_000))
        transport = protocol.buffer._transport
        assert transport.get_write_buffer_size() <= limits.STALLED_PIECE_BYTES
        assert protocol.buffer.buffered_bytes > 9_000_000

    run(test)


def test_drained_is_told_once_when_nothing_waits(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        told: list[str] = []
        protocol.buffer.on_drain(lambda: told.append("at once"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told == ["at once"]
        protocol.buffer.write(bytes(1_000_000))
        drained = asyncio.Event()
        protocol.buffer.on_drain(drained.set)
        take_back = protocol.buffer.on_drain(lambda: told.append("taken back"))
        take_back()
        take_back()
        await read(theirs, 500_000)
        assert not drained.is_set()
        await read(theirs, 500_000)
        await drained.wait()
        assert told == ["at once"]

    run(test)


def test_progress_counts_what_the_client_took_not_what_waits(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        buffer = protocol.buffer
        buffer.write(bytes(1_000_000))
        first = buffer.progress
        assert buffer.stalled_since is not None
        assert first < 200_000
        await read(theirs, 600_000)
        assert buffer.progress > first
        assert buffer.unsent_bytes < 450_000  # a Unix socket counts its own overhead too
        await read(theirs, 400_000)
        assert buffer.progress == 1_000_000
        assert buffer.unsent_bytes == 0
        assert buffer.stalled_since is None

    run(test)


def test_an_abort_drops_what_waits_and_tells_who_waits(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        buffer = protocol.buffer
        buffer.write(bytes(1_000_000))
        drained = asyncio.Event()
        buffer.on_drain(drained.set)
        buffer.abort()
        buffer.abort()
        assert buffer.is_closing
        buffer.write(b"into the void")
        await buffer.lost()
        await drained.wait()
        assert buffer.closed
        assert buffer.buffered_bytes == 0

    run(test)


def test_the_loss_is_told_once_to_each_who_asked(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        buffer, told, lost = protocol.buffer, list[str](), asyncio.Event()
        buffer.on_lost(lambda: told.append("first"))
        take_back = buffer.on_lost(lambda: told.append("taken back"))
        buffer.on_lost(lost.set)
        take_back()
        take_back()
        theirs.close()
        await lost.wait()
        buffer.lose()  # as a protocol may say again
        late = asyncio.Event()
        buffer.on_lost(late.set)
        await late.wait()
        take_back()
        assert told == ["first"]

    run(test)


def test_a_response_is_told_of_the_loss_and_after_its_end_soon(run: Callable[[Test], None]) -> None:
    async def nowhere(message: Any) -> None: ...

    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        connection = ResponseConnection(protocol.buffer, nowhere)
        lost, late = asyncio.Event(), asyncio.Event()
        connection.on_lost(lost.set)
        await asyncio.sleep(0)
        assert not lost.is_set()
        protocol.buffer.abort()
        await lost.wait()
        connection.end()
        connection.on_lost(late.set)
        await late.wait()

    run(test)


@pytest.mark.parametrize("kind", ["response", "attached"])
def test_after_its_end_a_connection_calls_soon_and_not_at_once(
    run: Callable[[Test], None], kind: str
) -> None:
    async def nowhere(message: Any) -> None: ...

    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        connection: ResponseConnection | AttachedConnection
        if kind == "response":
            connection = ResponseConnection(protocol.buffer, nowhere)
            connection.end()
        else:
            connection = AttachedConnection(protocol.buffer)
            connection.release()
        told: list[str] = []
        connection.on_drain(lambda: told.append("soon"))
        take_back = connection.on_drain(lambda: told.append("taken back"))
        assert told == []
        take_back()
        await asyncio.sleep(0)
        assert told == ["soon"]

    run(test)


def test_a_client_that_left_is_found_out_by_writing(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        theirs.close()
        for _ in range(3):
            protocol.buffer.write(bytes(100_000))
        await protocol.buffer.lost()
        assert protocol.buffer.buffered_bytes == 0

    run(test)


def test_a_close_in_order_sends_what_waits_first(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        protocol.buffer.write(bytes(1_000_000))
        drained = asyncio.Event()
        protocol.buffer.on_drain(drained.set)
        reading = asyncio.create_task(read(theirs, 1_000_000))
        await drained.wait()
        protocol.buffer._transport.close()
        protocol.buffer.write(b"too late")
        assert await reading == bytes(1_000_000)
        assert await asyncio.to_thread(theirs.recv, 100) == b""

    run(test)


# Descriptors that are used again ------------------------------------------------------------------


@contextmanager
def same_numbers(count: int = 50) -> Iterator[list[socket.socket]]:
    """Strangers' connections, which have the numbers that were let go of; their clients' ends."""
    with ExitStack() as stack:
        ends = []
        for _ in range(count):
            mine, theirs = map(stack.enter_context, socket.socketpair())
            mine.setblocking(False)
            theirs.setblocking(False)
            ends += [mine, theirs]
        yield ends


class Other(asyncio.Protocol):
    """The protocol that a connection is handed over to."""


async def lose(protocol: Protocol, way: str) -> None:
    transport = protocol.buffer._transport
    if way == "upgrade":
        protocol.buffer.lose()
        transport.set_protocol(Other())
        transport.close()
        await asyncio.sleep(0.05)
    elif way == "abort":
        protocol.buffer.abort()
        await protocol.buffer.lost()
    else:
        transport.close()
        if way == "closed":
            await protocol.buffer.lost()


@pytest.mark.parametrize("way", ["upgrade", "abort", "closed", "closing"])
def test_nothing_is_written_to_a_number_that_somebody_else_has(
    run: Callable[[Test], None], way: str, tmp_path: Path
) -> None:
    """Kind of fault: frames of one connection are written into another client's connection."""
    path = tmp_path / "file"
    path.write_bytes(b"a stranger must not see this" * 1000)

    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        buffer = protocol.buffer
        connection = ResponseConnection(buffer, lambda message: None)  # type: ignore[arg-type, return-value] # not called
        attached = AttachedConnection(buffer)
        await lose(protocol, way)
        with same_numbers() as strangers, path.open("rb") as file:
            assert attached.closed
            assert connection.closed
            assert not attached.write(Frame(b"a secret"))
            buffer.write(b"a secret")
            with pytest.raises(ConnectionAbortedError):
                buffer.sendfile(file.fileno(), 0, 1000)
            with pytest.raises(ConnectionAbortedError):
                buffer.duplicate()
            opened = Descriptor(file.fileno(), "file", borrowed=True)
            transfer = Transfer(buffer, opened, 0, 1000, asyncio.get_running_loop())
            with anyio.fail_after(5):
                await transfer.run()
            await asyncio.sleep(0)
            for stranger in strangers:
                with pytest.raises(BlockingIOError):
                    stranger.recv(1)

    run(test)
