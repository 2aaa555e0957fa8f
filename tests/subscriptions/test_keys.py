"""Keys in the store, and tokens."""

from __future__ import annotations

import json

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tailrace import limits
from tailrace.errors import SubscriptionRefused
from tailrace.store import MemoryStore
from tailrace.subscriptions import SubscriptionOptions
from tailrace.subscriptions.keys import (
    KEYS,
    Keys,
    SigningKey,
    decode_bytes,
    encode_bytes,
    kid_of,
    make_token,
    read_token,
)
from tailrace.subscriptions.repository import JsonCell
from tailrace.subscriptions.state import Config, SubscriptionState
from tailrace.subscriptions.transitions import TokenClaims
from tests.subscriptions.world import world

pytestmark = pytest.mark.anyio

DAY = limits.OLD_KEY_LIFETIME * 1000


async def opened(store: MemoryStore, seed: bytes | None = None, now: int = 0) -> Keys:
    keys = Keys(store, seed, lambda: now)
    await keys.open()
    return keys


async def kids(keys: Keys) -> list[str]:
    return [each["kid"] for each in (await keys.jwks())["keys"]]


async def test_the_key_is_made_once_and_stays_over_restarts() -> None:
    store = MemoryStore()
    first = await opened(store)
    second = await opened(store)
    assert (await first.signing()).kid == (await second.signing()).kid
    assert first.secret == second.secret
    assert len(first.secret) == 32


async def test_processes_that_start_together_agree_on_one_key() -> None:
    store = MemoryStore()
    made: list[Keys] = []

    async def start() -> None:
        made.append(await opened(store))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(start)
    assert len({(await keys.signing()).kid for keys in made}) == 1
    assert len({keys.secret for keys in made}) == 1
    assert len(await kids(made[0])) == 1


async def test_a_given_key_signs_and_is_not_written_down() -> None:
    store = MemoryStore()
    seed = bytes(range(32))
    keys = await opened(store, seed)
    assert (await keys.signing()).kid == SigningKey(seed).kid
    found = await JsonCell(store, KEYS).read()
    assert found is not None
    assert encode_bytes(seed) not in json.dumps(found[0])


async def test_an_old_key_stays_published_for_a_day_after_another_took_its_place() -> None:
    store = MemoryStore()
    old = await opened(store)
    new = await opened(store, b"n" * 32, now=5000)
    both = {(await keys.signing()).kid for keys in (old, new)}
    assert len(both) == 2
    assert set(await kids(new)) == both
    assert set(await kids(await opened(store, b"n" * 32, now=5000 + DAY))) == both
    later = await opened(store, b"n" * 32, now=5001 + DAY)
    assert await kids(later) == [(await new.signing()).kid]


async def test_keys_that_change_every_hour_stay_published_for_a_day() -> None:
    store = MemoryStore()
    hour = 60 * 60 * 1000
    made = []
    for n in range(72):
        made.append(keys := await opened(store, bytes([n]) * 32, now=n * hour))
    signed = [(await each.signing()).kid for each in made]
    assert await kids(keys) == signed[: -1 - 26 : -1]  # the last was replaced a day ago
    stored = await JsonCell(store, KEYS).read()
    assert stored is not None
    assert len(stored[0]["keys"]) == 26


async def test_so_many_keys_are_kept_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.limits.MAX_SIGNING_KEYS", 3)
    store = MemoryStore()
    made = [await opened(store, bytes([n]) * 32) for n in range(5)]
    signed = [(await each.signing()).kid for each in made]
    assert await kids(made[-1]) == signed[:1:-1]


async def test_a_process_with_the_old_key_publishes_it_while_it_runs() -> None:
    store = MemoryStore()
    now = 0
    old = Keys(store, b"o" * 32, lambda: now)
    await old.open()
    await opened(store, b"n" * 32)
    now = 2 * DAY
    assert (await old.signing()).kid in await kids(old)


async def test_without_the_given_key_a_new_one_is_made() -> None:
    store = MemoryStore()
    given = await opened(store, b"g" * 32)
    made = await opened(store)
    assert (await made.signing()).kid != (await given.signing()).kid
    assert made.secret == given.secret


async def test_a_signature_is_of_the_time_and_the_exact_body() -> None:
    key = SigningKey(bytes(32))
    header = key.sign(b'{"a": 1}', 1_700_000_000)
    time, kid, signature = (part.partition("=")[2] for part in header.split(","))
    assert (time, kid) == ("1700000000", key.kid)
    public = Ed25519PublicKey.from_public_bytes(decode_bytes(key.public))
    public.verify(decode_bytes(signature), b'1700000000.{"a": 1}')


def test_a_kid_is_the_thumbprint_of_the_key() -> None:
    # RFC 8037 A.3.
    assert (
        kid_of("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
        == "ds_kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    )


async def test_the_keys_may_be_cached_and_name_no_secret() -> None:
    async with world(options=SubscriptionOptions(signing_key=bytes(range(32)))) as w:
        answer = await w.ask("GET", "jwks.json")
        assert answer.headers["content-type"] == "application/jwk-set+json"
        assert answer.headers["cache-control"] == "public, max-age=300"
        (key,) = answer.json["keys"]
        assert set(key) == {"kty", "crv", "kid", "use", "alg", "x"}
        assert (key["kty"], key["crv"], key["use"], key["alg"]) == (
            "OKP",
            "Ed25519",
            "sig",
            "EdDSA",
        )


# Tokens


def subscription() -> SubscriptionState:
    config = Config("webhook", "e/*", (), "https://example.com/", None, 1000, None)
    return SubscriptionState(
        id="sübscription",
        nonce="n1",
        version=1,
        config=config,
        base_url="",
        created_at=0,
        generation=7,
    )


def code_of(token: str, name: str = "sübscription", now: int = 0, secret: bytes = b"k") -> str:
    with pytest.raises(SubscriptionRefused) as caught:
        read_token(secret, token, name, now)
    assert caught.value.status == 401
    return caught.value.wire_code


def test_a_token_says_of_which_wake_it_is() -> None:
    token = make_token(b"k", subscription(), 0)
    assert read_token(b"k", token, "sübscription", 0) == TokenClaims("n1", 7)


def test_a_token_ends() -> None:
    token = make_token(b"k", subscription(), 500)
    end = limits.WAKE_TOKEN_LIFETIME * 1000
    assert read_token(b"k", token, "sübscription", end - 1)
    assert code_of(token, now=end) == "TOKEN_EXPIRED"


def test_a_token_of_another_subscription_or_secret_is_refused() -> None:
    token = make_token(b"k", subscription(), 0)
    assert code_of(token, name="other") == "TOKEN_INVALID"
    assert code_of(token, secret=b"other") == "TOKEN_INVALID"


def test_no_other_algorithm_is_believed() -> None:
    _, payload, _ = make_token(b"k", subscription(), 0).split(".")
    for head in ('{"alg":"none","typ":"JWT"}', '{"alg":"HS256"}'):
        for signature in ("", "AAAA"):
            token = f"{encode_bytes(head.encode())}.{payload}.{signature}"
            assert code_of(token) == "TOKEN_INVALID"


def test_each_changed_character_makes_a_token_worthless() -> None:
    token = make_token(b"k", subscription(), 0)
    for at in range(len(token)):
        other = "A" if token[at] != "A" else "B"
        assert code_of(token[:at] + other + token[at + 1 :]) == "TOKEN_INVALID"


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c", "ü.ü.ü", "x" * 10_000])
def test_what_is_no_token_is_refused(token: str) -> None:
    assert code_of(token) == "TOKEN_INVALID"


def test_a_token_is_three_parts_that_others_can_read() -> None:
    head, payload, _ = make_token(b"k", subscription(), 0).split(".")
    assert json.loads(decode_bytes(head)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(decode_bytes(payload))["gen"] == 7
