"""What options of several commands must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

__all__ = ["finite", "host_and_port"]


def host_and_port(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where a command that serves listens: `host` and `port`."""
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
    return host(port(command))


def finite(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """A number of seconds that will pass: click's own range lets `inf` and `nan` through."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number of seconds")
    return value
