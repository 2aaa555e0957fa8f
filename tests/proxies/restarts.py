"""Browsers that listen through proxies while the server restarts; a download delays each restart.

python -m tests.proxies      # both browsers, each proxy, ten restarts: some three minutes
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.browser.chromium import running_chromium
from tests.proxies.running import accepts, process, proxy, wait_until
from tests.servers import HOST, free_port

__all__ = ["Reports", "run_restarts"]

DRAIN = 3
"""Seconds by which the download delays each restart."""
COMING_BACK = 40.0
"""Seconds in which every browser must be back: the drain, the start, and the longest `retry`."""


@dataclass
class Reports:
    """What the pages have reported: the numbers of their events, and which pages have given up."""

    numbers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    gone: set[str] = field(default_factory=set)

    def in_order(self, name: str) -> bool:
        """Whether every event came once. The order of the reports says nothing, because each comes
        on a connection of its own.
        """
        numbers = sorted(self.numbers[name])
        return numbers == list(range(1, len(numbers) + 1))


@contextlib.contextmanager
def reporting() -> Iterator[tuple[Reports, str]]:
    reports = Reports()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = parse_qs(urlsplit(self.path).query)
            name = told.get("from", [""])[0]
            if "number" in told:
                reports.numbers[name].append(int(told["number"][0]))
            elif "gone" in told:
                reports.gone.add(name)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield reports, f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def chromium(urls: list[str]) -> Iterator[None]:
    with running_chromium() as browser:
        for url in urls:
            browser.new_page().goto(url)
        yield


@contextlib.contextmanager
def firefox(urls: list[str]) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="tailrace-firefox-") as folder:
        quiet = {
            "browser.shell.checkDefaultBrowser": "false",
            "browser.aboutwelcome.enabled": "false",
            "datareporting.policy.dataSubmissionEnabled": "false",
            "toolkit.telemetry.enabled": "false",
            "app.update.enabled": "false",
            "network.captive-portal-service.enabled": "false",
            "network.connectivity-service.enabled": "false",
            "browser.tabs.unloadOnLowMemory": "false",
        }
        lines = [f'user_pref("{name}", {value});' for name, value in quiet.items()]
        Path(folder, "user.js").write_text("\n".join(lines))
        command = ["firefox-esr", "--headless", "--no-remote", "--profile", folder, *urls]
        with process(command, {"HOME": folder}):
            yield


BROWSERS = {"chromium": chromium, "firefox": firefox}


def run_restarts(browsers: dict[str, list[str]], restarts: int) -> Reports:
    """Restart a server while pages listen: each browser has a page through each of its proxies.

    Args:
        browsers: The proxies of each browser; "direct" is no proxy.
        restarts: How many restarts; a download delays each of them.
    """
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.apps.restarted:app", f"--host={HOST}"]
    command += [f"--port={port}", "--http=tailrace.server:HttpProtocol"]
    fronts = {name for names in browsers.values() for name in names} - {"direct"}
    with contextlib.ExitStack() as stack:
        reports, url = stack.enter_context(reporting())
        environment = {"REPORTS": url, "TAILRACE_DRAIN_TIMEOUT": str(DRAIN)}
        server = stack.enter_context(contextlib.ExitStack())
        running = server.enter_context(process(command, environment))
        wait_until(lambda: accepts(port), "the server")
        ports = {"direct": port} | {
            name: stack.enter_context(proxy(name, port)) for name in sorted(fronts)
        }
        pages = []
        for browser, names in browsers.items():
            urls = [f"http://{HOST}:{ports[name]}/page?{browser}-{name}" for name in names]
            stack.enter_context(BROWSERS[browser](urls))
            pages += [f"{browser}-{name}" for name in names]
        wait_until(lambda: all(reports.numbers[page] for page in pages), "the pages", 60)
        for _ in range(restarts):
            with socket.create_connection((HOST, port)) as download:
                download.sendall(b"GET /download HTTP/1.1\r\nhost: x\r\n\r\n")
                assert download.recv(1000)
                running.send_signal(signal.SIGTERM)
                running.wait(DRAIN + 5)
            server.close()
            running = server.enter_context(process(command, environment))
            before = {page: len(reports.numbers[page]) for page in pages}
            wait_until(
                lambda before=before: all(
                    page in reports.gone or len(reports.numbers[page]) > before[page] + 1
                    for page in pages
                ),
                "every page back",
                COMING_BACK,
            )
        return reports
