"""Real proxies, each in a process of its own and in front of a server."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.servers import HOST, ROOT, free_port, stop

__all__ = ["CONFIGS", "PROXIES", "accepts", "process", "proxy", "wait_until"]

HERE = Path(__file__).parent

_COMMANDS = {
    "nginx": ["nginx", "-c", "{config}", "-e", "{folder}/nginx.log"],
    "caddy": ["caddy", "run", "--config", "{config}", "--adapter", "caddyfile"],
    "haproxy": ["haproxy", "-db", "-f", "{config}"],
    "varnish": [
        *("varnishd", "-F", "-a", "127.0.0.1:{port}", "-f", "{config}", "-n", "{folder}/varnish"),
    ],
    "apache": ["apache2", "-D", "FOREGROUND", "-f", "{config}"],
}
CONFIGS = {
    # As docs/production.md advises.
    "nginx": "nginx.conf",
    "caddy": "Caddyfile",
    "haproxy": "haproxy.cfg",
    "varnish": "varnish.vcl",
    "apache": "apache.conf",
    # With the proxy's defaults, or with a single setting.
    "nginx-plain": "nginx-plain.conf",
    "caddy-plain": "Caddyfile-plain",
    "caddy-flush": "Caddyfile-flush",
    "haproxy-plain": "haproxy-plain.cfg",
    "haproxy-http2": "haproxy-http2.cfg",
    "varnish-plain": "varnish-plain.vcl",
    "apache-plain": "apache-plain.conf",
    # With a cache. Varnish always is one.
    "nginx-cache": "nginx-cache.conf",
}
"""The configuration file of each setup. The name before the dash is the proxy's."""
PROXIES = ("nginx", "caddy", "haproxy", "varnish", "apache")
_SBIN = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


@contextlib.contextmanager
def process(
    command: list[str], env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": _SBIN, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        stop(started)


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


def wait_until(true: object, what: str, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():  # type: ignore[operator] # a callable
        if time.monotonic() > until:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


@contextlib.contextmanager
def proxy(name: str, upstream: int, caddy: str = "") -> Iterator[int]:
    """A proxy in front of a server, while the block runs. Yields the proxy's port.

    Args:
        name: A name of `CONFIGS`.
        upstream: The server's port.
        caddy: The path of a Caddy that is used instead of the one in PATH.
    """
    config, command = CONFIGS[name], _COMMANDS[name.partition("-")[0]]
    if caddy and command[0] == "caddy":
        command = [caddy, *command[1:]]
    port = free_port()
    with tempfile.TemporaryDirectory(prefix=f"tailrace-{name}-") as folder:
        Path(folder).chmod(0o755)
        Path(folder, "away").write_text("retry: 1000\n\n")  # Apache's answer without a server
        values = {"folder": folder, "port": port, "upstream": upstream}
        path = Path(folder, config)
        path.write_text((HERE / config).read_text().format(**values))
        arguments = [part.format(config=path, **values) for part in command]
        with process(arguments, {"HOME": folder, "XDG_DATA_HOME": folder}):
            wait_until(lambda: accepts(port), name)
            yield port
