"""The table of commands; the module of a command is imported when the command is used."""

from __future__ import annotations

from importlib import import_module

import click

__all__ = ["tailrace"]

COMMANDS = {
    "demo": "tailrace.cli.demo",
    "serve": "tailrace.cli.serve",
}
"""The name of each command, and the module that has the command under that name."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command


tailrace = _Commands("tailrace", help="Streaming for FastAPI.")
click.version_option(package_name="tailrace")(tailrace)
