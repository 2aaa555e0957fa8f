"""`tailrace serve`: a directory and streams over HTTP, on uvicorn with our own protocol."""

from __future__ import annotations

import math
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import uvicorn

from tailrace import limits
from tailrace.app import ANY_HOST, LOOPBACK_HOSTS, STREAMS, Settings, send_timeout_of
from tailrace.cli import printable
from tailrace.cli.listening import addresses, finite, listen, url_of, where_to_listen
from tailrace.cli.processes import log_config, run
from tailrace.errors import InvalidOption
from tailrace.files import POSSIBLE
from tailrace.store import open_store

__all__ = ["serve"]

_APP = "tailrace.app:create_served"
_HTTP = "tailrace.server:HttpProtocol"

_HEALTHY = 10
"""Seconds in which a worker has to answer its supervisor; a dead one is noticed at once."""

_LEVELS = ("critical", "error", "warning", "info", "debug")


@click.command()
@click.argument(
    "directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path()
)
@where_to_listen
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that serve."
)
@click.option(
    "--root-path",
    default="",
    help="Path under which a proxy in front serves this server, such as /downloads. The proxy must "
    "remove it from the path of each request.",
)
@click.option(
    "--forwarded-allow-ips",
    metavar="ADDRESSES",
    callback=addresses,
    help="Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed: IP addresses and "
    "networks (10.0.0.0/8), with commas between; * is any. [default: none]",
)
@click.option(
    "--ssl-certfile",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificate (PEM), with the chain: serves https.",
)
@click.option(
    "--ssl-keyfile",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its private key (PEM), if not in the same file.",
)
@click.option(
    "--log-level",
    type=click.Choice(_LEVELS),
    default="info",
    show_default=True,
    help="Lowest level that is logged; the access log is at info.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0),
    default=limits.DRAIN_TIMEOUT,
    show_default=True,
    callback=finite,
    help="Seconds that open responses may take to end when the server stops.",
)
@click.option(
    "--store",
    metavar="URL",
    help="Where streams are kept: sqlite:///PATH or memory://. "
    "[default: .tailrace/streams.db in DIRECTORY]",
)
@click.option(
    "--long-poll-timeout",
    type=click.FloatRange(0, min_open=True),
    default=limits.LONG_POLL_TIMEOUT,
    show_default=True,
    callback=finite,
    help="Seconds that a long-poll waits for data.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    metavar="ORIGIN",
    multiple=True,
    help="A web origin whose pages may use the streams, such as https://example.org; * is any. "
    "May be given several times.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="A name by which clients may call the server; * is any. May be given several times. "
    "[default: the names of this machine's loopback; any, with --allow-remote]",
)
@click.option(
    "--public-url",
    metavar="URL",
    help="URL of the streams that receivers of webhooks get, such as "
    "https://example.org/v1/stream. [default: the URL by which the client made the subscription]",
)
@click.option(
    "--webhooks-to-localhost",
    is_flag=True,
    help="Allow webhooks of subscriptions to this machine: for development.",
)
@click.pass_context
def serve(
    context: click.Context,
    directory: Path,
    host: str,
    port: int,
    allow_remote: bool,
    workers: int,
    root_path: str,
    forwarded_allow_ips: list[str],
    ssl_certfile: Path | None,
    ssl_keyfile: Path | None,
    log_level: str,
    drain_timeout: float,
    store: str | None,
    long_poll_timeout: float,
    cors_origins: tuple[str, ...],
    allowed_hosts: tuple[str, ...],
    public_url: str | None,
    webhooks_to_localhost: bool,
) -> None:
    """Serve DIRECTORY (this one, if none is given) under /files/, and streams under /v1/stream/."""
    # Before all else: SIGTERM asks a server to end, and to obey it is never a failure.
    signal.signal(signal.SIGTERM, _end_well)
    if not POSSIBLE:
        raise click.UsageError("serve runs on Linux and macOS: on Windows, start it in WSL")
    if not allowed_hosts:
        allowed_hosts = (ANY_HOST,) if allow_remote else (*LOOPBACK_HOSTS, _in_url(host))
    settings = _settings(
        directory=directory,
        store=store,
        long_poll_timeout=long_poll_timeout,
        cors_origins=cors_origins,
        allowed_hosts=allowed_hosts,
        public_url=public_url,
        webhooks_to_localhost=webhooks_to_localhost,
    )
    _check_store(settings, workers)
    _check_root_path(root_path)
    _check_certificate(ssl_certfile, ssl_keyfile)
    with listen(host, port, allow_remote=allow_remote) as listener:
        # Only the environment reaches the workers, and the protocol's class when it is imported.
        os.environ.update(settings.environment(), TAILRACE_DRAIN_TIMEOUT=str(drain_timeout))
        config = uvicorn.Config(
            _APP,
            factory=True,
            http=_HTTP,
            workers=workers,
            root_path=root_path.rstrip("/"),
            # By default uvicorn would trust any proxy on this machine, and the environment.
            proxy_headers=bool(forwarded_allow_ips),
            forwarded_allow_ips=forwarded_allow_ips,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            log_config=log_config(log_level),
            log_level=log_level,
            access_log=False,
            server_header=False,
            # More than a start takes on a busy machine: after this, a worker is killed.
            timeout_worker_healthcheck=_HEALTHY,
            # The last resort, for what did not end even when its connection was cut.
            timeout_graceful_shutdown=math.ceil(drain_timeout + limits.CLEANUP_TIMEOUT),
        )
        scheme = "https" if config.is_ssl else "http"
        url = url_of(listener, scheme)
        # Not to stdout, which belongs to the access log.
        click.echo(
            f"Serving {printable(str(directory.absolute()))} on {url}/files/ "
            f"and streams on {url}{STREAMS}/ (Ctrl-C stops it)",
            err=True,
        )
        if config.root_path:
            click.echo(
                f"The proxy in front must remove {config.root_path} from the path: "
                f"here {config.root_path}/files/ is /files/",
                err=True,
            )
        run(config, listener)


def _end_well(number: int, frame: object) -> NoReturn:
    sys.exit(0)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _settings(**given: Any) -> Settings:
    try:
        return Settings(send_timeout=send_timeout_of(os.environ), **given)
    except InvalidOption as error:
        raise click.UsageError(str(error)) from error


def _check_store(settings: Settings, workers: int) -> None:
    try:
        open_store(settings.store_url)  # checks only the URL, and touches no file
    except InvalidOption as error:
        raise click.UsageError(str(error)) from error
    if _is_shown(settings):
        raise click.UsageError(
            f"--store {settings.store_url} is in the directory that is served, and /files/ cannot "
            "recognise a store that is damaged: put it elsewhere, or below a name that begins with "
            "a dot"
        )
    if workers > 1 and settings.store_url.startswith("memory:"):
        raise click.UsageError(
            "--store memory:// cannot be shared by processes: it needs --workers 1"
        )


def _is_shown(settings: Settings) -> bool:
    """Whether the store's file is in the directory that is served, not below a dotted name."""
    _, sqlite, path = settings.store_url.partition("sqlite:///")
    if not sqlite:
        return False
    directory, file = settings.directory.resolve(), Path(path).resolve()
    if not file.is_relative_to(directory):
        return False
    return not any(part.startswith(".") for part in file.relative_to(directory).parts)


def _check_root_path(root_path: str) -> None:
    plain = root_path.isascii() and root_path.isprintable() and " " not in root_path
    if root_path and not (root_path.startswith("/") and plain):
        raise click.UsageError(f"--root-path {root_path!r} must begin with /, such as /downloads")


def _check_certificate(certificate: Path | None, key: Path | None) -> None:
    if certificate is None:
        if key is not None:
            raise click.UsageError("--ssl-keyfile needs --ssl-certfile")
        return
    try:
        # As uvicorn does later; but here a mistake is one line, and no password is asked for.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise click.UsageError(
            f"--ssl-certfile {certificate} cannot be used with its key: {reason}"
        ) from error
