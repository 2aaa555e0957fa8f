"""`Run`: what the caller of `Streams.run` gets, to read a run, wait for it or stop it."""

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
from tailrace.streams.runs import FinishedRun, RemoteRun
from tailrace.streams.subscription import Subscription

__all__ = ["Run"]


class Run:
    """A source that writes into a stream; made by `Streams.run`.

    Iterating over it reads its items from the first one on. After the last item, `RunEnded` is
    raised if the run has failed, was cancelled or was lost:

    ```
    async for message in run: ...
    ```

    Args:
        core: The core of the streams.
        path: The path of the run's stream.
        work: The run as this process sees it.
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

    async def wait(self) -> None:
        """Wait until the run has ended.

        Raises:
            RunEnded: It has failed, was cancelled, or was lost.
        """
        await self._work.done.wait()
        end = self._work.end
        assert end is not None
        if end.status != "done":
            raise RunEnded(self.path, end.status, end.code, end.message)

    async def stop(self) -> None:
        """End the run, in whichever process it runs, and wait until it has ended.

        What its source has yielded so far stays in the stream, which ends as cancelled. A run that
        has ended stays as it is. The source itself must not call this, because it would wait for
        itself: it returns to end the run.
        """
        if self._work.end is None:
            await self._core.stop(self.path)
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

        The client is a client of the run (`on_disconnect`) while the response is being sent.

        Args:
            request: As in `Streams.subscribe`.
            start: As there; by default everything is sent.
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
        """Count a client of the run for the length of the block."""
        work = self._work
        return nullcontext() if isinstance(work, FinishedRun) else work.subscribers.present()
