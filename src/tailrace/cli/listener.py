"""The socket that a command listens on, and who can reach it."""

from __future__ import annotations

import ipaddress
import socket

import click

__all__ = ["is_loopback", "listen", "url_of"]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        click.UsageError: It cannot be had: the port is in use, the host is not this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:  # the latter: no host could have such a name
        reason = getattr(error, "strerror", None) or error
        raise click.UsageError(f"cannot listen on {host} port {port}: {reason}") from error


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    host = listener.getsockname()[0].partition("%")[0]
    return ipaddress.ip_address(host).is_loopback


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The address in a URL, without a slash at its end."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
