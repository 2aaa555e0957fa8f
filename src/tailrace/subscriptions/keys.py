"""The key that signs webhooks, and the secret that signs the tokens of wakes.

Both are kept in the store, so all worker processes have the same ones and a restart changes
nothing. A program that can read the store can therefore sign. Of a signing key that the application
gives, only the public half is stored: receivers still find it when another key is in use.

A token lets a worker answer for one wake, and nothing else. It is a JSON Web Token with one
algorithm: its header must be exactly the one that is written here, so a sender cannot choose
another algorithm.

Source: Durable Streams 6.5, 7.3, 12.9, 12.10; RFC 7515, RFC 7517, RFC 7519, RFC 7638, RFC 8037.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tailrace import limits
from tailrace.errors import SubscriptionRefused
from tailrace.runtime import call_in_thread
from tailrace.store import Store
from tailrace.subscriptions.repository import JsonCell
from tailrace.subscriptions.state import SubscriptionState
from tailrace.subscriptions.transitions import TokenClaims

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "KEYS",
    "Keys",
    "SigningKey",
    "decode_bytes",
    "encode_bytes",
    "make_token",
    "read_token",
]

KEYS: Final = "__ds/keys"
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
class _StoredKey:
    """A key in the store.

    Args:
        seed: The secret bytes of a key that was made here, in base64url; otherwise None.
        public: The public half of a key that the application gave, in base64url; otherwise None.
        since: When it began to sign, in milliseconds since the epoch.
    """

    seed: str | None
    public: str | None
    since: int

    @property
    def public_half(self) -> str:
        if self.public is not None:
            return self.public
        assert self.seed is not None
        return SigningKey(decode_bytes(self.seed)).public


@dataclass(frozen=True, slots=True)
class _StoredKeys:
    """The secret that signs tokens, and the signing keys: the last one is in use."""

    version: int
    secret: str
    keys: tuple[_StoredKey, ...]


class Keys:
    """The keys of a store's subscriptions.

    Args:
        store: Where they are kept.
        seed: The signing key that the application gives, 32 bytes; None: one is made.
        clock: Milliseconds since the epoch.
    """

    def __init__(self, store: Store, seed: bytes | None, clock: Callable[[], int]) -> None:
        self._cell = JsonCell(store, KEYS)
        self._given = seed
        self._clock = clock
        self._seed = b""
        self._secret = b""
        self._signing: SigningKey | None = None

    @property
    def secret(self) -> bytes:
        """The secret that signs the tokens of wakes; empty before `open`."""
        return self._secret

    async def signing(self) -> SigningKey:
        """The key that signs now.

        Raises:
            SubscriptionRefused: The package that signs is not installed (503).
        """
        if self._signing is None:
            # In a thread: the first key loads the package, which takes a while.
            make = partial(SigningKey, self._seed)
            self._signing = await call_in_thread(make)
        return self._signing

    async def open(self) -> None:
        """Read the keys from the store, or make them: one process does so for all."""
        while True:
            stored = await self._read()
            seed = self._current_seed(stored)
            if seed is not None:
                self._seed, self._secret = seed, decode_bytes(stored.secret)
                return
            await self._add_key(stored)

    async def jwks(self) -> dict[str, Any]:
        """The public keys, as a JSON Web Key Set: that of the signing key, and of those that were
        replaced less than `limits.OLD_KEY_LIFETIME` seconds ago.

        Raises:
            SubscriptionRefused: The package that signs is not installed (503).

        Source: Durable Streams 6.5.
        """
        publics = {(await self.signing()).public: None}
        for key in _published((await self._read()).keys, self._clock()):
            publics[key.public_half] = None
        return {"keys": [_jwk(public) for public in publics]}

    def _current_seed(self, stored: _StoredKeys) -> bytes | None:
        """The seed of the newest key in the store, if that is the one to sign with, or None."""
        if not stored.keys:
            return None
        newest = stored.keys[-1]
        if self._given is not None:
            return self._given if newest.public == SigningKey(self._given).public else None
        return None if newest.seed is None else decode_bytes(newest.seed)

    async def _read(self) -> _StoredKeys:
        found = await self._cell.read()
        if found is None:
            return _StoredKeys(0, _random(), ())
        fields, _ = found
        keys = tuple(_StoredKey(**key) for key in fields["keys"])
        return _StoredKeys(fields["version"], fields["secret"], keys)

    async def _add_key(self, stored: _StoredKeys) -> None:
        """Add the key to sign with, unless another process is faster."""
        public = None if self._given is None else SigningKey(self._given).public
        now = self._clock()
        key = _StoredKey(None if self._given else _random(), public, now)
        keys = tuple(reversed(_published((*stored.keys, key), now)))[-limits.MAX_SIGNING_KEYS :]
        await self._cell.write(asdict(_StoredKeys(stored.version + 1, stored.secret, keys)))


def _published(keys: tuple[_StoredKey, ...], now: int) -> list[_StoredKey]:
    """The keys that receivers must find, the newest first: the last one, and those that were
    replaced less than `limits.OLD_KEY_LIFETIME` seconds ago."""
    oldest = now - limits.OLD_KEY_LIFETIME * 1000
    replaced_at = now  # of the last key: it is in use
    found = []
    for key in reversed(keys):
        if replaced_at >= oldest:
            found.append(key)
        replaced_at = key.since
    return found


def make_token(secret: bytes, state: SubscriptionState, now: int) -> str:
    """A token for the wake in flight of a subscription.

    Args:
        secret: What signs it.
        state: The subscription; its generation is that of the wake.
        now: Milliseconds since the epoch.
    """
    claims = {
        "sub": state.id,
        "life": state.nonce,
        "gen": state.generation,
        "exp": now // 1000 + limits.WAKE_TOKEN_LIFETIME,
    }
    signed = f"{_TOKEN_HEAD}.{encode_bytes(json.dumps(claims).encode())}"
    return f"{signed}.{_token_signature(secret, signed)}"


def read_token(secret: bytes, token: str, name: str, now: int) -> TokenClaims:
    """The claims of a token that was made here for a subscription, and is not too old.

    Raises:
        SubscriptionRefused: It was not made here, or for another subscription (401,
            `TOKEN_INVALID`), or it is too old (401, `TOKEN_EXPIRED`).
    """
    signed, _, signature = token.rpartition(".")
    head, _, payload = signed.partition(".")
    good = token.isascii() and hmac.compare_digest(signature, _token_signature(secret, signed))
    if not good or head != _TOKEN_HEAD:
        raise _bad_token("TOKEN_INVALID", "the token was not made by this server")
    claims = json.loads(decode_bytes(payload))  # the signature proves that it was made here
    if claims["sub"] != name:
        raise _bad_token("TOKEN_INVALID", "the token is for another subscription")
    if claims["exp"] * 1000 <= now:
        raise _bad_token("TOKEN_EXPIRED", "the token is too old")
    return TokenClaims(claims["life"], claims["gen"])


def kid_of(public: str) -> str:
    """A key's name: its JWK thumbprint, of its required members in lexical order.

    Source: RFC 7638 3; RFC 8037 2.
    """
    members = {"crv": "Ed25519", "kty": "OKP", "x": public}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return f"ds_{encode_bytes(hashlib.sha256(text.encode()).digest())}"


def encode_bytes(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_bytes(text: str) -> bytes:
    """The bytes that `encode_bytes` was given.

    Raises:
        ValueError: The text is not base64.
    """
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


_TOKEN_HEAD: Final = encode_bytes(b'{"alg":"HS256","typ":"JWT"}')


def _token_signature(secret: bytes, signed: str) -> str:
    return encode_bytes(hmac.digest(secret, signed.encode(), hashlib.sha256))


def _bad_token(code: str, reason: str) -> SubscriptionRefused:
    return SubscriptionRefused(code, 401, reason)


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
