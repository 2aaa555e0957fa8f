"""A directory's listing as a web page: one document, without scripts and without other files.

Names are escaped where they are written. Besides, the page's policy lets nothing run or load: only
its one style sheet is allowed, by its digest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from pathlib import Path

from tailrace.files.listing import Entry, Listing, SortKey, SortOrder
from tailrace.files.names import Target, shown
from tailrace.limits import MAX_LISTING_ENTRIES

__all__ = ["POLICY", "page"]

_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy."""

_ICONS = (
    '<svg class="symbols" aria-hidden="true">'
    '<symbol id="d" viewBox="0 0 20 20"><path d="M2.5 5.5c0-.8.7-1.5 1.5-1.5h3.6l2 2H16c.8 0 '
    '1.5.7 1.5 1.5v7c0 .8-.7 1.5-1.5 1.5H4c-.8 0-1.5-.7-1.5-1.5z"/></symbol>'
    '<symbol id="f" viewBox="0 0 20 20"><path d="M5 3.5c0-.6.4-1 1-1h5.5L15 6v10.5c0 .6-.4 1-1 '
    '1H6c-.6 0-1-.4-1-1z"/><path d="M11.5 2.5V6H15"/></symbol>'
    '<symbol id="u" viewBox="0 0 20 20"><path d="M10 16V4.5M5 9.5l5-5 5 5"/></symbol></svg>'
)

_COLUMNS: dict[SortKey, str] = {"name": "Name", "size": "Size", "time": "Modified"}


def page(target: Target, listing: Listing, order: SortOrder, *, zip_link: bool) -> Iterator[str]:
    """The page as HTML, in pieces.

    Args:
        target: The directory; its path ends with a slash, so relative links are within it.
        listing: Its entries, sorted already.
        order: The order in which they are sorted.
        zip_link: Offer the directory as a ZIP.
    """
    title = shown("/".join((target.mount, *target.names)) + "/")
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n"
        # An empty icon: otherwise the browser asks for /favicon.ico, outside of this directory.
        f'<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n<body>\n{_ICONS}\n'
        f"<header>\n{_heading(target)}\n<p>{_summary(listing)}</p>\n"
    )
    if zip_link and listing.entries:
        yield '<p><a class="button" href="?zip" download>Download as ZIP</a></p>\n'
    yield "</header>\n<main>\n"
    if listing.truncated:
        yield (
            f'<p class="notice">This directory has more than {MAX_LISTING_ENTRIES:,} entries. '
            "The rest of them are not shown.</p>\n"
        )
    yield from _table(target, listing, order)
    yield "</main>\n</body>\n</html>\n"


def _heading(target: Target) -> str:
    """The path from the mount down; each part but the last is a link."""
    labels = [shown(target.mount.rpartition("/")[2]) or "Files", *map(shown, target.names)]
    *above, here = (f"<bdi>{escape(label)}</bdi>" for label in labels)
    links = [
        f'<li><a href="{"../" * (len(above) - depth)}">{label}</a></li>'
        for depth, label in enumerate(above)
    ]
    trail = f'<nav aria-label="Path"><ol>{"".join(links)}</ol></nav>\n' if links else ""
    return f"{trail}<h1>{here}</h1>"


def _summary(listing: Listing) -> str:
    directories = sum(entry.is_directory for entry in listing.entries)
    files = len(listing.entries) - directories
    size = sum(entry.size_bytes for entry in listing.entries)
    parts = [_count(directories, "folder"), _count(files, "file")]
    text = ", ".join(part for part in parts if part)
    return f"{text}, {_size(size)}" if files else text or "Nothing is here"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else ""


def _table(target: Target, listing: Listing, order: SortOrder) -> Iterator[str]:
    if not listing.entries and not target.names:
        return
    headings = "".join(_column(key, label, order) for key, label in _COLUMNS.items())
    yield f"<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n"
    if target.names:
        yield (
            '<tr class="up"><th scope="row"><a href="../"><svg aria-hidden="true"><use href="#u"/>'
            "</svg><span>Up one level</span></a></th><td></td><td></td></tr>\n"
        )
    for entry in listing.entries:
        yield _row(entry)
    yield "</tbody>\n</table>\n"


def _column(key: SortKey, label: str, order: SortOrder) -> str:
    current = key == order.key
    # The first click on size or time puts the largest or the newest first, as people expect.
    descending = not order.descending if current else key != "name"
    state = f' aria-sort="{"descending" if order.descending else "ascending"}"' if current else ""
    link = f"?sort={key}&amp;order={'desc' if descending else 'asc'}"
    unit = " <small>UTC</small>" if key == "time" else ""
    return f'<th scope="col" class="{key}"{state}><a href="{link}">{label}{unit}</a></th>'


def _row(entry: Entry) -> str:
    icon, slash = ("d", "/") if entry.is_directory else ("f", "")
    size = (
        ""
        if entry.is_directory
        else (
            f'<data value="{entry.size_bytes}" title="{entry.size_bytes:,} bytes">'
            f"{_size(entry.size_bytes)}</data>"
        )
    )
    when = entry.modified_at
    return (
        f'<tr><th scope="row"><a href="{escape(entry.href)}"><svg aria-hidden="true">'
        f'<use href="#{icon}"/></svg><span><bdi>{escape(shown(entry.name))}</bdi>{slash}</span></a>'
        f'</th><td class="size">{size}</td>'
        f'<td class="time"><time datetime="{when:%Y-%m-%dT%H:%M:%SZ}">{when:%Y-%m-%d} '
        f"<span>{when:%H:%M}</span></time></td></tr>\n"
    )


def _size(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} B"
    units = ["TB", "GB", "MB", "kB"]
    unit = units.pop()
    size = size_bytes / 1000
    while units and size >= 999.95:  # would be shown as 1,000.0
        unit, size = units.pop(), size / 1000
    return f"{size:,.1f} {unit}"
