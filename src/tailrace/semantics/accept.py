"""Which representation a client wants: Accept and Accept-Encoding.

Nothing here raises: a header comes from outside, and RFC 9110 lets a server disregard it. A member
that cannot be read is skipped. Three things that the grammar does not allow are read too, because
clients send them: a weight without its zero (`q=.2`) or with more than three digits, a `*` alone
for `*/*` (both from old Java), and a `charset` on a type that is offered without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tailrace.limits import MAX_ACCEPT_BYTES

__all__ = ["choose_encoding", "choose_media_type"]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_WEIGHT = re.compile(r"0?\.[0-9]+|0\.?|1(?:\.0*)?")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_BLANK = " \t"

_IDENTITY = "identity"
_OLD_NAMES = {"x-gzip": "gzip"}
"""Old names that RFC 9110 section 8.4.1.3 asks a recipient to treat as the new ones."""


@dataclass(frozen=True, slots=True)
class _Member:
    """One member of a header's list.

    Args:
        value: The part before the first semicolon, in lower case.
        parameters: By lower-case name, without the weight.
        weight: 0 (never) to 1.
    """

    value: str
    parameters: Mapping[str, str]
    weight: float


def choose_media_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """The offered media type that the client prefers.

    For each offer the most specific range that matches it counts (`text/html;level=1` before
    `text/html`, `text/*`, `*/*`). The highest weight wins, and among equals the first offer.

    Args:
        accept: The Accept header; several lines are joined with commas. If it is None, blank, or
            has no valid member, there is no preference. Only its first `limits.MAX_ACCEPT_BYTES`
            are read.
        offered: Media types in the server's order, with or without parameters.

    Returns:
        One of `offered` as it is spelt there, or None if none is acceptable (406).

    Source: RFC 9110 section 12.5.1.
    """
    ranges = [member for member in _members(accept) if _is_range(member.value)]
    if not ranges:
        return offered[0] if offered else None
    best, best_weight = None, 0.0
    for offer in offered:
        weight = _weight_of(_parse(offer), ranges)
        if weight > best_weight:
            best, best_weight = offer, weight
    return best


def choose_encoding(accept_encoding: str | None, offered: Sequence[str]) -> str | None:
    """The offered content coding that the client prefers.

    A coding is preferred to identity if the client gives both the same weight, or does not mention
    identity. If nothing that is offered is acceptable, the answer is identity, even if the client
    excludes it: a body that the client may refuse is better than an error (RFC 9110 requires
    neither).

    Args:
        accept_encoding: The Accept-Encoding header; None or empty is identity. Only its first
            `limits.MAX_ACCEPT_BYTES` are read.
        offered: Content codings, in lower case, in the server's order, which breaks ties.

    Returns:
        One of `offered`, or None for identity.

    Source: RFC 9110 section 12.5.3.
    """
    weights: dict[str, float] = {}
    for member in _members(accept_encoding):
        if _TOKEN.fullmatch(member.value):
            coding = _OLD_NAMES.get(member.value, member.value)
            weights[coding] = max(member.weight, weights.get(coding, 0.0))
    best, best_weight = None, weights.get(_IDENTITY, 0.0)
    for offer in offered:
        weight = weights.get(offer, weights.get("*", 0.0))
        # The first coding also wins if it weighs as much as identity; a later one must weigh more.
        if weight > best_weight or (best is None and 0.0 < weight == best_weight):
            best, best_weight = offer, weight
    return best


def _weight_of(offer: _Member | None, ranges: Sequence[_Member]) -> float:
    if offer is None:
        return 0.0
    matching = [(_specificity(r), r.weight) for r in ranges if _matches(r, offer)]
    return max(matching, default=((0, 0), 0.0))[1]


def _specificity(range_: _Member) -> tuple[int, int]:
    kind, _, subtype = range_.value.partition("/")
    return (kind != "*") + (subtype not in ("", "*")), len(range_.parameters)


def _matches(range_: _Member, offer: _Member) -> bool:
    kind, _, subtype = range_.value.partition("/")
    offer_kind, _, offer_subtype = offer.value.partition("/")
    if kind not in ("*", offer_kind) or subtype not in ("", "*", offer_subtype):
        return False
    mine = offer.parameters
    return all(
        mine.get(name) == value or (name == "charset" and name not in mine)
        for name, value in range_.parameters.items()
    )


def _is_range(value: str) -> bool:
    if value == "*":
        return True
    kind, slash, subtype = value.partition("/")
    if not slash or not _TOKEN.fullmatch(kind) or not _TOKEN.fullmatch(subtype):
        return False
    return kind != "*" or subtype == "*"


def _members(header: str | None) -> Iterator[_Member]:
    if not header:
        return
    if len(header) > MAX_ACCEPT_BYTES:
        # The member that was cut in two is dropped: half of it may mean something else.
        header = header[: MAX_ACCEPT_BYTES + 1].rpartition(",")[0]
    for text in _split(header, ","):
        member = _parse(text)
        if member is not None:
            yield member


def _parse(text: str) -> _Member | None:
    """One member; None if it cannot be read."""
    value, *rest = (part.strip(_BLANK) for part in _split(text, ";"))
    parameters: dict[str, str] = {}
    for part in rest:
        if not part:  # `a/b;` and `a/b;;q=1` are sent; RFC 9110 section 5.6.6 allows them
            continue
        name, equals, raw = part.partition("=")
        if not equals or not _TOKEN.fullmatch(name):
            return None
        name = name.lower()
        if name == "q":  # the weight; what follows was for extensions, which nobody defined
            weight = float(raw) if _WEIGHT.fullmatch(raw) else None
            return None if weight is None else _Member(value.lower(), parameters, weight)
        plain = _unquoted(raw)
        if plain is None:
            return None
        parameters[name] = plain.lower() if name == "charset" else plain
    return _Member(value.lower(), parameters, 1.0)


def _unquoted(raw: str) -> str | None:
    if _TOKEN.fullmatch(raw):
        return raw
    if len(raw) >= 2 and raw[0] == raw[-1] == '"':
        return _QUOTED_PAIR.sub(r"\1", raw[1:-1])
    return None


def _split(text: str, separator: str) -> list[str]:
    """The text, split at each separator that is not inside a quoted string."""
    if '"' not in text:  # every header that a browser sends
        return text.split(separator)
    parts, start, quoted, escaped = [], 0, False, False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]
