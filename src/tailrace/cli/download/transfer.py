"""The driver of a download: it asks, writes and waits; what to do next is decided elsewhere.

One *attempt* asks one question. If the answer can be used its bytes are written; with several
connections the rest is then shared out in pieces. A connection that fails in a crowd just leaves
it: a server that allows two connections gets two. What is missing when all have left is the next
attempt's. So there is one place that waits and counts failures, `Transfer.run`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import anyio
from anyio.to_thread import run_sync

from tailrace import limits
from tailrace.cli.download.answer import Answer
from tailrace.cli.download.name import name_from_url
from tailrace.cli.download.order import Order
from tailrace.cli.download.partial import PartialFile
from tailrace.cli.download.resume import (
    Again,
    Record,
    Refuse,
    Step,
    Take,
    Wait,
    ask_first,
    ask_for,
    begun_by,
    continued_by,
    decide,
)
from tailrace.cli.download.retry import Patience
from tailrace.cli.download.server import Reply, Server, Trouble
from tailrace.cli.download.span import Span, pieces
from tailrace.errors import DownloadFailed

__all__ = ["Transfer", "Watcher"]

FREE_RESTARTS = 2
"""Restarts that are no failure: the file has changed, or the server knows no ranges after all."""


class Watcher(Protocol):
    """Who is told how it goes."""

    def begin(self, path: Path, total: int | None, have: int) -> None:
        """Bytes begin to come: of this file, so many in all, so many there already."""

    def advance(self, count: int) -> None:
        """So many more bytes are there."""

    def note(self, text: str) -> None:
        """Something that a person may want to know."""


class _Void(Exception):
    """What is there is of no use: begin again."""

    def __init__(self, reason: str, *, ranges: bool) -> None:
        super().__init__(reason)
        self.ranges = ranges


class _AskAgain(Exception):
    """Now that the file's name is known, there is a part of it to be continued."""


class Transfer:
    """One download.

    Args:
        order: What and how.
        watcher: Who is told.
        agent: The User-Agent header.
    """

    def __init__(self, order: Order, watcher: Watcher, agent: str = "tailrace") -> None:
        self._order = order
        self._watcher = watcher
        self._agent = agent
        self._patience = Patience(order.retry, random.random)
        self._part: PartialFile | None = None
        self._ranges = True
        self._restarts = 0

    async def run(self) -> Path:
        """Download, and give the path of the complete file.

        Cancelled, it keeps what is there and remembers what it is.

        Raises:
            DownloadFailed: It could not be done; what was got is kept.
            OSError: The file cannot be written.
        """
        try:
            async with (
                Server(self._order, self._agent) as server,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._keep_saving)
                failed = await self._try(server)
                tasks.cancel_scope.cancel()
            # Out of the group: it would wrap what is raised within.
            if failed is not None:
                raise failed
            assert self._part is not None
            return self._part.target
        finally:
            if self._part is not None:
                self._part.close()

    @property
    def kept(self) -> str:
        """What an unfinished download leaves, in words; empty if nothing."""
        part = self._part
        if part is None or part.record is None or part.record.have == 0:
            return ""
        if part.record.can_continue:
            return f"{part.path} is kept: the same command goes on from there"
        return f"{part.path} is kept, but the server gave nothing to continue it by"

    # Attempts -----------------------------------------------------------------------------------

    async def _try(self, server: Server) -> Exception | None:
        try:
            if self._order.target is not None:
                self._open(self._order.target, create=False)
            await self._attempt_until_whole(server)
            await self._finish()
        except (DownloadFailed, OSError) as error:
            return error
        return None

    async def _attempt_until_whole(self, server: Server) -> None:
        while True:
            try:
                await self._attempt(server)
            except _AskAgain:
                pass
            except Trouble as trouble:
                await self._wait_after(trouble)
            except _Void as void:
                await self._start_over(void)
            else:
                if not self._record.missing:
                    return

    async def _attempt(self, server: Server) -> None:
        record = None if self._part is None else self._part.record
        question = ask_first(record, jobs=self._order.jobs, ranges=self._ranges)
        async with server.ask(question) as reply:
            take = _only_take(decide(question, record, reply.answer))
            part = self._placed(reply.answer)
            if take.fresh:
                self._begin(part, record, reply.answer)
            else:
                part.record = continued_by(self._record, reply.answer)
            self._watcher.begin(part.target, self._record.total, self._record.have)
            await self._receive(reply, take.span)
        if self._order.jobs > 1 and self._record.missing and self._record.can_split:
            await self._share(server)

    async def _share(self, server: Server) -> None:
        """Get what is missing over several connections."""
        queue = pieces(self._record.missing, self._order.jobs)
        troubles: list[Exception] = []

        async def work(scope: anyio.CancelScope) -> None:
            try:
                await self._get_pieces(server, queue)
            except Trouble as trouble:
                troubles.append(trouble)
            except (_Void, DownloadFailed, OSError) as error:
                troubles.insert(0, error)
                scope.cancel()

        async with anyio.create_task_group() as tasks:
            for _ in range(self._order.jobs):
                tasks.start_soon(work, tasks.cancel_scope)
        if troubles:
            raise troubles[0]

    async def _get_pieces(self, server: Server, queue: Iterator[Span]) -> None:
        for span in queue:
            question = ask_for(span, self._record)
            async with server.ask(question) as reply:
                take = _only_take(decide(question, self._record, reply.answer))
                if take.fresh:
                    raise _Void("the file has changed on the server", ranges=True)
                await self._receive(reply, take.span)

    async def _wait_after(self, trouble: Trouble) -> None:
        have = 0 if self._part is None or self._part.record is None else self._part.record.have
        delay = self._patience.fail(have, trouble.after)
        if delay is None:
            asks = "" if trouble.after is None else f", and asks to wait {trouble.after:.0f} s"
            raise DownloadFailed(f"{trouble}{asks}") from trouble
        self._watcher.note(f"{trouble}; trying again in {delay:.1f} s")
        await anyio.sleep(delay)

    async def _start_over(self, void: _Void) -> None:
        self._ranges = self._ranges and void.ranges
        if self._part is not None:
            self._part.forget()
        self._restarts += 1
        if self._restarts > FREE_RESTARTS:
            await self._wait_after(Trouble(str(void)))
        else:
            self._watcher.note(f"{void}; starting again")

    # The file -----------------------------------------------------------------------------------

    @property
    def _record(self) -> Record:
        assert self._part is not None
        assert self._part.record is not None
        return self._part.record

    def _open(self, target: Path, *, create: bool) -> None:
        _check_free(target, force=self._order.force)
        self._part = PartialFile.open(target, self._order.url, create=create)
        if self._part is not None and self._order.resume:
            self._part.load()

    def _placed(self, answer: Answer) -> PartialFile:
        """The partial file, opened now if this is the first answer that can be used."""
        if self._part is None:
            name = answer.name or name_from_url(self._order.url)
            self._open(self._order.target or self._order.directory / name, create=True)
            assert self._part is not None
            record = self._part.record
            known = self._ranges and record is not None and record.can_continue
            if known and record is not None and record.validator == answer.validator:
                raise _AskAgain
        assert self._part is not None
        return self._part

    def _begin(self, part: PartialFile, before: Record | None, answer: Answer) -> None:
        if before is not None and before.have:
            same = before.validator is not None and before.validator == answer.validator
            reason = "the server sends no parts" if same else "the file has changed on the server"
            if before.validator is None:
                reason = "the server gave nothing to continue by"
            self._watcher.note(f"{reason}; starting again")
        record = begun_by(answer)
        part.begin(record, reserve=answer.status == 206)

    async def _finish(self) -> None:
        part = self._part
        assert part is not None
        if not await run_sync(part.verify):
            part.discard()
            raise DownloadFailed("what came does not match the server's checksum, and was removed")
        # In a thread: a sync of gigabytes takes seconds, in which the bar should not freeze.
        await run_sync(lambda: part.publish(force=self._order.force))

    async def _keep_saving(self) -> None:
        while True:
            await anyio.sleep(limits.CHECKPOINT)
            if self._part is not None:
                try:
                    await run_sync(self._part.save)
                except OSError as error:
                    # The data may still be written; if not, that write will say so.
                    self._watcher.note(f"cannot note what is there: {error.strerror}")

    # Bytes --------------------------------------------------------------------------------------

    async def _receive(self, reply: Reply, span: Span) -> None:
        part = self._part
        assert part is not None
        # A whole file's checksum is compared when all of it is there.
        digest = reply.answer.content_digest if reply.answer.status == 206 else None
        check = None if digest is None else digest.start()
        at = span.start
        async for data in reply.body:
            if span.stop is not None and at + len(data) > span.stop:
                raise Trouble("the server sent more than it had said")
            part.write(at, data)
            at += len(data)
            self._watcher.advance(len(data))
            if check is not None:
                check.update(data)
        if span.stop is None:
            part.ended_at(at)
        elif at < span.stop:
            raise Trouble("the server sent less than it had said")
        if digest is not None and check is not None and not digest.matches(check):
            part.lose(span.start, at)
            raise Trouble("what came does not match its checksum")


def _only_take(step: Step) -> Take:
    match step:
        case Take():
            return step
        case Again(reason, ranges):
            raise _Void(reason, ranges=ranges)
        case Wait(reason, after):
            raise Trouble(reason, after)
        case Refuse(reason):
            raise DownloadFailed(reason)


def _check_free(target: Path, *, force: bool) -> None:
    if target.is_dir():
        raise DownloadFailed(f"{target} is a directory")
    if target.exists() and not target.is_file():
        raise DownloadFailed(f"{target} is not a regular file")
    if not force and (target.exists() or target.is_symlink()):
        raise DownloadFailed(f"{target} is there already: --force replaces it")
