"""The key that signs webhooks, and the secret that signs the tokens of wakes.

Both are kept in the store, so that all worker processes have the same and a restart changes
nothing; whoever can read the store can therefore sign. A signing key of the application's own is
not written down: only its public half, so that receivers find it after another took its place.

Source: Durable Streams 6.5, 12.10; RFC 7517, RFC 7638, RFC 8037.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tailrace import limits
from tailrace.errors import SequenceConflict, StreamNotFound, SubscriptionRefused
from tailrace.runtime import call_in_thread
from tailrace.store import Append, NewStream, Retention, Store
from tailrace.subscriptions.repository import latest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["KEYS", "Keys", "SigningKey", "decode_bytes", "encode_bytes"]

KEYS: Final = "__ds/keys"
_TYPE: Final = "application/json"
_SEED_BYTES: Final = 32


class SigningKey:
    """An Ed25519 key.

    Args:
        seed: Its 32 secret bytes.

    Raises:
        SubscriptionRefused: The package that signs is not installed (503).
    """

    def __init__(self, seed: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric import ed25519
        except ModuleNotFoundError:
            raise SubscriptionRefused(
                "WEBHOOKS_UNAVAILABLE",
                503,
                'cryptography, which signs webhooks, is missing: pip install "tailrace[server]"',
            ) from None
        self._key: Ed25519PrivateKey = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        self.public = encode_bytes(self._key.public_key().public_bytes_raw())
        self.kid = kid_of(self.public)

    def sign(self, body: bytes, timestamp: int) -> str:
        """The `Webhook-Signature` of a body.

        Args:
            body: Exactly the bytes that are sent.
            timestamp: Seconds since the epoch.

        Source: Durable Streams 7.1.
        """
        signature = encode_bytes(self._key.sign(b"%d.%b" % (timestamp, body)))
        return f"t={timestamp},kid={self.kid},ed25519={signature}"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A key in the store: its seed or, of the application's own, its public half; since when."""

    seed: str | None
    public: str | None
    since: int


class Keys:
    """The keys of a store's subscriptions.

    Args:
        store: Where they are kept.
        seed: The application's own signing key, 32 bytes; None has one made.
        clock: Milliseconds since the epoch.
    """

    def __init__(self, store: Store, seed: bytes | None, clock: Callable[[], int]) -> None:
        self._store = store
        self._given = seed
        self._clock = clock
        self._seed = b""
        self._secret = b""
        self._signing: SigningKey | None = None

    @property
    def secret(self) -> bytes:
        """What signs the tokens of wakes."""
        return self._secret

    async def signing(self) -> SigningKey:
        """The key that signs now.

        Raises:
            SubscriptionRefused: The package that signs is not installed (503).
        """
        if self._signing is None:
            # The package is loaded with the first key, which takes a while.
            make = partial(SigningKey, self._seed)
            self._signing = await call_in_thread(make)
        return self._signing

    async def open(self) -> None:
        """Find the keys, or make them: once for all processes."""
        while True:
            kept = await self._read()
            if kept is not None and (seed := self._current(kept)) is not None:
                self._seed, self._secret = seed, decode_bytes(kept["secret"])
                return
            await self._write(kept or {"version": 0, "secret": _random(), "keys": []})

    async def jwks(self) -> dict[str, Any]:
        """The public keys that signatures may have been made with.

        Raises:
            SubscriptionRefused: The package that signs is not installed (503).

        Source: Durable Streams 6.5.
        """
        kept = await self._read() or {"keys": []}
        publics = {(await self.signing()).public: None}
        oldest = self._clock() - limits.OLD_KEY_LIFETIME * 1000
        replaced_at = self._clock()
        for key in reversed([_Kept(**each) for each in kept["keys"]]):
            if replaced_at >= oldest:
                publics[_public_of(key)] = None
            replaced_at = key.since
        return {"keys": [_jwk(public) for public in publics]}

    def _current(self, kept: dict[str, Any]) -> bytes | None:
        """The seed, if the newest key in the store is the one to sign with."""
        keys = [_Kept(**each) for each in kept["keys"]]
        if not keys:
            return None
        newest = keys[-1]
        if self._given is not None:
            good = newest.public == SigningKey(self._given).public
            return self._given if good else None
        return None if newest.seed is None else decode_bytes(newest.seed)

    async def _read(self) -> dict[str, Any] | None:
        try:
            data, _ = await latest(self._store, KEYS)
        except StreamNotFound:
            return None
        return None if data is None else json.loads(data)

    async def _write(self, kept: dict[str, Any]) -> None:
        """Add the key to sign with; another process may have been faster."""
        now = self._clock()
        public = None if self._given is None else SigningKey(self._given).public
        key = {"seed": None if self._given else _random(), "public": public, "since": now}
        version = kept["version"] + 1
        data = json.dumps({**kept, "version": version, "keys": [*kept["keys"], key][-_KEPT:]})
        new = NewStream(content_type=_TYPE, retention=Retention(max_records=1))
        await self._store.create(KEYS, new)
        append = Append(data=data.encode() + b",", content_type=_TYPE, seq=f"{version:016d}")
        try:
            await self._store.append(KEYS, append)
        except SequenceConflict:
            return


_KEPT: Final = 16
"""Keys that are remembered; a server that is restarted with another key each hour has as many."""


def kid_of(public: str) -> str:
    """A key's name: the thumbprint of its required members in lexical order.

    Source: RFC 7638 3; RFC 8037 2.
    """
    members = {"crv": "Ed25519", "kty": "OKP", "x": public}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return f"ds_{encode_bytes(hashlib.sha256(text.encode()).digest())}"


def encode_bytes(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_bytes(text: str) -> bytes:
    """What `encode_bytes` was given.

    Raises:
        ValueError: It is no base64.
    """
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def _public_of(key: _Kept) -> str:
    if key.public is not None:
        return key.public
    assert key.seed is not None
    return SigningKey(decode_bytes(key.seed)).public


def _jwk(public: str) -> dict[str, str]:
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "kid": kid_of(public),
        "use": "sig",
        "alg": "EdDSA",
        "x": public,
    }


def _random() -> str:
    return encode_bytes(secrets.token_bytes(_SEED_BYTES))
