"""Tokens with which a worker answers for one wake: HMAC-signed, and good for nothing else.

A JSON Web Token of one algorithm. Its head is compared byte by byte and not believed, so there is
no algorithm to choose for who sends one.

Source: Durable Streams 7.3, 12.9; RFC 7515, RFC 7519.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Final

from tailrace import limits
from tailrace.errors import SubscriptionRefused
from tailrace.subscriptions.keys import decode_bytes, encode_bytes
from tailrace.subscriptions.state import SubscriptionState
from tailrace.subscriptions.transitions import TokenClaims

__all__ = ["make_token", "read_token"]

_HEAD: Final = encode_bytes(b'{"alg":"HS256","typ":"JWT"}')


def make_token(secret: bytes, state: SubscriptionState, now: int) -> str:
    """A token for the wake that a state has in flight.

    Args:
        secret: What signs it.
        state: Its generation is that of the wake.
        now: Milliseconds since the epoch.
    """
    claims = {
        "sub": state.id,
        "life": state.nonce,
        "gen": state.generation,
        "exp": now // 1000 + limits.WAKE_TOKEN_LIFETIME,
    }
    signed = f"{_HEAD}.{encode_bytes(json.dumps(claims).encode())}"
    return f"{signed}.{_signature(secret, signed)}"


def read_token(secret: bytes, token: str, name: str, now: int) -> TokenClaims:
    """What a token says, if we made it for this subscription and it is not too old.

    Raises:
        SubscriptionRefused: It is not ours or another's (401, `TOKEN_INVALID`), or too old (401,
            `TOKEN_EXPIRED`).
    """
    signed, _, signature = token.rpartition(".")
    head, _, payload = signed.partition(".")
    good = token.isascii() and hmac.compare_digest(signature, _signature(secret, signed))
    if not good or head != _HEAD:
        raise _refused("TOKEN_INVALID", "the token was not made by this server")
    claims = json.loads(decode_bytes(payload))  # ours: the signature says so
    if claims["sub"] != name:
        raise _refused("TOKEN_INVALID", "the token is of another subscription")
    if claims["exp"] * 1000 <= now:
        raise _refused("TOKEN_EXPIRED", "the token is too old")
    return TokenClaims(claims["life"], claims["gen"])


def _signature(secret: bytes, signed: str) -> str:
    return encode_bytes(hmac.digest(secret, signed.encode(), hashlib.sha256))


def _refused(code: str, reason: str) -> SubscriptionRefused:
    return SubscriptionRefused(code, 401, reason)
