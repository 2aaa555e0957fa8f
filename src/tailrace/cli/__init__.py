"""The command `tailrace`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main", "printable"]

WRONG_USE = 2
INTERRUPTED = 130

NEEDED = {"click", "httptools", "uvicorn"}
"""What the extra "server" installs."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `tailrace` and leave the process with its exit code.

    Args:
        arguments: What follows the command's name; None takes `sys.argv`.

    Raises:
        SystemExit: Always. 0: all went well. 1: something failed, or 2: the command was used
            wrongly, each with one line on stderr. 130: Ctrl-C.
    """
    try:
        sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))
    except ModuleNotFoundError as missing:
        if missing.name not in NEEDED:
            raise
        _fail(f'{missing.name} is not installed: pip install "tailrace[server]"', WRONG_USE)


def _run(arguments: list[str]) -> int:
    import click

    from tailrace.cli.commands import tailrace

    try:
        # In standalone mode click would print three lines of usage before the one that matters.
        code = tailrace.main(arguments or ["--help"], prog_name="tailrace", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return code or 0  # None: the command came to its end


def _fail(message: str, code: int) -> NoReturn:
    print("tailrace:", printable(message), file=sys.stderr)
    sys.exit(code)


def printable(text: str) -> str:
    """The text on one line; characters that cannot be printed are escaped as in Python."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
