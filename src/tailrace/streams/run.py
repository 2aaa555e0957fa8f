"""`Run`: a source that writes into a stream, as its users hold it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from starlette.requests import Request
from starlette.responses import Response

from tailrace.errors import RunEnded
from tailrace.store import Mark
from tailrace.streams.core import Core
from tailrace.streams.item import Status
from tailrace.streams.local_run import LocalRun
from tailrace.streams.reading import Reader
from tailrace.streams.remote_run import FinishedRun, RemoteRun
from tailrace.streams.subscription import Subscription

__all__ = ["Run"]


class Run:
    """A source that writes into a stream; made by `Streams.run`.

    Whoever iterates it gets its items from the start, and `RunEnded` if it does not end well:

    ```
    async for message in run: ...
    ```

    Args:
        core: Where its stream is.
        path: Its stream.
        work: What runs it here, or follows it.
    """

    def __init__(self, core: Core, path: str, work: LocalRun | RemoteRun | FinishedRun) -> None:
        self._core = core
        self._work = work
        self.path = path

    def __repr__(self) -> str:
        return f"<Run {self.path!a} {self.status}>"

    @property
    def status(self) -> Status:
        """ "running", "done", "failed", "cancelled" or "lost" (its worker died)."""
        end = self._work.end
        return "running" if end is None else end.status

    @property
    def is_here(self) -> bool:
        """Its source is iterated in this process."""
        return isinstance(self._work, LocalRun)

    async def wait(self) -> None:
        """Wait for its end.

        Raises:
            RunEnded: It failed, was cancelled, or was lost.
        """
        await self._work.done.wait()
        end = self._work.end
        assert end is not None
        if end.status != "done":
            raise RunEnded(self.path, end.status, end.code, end.message)

    async def stop(self) -> None:
        """End it, wherever it runs, and wait until it has ended. Nothing if it has.

        What its source has yielded so far is in the stream, which ends as cancelled. Not for the
        source itself: it returns.
        """
        if isinstance(self._work, LocalRun):
            self._work.stop()
        elif isinstance(self._work, RemoteRun):
            await self._work.ask_to_stop()
        await self._work.done.wait()

    def response(
        self,
        request: Request,
        *,
        start: str = "start",
        slow: str = "resume",
        end_mark: bool = False,
    ) -> Response:
        """What an endpoint returns: the run's items, in the format that the client asks for.

        Its client is counted while it is being sent (`on_disconnect`).

        Args:
            request: As in `Streams.subscribe`.
            start: As there; by default all of it.
            slow: As there.
            end_mark: As there.
        """
        return Subscription(
            self._core,
            self.path,
            request,
            start=start,
            slow=slow,
            end_mark=end_mark,
            attend=self._attend,
        )

    def __aiter__(self) -> Reader:
        return Reader(self._core, self.path, Mark.BEGINNING, follow=True, attend=self._attend)

    def _attend(self) -> AbstractContextManager[None]:
        """A client that listens for the length of the block."""
        work = self._work
        return nullcontext() if isinstance(work, FinishedRun) else work.clients.present()
