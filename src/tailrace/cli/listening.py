"""Where a command listens: its options, the socket, and whether other machines can reach it."""

from __future__ import annotations

import errno
import ipaddress
import math
import socket
from collections.abc import Callable
from typing import Any

import click

__all__ = ["addresses", "finite", "listen", "url_of", "where_to_listen"]

_OTHERS = 10
"""How many ports after one that is in use are tried, to name a free one in the error."""


def listen(host: str, port: int, *, allow_remote: bool) -> socket.socket:
    """A socket that listens.

    Args:
        host: A name or an address of this machine.
        port: 0 takes a free one.
        allow_remote: Other machines may be able to reach the address.

    Raises:
        click.UsageError: The port is in use, the host is not this machine, or other machines could
            reach the address without `allow_remote`.
    """
    try:
        listener = _bind(host, port)
    except (OSError, UnicodeError) as error:  # UnicodeError: no host can have such a name
        reason = getattr(error, "strerror", None) or error
        free = _free_behind(host, port) if _is_in_use(error) else None
        advice = "" if free is None else f"; port {free} is free"
        raise click.UsageError(f"cannot listen on {host} port {port}: {reason}{advice}") from error
    if not allow_remote and not _is_loopback(listener):
        listener.close()
        raise click.UsageError(
            f"other machines can reach {host}, and there is no authentication: "
            "add --allow-remote if you want that"
        )
    return listener


def _bind(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family)


def _is_in_use(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE


def _free_behind(host: str, port: int) -> int | None:
    for other in range(port + 1, min(port + _OTHERS, 65535) + 1):
        try:
            _bind(host, other).close()
        except OSError:
            continue
        return other
    return None


def _is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    host = listener.getsockname()[0].partition("%")[0]
    return ipaddress.ip_address(host).is_loopback


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The URL of a socket's address, without a slash at its end."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


# Options ------------------------------------------------------------------------------------------


def where_to_listen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options `--host`, `--port` and `--allow-remote`."""
    remote = click.option(
        "--allow-remote",
        is_flag=True,
        help="Allow addresses that other machines can reach: they can read "
        "everything, for there is no authentication.",
    )
    port = click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=8000,
        show_default=True,
        help="Port to listen on; 0: any free port.",
    )
    host = click.option(
        "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
    )
    return host(port(remote(command)))


def finite(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse an infinite number of seconds, and `nan`: click's own range accepts both."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number of seconds")
    return value


def addresses(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    """IP addresses and networks, separated by commas; `*` is any.

    They are checked here: uvicorn would take a mistyped one for a host name.
    """
    found = [each.strip() for each in (value or "").split(",") if each.strip()]
    for each in found:
        try:
            if each != "*":
                ipaddress.ip_network(each)
        except ValueError as error:
            raise click.BadParameter(
                f"{each!r} is neither an address nor a network: {error}"
            ) from error
    return found
