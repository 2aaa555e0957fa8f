"""One webhook: what it connects to."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tailrace import limits
from tailrace.subscriptions import SubscriptionOptions
from tailrace.subscriptions.target import Target
from tailrace.subscriptions.webhook import Undeliverable, Webhooks
from tailrace.testing import Clock
from tests.subscriptions.world import LOCAL, Receiver, receiver

pytestmark = pytest.mark.anyio


class Names:
    """A resolver whose answers change."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0)


async def post(webhooks: Webhooks, url: str) -> bytes:
    try:
        with anyio.fail_after(10):
            return await webhooks.post(url, b"{}", "t=1")
    finally:
        await webhooks.aclose()


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["93.184.215.14", "127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%eth0"],
        ["169.254.169.254"],
        [],
    ],
)
async def test_a_name_with_one_bad_address_is_not_connected_to(addresses: list[str]) -> None:
    with receiver() as box:
        names = Names(addresses)
        with pytest.raises(Undeliverable, match="not allowed"):
            await post(Webhooks(LOCAL, names), f"https://rebind.example:{box.port}/")
        assert box.received == []
        assert names.asked == [("rebind.example", box.port)]


async def test_a_name_that_is_not_resolved_in_time_is_given_up(clock: Clock) -> None:
    asked = anyio.Event()

    async def silent(_host: str, _port: int) -> Sequence[str]:
        asked.set()
        await anyio.sleep_forever()
        return ()

    reasons: list[str] = []

    async def post_it() -> None:
        webhooks = Webhooks(LOCAL, silent)
        with pytest.raises(Undeliverable) as caught:
            await webhooks.post("http://localhost:9/", b"{}", "t=1")
        reasons.append(str(caught.value))
        await webhooks.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(post_it)
        await asked.wait()
        await clock.advance(limits.WEBHOOK_CONNECT_TIMEOUT - 0.01)
        assert reasons == []
        await clock.advance(0.02)
    assert "cannot be resolved" in reasons[0]


async def test_a_name_is_resolved_once_and_the_connection_goes_to_that_address() -> None:
    with receiver() as box:
        # Asked a second time it would name a server where nobody listens.
        names = Names(["127.0.0.1"], ["127.0.0.9"])
        url = f"http://localhost:{box.port}/hook"
        assert await post(Webhooks(LOCAL, names), url) == b"{}"
        assert len(names.asked) == 1
        assert box.received[0].headers["Host"] == f"localhost:{box.port}"


async def test_localhost_that_resolves_elsewhere_is_not_connected_to() -> None:
    with pytest.raises(Undeliverable, match="not allowed"):
        await post(Webhooks(LOCAL, Names(["93.184.215.14"])), "http://localhost:9/")


async def test_the_next_address_is_tried_where_one_refuses() -> None:
    with receiver() as box:
        names = Names(["127.0.0.9", "127.0.0.1"])
        assert await post(Webhooks(LOCAL, names), f"http://localhost:{box.port}/") == b"{}"


async def test_a_name_that_does_not_resolve_is_undeliverable() -> None:
    async def nowhere(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(Undeliverable, match="resolved"):
        await post(Webhooks(LOCAL, nowhere), "https://gone.example/")


async def test_nobody_listening_is_undeliverable() -> None:
    with receiver() as box:
        port = box.port
    with pytest.raises(Undeliverable):
        await post(Webhooks(LOCAL), f"http://127.0.0.1:{port}/")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hooks.example that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def secure(authority: Path) -> Iterator[tuple[Receiver, list[str | None]]]:
    """A receiver behind TLS, and the server names that clients asked for."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with receiver(tls=context) as box:
        yield box, asked


class Nearby(Webhooks):
    """Takes this machine's address for a public one: where a name leads is judged elsewhere."""

    async def _addresses_of(self, target: Target) -> Sequence[str]:
        return ["127.0.0.1"]


async def test_tls_is_for_the_name_though_the_connection_is_to_the_address(
    secure: tuple[Receiver, list[str | None]], authority: Path
) -> None:
    box, asked = secure
    options = SubscriptionOptions(ssl_context=ssl.create_default_context(cafile=str(authority)))
    answer = await post(Nearby(options), f"https://hooks.example:{box.port}/hook")
    assert answer == b"{}"
    assert asked == ["hooks.example"]
    assert box.received[0].headers["Host"] == f"hooks.example:{box.port}"


async def test_a_certificate_of_another_name_is_refused(
    secure: tuple[Receiver, list[str | None]], authority: Path
) -> None:
    box, _ = secure
    options = SubscriptionOptions(ssl_context=ssl.create_default_context(cafile=str(authority)))
    with pytest.raises(Undeliverable):
        await post(Nearby(options), f"https://other.example:{box.port}/hook")
    assert box.received == []
