"""What options of several commands must be."""

from __future__ import annotations

import math

import click

__all__ = ["finite"]


def finite(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """A number of seconds that will pass: click's own range lets `inf` and `nan` through."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number of seconds")
    return value
