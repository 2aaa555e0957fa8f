"""What keeps a browser from running what somebody else has written as a page of this origin.

Who writes a stream chooses its type and its bytes: HTML with a script, SVG, XML with a style sheet.
`sandbox` gives such a page an origin that nobody shares, and no scripts; `nosniff` keeps a browser
from seeing a page in what is said to be none. Both are on every answer that may carry such bytes,
whatever its type: a list of types that are safe would be wrong some day.

Source: CSP Level 3, 6.5.2 (sandbox); Fetch 3.6 (X-Content-Type-Options).
"""

from __future__ import annotations

from typing import Final

__all__ = ["HARMLESS"]

HARMLESS: Final = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "sandbox"),
)
"""Header fields of an answer whose type or bytes somebody else has chosen."""
