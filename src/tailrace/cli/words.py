"""How the command writes: one line, nothing in it that could drive a terminal."""

from __future__ import annotations

__all__ = ["human_bytes", "printable"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def printable(text: str) -> str:
    """The text on one line, with what cannot be printed escaped as Python would."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def human_bytes(count: float) -> str:
    """A number of bytes as a person reads it: "1.5 MiB"."""
    power = 0
    while count >= 1024 and power < len(_UNITS) - 1:
        count /= 1024
        power += 1
    return f"{count:.0f} B" if power == 0 else f"{count:.1f} {_UNITS[power]}"
