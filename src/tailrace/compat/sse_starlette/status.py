"""`AppStatus`: by which an application itself can say that the server stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["AppStatus", "told_of_exit"]

_listeners: set[Callable[[], None]] = set()
"""One function for each open response, of any event loop; called from any thread."""


class _Status(type):
    """The metaclass of `AppStatus`, so that an assignment to `should_exit` tells the responses."""

    _should_exit = False

    @property
    def should_exit(cls) -> bool:
        return cls._should_exit

    @should_exit.setter
    def should_exit(cls, value: bool) -> None:
        cls._should_exit = bool(value)
        if cls._should_exit:
            for tell in tuple(_listeners):
                tell()


class AppStatus(metaclass=_Status):
    """Whether event streams end because the server stops.

    You do not need it: a server that stops is noticed. `should_exit = True`, from any thread and
    any signal handler, ends the streams of `EventSourceResponse` in every event loop, and new ones
    at once, until it is False again.
    """

    enable_automatic_graceful_drain = True
    original_handler: Callable[..., Any] | None = None

    @staticmethod
    def disable_automatic_graceful_drain() -> None:
        """Let streams go on when the server stops, until `should_exit` is True."""
        AppStatus.enable_automatic_graceful_drain = False

    @staticmethod
    def enable_automatic_graceful_drain_mode() -> None:
        """End streams when the server stops; this is the default."""
        AppStatus.enable_automatic_graceful_drain = True

    @staticmethod
    def handle_exit(*args: Any, **kwargs: Any) -> None:
        """Say that the server stops: to be called by your own signal handler.

        Args:
            args, kwargs: Handed on to `original_handler`, if it is set.
        """
        if AppStatus.enable_automatic_graceful_drain:
            AppStatus.should_exit = True
        if AppStatus.original_handler is not None:
            AppStatus.original_handler(*args, **kwargs)

    @classmethod
    def drains(cls) -> bool:
        """Whether a stream has to end when it is told that the server stops."""
        return cls.enable_automatic_graceful_drain or cls.should_exit


@contextmanager
def told_of_exit(tell: Callable[[], None]) -> Iterator[None]:
    """Within the block, `tell` is called when `should_exit` is set to True, in that thread."""
    _listeners.add(tell)
    try:
        yield
    finally:
        _listeners.discard(tell)
