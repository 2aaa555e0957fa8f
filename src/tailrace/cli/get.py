"""`tailrace get`: a file from a URL, whole or not at all."""

from __future__ import annotations

import contextlib
import re
import time
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import click

from tailrace import limits
from tailrace.cli.download import Order, RetryPolicy, Transfer
from tailrace.cli.options import finite
from tailrace.cli.progress import BarWatcher, QuietWatcher
from tailrace.cli.words import human_bytes, printable
from tailrace.errors import DownloadFailed

__all__ = ["get"]

INTERRUPTED = 130

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_OURS = {"accept-encoding", "connection", "if-range", "range", "te", "transfer-encoding"}
"""Headers on which the download itself depends."""


def _url(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    if not good or not value.isprintable() or " " in value:
        raise click.BadParameter(f"{value!r} is not an http or https URL")
    return value


def _headers(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    return tuple(_header(value) for value in values)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    value = value.strip()
    # The value is not repeated in the error: it may be a password.
    if not colon or not _NAME.fullmatch(name):
        raise click.BadParameter('give it as "Name: value"')
    if name.lower() in _OURS:
        raise click.BadParameter(f"{name} is set by the download itself")
    if not value.isascii() or not all(c.isprintable() or c == "\t" for c in value):
        raise click.BadParameter(f"the value of {name} has characters that no header may have")
    return name, value


@click.command()
@click.argument("url", callback=_url)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File, or a directory for it. Default: the server's name for it, here.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, limits.MAX_JOBS),
    default=1,
    show_default=True,
    help="Connections at a time, where the server can serve parts.",
)
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=limits.GET_RETRIES,
    show_default=True,
    help="New attempts in a row that may bring nothing.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=limits.GET_TIMEOUT,
    show_default=True,
    callback=finite,
    help="Seconds without a byte before an attempt is given up.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    callback=_headers,
    metavar="NAME:VALUE",
    help="A header to send to the URL's own server; may be given more than once.",
)
@click.option("--no-resume", is_flag=True, help="Begin anew, whatever an earlier run has left.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--quiet", is_flag=True, help="Write nothing but errors.")
@click.pass_context
def get(
    context: click.Context,
    url: str,
    output: Path | None,
    jobs: int,
    retries: int,
    timeout: float,
    headers: tuple[tuple[str, str], ...],
    no_resume: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Download a file: resumed where it stopped, verified, and put in place when it is whole."""
    directory, target = _place(output)
    order = Order(
        url=url,
        directory=directory,
        target=target,
        headers=headers,
        jobs=jobs,
        timeout=timeout,
        resume=not no_resume,
        force=force,
        retry=RetryPolicy(retries=retries),
    )
    watcher = QuietWatcher() if quiet else BarWatcher()
    began = time.monotonic()
    saved = _run(context, order, watcher)
    if not quiet:
        click.echo(_summary(saved, watcher.received, time.monotonic() - began))


def _place(output: Path | None) -> tuple[Path, Path | None]:
    if output is None:
        return Path(), None
    if str(output) == "-":
        raise click.UsageError("a download goes to a file, not to stdout: give -o a name")
    if output.is_dir():
        return output, None
    if not output.parent.is_dir():
        raise click.UsageError(f"there is no directory {printable(str(output.parent))}")
    return output.parent, output


def _run(context: click.Context, order: Order, watcher: QuietWatcher) -> Path:
    transfer = Transfer(order, watcher, agent=f"tailrace/{version('tailrace')}")
    try:
        with watcher if isinstance(watcher, BarWatcher) else contextlib.nullcontext():
            return anyio.run(transfer.run)
    except KeyboardInterrupt:
        click.echo(f"tailrace: {_sentence('interrupted', transfer.kept)}", err=True)
        context.exit(INTERRUPTED)
    except DownloadFailed as error:
        raise click.ClickException(_sentence(str(error), transfer.kept)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        said = f"{where}{error.strerror or error}"
        raise click.ClickException(_sentence(said, transfer.kept)) from error


def _sentence(said: str, kept: str) -> str:
    return printable(f"{said} ({kept})" if kept else said)


def _summary(saved: Path, received: int, seconds: float) -> str:
    rate = human_bytes(received / seconds) if seconds > 0 else "0 B"
    return f"{printable(str(saved))}: {human_bytes(received)} in {seconds:.1f} s, {rate}/s"
