"""The command `tailrace`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]

WRONG_USE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `tailrace` and leave the process with its exit code.

    Args:
        arguments: What follows the command's name; None takes `sys.argv`.

    Raises:
        SystemExit: Always: 0 if all went well, 2 with one line on stderr for a wrong use.
    """
    try:
        import click

        from tailrace.cli.demo import demo
    except ModuleNotFoundError as missing:
        if missing.name not in {"click", "uvicorn"}:
            raise
        _fail(f'{missing.name} is not installed: pip install "tailrace[server]"')

    tailrace = click.Group("tailrace", commands=[demo], help="Streaming for FastAPI.")
    click.version_option(package_name="tailrace")(tailrace)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # click's own handling would print three lines of usage before the one that matters.
        code = tailrace.main(given or ["--help"], prog_name="tailrace", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    sys.exit(code)


def _fail(message: str) -> NoReturn:
    print("tailrace:", " ".join(message.split()), file=sys.stderr)
    sys.exit(WRONG_USE)
