"""`tailrace demo`: the tour, served on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path
from types import FrameType

import click
import uvicorn

from tailrace.app import create_tour
from tailrace.cli.listening import listen, url_of, where_to_listen
from tailrace.connection import drain
from tailrace.errors import InvalidOption
from tailrace.store import open_store

__all__ = ["demo"]

STOP_SECONDS = 1
"""Seconds after Ctrl-C until a stream without a farewell, such as the camera, is cut."""


_CUT = "ASGI callable returned without completing response."
"""What uvicorn logs, as an error, of a stream that is cut; here it is cut on purpose."""


def _is_news(record: logging.LogRecord) -> bool:
    return record.getMessage() != _CUT


class _Server(uvicorn.Server):
    """uvicorn's server, which tells open streams to end before it waits for them at shutdown."""

    _interrupts = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let only a third Ctrl-C skip the end of the lifespan, which closes the store.

        In uvicorn a second one does. But the orderly end takes STOP_SECONDS, and a user who waits
        for it is likely to press Ctrl-C twice.
        """
        super().handle_exit(sig, frame)
        self._interrupts += 1
        self.force_exit = self.force_exit and self._interrupts > 2

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # first: otherwise a client that is told to come back comes too early
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        await drain(STOP_SECONDS)
        await super().shutdown(sockets)


def _cache_directory() -> Path:
    # XDG Base Directory Specification: a relative path is ignored.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "tailrace"


@click.command()
@where_to_listen
@click.option(
    "--store",
    metavar="URL",
    help="Where the report and the chat are kept. [default: a file in your cache directory]",
)
def demo(host: str, port: int, allow_remote: bool, store: str | None) -> None:
    """Serve the tour: every kind of stream, live in a browser."""
    store = store or f"sqlite:///{_cache_directory() / 'tour.db'}"
    try:
        open_store(store)  # checks only the URL
    except InvalidOption as error:
        raise click.UsageError(str(error)) from error
    with listen(host, port, allow_remote=allow_remote) as listener:
        click.echo(f"The tour is on {url_of(listener)} (Ctrl-C stops it)")
        config = uvicorn.Config(
            create_tour(store),
            log_level="warning",
            proxy_headers=False,  # there is no proxy
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        server = _Server(config)
        with contextlib.suppress(KeyboardInterrupt):  # raised again after an orderly end
            server.run(sockets=[listener])
