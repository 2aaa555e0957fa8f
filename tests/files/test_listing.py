"""A directory's listing, for people and for programs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zipfile
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tailrace import Files
from tailrace.files.beneath import Links, Tree
from tailrace.files.listing import Entry, Listing, SortOrder, read_listing
from tailrace.files.names import Target
from tailrace.files.page import page
from tests.files.asking import Reply, ask

pytestmark = pytest.mark.anyio

VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> list[Element]:
        found = [self] if self.name == name else []
        return found + [one for child in self.children for one in child.all(name)]

    def content(self) -> str:
        return self.text + "".join(child.content() for child in self.children)


class Document(HTMLParser):
    """A strict reader: what is opened is closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(html)
        self.close()
        assert [element.name for element in self._open] == [""], "something was never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        element = Element(tag, dict(attrs))
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().name == tag, f"{tag} closes what it did not open"

    def handle_data(self, data: str) -> None:
        self._open[-1].text += data


def document(reply: Reply) -> Element:
    assert reply.status == 200
    return Document(reply.body.decode()).root


def rows(found: Element) -> list[str]:
    """The references of the table's rows, in order."""
    (body,) = found.all("tbody")
    return [str(row.all("a")[0].attributes["href"]) for row in body.all("tr")]


async def entries(app: Any, target: str = "/", **headers: str) -> list[dict[str, Any]]:
    reply = await ask(app, target, accept="application/json", **headers)
    assert reply.headers["content-type"] == "application/json"
    listed: list[dict[str, Any]] = json.loads(reply.body)["entries"]
    return listed


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Three files whose order differs by name, size and time, and two directories."""
    for name, size, time in (("a2", 30, 200), ("a10", 10, 300), ("B", 20, 100)):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, (time, time))
    for name, time in (("z", 50), ("y", 400)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time, time))
    return tmp_path


# For programs ------------------------------------------------------------------------------------


async def test_json_tells_names_types_sizes_and_times(plain: Path) -> None:
    assert (await entries(Files(plain)))[1:3] == [
        {
            "name": "z",
            "href": "z/",
            "type": "directory",
            "size": None,
            "modified": "1970-01-01T00:00:50Z",
        },
        {
            "name": "a2",
            "href": "a2",
            "type": "file",
            "size": 30,
            "modified": "1970-01-01T00:03:20Z",
        },
    ]


async def test_a_listing_shows_what_would_be_served_and_nothing_else(root: Path) -> None:
    listed = await entries(Files(root))
    for entry in listed:
        assert (await ask(Files(root), f"/{entry['href']}")).status == 200, entry
    shown = {entry["name"] for entry in listed}
    assert {
        "in",
        "in-docs",
        "in-through",
        "in-absolute",
        "hello.txt",
        "docs",
        "bad\ufffd.txt",
    } <= shown
    assert not any(name.startswith(("out", ".", "loop")) for name in shown)
    assert not shown & {"fifo", "in-fifo", "socket", "null", "dangling", "around"}


async def test_links_that_are_not_followed_are_not_listed(root: Path) -> None:
    listed = await entries(Files(root, follow_links="never"))
    assert not any(entry["name"].startswith("in") for entry in listed)
    named = await entries(Files(root, follow_links=["out"]))
    assert [entry["type"] for entry in named if entry["name"].startswith("out")] == ["directory"]


async def test_hidden_files_are_listed_where_they_are_served(root: Path) -> None:
    assert ".env" in {entry["name"] for entry in await entries(Files(root, hidden=True))}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "y z a2 a10 B"),
        ("sort=name&order=asc", "y z a2 a10 B"),
        ("sort=name&order=desc", "z y B a10 a2"),
        ("sort=size", "y z a10 B a2"),
        ("sort=size&order=desc", "y z a2 B a10"),
        ("sort=time", "z y B a2 a10"),
        ("sort=time&order=desc", "y z a10 a2 B"),
        ("sort=nothing&order=up", "y z a2 a10 B"),
        ("sort=%00&sort=&order", "y z a2 a10 B"),
    ],
)
async def test_a_listing_is_sorted_directories_first(
    plain: Path, query: str, expected: str
) -> None:
    listed = await entries(Files(plain), f"/?{query}")
    assert [entry["name"] for entry in listed] == expected.split()
    reply = await ask(Files(plain), f"/?{query}", accept="text/html")
    assert [href.strip("/") for href in rows(document(reply))] == expected.split()


async def test_equal_sizes_stay_by_name_in_both_directions() -> None:
    several = [Entry(name, False, False, 5, 0) for name in ("c", "a", "b")]
    for descending in (False, True):
        ordered = Listing(several, False).sorted(SortOrder("size", descending)).entries
        assert [entry.name for entry in ordered] == ["a", "b", "c"]


async def test_a_long_listing_is_cut_and_says_so(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()
    tree = Tree(str(tmp_path), Links(True, frozenset()))
    whole = read_listing(tree, [], hidden=False, most=20)
    cut = read_listing(tree, [], hidden=False, most=19)
    assert (len(whole.entries), whole.truncated) == (20, False)
    assert (len(cut.entries), cut.truncated) == (19, True)
    html = "".join(page(Target((), True, ""), cut, SortOrder(), zip_link=True))
    assert "The rest of them are not shown" in html
    assert json.loads("".join(cut.as_json("/")))["truncated"] is True


@pytest.mark.parametrize("time", [-1e12, 1e15, 253402300800.0, -62135596801.0])
async def test_a_time_that_no_date_can_hold_breaks_nothing(time: float) -> None:
    listing = Listing([Entry("a", False, False, 1, time)], False)
    assert "a</bdi>" in "".join(page(Target((), True, ""), listing, SortOrder(), zip_link=True))
    assert json.loads("".join(listing.as_json("/")))["entries"][0]["name"] == "a"


# By Accept ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("application/json", "application/json"),
        ("text/html;q=0.1, application/json", "application/json"),
    ],
)
async def test_accept_chooses_the_form(root: Path, accept: str, expected: str) -> None:
    reply = await ask(Files(root), "/", accept=accept)
    assert reply.headers["content-type"] == expected
    assert "accept" in reply.headers["vary"].split(", ")


async def test_no_form_that_is_accepted_is_406(root: Path) -> None:
    assert (await ask(Files(root), "/", accept="image/png")).status == 406


async def test_head_of_a_listing_has_the_headers_of_get(root: Path) -> None:
    got, head = await ask(Files(root), "/"), await ask(Files(root), "/", "HEAD")
    assert (head.status, head.body, head.headers) == (200, b"", got.headers)


# For people --------------------------------------------------------------------------------------


async def test_every_link_of_the_page_leads_to_something(root: Path) -> None:
    for path in ("/", "/docs/", "/docs/deep/", "/empty/", "/in-docs/"):
        found = document(await ask(Files(root), path))
        for link in found.all("a"):
            there = urljoin(f"http://host{path}", str(link.attributes["href"]))
            assert there.startswith("http://host/")
            reply = await ask(Files(root), there.removeprefix("http://host"))
            assert reply.status == 200, (path, there)


async def test_links_above_stay_below_the_mount(root: Path) -> None:
    async def below(scope: Any, receive: Any, send: Any) -> None:
        await Files(root)({**scope, "root_path": "/a/files"}, receive, send)

    found = document(await ask(below, "/a/files/docs/deep/"))
    (trail,) = found.all("nav")
    assert [(a.content(), a.attributes["href"]) for a in trail.all("a")] == [
        ("files", "../../"),
        ("docs", "../"),
    ]
    assert rows(found) == ["../", "end.txt"]
    assert rows(document(await ask(below, "/a/files/")))[0] != "../"


async def test_the_page_can_be_read_by_a_screen_reader(root: Path) -> None:
    found = document(await ask(Files(root), "/docs/?sort=size&order=desc"))
    (html,) = found.all("html")
    assert html.attributes["lang"] == "en"
    assert len(found.all("h1")) == len(found.all("main")) == len(found.all("title")) == 1
    assert found.all("nav")[0].attributes["aria-label"]
    headings = [th for th in found.all("th") if th.attributes.get("scope") == "col"]
    assert [th.attributes.get("aria-sort") for th in headings] == [None, "descending", None]
    assert all(th.all("a") for th in headings)
    for row in found.all("tbody")[0].all("tr"):
        assert row.children[0].attributes["scope"] == "row"
        assert row.all("a")[0].content()
    assert all(svg.attributes.get("aria-hidden") == "true" for svg in found.all("svg")), (
        "a picture is read out"
    )


async def test_a_sorted_column_is_turned_round_by_its_own_link(root: Path) -> None:
    found = document(await ask(Files(root), "/?sort=time&order=desc"))
    links = [th.all("a")[0].attributes["href"] for th in found.all("thead")[0].all("th")]
    assert links == ["?sort=name&order=asc", "?sort=size&order=desc", "?sort=time&order=asc"]


async def test_the_page_lets_nothing_run_and_nothing_load(root: Path) -> None:
    reply = await ask(Files(root), "/")
    rules = dict(
        rule.strip().split(" ", 1) for rule in reply.headers["content-security-policy"].split(";")
    )
    assert rules["default-src"] == "'none'"
    assert not any("unsafe" in value or "*" in value for value in rules.values())
    found = document(reply)
    assert not found.all("script")
    (style,) = found.all("style")
    digest = base64.b64encode(hashlib.sha256(style.content().encode()).digest()).decode()
    assert rules["style-src"] == f"'sha256-{digest}'"
    text = reply.body.decode()
    assert not re.search(r"\son\w+\s*=|\sstyle\s*=|javascript:|https?:", text.replace(digest, ""))


HOSTILE = [
    "<script>alert(1)<script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "data:text;base64,x",
    "&lt;b&gt;",
    "&amp",
    "invoice_\u202egpj.exe",
    "?zip",
    "#fragment",
    "..hidden",
    "%2e%2e",
    "\\\\host\\share",
    "http:",
    "é\u0301\u200d😀",
    "<!--",
    "]]>",
    "x" * 255,
    "\udcff\udcfe",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
async def test_a_hostile_name_stays_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"its content")
    app = Files(tmp_path, hidden=True)
    reply = await ask(app, "/", accept="text/html")
    found = document(reply)
    assert not found.all("script")
    assert not found.all("img")
    assert not found.all("b")
    (href,) = rows(found)
    # Nothing but what is listed here: an attribute that a name has made would be another.
    (link,) = found.all("tbody")[0].all("a")
    assert set(link.attributes) == {"href"}
    assert (await ask(app, urljoin("/", href))).body == b"its content"
    (entry,) = await entries(app)
    assert entry["href"] == href


CONTROL = ["two\nlines", "carriage\r\nreturn", "a\tb", "\x1b[31mred", "end\n", "\x7f"]


@pytest.mark.parametrize("name", CONTROL, ids=ascii)
@pytest.mark.parametrize("mounted", [False, True])
async def test_a_name_with_a_control_character_is_neither_listed_nor_served(
    tmp_path: Path, name: str, mounted: bool
) -> None:
    (tmp_path / "plain").write_bytes(b"plain")
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / f"{name}.d").mkdir()
    (tmp_path / f"{name}.d" / "below").write_bytes(b"x")
    files: Any = Files(tmp_path, hidden=True)
    app = Starlette(routes=[Mount("/f", files)]) if mounted else files
    at = "/f" if mounted else ""
    listed = json.loads((await ask(app, f"{at}/", accept="application/json")).body)["entries"]
    assert [entry["name"] for entry in listed] == ["plain"]
    for target in (quote(name), f"{quote(name)}.d/", f"{quote(name)}.d/below"):
        assert (await ask(app, f"{at}/{target}")).status == 404
    with zipfile.ZipFile(BytesIO((await ask(app, f"{at}/?zip")).body)) as opened:
        assert [each.rpartition("/")[2] for each in opened.namelist()] == ["plain"]


@pytest.mark.parametrize("name", ["bad\udcff", "\u2028", "\x85", *HOSTILE], ids=ascii)
async def test_what_is_listed_can_be_had_where_a_router_stands_before_it(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"its content")
    app = Starlette(routes=[Mount("/f", Files(tmp_path, hidden=True))])
    (entry,) = json.loads((await ask(app, "/f/", accept="application/json")).body)["entries"]
    assert (await ask(app, f"/f/{entry['href']}")).body == b"its content"


@pytest.mark.parametrize("name", [n for n in HOSTILE if not n.startswith("..")], ids=ascii)
async def test_a_hostile_name_of_a_directory_stays_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "below").mkdir(parents=True)
    (href,) = rows(document(await ask(Files(tmp_path), "/")))
    redirect = await ask(Files(tmp_path), "/" + href.rstrip("/"))
    assert redirect.headers["location"] == f"./{href}"
    reply = await ask(Files(tmp_path), f"/{href}below/")
    found = document(reply)
    assert not found.all("script")
    assert [link.attributes["href"] for link in found.all("nav")[0].all("a")] == ["../../", "../"]
