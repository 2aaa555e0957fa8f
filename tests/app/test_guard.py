"""Who may call a server that asks nobody who it is: by Host and by Origin."""

from __future__ import annotations

import pytest
from starlette.types import Scope

from tailrace.app import LOOPBACK_HOSTS
from tailrace.app.guard import HostGuard


def asked(method: str, host: str, origin: str | None = None) -> Scope:
    headers = [(b"host", host.encode("latin-1"))]
    if origin is not None:
        headers.append((b"origin", origin.encode("latin-1")))
    return {"type": "http", "method": method, "path": "/", "headers": headers}


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"]
)
def test_the_names_of_loopback_may_be_called(host: str) -> None:
    assert HostGuard(LOOPBACK_HOSTS, ()).refusal(asked("GET", host)) is None


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::2]"]
)
def test_a_name_that_is_not_ours_is_misdirected(host: str) -> None:
    refusal = HostGuard(LOOPBACK_HOSTS, ()).refusal(asked("GET", host))
    assert refusal is not None
    assert (refusal.status, refusal.code) == (421, "host_not_allowed")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("root", ["", "/downloads"])
@pytest.mark.parametrize("host", ["10.4.0.7:8000", "pod-7.local", "[fd00::7]:8000", "", None])
def test_a_health_check_may_call_by_any_name_or_none(
    path: str, root: str, host: str | None
) -> None:
    guard = HostGuard(LOOPBACK_HOSTS, ())
    scope = {**asked("GET", host or ""), "path": root + path, "root_path": root}
    if host is None:
        scope["headers"] = []
    assert guard.refusal(scope) is None
    assert guard.refusal({**scope, "path": root + path + "/more"}) is not None
    assert guard.refusal({**scope, "method": "POST"}) is not None


def test_a_name_with_control_characters_is_told_escaped() -> None:
    refusal = HostGuard(LOOPBACK_HOSTS, ()).refusal(asked("GET", "evil\x1b[31m\xe9"))
    assert refusal is not None
    assert refusal.detail.isascii()
    assert refusal.detail.isprintable()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_page_of_another_site_may_not_write(method: str) -> None:
    request = asked(method, "localhost:8000", "https://evil.example")
    refusal = HostGuard(("*",), ()).refusal(request)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (403, "origin_not_allowed")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_who_reads_is_left_to_the_browsers_own_rules(method: str) -> None:
    request = asked(method, "localhost:8000", "https://other.example")
    assert HostGuard(("*",), ()).refusal(request) is None


@pytest.mark.parametrize("origin", [None, "http://localhost:8000", "https://localhost:8000"])
def test_the_servers_own_pages_and_programs_may_write(origin: str | None) -> None:
    assert HostGuard(LOOPBACK_HOSTS, ()).refusal(asked("POST", "localhost:8000", origin)) is None


@pytest.mark.parametrize("origin", ["null", "http://localhost:8001", "http://localhost"])
def test_what_only_looks_like_our_own_may_not_write(origin: str) -> None:
    assert (
        HostGuard(LOOPBACK_HOSTS, ()).refusal(asked("POST", "localhost:8000", origin)) is not None
    )


@pytest.mark.parametrize("origins", [("https://app.example",), ("*",)])
def test_an_origin_that_is_allowed_may_write(origins: tuple[str, ...]) -> None:
    request = asked("POST", "localhost:8000", "https://app.example")
    assert HostGuard(("*",), origins).refusal(request) is None


@pytest.mark.parametrize("path", ["/", "/healthz"])
@pytest.mark.parametrize("hosts", [("localhost", "evil.example"), ("evil.example", "localhost")])
def test_two_hosts_are_refused_whatever_they_are(hosts: tuple[str, str], path: str) -> None:
    scope = asked("GET", hosts[0])
    scope["headers"].append((b"host", hosts[1].encode()))
    scope["path"] = path
    refusal = HostGuard(("*",), ()).refusal(scope)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, "host_not_clear")


def test_two_origins_are_none_of_ours() -> None:
    scope = asked("POST", "localhost", "https://evil.example")
    scope["headers"].append((b"origin", b"http://localhost"))
    refusal = HostGuard(LOOPBACK_HOSTS, ()).refusal(scope)
    assert refusal is not None
    assert refusal.status == 403


def test_a_request_with_two_hosts_is_refused_though_any_may_be_called() -> None:
    request = asked("GET", "localhost")
    request["headers"].append((b"host", b"evil.example"))
    refusal = HostGuard(("*",), ()).refusal(request)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, "host_not_clear")
