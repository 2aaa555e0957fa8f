"""Both browsers behind every proxy, ten restarts."""

import click

from tests.proxies.restarts import run_restarts
from tests.proxies.running import PROXIES

RESTARTS = 10


def main() -> None:
    ways = ["direct", *PROXIES]
    reports = run_restarts({"chromium": ways, "firefox": ways}, RESTARTS)
    click.echo("| page | events | came back each time | every event once |")
    click.echo("|---|---|---|---|")
    for page, numbers in sorted(reports.numbers.items()):
        back = "no" if page in reports.gone else "yes"
        once = "yes" if reports.in_order(page) else "no"
        click.echo(f"| {page} | {len(numbers)} | {back} | {once} |")


if __name__ == "__main__":
    main()
