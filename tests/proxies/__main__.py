"""Measurements with real proxies that take longer than a test may; they are run by hand."""

from __future__ import annotations

from typing import get_args

import click

from tests.proxies.restarts import run_restarts
from tests.proxies.running import PROXIES
from tests.proxies.table import SETUPS, lines_of, measure
from tests.servers import ServerName

RESTARTS = 10
SERVERS: tuple[ServerName, ...] = (
    "uvicorn-tailrace",
    "uvicorn",
    "uvicorn-h11",
    "granian",
    "hypercorn",
)


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Run ten restarts, with both browsers behind every proxy; or `table`."""
    if context.invoked_subcommand is None:
        restarts()


def restarts() -> None:
    ways = ["direct", *PROXIES]
    reports = run_restarts({"chromium": ways, "firefox": ways}, RESTARTS)
    click.echo("| page | events | came back each time | every event once |")
    click.echo("|---|---|---|---|")
    for page, numbers in sorted(reports.numbers.items()):
        back = "no" if page in reports.gone else "yes"
        once = "yes" if reports.in_order(page) else "no"
        click.echo(f"| {page} | {len(numbers)} | {back} | {once} |")


@main.command()
@click.option("--server", "servers", multiple=True, type=click.Choice(get_args(ServerName)))
@click.option("--setup", "setups", multiple=True, type=click.Choice(SETUPS))
@click.option("--caddy", default="", help="Another program than the one on the path.")
def table(servers: tuple[ServerName, ...], setups: tuple[str, ...], caddy: str) -> None:
    """Measure what happens to a stream behind each proxy, and print the tables."""
    rows = [
        row
        for server in servers or SERVERS
        for row in measure(server, setups or SETUPS, caddy=caddy)
    ]
    for line in lines_of(rows):
        click.echo(line)


if __name__ == "__main__":
    main()
