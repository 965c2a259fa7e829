"""Checks that the links of a built site lead to existing pages, anchors, and files of this repository.

Standard library only: the environment that builds the site runs it. Links to other sites are not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

REPOSITORY = "https://github.com/qemu-guest-agent/qemu.guest_agent/"
# The part of an address between the repository and a path in it.
_FILES = ("blob/main/", "edit/main/", "tree/main/")
_REFERENCES = frozenset(("href", "src", "poster"))


class Page(NamedTuple):
    """The anchors of a page, and its links."""

    anchors: frozenset[str]
    links: tuple[str, ...]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name in _REFERENCES:
                self.links.append(value)


def read(text: str) -> Page:
    reader = _Reader()
    reader.feed(text)
    return Page(frozenset(reader.anchors), tuple(dict.fromkeys(reader.links)))


def broken(site: Path, repository: Path) -> list[str]:
    """Return a sentence about each broken link of the site. Links to the sources lead to files in ``repository``."""
    pages = {path: read(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    return [
        f"{path.relative_to(site)} links to {link}: {problem}"
        for path, page in pages.items()
        for link in page.links
        for problem in _problems(link, path, pages, repository)
    ]


def _problems(link: str, path: Path, pages: dict[Path, Page], repository: Path) -> Iterator[str]:
    if link.startswith(REPOSITORY):
        inside = urldefrag(link).url[len(REPOSITORY) :]
        for prefix in _FILES:
            name = inside.removeprefix(prefix).partition("?")[0]
            if name != inside and not (repository / name).exists():
                yield "there is no such file"
        return
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        yield "there is no such page"
    elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        yield "the page has no such anchor"
