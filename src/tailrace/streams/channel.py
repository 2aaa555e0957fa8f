"""`Channel`: a stream of which only the last part is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from tailrace.errors import InvalidOption, StreamNotFound
from tailrace.store import Mark, Retention
from tailrace.streams.reading import Reader

if TYPE_CHECKING:
    from tailrace.streams.streams import Streams

__all__ = ["Channel"]


class Channel:
    """A JSON stream with short retention; made by `Streams.channel`.

    Whoever iterates it gets what is published from now on:

    ```
    async for message in channel: ...
    ```

    Args:
        streams: Where it is.
        path: Its name.
        retention: How much is kept.

    Raises:
        InvalidOption: No retention, or one that keeps everything.
    """

    def __init__(self, streams: Streams, path: str, retention: Retention) -> None:
        if not isinstance(retention, Retention) or retention == Retention():
            raise InvalidOption("retention", retention, "a bound, or use a stream")
        self._streams = streams
        self._exists = False
        self.path = path
        self.retention = retention

    def __repr__(self) -> str:
        return f"<Channel {self.path!a}>"

    async def publish(self, item: Any) -> str:
        """Add an item; durable when this returns.

        Args:
            item: Anything that pydantic can write as JSON, or an `Event`.

        Returns:
            The offset after it.

        Raises:
            InvalidChunk: No JSON can be made of it.
            StreamExists: The path is that of a stream with another retention (409).
        """
        if not self._exists:
            await self.create()  # or a stream that keeps everything would be taken for this one
        try:
            return await self._streams._append(self.path, item)
        except StreamNotFound:  # deleted since
            await self.create()
            return await self._streams._append(self.path, item)

    async def create(self) -> bool:
        """Create it, before anything is published; False if it exists.

        Raises:
            StreamExists: The path is that of a stream with another retention (409).
        """
        is_new = await self._streams.create(self.path, retention=self.retention)
        self._exists = True
        return is_new

    def subscribe(self, request: Request, *, start: str = "now", slow: str = "resume") -> Response:
        """What an endpoint returns: as `Streams.subscribe`."""
        return self._streams.subscribe(self.path, request, start=start, slow=slow)

    def read(self, start: str = "start", *, follow: bool = False) -> Reader:
        """Its messages: as `Streams.read`."""
        return self._streams.read(self.path, start, follow=follow)

    def __aiter__(self) -> Reader:
        return Reader(self._streams, self.path, Mark.TAIL, follow=True, waits=True)
