"""What options of several commands must be."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from typing import Any

import click

__all__ = ["addresses", "finite", "where_to_listen"]


def where_to_listen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where a command that serves listens: `host`, `port` and `allow_remote`."""
    remote = click.option(
        "--allow-remote",
        is_flag=True,
        help="Listen where other machines can reach it: they can read everything, for there is no "
        "authentication.",
    )
    port = click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=8000,
        show_default=True,
        help="Port to listen on; 0 takes a free one.",
    )
    host = click.option(
        "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
    )
    return host(port(remote(command)))


def finite(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """A number of seconds that will pass: click's own range lets `inf` and `nan` through."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number of seconds")
    return value


def addresses(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    """IP addresses and networks, with commas between; a mistake would be a name nobody has."""
    found = [each.strip() for each in (value or "").split(",") if each.strip()]
    for each in found:
        try:
            if each != "*":
                ipaddress.ip_network(each)
        except ValueError as error:
            raise click.BadParameter(f"{each!r} is no address and no network: {error}") from error
    return found
