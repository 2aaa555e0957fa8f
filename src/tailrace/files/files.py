"""`Files`: a directory as an ASGI application, with no way out of it.

Where it differs from Starlette's StaticFiles on purpose:

* A directory is listed, and offered as a ZIP, unless that is turned off.
* Dotfiles are not served, unless that is turned on. Names with control characters never are, nor
  what belongs to a store of streams, nor links that lead out, except those allowed by name.
* A redirect is relative: it holds no host, so none can be put into it.
* A path that is refused is answered with 404, not 401; what cannot be read, with 403.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection, Mapping
from functools import partial
from typing import Literal, get_args

from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from tailrace.connection import answer_lifespan
from tailrace.errors import ArchiveTooLarge, InvalidOption, PathRefused
from tailrace.files.archive import Archive
from tailrace.files.beneath import POSSIBLE, Links, Tree
from tailrace.files.listing import SortOrder, read_listing
from tailrace.files.names import Target, href, is_served, target_of, text
from tailrace.files.page import POLICY, page
from tailrace.limits import MAX_LISTING_ENTRIES
from tailrace.responses import ETagKind, FileResponse, StreamingResponse, check_etag
from tailrace.runtime import Descriptor, call_in_thread, file_threads
from tailrace.semantics import MediaTypes, choose_media_type, content_disposition, mounted
from tailrace.source import Source, open_source
from tailrace.types import check_flag

__all__ = ["Files", "ResourcePolicy"]

logger = logging.getLogger("tailrace")

ResourcePolicy = Literal["same-origin", "same-site", "cross-origin"]
"""Whose pages may embed a file."""

_PDF = "application/pdf"
"""Browsers show it in a viewer outside of the page's origin, and do not show it in a sandbox."""

_LISTING_TYPES = ("text/html", "application/json")

# Errors of the file system that a client gets as another status than 500.
_STATUSES = {
    **dict.fromkeys(
        (
            *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
            # A name that the file system cannot hold; a socket or device; a stale network file.
            *(errno.EILSEQ, errno.ENXIO, errno.ENODEV, errno.ESTALE),
        ),
        404,
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM), 403),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.ENOMEM), 503),
}


class Files:
    """Serves what is beneath a directory: `app.mount("/files", Files("data"))`.

    No path leads out of it: not by dots in any encoding, by a link, by a link that is swapped in
    while a file is opened, or by a device. The file that is sent is the one that was checked.

    Args:
        directory: An existing directory. Links in its own path are followed anew for each request.
        index: The name of the file that is served for its directory; None serves none.
        listing: List a directory that has no index, as HTML or JSON by Accept.
        hidden: Serve and list names that begin with a dot.
        follow_links: Which symbolic links are followed: "inside" (those that stay in the
            directory), "never", or a collection of paths of links ("current", "media/shared"),
            which may lead anywhere; links that stay inside are then followed as well.
        zip: Offer each directory that is listed as a ZIP too, at `?zip`.
        cache_control: The Cache-Control of files; None sends none.
        media_types: Media types by lower-case suffix with its dot, which go before the built-in
            table; that of "" is for names without a known suffix.
        precompressed: Send `a.css.zst`, `.br` or `.gz` instead of `a.css`, by Accept-Encoding.
        etag: As in `FileResponse`: "exact", or "portable" if several machines have copies.
        sandbox: Pages run no scripts, and each has an origin of its own: for files that are not
            the application's, such as uploads. Without it they are pages of this origin, as the
            pages of a web site must be.
        resource_policy: Whose pages may embed the files, sent as Cross-Origin-Resource-Policy:
            "same-origin", "same-site" or "cross-origin".

    Raises:
        InvalidOption: A setting is not valid, the directory does not exist, or this is Windows.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        index: str | None = "index.html",
        listing: bool = True,
        hidden: bool = False,
        follow_links: Literal["inside", "never"] | Collection[str] = "inside",
        zip: bool = True,  # noqa: A002 - the format's own name
        cache_control: str | None = None,
        media_types: Mapping[str, str] | None = None,
        precompressed: bool = False,
        etag: ETagKind = "exact",
        sandbox: bool = False,
        resource_policy: ResourcePolicy = "same-origin",
    ) -> None:
        if not POSSIBLE:
            raise InvalidOption("directory", os.fspath(directory), "one on Linux or macOS")
        path = os.path.abspath(directory)
        if not os.path.isdir(path):
            raise InvalidOption("directory", os.fspath(directory), "a directory that exists")
        flags = {"listing": listing, "hidden": hidden, "zip": zip}
        for name, flag in (flags | {"precompressed": precompressed, "sandbox": sandbox}).items():
            check_flag(name, flag)
        if index is not None and not _is_name(index):
            raise InvalidOption("index", index, "the name of a file, or None")
        if cache_control is not None and not (
            cache_control.isascii() and cache_control.isprintable()
        ):
            raise InvalidOption("cache_control", cache_control, "the value of a header, or None")
        self._tree = Tree(path, _links(follow_links))
        self._index = index
        self._listing = listing
        self._hidden = hidden
        self._zip = zip
        self._cache_control = cache_control
        if resource_policy not in get_args(ResourcePolicy):
            names = ", ".join(f'"{each}"' for each in get_args(ResourcePolicy))
            raise InvalidOption("resource_policy", resource_policy, names)
        self._precompressed = precompressed
        self._etag = check_etag(etag)
        self._sandbox = sandbox
        self._safety = {
            "x-content-type-options": "nosniff",
            "cross-origin-resource-policy": resource_policy,
        }
        self._media_types = MediaTypes(media_types or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        if scope["type"] == "lifespan":
            await answer_lifespan(receive, send)
            return
        scope = mounted(scope)
        try:
            response = await self._respond(scope)
        except HTTPException as error:
            # If the application has Starlette's exception handlers, they make the answer.
            if "starlette.exception_handlers" in scope:
                raise
            response = PlainTextResponse(error.detail, error.status_code, error.headers)
        await response(scope, receive, send)

    async def _respond(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"allow": "GET, HEAD"})
        target = target_of(scope)
        if target is None or not all(is_served(each, hidden=self._hidden) for each in target.names):
            raise HTTPException(404)
        try:
            look = partial(self._look, target, scope)
            return await call_in_thread(look, threads=file_threads, discard=_discard)
        except PathRefused as refused:
            logger.debug("refused: %s", refused)
            raise HTTPException(404) from refused
        except ArchiveTooLarge as error:
            raise HTTPException(error.status, str(error)) from error
        except OSError as error:
            status = _STATUSES.get(error.errno or 0)
            if status is None:
                raise
            raise HTTPException(status) from error

    # In a thread --------------------------------------------------------------------------------

    def _look(self, target: Target, scope: Scope) -> Response:
        """Open the file or directory at a path, and decide how it is sent."""
        opened = self._tree.open(target.names)
        if not opened.is_directory:
            if target.slash:
                opened.close()
                raise HTTPException(404)
            return self._file(opened, target.names)
        opened.close()
        index = self._open_index(target)
        if index is None and not self._listing:
            raise HTTPException(404)
        if not target.slash:
            return _redirect(target, scope)
        if index is not None:
            assert self._index is not None
            return self._file(index, (*target.names, self._index))
        query = QueryParams(scope["query_string"])
        if self._zip and "zip" in query:
            return self._archive(target)
        return self._list(target, scope, SortOrder.of(query.get("sort"), query.get("order")))

    def _open_index(self, target: Target) -> Descriptor | None:
        if self._index is None:
            return None
        try:
            opened = self._tree.open((*target.names, self._index))
        except FileNotFoundError:
            return None
        return None if opened.is_directory else opened

    def _file(self, opened: Descriptor, names: tuple[str, ...]) -> Response:
        label = ascii("/".join(names))[1:-1]
        media_type = self._media_types.of(names[-1])
        headers = self._safety
        if self._sandbox and media_type != _PDF:
            headers = {**headers, "content-security-policy": "sandbox"}
        return FileResponse(
            label,
            headers=headers,
            media_type=media_type,
            cache_control=self._cache_control,
            precompressed=self._precompressed,
            etag=self._etag,
            opener=_Opener(self._tree, names, label, opened),
        )

    def _archive(self, target: Target) -> Response:
        label = target.names[-1] if target.names else target.mount.rpartition("/")[2] or "files"
        archive = Archive(self._tree, target.names, label, self._hidden, self._media_types)
        archive.check()
        headers = {
            **self._safety,
            "content-disposition": content_disposition("attachment", f"{text(label)}.zip"),
            "cache-control": "no-store",
        }
        return _OfDisk(archive.chunks(), headers=headers, media_type="application/zip")

    def _list(self, target: Target, scope: Scope, order: SortOrder) -> Response:
        accept = Headers(scope=scope).getlist("accept")
        chosen = choose_media_type(", ".join(accept) if accept else None, _LISTING_TYPES)
        if chosen is None:
            offered = ", ".join(_LISTING_TYPES)
            raise HTTPException(
                406,
                f"the listing of a directory is available as {offered}: accept one of them",
                {"vary": "accept"},
            )
        listing = read_listing(
            self._tree, target.names, hidden=self._hidden, most=MAX_LISTING_ENTRIES
        ).sorted(order)
        headers = {
            **self._safety,
            "vary": "accept",
            "cache-control": "no-cache",
        }
        # JSON and HTML are made in the source's thread: a long listing takes a while.
        if chosen == "application/json":
            path = "/".join((target.mount, *target.names)) + "/"
            return _OfDisk(listing.as_json(path), headers=headers, media_type=chosen)
        headers["content-security-policy"] = POLICY
        html = page(target, listing, order, zip_link=self._zip)
        return _OfDisk(html, headers=headers, media_type=chosen)


class _OfDisk(StreamingResponse):
    """A response that is made from the disk's contents, in the threads for files."""

    def _open(self, scope: Scope) -> Source:
        return open_source(self._content, file_threads)


def _links(follow_links: Literal["inside", "never"] | Collection[str]) -> Links:
    if isinstance(follow_links, str):
        if follow_links not in ("inside", "never"):
            raise InvalidOption(
                "follow_links", follow_links, '"inside", "never" or a list of paths'
            )
        return Links(follow_links == "inside", frozenset())
    named = frozenset(tuple(path.strip("/").split("/")) for path in follow_links)
    for names in named:
        if not all(_is_name(name) for name in names):
            raise InvalidOption("follow_links", "/".join(names), "paths beneath the directory")
    return Links(True, named)


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _redirect(target: Target, scope: Scope) -> Response:
    """Redirect to the same path with a slash at its end; relative, so a proxy may be in front."""
    last = target.names[-1] if target.names else target.mount.rpartition("/")[2]
    query = scope["query_string"].decode("latin-1")  # Starlette escapes what no URL may have
    # The dot makes it a path, also if the name begins with two slashes or has a colon.
    return RedirectResponse(f"./{href(last)}/{'?' if query else ''}{query}", status_code=307)


class _Opener:
    """Opens files for `FileResponse`: first the one that is open already, then by the same rules.

    `FileResponse` opens again if the file was replaced, and for its compressed copies.

    Args:
        label: The path that the response was given; it is only for messages.
    """

    def __init__(self, tree: Tree, names: tuple[str, ...], label: str, opened: Descriptor) -> None:
        self._tree = tree
        self._names = names
        self._label = label
        self._opened: Descriptor | None = opened

    def __call__(self, path: str, flags: int) -> int:
        opened, self._opened = self._opened, None
        if opened is not None:
            return opened.detach()
        *above, name = self._names
        try:
            return self._tree.open((*above, name + path.removeprefix(self._label))).detach()
        except PathRefused as refused:
            raise FileNotFoundError(errno.ENOENT, str(refused)) from refused


def _discard(response: Response) -> None:
    """Do nothing: the response is not needed any more, and closes its file when it is freed."""
