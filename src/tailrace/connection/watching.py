"""Watch a server that does not tell when it stops. No signal handler is set, nothing is replaced.

Each server of the table has a coroutine or a function whose variables tell that it stops. It is
found among the frames below the event loop, or among the tasks that run in it. `_SERVERS` says for
each function what to look at. The frames of tasks are looked through once for each
server, in a timer and never in a request; what is asked again and again is one attribute.

| server | function | seen by |
|---|---|---|
| uvicorn, also below its supervisors, gunicorn and fastapi | `Server._serve` | `should_exit` |
| gunicorn's own ASGI worker | `ASGIWorker.run` | `alive` |
| hypercorn (asyncio, uvloop, trio) | `worker_serve` | `context.terminated` |
| granian | `_spawn_asgi_worker` and its kin | its listening socket, which it closes |

daphne is not in the table: it cancels every response in the moment in which it stops.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from tailrace.connection.stats import log

__all__ = ["Server", "find_server"]


@dataclass(frozen=True, slots=True)
class Server:
    """The server that this event loop runs in.

    Args:
        is_stopping: It has been told to stop. Cheap.
        grace: Seconds that it gives open responses; infinite if it waits for them for ever.
        open_responses: How many it waits for, if that can be seen.
        waits_in_line: Who comes while it stops is answered by its successor.
    """

    is_stopping: Callable[[], bool]
    grace: float = math.inf
    open_responses: Callable[[], int] | None = None
    waits_in_line: bool = False


def find_server() -> Server | None:
    """The server whose event loop runs now; None if it is not one that is known here.

    Also None for a server that tells the open streams itself.
    """
    for frame in _frames():
        look = _SERVERS.get((frame.f_globals.get("__name__"), frame.f_code.co_name))
        if look is None:
            continue
        try:
            # A copy: from Python 3.13 on these are a proxy, with error messages of its own.
            return look(dict(frame.f_locals))
        except (AttributeError, KeyError, TypeError) as error:
            # A version that is made differently: then nothing is seen, as under any other server.
            log.warning(
                "the end of this server will not be noticed (%s found no %s): "
                "call tailrace.drain() when it stops",
                look.__name__,
                error,
            )
            return None
    return None


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
    for coroutine in _coroutines():
        while coroutine is not None:
            frame = getattr(coroutine, "cr_frame", None)
            if frame is not None:
                yield frame
            coroutine = getattr(coroutine, "cr_await", None)


def _coroutines() -> Iterator[Any]:
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        yield from _trio_coroutines()
    else:
        for task in tasks:
            yield task.get_coro()


def _trio_coroutines() -> Iterator[Any]:
    import trio

    tasks = [trio.lowlevel.current_root_task()]
    for task in tasks:
        if task is not None:
            yield task.coro
            for nursery in task.child_nurseries:
                tasks += nursery.child_tasks


def _uvicorn(found: Mapping[str, Any]) -> Server | None:
    server = found["self"]
    config, state = server.config, server.server_state
    tells = getattr(config.http_protocol_class, "tells_streams", None)
    if tells is not None and tells():
        return None
    grace = config.timeout_graceful_shutdown
    return Server(
        is_stopping=lambda: bool(server.should_exit),
        grace=math.inf if grace is None else grace,
        open_responses=lambda: len(state.tasks),
        # The reloader keeps the socket, and another process follows at once.
        waits_in_line=bool(config.should_reload),
    )


def _gunicorn(found: Mapping[str, Any]) -> Server:
    worker = found["self"]
    return Server(
        is_stopping=lambda: not worker.alive,
        grace=worker.cfg.graceful_timeout,
        open_responses=lambda: worker.nr_conns,
    )


def _hypercorn(found: Mapping[str, Any]) -> Server:
    terminated = found["context"].terminated
    return Server(is_stopping=terminated.is_set, grace=found["config"].graceful_timeout)


def _granian(found: Mapping[str, Any]) -> Server | None:
    # What it knows it knows in Rust. But it closes its listening socket first of all, and that is
    # one that shares its port, as hardly anybody else's does.
    descriptors = _descriptors()
    if not descriptors or next(filter(None, found["sock"])).is_uds():
        return None
    listening = next(filter(_shares_its_port, descriptors), None)
    socket_then = None if listening is None else os.fstat(listening)

    def is_closed() -> bool:
        if listening is None or socket_then is None:
            return True
        try:
            return not os.path.samestat(os.fstat(listening), socket_then)
        except OSError:
            return True

    return Server(is_stopping=is_closed)


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # Windows
        return []


def _shares_its_port(descriptor: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as looked_at:
            options = (socket.SO_ACCEPTCONN, socket.SO_REUSEPORT)
            return all(looked_at.getsockopt(socket.SOL_SOCKET, option) for option in options)
    except OSError:
        return False


_SERVERS: dict[tuple[str | None, str], Callable[[Mapping[str, Any]], Server | None]] = {
    ("uvicorn.server", "_serve"): _uvicorn,
    ("gunicorn.workers.gasgi", "run"): _gunicorn,
    ("hypercorn.asyncio.run", "worker_serve"): _hypercorn,
    ("hypercorn.trio.run", "worker_serve"): _hypercorn,
} | {
    (f"granian.server.{kind}", f"_spawn_{interface}_worker"): _granian
    for kind in ("mp", "mt")
    for interface in ("asgi", "asgi_lifespan")
}
