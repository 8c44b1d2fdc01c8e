"""Reading HTML pages: their elements, and that they are well formed and self-contained."""

import re
from html.parser import HTMLParser
from typing import Any


VOID = {"meta", "img"}
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "section", "nav", "div"),
    *("h1", "h2", "h3", "p", "a", "span", "pre", "code", "figure", "figcaption", "img"),
    *("table", "thead", "tbody", "tr", "th", "td"),
    *("math", "mi", "mo", "mn", "mtext", "mspace", "mrow", "msub", "msup", "msubsup"),
    *("munder", "munderover"),
}


class Page(HTMLParser):
    """A page. It fails for an end tag that closes another element, and one that is missing.

    tags: the names of all elements; attributes: (tag, name, value) of all; texts: those of
    the elements that were closed, by tag; tables: their rows of cells
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.source = data.decode("utf-8")
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: list[list[list[str]]] = []
        self.scrolling: list[bool] = []  # whether each table is in a box that scrolls
        self.parts: list[list[str]] = []
        self.boxes: list[Any] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "table":
            self.tables.append([])
            self.scrolling.append(self.boxes[-1].get("class") == "scroll")
        if tag == "tr":
            self.tables[-1].append([])
        if tag not in VOID:
            self.open.append(tag)
            self.parts.append([])
            self.boxes.append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.boxes.pop()
        text = "".join(self.parts.pop())
        self.texts.setdefault(tag, []).append(text)
        if self.parts:
            self.parts[-1].append(text)
        if tag in ("th", "td"):
            self.tables[-1][-1].append(text)

    def handle_data(self, data):
        if self.parts:
            self.parts[-1].append(data)

    def values(self, name: str) -> list[str]:
        """Return the values of an attribute."""
        return [value for _, found, value in self.attributes if found == name]


def check(page: Page) -> None:
    """Fail for a page that loads or runs anything, or that does not fit a narrow screen."""
    assert {*page.tags} <= ALLOWED
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/") for value in page.values("src"))
    links, ids = page.values("href"), page.values("id")
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= {*ids}
    assert len(ids) == len({*ids})
    (style,) = page.texts["style"]
    assert not re.search(r"url\(|@import|expression", style)
    policy, viewport = page.values("content")
    assert policy.startswith("default-src 'none';")
    assert "script" not in policy
    assert viewport.startswith("width=device-width")
    assert all(page.scrolling)
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
