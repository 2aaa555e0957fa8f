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
from tailrace.server.attach import AttachedOutlet
from tailrace.server.connection import ResponseConnection
from tailrace.server.opened import OpenedFile
from tailrace.server.outlet import Outlet
from tailrace.server.transfer import Transfer

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Protocol(asyncio.Protocol):
    """Tells the outlet what the transport says, as `HttpProtocol` does."""

    outlet: Outlet
    resumed = 0

    def connection_made(self, transport: Any) -> None:
        self.outlet = Outlet(transport, asyncio.get_running_loop())

    def pause_writing(self) -> None:
        self.outlet.pause()

    def resume_writing(self) -> None:
        self.resumed += self.outlet.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.outlet.lose()


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
                    protocol.outlet.abort()
                    await protocol.outlet.lost()

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
            protocol.outlet.write(message, b"", message[:3])
        whole = b"".join(message + message[:3] for message in messages)
        assert protocol.outlet.buffered_bytes > len(whole) - 500_000
        assert await read(theirs, len(whole)) == whole
        assert protocol.outlet.buffered_bytes == 0
        assert not protocol.outlet.paused
        assert protocol.resumed == 1  # once, when nothing waited any more

    run(test)


def test_what_waits_is_not_copied_but_for_a_piece(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        protocol.outlet.write(bytes(10_000_000))
        transport = protocol.outlet._transport
        assert transport.get_write_buffer_size() <= limits.STALLED_PIECE_BYTES
        assert protocol.outlet.buffered_bytes > 9_000_000

    run(test)


def test_drained_is_told_once_when_nothing_waits(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        told: list[str] = []
        protocol.outlet.on_drain(lambda: told.append("at once"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told == ["at once"]
        protocol.outlet.write(bytes(1_000_000))
        drained = asyncio.Event()
        protocol.outlet.on_drain(drained.set)
        take_back = protocol.outlet.on_drain(lambda: told.append("taken back"))
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
        outlet = protocol.outlet
        outlet.write(bytes(1_000_000))
        first = outlet.progress
        assert outlet.stalled_since is not None
        assert first < 200_000
        await read(theirs, 600_000)
        assert outlet.progress > first
        assert outlet.unsent_bytes < 450_000  # a Unix socket counts its own overhead too
        await read(theirs, 400_000)
        assert outlet.progress == 1_000_000
        assert outlet.unsent_bytes == 0
        assert outlet.stalled_since is None

    run(test)


def test_an_abort_drops_what_waits_and_tells_who_waits(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        outlet = protocol.outlet
        outlet.write(bytes(1_000_000))
        drained = asyncio.Event()
        outlet.on_drain(drained.set)
        outlet.abort()
        outlet.abort()
        assert outlet.is_closing
        outlet.write(b"into the void")
        await outlet.lost()
        await drained.wait()
        assert outlet.closed
        assert outlet.buffered_bytes == 0

    run(test)


def test_the_loss_is_told_once_to_each_who_asked(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        outlet, told, lost = protocol.outlet, list[str](), asyncio.Event()
        outlet.on_lost(lambda: told.append("first"))
        take_back = outlet.on_lost(lambda: told.append("taken back"))
        outlet.on_lost(lost.set)
        take_back()
        take_back()
        theirs.close()
        await lost.wait()
        outlet.lose()  # as a protocol may say again
        late = asyncio.Event()
        outlet.on_lost(late.set)
        await late.wait()
        take_back()
        assert told == ["first"]

    run(test)


def test_a_response_is_told_of_the_loss_and_after_its_end_soon(run: Callable[[Test], None]) -> None:
    async def nowhere(message: Any) -> None: ...

    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        connection = ResponseConnection(protocol.outlet, nowhere)
        lost, late = asyncio.Event(), asyncio.Event()
        connection.on_lost(lost.set)
        await asyncio.sleep(0)
        assert not lost.is_set()
        protocol.outlet.abort()
        await lost.wait()
        connection.end()
        connection.on_lost(late.set)
        await late.wait()

    run(test)


def test_a_client_that_left_is_found_out_by_writing(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        theirs.close()
        for _ in range(3):
            protocol.outlet.write(bytes(100_000))
        await protocol.outlet.lost()
        assert protocol.outlet.buffered_bytes == 0

    run(test)


def test_a_close_in_order_sends_what_waits_first(run: Callable[[Test], None]) -> None:
    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        protocol.outlet.write(bytes(1_000_000))
        drained = asyncio.Event()
        protocol.outlet.on_drain(drained.set)
        reading = asyncio.create_task(read(theirs, 1_000_000))
        await drained.wait()
        protocol.outlet._transport.close()
        protocol.outlet.write(b"too late")
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
    transport = protocol.outlet._transport
    if way == "upgrade":
        protocol.outlet.lose()
        transport.set_protocol(Other())
        transport.close()
        await asyncio.sleep(0.05)
    elif way == "abort":
        protocol.outlet.abort()
        await protocol.outlet.lost()
    else:
        transport.close()
        if way == "closed":
            await protocol.outlet.lost()


@pytest.mark.parametrize("way", ["upgrade", "abort", "closed", "closing"])
def test_nothing_is_written_to_a_number_that_somebody_else_has(
    run: Callable[[Test], None], way: str, tmp_path: Path
) -> None:
    """Kind of fault: frames of one connection are written into another client's connection."""
    path = tmp_path / "file"
    path.write_bytes(b"a stranger must not see this" * 1000)

    async def test(protocol: Protocol, theirs: socket.socket) -> None:
        outlet = protocol.outlet
        connection = ResponseConnection(outlet, lambda message: None)  # type: ignore[arg-type] # not called
        attached = AttachedOutlet(outlet)
        await lose(protocol, way)
        with same_numbers() as strangers, path.open("rb") as file:
            assert attached.closed
            assert connection.closed
            assert not attached.write(Frame(b"a secret"))
            outlet.write(b"a secret")
            with pytest.raises(ConnectionAbortedError):
                outlet.sendfile(file.fileno(), 0, 1000)
            with pytest.raises(ConnectionAbortedError):
                outlet.duplicate()
            opened = OpenedFile(file.fileno(), "file", borrowed=True)
            transfer = Transfer(outlet, opened, 0, 1000, asyncio.get_running_loop())
            with anyio.fail_after(5):
                await transfer.run()
            await asyncio.sleep(0)
            for stranger in strangers:
                with pytest.raises(BlockingIOError):
                    stranger.recv(1)

    run(test)
