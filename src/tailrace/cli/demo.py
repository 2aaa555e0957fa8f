"""`tailrace demo`: the tour, served on this machine."""

from __future__ import annotations

import contextlib
import socket

import click
import uvicorn

from tailrace.app import create_tour
from tailrace.cli.listener import listen, url_of
from tailrace.cli.options import host_and_port
from tailrace.pump import drain

__all__ = ["demo"]

STOP_SECONDS = 1
"""What Ctrl-C gives to streams that know no farewell, such as the camera, before they are cut."""


class _Server(uvicorn.Server):
    """uvicorn waits at its shutdown for streams without end: here they are told to end first."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # first, or who is told to come back is back before the end
        await drain(STOP_SECONDS)
        await super().shutdown(sockets)


@click.command()
@host_and_port
def demo(host: str, port: int) -> None:
    """Serve the tour: every kind of stream, live in a browser."""
    with listen(host, port) as listener:
        click.echo(f"The tour is on {url_of(listener)} (Ctrl-C stops it)")
        config = uvicorn.Config(
            create_tour(), log_level="warning", timeout_graceful_shutdown=STOP_SECONDS
        )
        server = _Server(config)
        with contextlib.suppress(KeyboardInterrupt):  # raised again after an orderly end
            server.run(sockets=[listener])
