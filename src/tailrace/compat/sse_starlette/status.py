"""`AppStatus`: what an application says of the server's end, where it says it itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["AppStatus", "told_of_exit"]

_listeners: set[Callable[[], None]] = set()
"""Of the responses that are open, in whichever loop; each may be called from any thread."""


class _Status(type):
    """What makes `AppStatus.should_exit = True` tell the open responses, without polling."""

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
    """When event streams end because the server does.

    Nobody needs it: servers that stop are noticed. `should_exit = True` ends the streams of
    `EventSourceResponse` in every loop, from any thread and any signal handler, and new ones at
    once, until it is False again.
    """

    enable_automatic_graceful_drain = True
    original_handler: Callable[..., Any] | None = None

    @staticmethod
    def disable_automatic_graceful_drain() -> None:
        """End no stream because the server stops, before `should_exit` says so."""
        AppStatus.enable_automatic_graceful_drain = False

    @staticmethod
    def enable_automatic_graceful_drain_mode() -> None:
        """End streams when the server stops, as is the default."""
        AppStatus.enable_automatic_graceful_drain = True

    @staticmethod
    def handle_exit(*args: Any, **kwargs: Any) -> None:
        """For a signal handler of your own: the server stops."""
        if AppStatus.enable_automatic_graceful_drain:
            AppStatus.should_exit = True
        if AppStatus.original_handler is not None:
            AppStatus.original_handler(*args, **kwargs)

    @classmethod
    def drains(cls) -> bool:
        """Whether a stream is to end when it is told that the server stops."""
        return cls.enable_automatic_graceful_drain or cls.should_exit


@contextmanager
def told_of_exit(tell: Callable[[], None]) -> Iterator[None]:
    """Call a function when `should_exit` becomes True; it may be any thread that does so."""
    _listeners.add(tell)
    try:
        yield
    finally:
        _listeners.discard(tell)
