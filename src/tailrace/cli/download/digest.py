"""Checksums that a server sends of what it sends. Pure.

Source: RFC 9530 (Digest Fields), RFC 9651 section 4.2.2 for the grammar.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Digest", "read_digest"]

_ALGORITHMS: Mapping[str, str] = {"sha-512": "sha512", "sha-256": "sha256"}
"""What RFC 9530 calls active, the stronger one first. The others prove nothing."""

# No comma can stand within base64, so members can be split before they are read.
_MEMBER = re.compile(r"\s*([a-z0-9-]+)=:([A-Za-z0-9+/=]*):\s*")


@dataclass(frozen=True, slots=True)
class Digest:
    """A checksum that bytes must come to.

    Args:
        algorithm: "sha-512" or "sha-256".
        value: The checksum itself.
    """

    algorithm: str
    value: bytes

    def start(self) -> _Hash:
        """A new hash of this algorithm, to be fed."""
        return hashlib.new(_ALGORITHMS[self.algorithm])

    def matches(self, fed: _Hash) -> bool:
        return fed.digest() == self.value

    def header(self) -> str:
        """As a header would say it."""
        return f"{self.algorithm}=:{base64.b64encode(self.value).decode()}:"


def read_digest(header: str | None) -> Digest | None:
    """The strongest checksum in a Content-Digest or Repr-Digest header.

    What cannot be read is skipped, as the RFC allows, and so is a value that has not the length of
    its algorithm: None is "nothing to compare with", never "wrong".
    """
    found: dict[str, Digest] = {}
    for member in (header or "").split(","):
        match = _MEMBER.fullmatch(member)
        if match is None or match[1] not in _ALGORITHMS:
            continue
        try:
            digest = Digest(match[1], base64.b64decode(match[2], validate=True))
        except binascii.Error:
            continue
        if len(digest.value) == digest.start().digest_size:
            found[digest.algorithm] = digest
    return next((found[name] for name in _ALGORITHMS if name in found), None)
