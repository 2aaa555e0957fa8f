"""How streams end: the source is always closed, in its own task, and the client can always tell."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from tailrace import (
    EventSourceResponse,
    FileResponse,
    JSONLinesResponse,
    StreamingResponse,
    StreamOptions,
    stats,
)
from tailrace.testing import Client, Clock, SourceProbe, Truncated, wait_until

pytestmark = pytest.mark.anyio


class Recorded:
    """An app around a response that notes whether the source was closed when its call returned."""

    def __init__(self, response: Any, probe: SourceProbe) -> None:
        self.response = response
        self.probe = probe
        self.closed_before_return: bool | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.response(scope, receive, send)
        finally:
            self.closed_before_return = self.probe.closed.is_set()


def endless(probe: SourceProbe, wait: Callable[[], Any]) -> AsyncIterator[bytes]:
    async def source() -> AsyncIterator[bytes]:
        with probe.inside():
            while True:
                yield b"x" * 5000
                await wait()

    return source()


async def test_a_source_that_waits_is_closed_when_the_client_leaves() -> None:
    probe = SourceProbe()
    app = Recorded(StreamingResponse(endless(probe, lambda: anyio.sleep(1000))), probe)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await exchange.leave()
        assert (await exchange.finished()).error is None
    assert app.closed_before_return
    assert probe.same_task
    assert probe.same_context


async def test_a_source_is_closed_when_the_client_leaves_while_a_send_is_blocked() -> None:
    probe = SourceProbe()
    app = Recorded(StreamingResponse(endless(probe, lambda: anyio.sleep(0))), probe)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await wait_until(lambda: exchange.blocked)
        await exchange.leave()
        assert (await exchange.finished()).error is None
    assert app.closed_before_return
    assert probe.same_task
    assert probe.same_context


async def test_a_source_is_closed_when_the_client_leaves_before_the_first_byte() -> None:
    probe = SourceProbe()

    async def source() -> AsyncIterator[bytes]:
        with probe.inside():
            await anyio.sleep(1000)
            yield b"never"

    app = Recorded(StreamingResponse(source()), probe)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await probe.started.wait()
        await exchange.leave()
        await exchange.finished()
    assert app.closed_before_return
    assert probe.same_task


async def test_a_source_is_closed_when_the_client_leaves_between_two_chunks() -> None:
    probe = SourceProbe()
    app = Recorded(StreamingResponse(endless(probe, lambda: anyio.sleep(0))), probe)
    async with Client(app) as client, client.open("GET", "/", leave_at=5000) as exchange:
        await exchange.read_all()
        await exchange.finished()
    assert app.closed_before_return
    assert probe.same_task


async def test_what_a_source_awaits_in_its_finally_runs_when_the_client_leaves(
    anyio_backend_name: str,
) -> None:
    steps: list[str] = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await anyio.sleep(1000)
        finally:
            with anyio.CancelScope(shield=anyio_backend_name == "trio"):  # as on trio one must
                await anyio.sleep(0)
                await anyio.sleep(0.001)
                steps.append("cleaned up")

    async with Client(StreamingResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            await exchange.read()
            await exchange.leave()
            await exchange.finished()
    assert steps == ["cleaned up"]


async def test_cleanup_that_never_ends_is_given_up_after_the_cleanup_timeout(
    clock: Clock, caplog: pytest.LogCaptureFixture, anyio_backend_name: str
) -> None:
    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await anyio.sleep(1000)
        finally:
            with anyio.CancelScope(shield=False):
                await anyio.sleep_forever()

    app = StreamingResponse(source(), options=StreamOptions(cleanup_timeout=3.0))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await clock.settle()
        await exchange.leave()
        await clock.advance(2.9)
        assert "cleanup_timeout" not in caplog.text
        await clock.advance(0.2)
        await exchange.finished()
    late = anyio_backend_name == "asyncio"  # trio ends cleanup that is not shielded at once
    assert caplog.text.count("not closed within cleanup_timeout=3.0 s") == late


async def test_cleanup_that_swallows_the_end_of_its_time_is_told_in_the_log(
    clock: Clock, caplog: pytest.LogCaptureFixture, anyio_backend_name: str
) -> None:
    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await anyio.sleep(1000)
        finally:
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()

    app = StreamingResponse(source(), options=StreamOptions(cleanup_timeout=3.0))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await clock.settle()
        await exchange.leave()
        await clock.advance(3.1)
        await exchange.finished()
    late = anyio_backend_name == "asyncio"  # trio ends cleanup that is not shielded at once
    assert caplog.text.count("not closed within cleanup_timeout=3.0 s") == late


async def test_cleanup_that_goes_on_after_the_end_of_its_time_is_told_in_the_log_at_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    released = anyio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await anyio.sleep(1000)
        finally:
            with anyio.CancelScope(shield=True):
                await released.wait()

    app = StreamingResponse(source(), options=StreamOptions(cleanup_timeout=3.0))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await clock.settle()
        await exchange.leave()
        await clock.advance(3.1)
        assert caplog.text.count("not closed within cleanup_timeout=3.0 s") == 1
        released.set()
        await exchange.finished()
    assert caplog.text.count("not closed within cleanup_timeout=3.0 s") == 1


async def test_a_source_that_is_closed_in_time_is_not_told_in_the_log(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"x"
        await anyio.sleep(1000)

    app = StreamingResponse(source(), options=StreamOptions(cleanup_timeout=3.0))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await exchange.leave()
        await exchange.finished()
        await clock.advance(10)
    assert "cleanup_timeout" not in caplog.text


async def test_a_sync_source_is_closed_in_its_own_context_when_the_client_leaves() -> None:
    probe = SourceProbe()

    def source() -> Iterator[bytes]:
        with probe.inside():
            while True:
                yield b"x" * 5000

    app = Recorded(StreamingResponse(source()), probe)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await exchange.leave()
        await exchange.finished()
    assert app.closed_before_return
    assert probe.same_context


async def test_a_sync_source_that_blocks_is_closed_as_soon_as_it_returns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unblock = threading.Event()
    probe = SourceProbe()

    def source() -> Iterator[bytes]:
        with probe.inside():
            yield b"x"
            unblock.wait(10)
            yield b"y"

    app = StreamingResponse(source(), options=StreamOptions(cleanup_timeout=0.01))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await exchange.leave()
        await exchange.finished()
        assert not probe.closed.is_set()
        unblock.set()
        await probe.closed.wait()
    assert probe.how == "closed"
    assert probe.same_context
    assert "cleanup_timeout" in caplog.text


async def test_an_error_before_the_first_item_is_raised_with_nothing_sent() -> None:
    async def source() -> AsyncIterator[bytes]:
        raise HTTPException(403)
        yield b""

    def sync() -> Iterator[bytes]:
        raise HTTPException(403)
        yield b""

    for content in (source(), sync()):
        async with Client(StreamingResponse(content)) as client:
            async with client.open("GET", "/") as exchange:
                outcome = await exchange.finished()
        assert isinstance(outcome.error, HTTPException)
        assert exchange.sends == []


async def test_an_error_after_the_first_item_has_a_tail_and_no_end() -> None:
    async def source() -> AsyncIterator[Any]:
        yield {"number": 1}
        raise ValueError("the password is secret")

    async with Client(JSONLinesResponse(source())) as client, client.open("GET", "/") as exchange:
        with pytest.raises(Truncated) as caught:
            await exchange.read_all()
        outcome = await exchange.finished()
    first, tail = bytes(caught.value.partial).splitlines()
    assert first == b'{"number":1}'
    assert b'"error"' in tail
    assert b"secret" not in tail
    assert isinstance(outcome.error, ValueError)


async def test_the_error_itself_is_told_where_that_is_asked_for() -> None:
    async def source() -> AsyncIterator[Any]:
        yield 1
        raise ValueError("row 7 is broken")

    app = EventSourceResponse(source(), options=StreamOptions(expose_errors=True))
    async with Client(app) as client, client.open("GET", "/") as exchange:
        with pytest.raises(Truncated) as caught:
            await exchange.read_all()
        await exchange.finished()
    assert b"event: error" in caught.value.partial
    assert b"ValueError: row 7 is broken" in caught.value.partial


async def test_a_chunk_of_another_type_names_the_type_and_the_format() -> None:
    async with Client(StreamingResponse([7])) as client, client.open("GET", "/") as exchange:
        outcome = await exchange.finished()
    assert isinstance(outcome.error, TypeError)
    assert "int" in str(outcome.error)
    assert "raw" in str(outcome.error)
    assert exchange.sends == []


async def test_a_client_that_leaves_is_no_error_and_logs_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = stats()
    probe = SourceProbe()
    with caplog.at_level(logging.DEBUG):
        async with Client(StreamingResponse(endless(probe, lambda: anyio.sleep(10)))) as client:
            async with client.open("GET", "/", spec_version="2.4") as exchange:
                await exchange.read()
                await exchange.leave()
                outcome = await exchange.finished()
    assert outcome.error is None
    assert [record for record in caplog.records if record.exc_info] == []
    assert stats().left == before.left + 1
    assert stats().open == before.open


async def test_an_error_in_the_cleanup_after_the_client_left_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await anyio.sleep(1000)
        finally:
            raise RuntimeError("cleanup is broken")

    async with Client(StreamingResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            await exchange.read()
            await exchange.leave()
            assert (await exchange.finished()).error is None
    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 1
    assert "closing the source failed" in records[0].getMessage()


async def test_a_scope_that_is_cancelled_around_the_response_closes_the_source(
    anyio_backend_name: str,
) -> None:
    probe = SourceProbe()
    response = StreamingResponse(endless(probe, lambda: anyio.sleep(1000)))
    cancelled = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with anyio.CancelScope() as around:

            async def cancel() -> None:
                await probe.started.wait()
                await anyio.sleep(0.01)
                around.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(cancel)
                await response(scope, receive, send)
        assert around.cancelled_caught
        cancelled.set()

    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.finished()
    assert cancelled.is_set()
    assert probe.closed.is_set()
    assert probe.same_task


async def test_cancel_scopes_and_task_groups_inside_a_source_work() -> None:
    async def source() -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:
            send, receive = anyio.create_memory_object_stream[str](1)

            async def produce() -> None:
                async with send:
                    for number in range(3):
                        await send.send(f"item {number}\n")
                        await anyio.sleep(0.001)

            group.start_soon(produce)
            async with receive:
                async for item in receive:
                    yield item
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(1000)
        yield f"timed out: {scope.cancelled_caught}"

    async with Client(StreamingResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            body = await exchange.read_all()
    assert body == b"item 0\nitem 1\nitem 2\ntimed out: True"


async def test_a_source_that_times_out_inside_while_a_send_is_blocked_goes_on(
    clock: Clock,
) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"x" * 200_000
        with anyio.move_on_after(5):
            await anyio.sleep_forever()
        yield b"timed out"

    async with Client(StreamingResponse(source())) as client:
        async with client.open("GET", "/") as exchange:
            await clock.advance(6)
            assert exchange.blocked
            assert (await exchange.read_all()).endswith(b"timed out")


async def test_what_the_server_says_of_the_response_is_raised_and_the_source_closed() -> None:
    probe = SourceProbe()
    response = StreamingResponse(endless(probe, lambda: anyio.sleep(1000)))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def refuse(message: Any) -> None:
            raise RuntimeError("Response content longer than Content-Length")

        await response(scope, receive, refuse)

    async with Client(app) as client, client.open("GET", "/") as exchange:
        outcome = await exchange.finished()
    assert isinstance(outcome.error, RuntimeError)
    assert probe.closed.is_set()


# Errors of `send` --------------------------------------------------------------------------------


class Transport:
    """A server whose `send` fails, and whose client may have left at that very moment.

    Args:
        error: What `send` raises at the first bytes of a body.
        left: The client has left: `receive` would say so, to who asks it next.
    """

    def __init__(self, error: Exception, *, left: bool) -> None:
        self.error = error
        self.left = left
        self.gone = anyio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message.get("body"):
            if self.left:
                self.gone.set()
            raise self.error

    async def call(self, app: Any) -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await app(scope, self.receive, self.send)


def responses(tmp_path: Path) -> dict[str, Callable[[Any], Any]]:
    path = tmp_path / "a.txt"
    path.write_bytes(b"small")
    return {
        "stream": lambda task: StreamingResponse(iter(["x"]), background=task),
        "events": lambda task: EventSourceResponse(iter(["x"]), background=task),
        "file": lambda task: FileResponse(path, background=task),
    }


@pytest.mark.parametrize("kind", ["stream", "events", "file"])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the transport is closed"),
        anyio.BrokenResourceError(),
        ExceptionGroup("of a middleware", [ConnectionResetError()]),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_client_that_has_left_ends_as_left_whatever_send_raises(
    tmp_path: Path, kind: str, error: Exception
) -> None:
    ran: list[bool] = []
    before = stats()
    response = responses(tmp_path)[kind](BackgroundTask(ran.append, True))
    await Transport(error, left=True).call(response)
    assert ran == [True]
    after = stats()
    assert (after.left, after.failed) == (before.left + 1, before.failed)


@pytest.mark.parametrize("kind", ["stream", "events", "file"])
async def test_an_error_of_send_while_the_client_is_there_is_an_error(
    tmp_path: Path, kind: str
) -> None:
    response = responses(tmp_path)[kind](None)
    with pytest.raises(RuntimeError, match="a mistake of a middleware"):
        await Transport(RuntimeError("a mistake of a middleware"), left=False).call(response)


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
async def test_nothing_follows_a_message_that_a_middleware_has_not_taken(failing: int) -> None:
    async def source() -> AsyncIterator[str]:
        yield "one"
        yield "two"
        yield "three"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def failing_send(message: Any) -> None:
            sent.append(message)
            if len(sent) == failing:
                raise LookupError("a mistake of a middleware")
            await send(message)

        await StreamingResponse(source())(scope, receive, failing_send)

    sent: list[Any] = []
    before = stats()
    async with (
        Client(app, raise_app_exceptions=False) as client,
        client.open("GET", "/") as exchange,
    ):
        error = (await exchange.finished()).error
    after = stats()
    assert isinstance(error, LookupError)
    assert len(sent) == failing
    assert (after.failed, after.complete) == (before.failed + 1, before.complete)


async def test_a_middleware_that_waits_behind_the_end_is_not_cancelled() -> None:
    async def source() -> AsyncIterator[str]:
        yield "one"
        await anyio.sleep(0)
        await anyio.sleep(0)  # so that the client's leaving is listened for
        yield "two"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def logging_send(message: Any) -> None:
            await send(message)
            if message.get("more_body") is False:
                await anyio.sleep(0.001)
                logged.append(message)

        await StreamingResponse(source())(scope, receive, logging_send)

    logged: list[Any] = []
    before = stats()
    async with Client(app) as client, client.open("GET", "/") as exchange:
        assert await exchange.read_all() == b"onetwo"
        await exchange.finished()
    after = stats()
    assert len(logged) == 1
    assert (after.complete, after.left) == (before.complete + 1, before.left)


# Cancellations -----------------------------------------------------------------------------------


async def of_anyio() -> None:
    with anyio.move_on_after(1):
        await anyio.sleep_forever()


async def of_asyncio() -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await anyio.sleep_forever()


async def is_no_end(time_limit: Callable[[], Awaitable[None]]) -> None:
    async def source() -> AsyncIterator[str]:
        for number in range(5):
            await time_limit()
            yield str(number)

    response = StreamingResponse(source(), options=StreamOptions(cleanup_timeout=2))
    with Clock() as clock:
        async with Client(response) as client, client.open("GET", "/") as exchange:
            for number in range(5):
                await clock.advance(1)
                assert await exchange.read() == str(number).encode()
            assert await exchange.read_all() == b""


async def test_a_time_limit_inside_a_source_is_no_end_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await is_no_end(of_anyio)
    assert not caplog.records


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_timeout_of_asyncio_inside_a_source_is_no_end_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await is_no_end(of_asyncio)
    assert not caplog.records


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_source_that_swallows_a_cancellation_from_outside_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tailrace.connection.middleware._IN_STEPS", (__name__,))
    sent: list[Any] = []

    async def send(message: Any) -> None:  # as a server's whose client takes everything
        sent.append(message)

    async def source() -> AsyncIterator[str]:
        yield "first"
        with suppress(asyncio.CancelledError):
            outer.cancel()
            await anyio.sleep_forever()

    scope: Any = {"type": "http", "method": "GET", "path": "/", "headers": []}
    before = stats()
    with anyio.CancelScope() as outer:
        await StreamingResponse(source())(scope, anyio.sleep_forever, send)  # type: ignore[arg-type] # never asked
    after = stats()
    assert outer.cancelled_caught
    assert [message.get("more_body") for message in sent] == [None, True]
    assert (after.cancelled, after.complete) == (before.cancelled + 1, before.complete)


# Channels ----------------------------------------------------------------------------------------


class Beside:
    """A task sends into a channel whose other end is the content of a response."""

    def __init__(self, make: Any = StreamingResponse) -> None:
        self.make = make
        self.outcome = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        writer, reader = anyio.create_memory_object_stream[str](1)
        with reader:
            async with anyio.create_task_group() as group:
                group.start_soon(self._write, writer)
                await self.make(reader)(scope, receive, send)
                group.cancel_scope.cancel()

    async def _write(self, writer: Any) -> None:
        try:
            with writer:
                while True:
                    await writer.send("word" * 1000)  # waits for the client, at last
        except anyio.get_cancelled_exc_class():
            self.outcome = "cancelled by its owner"
            raise
        except anyio.BrokenResourceError:
            self.outcome = "failed"
            raise


@pytest.mark.parametrize("make", [StreamingResponse, EventSourceResponse, JSONLinesResponse])
async def test_a_channel_is_not_closed_under_its_senders_feet(make: Any) -> None:
    app = Beside(make)
    async with Client(app) as client, client.open("GET", "/") as exchange:
        await exchange.read()
        await exchange.leave()
        assert (await exchange.finished()).error is None
    assert app.outcome == "cancelled by its owner"


async def test_a_channel_whose_senders_have_closed_is_sent_to_its_end_and_closed() -> None:
    writer, reader = anyio.create_memory_object_stream[str](3)
    for word in ("one ", "two ", "three"):
        writer.send_nowait(word)
    writer.close()
    async with Client(StreamingResponse(reader)) as client, client.open("GET", "/") as exchange:
        assert await exchange.read_all() == b"one two three"
    with pytest.raises(anyio.ClosedResourceError):
        reader.receive_nowait()


async def test_a_source_that_waits_for_a_turn_each_time_is_cancelled_from_outside() -> None:
    """Of a server whose `send` never waits, as test clients and gateways have."""
    scope: Any = {"type": "http", "method": "GET", "path": "/", "headers": []}
    made = 0

    async def source() -> AsyncIterator[str]:
        nonlocal made
        while made < 20_000:  # or a failure would hang
            made += 1
            yield "x"
            await anyio.sleep(0)

    async def send(message: Any) -> None:
        if made > 100:
            outer.cancel()

    outer = anyio.CancelScope()
    with outer:
        await StreamingResponse(source())(scope, anyio.sleep_forever, send)  # type: ignore[arg-type] # never asked
    assert outer.cancelled_caught
    assert made < 20_000
