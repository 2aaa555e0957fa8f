"""Content-Digest and Repr-Digest."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.cli.download.digest import read_digest

SHA256 = "sha-256=:" + base64.b64encode(hashlib.sha256(b"data").digest()).decode() + ":"
SHA512 = "sha-512=:" + base64.b64encode(hashlib.sha512(b"data").digest()).decode() + ":"


@pytest.mark.parametrize("header", [SHA256, SHA512, f"{SHA256}, {SHA512}", f"md5=:AAAA:,{SHA256}"])
def test_a_checksum_matches_its_bytes_and_no_others(header: str) -> None:
    digest = read_digest(header)
    assert digest is not None
    for data, same in ((b"data", True), (b"Data", False)):
        fed = digest.start()
        fed.update(data)
        assert digest.matches(fed) is same


def test_the_stronger_one_is_taken() -> None:
    digest = read_digest(f"{SHA256}, {SHA512}")
    assert digest is not None
    assert digest.algorithm == "sha-512"
    assert digest.header() == SHA512


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha-256",
        "sha-256=abc",
        "sha-256=:AAAA:",
        "sha-256=:A:",
        "md5=:AAAA:",
        "unixsum=3",
    ],
)
def test_what_cannot_be_read_is_nothing_to_compare_with(header: str | None) -> None:
    assert read_digest(header) is None


@given(st.text())
def test_any_text_is_a_checksum_or_none(text: str) -> None:
    read_digest(text)
