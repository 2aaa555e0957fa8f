"""Real proxies, each a process of its own in front of a server."""

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
    # As they are.
    "nginx-plain": "nginx-plain.conf",
    "caddy-plain": "Caddyfile-plain",
    "caddy-flush": "Caddyfile-flush",
    "haproxy-plain": "haproxy-plain.cfg",
    "haproxy-http2": "haproxy-http2.cfg",
    "varnish-plain": "varnish-plain.vcl",
    "apache-plain": "apache-plain.conf",
    # With a cache; Varnish is one.
    "nginx-cache": "nginx-cache.conf",
}
"""The configuration of each way to set up a proxy, whose name is before the dash."""
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
    """A proxy in front of what listens on `upstream`; gives its port.

    Args:
        name: Of `CONFIGS`.
        upstream: The server's port.
        caddy: Another program than the `caddy` on the path.
    """
    config, command = CONFIGS[name], _COMMANDS[name.partition("-")[0]]
    if caddy and command[0] == "caddy":
        command = [caddy, *command[1:]]
    port = free_port()
    with tempfile.TemporaryDirectory(prefix=f"tailrace-{name}-") as folder:
        Path(folder).chmod(0o755)
        Path(folder, "away").write_text("retry: 1000\n\n")  # what Apache answers meanwhile
        values = {"folder": folder, "port": port, "upstream": upstream}
        path = Path(folder, config)
        path.write_text((HERE / config).read_text().format(**values))
        arguments = [part.format(config=path, **values) for part in command]
        with process(arguments, {"HOME": folder, "XDG_DATA_HOME": folder}):
            wait_until(lambda: accepts(port), name)
            yield port
