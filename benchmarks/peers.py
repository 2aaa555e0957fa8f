"""Other servers: nginx (with Nchan, if installed), granian, and that of Durable Streams.

Each is started here with one worker, its own configuration and a free port of the loopback, and is
ended here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.server import ROOT, Housed, Server

__all__ = [
    "NOT_INSTALLED",
    "Granian",
    "Nginx",
    "NodeServer",
    "has_granian",
    "has_nchan",
    "has_nginx",
    "has_node_server",
    "nginx_version",
    "node_server_version",
]

NOT_INSTALLED: Final = "not installed"
"""What a row says instead of numbers if a peer is missing."""

ELSEWHERE: Final = "/usr/sbin"
"""The directory of Debian's nginx; only root has it in its PATH."""

_NODE: Final = ROOT / ".cache" / "node"

_CONFIGURATION: Final = """\
{module}
{user}
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""
"""As Debian's nginx.conf (sendfile, tcp_nopush), but without an access log, as on our side."""


class Nginx(Housed):
    """nginx with one worker.

    Args:
        locations: The `location` blocks of its `server` block.
        nchan: Load Nchan.
    """

    def __init__(self, locations: str, *, nchan: bool = False) -> None:
        super().__init__("nginx")
        self._locations = locations
        self._nchan = nchan

    def _command(self) -> list[str]:
        text = _CONFIGURATION.format(
            module=f"load_module {_nchan_module()};" if self._nchan else "",
            # As root, nginx runs its worker as the user nobody, which cannot read our files.
            user="user root;" if os.geteuid() == 0 else "",
            folder=self.folder,
            port=self.port,
            locations=self._locations,
        )
        path = self.folder / "nginx.conf"
        path.write_text(text)
        return [_nginx() or "nginx", "-p", str(self.folder), "-e", "stderr", "-c", str(path)]


class Granian(Server):
    """granian with one worker and without a log; `app` is "module:attribute", as for uvicorn."""

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1"]
        return [*command, "--port", str(self.port), "--workers", "1", "--no-log", self.app]


class NodeServer(Housed):
    """The reference server of Durable Streams, `@durable-streams/server`, with its file store."""

    def __init__(self) -> None:
        super().__init__("@durable-streams/server")

    def _command(self) -> list[str]:
        script = Path(__file__).with_name("node_server.mjs")
        return [str(_NODE / "bin" / "node"), str(script), str(self.port), str(self.folder)]


def has_nginx() -> bool:
    return _nginx() is not None


def has_nchan() -> bool:
    module = _nchan_module()
    return module is not None and module.exists()


def has_granian() -> bool:
    return find_spec("granian") is not None


def has_node_server() -> bool:
    return node_server_version() is not None


def node_server_version() -> str | None:
    """The reference server's version, as scripts/install-node-packages.sh has installed it; None if
    it is not installed.
    """
    described = _NODE / "node_modules" / "@durable-streams" / "server" / "package.json"
    if not described.exists():
        return None
    version: str = json.loads(described.read_text())["version"]
    return version


def nginx_version() -> str | None:
    """nginx's version, followed by "with Nchan" if that is installed; None if nginx is not."""
    found = re.search(r"nginx/(\S+)", _told())
    if found is None:
        return None
    return f"{found[1]} with Nchan" if has_nchan() else found[1]


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path=ELSEWHERE)


def _nchan_module() -> Path | None:
    found = re.search(r"--modules-path=(\S+)", _told())
    return None if found is None else Path(found[1], "ngx_nchan_module.so")


def _told() -> str:
    """What `nginx -V` prints: its version and how it was built; "" if it is not installed."""
    program = _nginx()
    if program is None:
        return ""
    return subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stderr
