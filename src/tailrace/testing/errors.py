"""The errors of `tailrace.testing`.

```
BodyEnded           a read wanted more than the body had (an EOFError)
└── Truncated       the body was cut: the application ended without completing its response
ProtocolViolation   the application broke the ASGI specification (a RuntimeError)
ClientGone          raised into the application's `send()` after the client left (an OSError)
Leaked              something that was opened in a `no_leaks()` block is still there
```

They are not in `tailrace.errors`, because none of them can reach an HTTP client.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["BodyEnded", "ClientGone", "Leaked", "ProtocolViolation", "Truncated"]


class BodyEnded(EOFError):
    """A read wanted more than the body had.

    Args:
        message: What was wanted, and what came.
        partial: The bytes that came since this read began.
    """

    def __init__(self, message: str, partial: bytes = b"") -> None:
        super().__init__(message)
        self.partial = partial


class Truncated(BodyEnded):
    """The body was cut: the application returned or failed before it had completed its response.

    Over a socket the client would see a reset, or a chunked body without its last chunk. The
    application's own exception, if there was one, is the `__cause__`.
    """


class ProtocolViolation(RuntimeError):
    """The application sent a message that the ASGI specification does not allow here."""


class ClientGone(OSError):
    """The client has left. `send()` raises it from ASGI 2.4 on, or by `after_leave="raise"`."""


class Leaked(AssertionError):
    """Something that was opened in a `no_leaks()` block outlived it.

    Args:
        leaks: One line for each leak: what it is, and where its code is.
    """

    def __init__(self, leaks: Sequence[str]) -> None:
        super().__init__("left behind:\n" + "\n".join(f"  {leak}" for leak in leaks))
        self.leaks = tuple(leaks)
