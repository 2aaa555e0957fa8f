"""Was this raised by a signal's handler, or by code?

Ctrl-C and a handler that calls `sys.exit()` are meant for the process, whatever the main thread was
doing when they struck. What code raises is that code's own end.
"""

from __future__ import annotations

import dis
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, TracebackType
from typing import Any, Final

__all__ = ["is_of_a_signal"]

_RAISE: Final = dis.opmap["RAISE_VARARGS"]


def is_of_a_signal(error: BaseException) -> bool:
    """It was raised by the handler of a signal.

    A handler is called on top of whatever the main thread does, so the traceback goes through it.
    Python's own handler of Ctrl-C leaves no such trace; but it strikes between two instructions,
    and what code raises comes from the one that raises.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    codes = {code for handler in _handlers() if (code := _code_of(handler)) is not None}
    last = None
    for last in _entries(error):
        if last.tb_frame.f_code in codes:
            return True
    if last is None or not isinstance(error, KeyboardInterrupt):
        return False
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] != _RAISE


def _entries(error: BaseException) -> Iterator[TracebackType]:
    entry = error.__traceback__
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _handlers() -> Iterator[Callable[..., Any]]:
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler):
            yield handler


def _code_of(handler: Callable[..., Any]) -> CodeType | None:
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    if not hasattr(function, "__code__"):
        function = type(handler).__call__
    return getattr(function, "__code__", None)
