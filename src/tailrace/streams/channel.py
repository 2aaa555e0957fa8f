"""`Channel`: a stream of which only the last part is kept."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tailrace.errors import InvalidOption, StreamNotFound
from tailrace.store import Mark, NewStream, Retention
from tailrace.streams.core import JSON, Core
from tailrace.streams.reading import Reader, parse_start
from tailrace.streams.subscription import Subscription

__all__ = ["Channel"]


class Channel:
    """A JSON stream with short retention; made by `Streams.channel`.

    Iterating over it reads what is published from then on:

    ```
    async for message in channel: ...
    ```

    Args:
        core: The core of the streams.
        path: The path of the stream.
        retention: How much of it is kept.

    Raises:
        InvalidOption: There is no retention, or one that keeps everything.
    """

    def __init__(self, core: Core, path: str, retention: Retention) -> None:
        if not isinstance(retention, Retention) or retention == Retention():
            raise InvalidOption("retention", retention, "a bound, or use a stream")
        self._core = core
        self._exists = False
        self.path = path
        self.retention = retention

    def __repr__(self) -> str:
        return f"<Channel {self.path!a}>"

    async def publish(self, item: Any) -> str:
        """Add an item at the end; it is durable when this returns.

        Args:
            item: Anything that pydantic can write as JSON, or an `Event`.

        Returns:
            The offset after the item.

        Raises:
            InvalidChunk: The item cannot be written as JSON.
            StreamExists: The path is that of a stream with another retention (409).
        """
        if not self._exists:
            await self.create()  # fails if the path is that of a stream with another retention
        try:
            return await self._core.append(self.path, item)
        except StreamNotFound:  # it was deleted meanwhile
            await self.create()
            return await self._core.append(self.path, item)

    async def create(self) -> bool:
        """Create the stream before anything is published; False if it exists.

        Raises:
            StreamExists: The path is that of a stream with another retention (409).
        """
        new = NewStream(content_type=JSON, retention=self.retention)
        is_new = await self._core.create(self.path, new)
        self._exists = True
        return is_new

    def subscribe(self, request: Request, *, start: str = "now", slow: str = "resume") -> Response:
        """What an endpoint returns to serve the channel.

        Args:
            request: As in `Streams.subscribe`.
            start: As there; by default the client gets what is published from now on.
            slow: As there.
        """
        return Subscription(self._core, self.path, request, start=start, slow=slow, waits=True)

    def read(self, start: str = "start", *, follow: bool = False) -> Reader:
        """Read the messages that are kept.

        Args:
            start: As in `Streams.read`.
            follow: As there.
        """
        return Reader(self._core, self.path, parse_start(start), follow=follow)

    def __aiter__(self) -> Reader:
        return Reader(self._core, self.path, Mark.TAIL, follow=True, waits=True)
