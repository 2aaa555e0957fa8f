"""`scope["extensions"]`, in which files are offered only where nothing is passed over.

An application sees that a server takes `http.response.pathsend` by a name in the scope, which is
made before anybody knows who stands in between. Starlette's `FileResponse` then sends that message
in place of its bytes: a middleware that changes bodies changes nothing, and without a word; one
that collects them (`@app.middleware("http")`) gets a message instead, and fails.

So the name is there for those whose `send` is proved to lead to the server, as `passage` proves it
for all else. The one who asks is the function that was called with `send`: its frame holds it. Who
asks from another place, or from a copy of the mapping, is not offered it, and reads the file.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from tailrace.connection import CONNECTION, ServerConnection
from tailrace.server.sender import PATHSEND, ZEROCOPYSEND

__all__ = ["Extensions"]


class Extensions(dict[str, Any]):
    """A mapping in which `name in extensions` depends on who asks, where `name` is one of files."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        if name in (PATHSEND, ZEROCOPYSEND):
            return self._reached_from(sys._getframe(1))
        return super().__contains__(name)

    def _reached_from(self, frame: FrameType) -> bool:
        connection: ServerConnection | None = self.get(CONNECTION)
        send = frame.f_locals.get("send")
        return connection is not None and send is not None and connection.reached_by(send)
