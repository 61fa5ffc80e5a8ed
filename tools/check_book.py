"""The built book, page by page: no address of another host, nothing missing, a text for each figure.

    python tools/check_book.py book/_build/html

Prints what is wrong, one line each, and ends with exit status 1 where there is something.
"""

from __future__ import annotations

import html.parser
import pathlib
import re
import sys
import urllib.parse
from collections.abc import Iterator

LOADED = {"src", "href", "data", "action", "poster", "srcset", "formaction"}
ADDRESS = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
IN_STYLES = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


class Page(html.parser.HTMLParser):
    """What a page links to, its anchors, and its figures without a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.silent = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.links += [value for name, value in attributes if name in LOADED and value]
        self.anchors |= {found.get(name) or "" for name in ("id", "name")}
        if tag == "img" or found.get("role") == "img":
            self.silent += not (found.get("alt") or found.get("aria-label") or "").strip()


def complaints(site: pathlib.Path) -> Iterator[str]:
    """What is wrong with the pages and style sheets below a folder."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: no page is there; run make book"
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for link in page.links:
            if ADDRESS.match(link):
                yield f"{name}: an address of another host, {link}"
            elif problem := broken(link, path, pages):
                yield f"{name}: {problem}"
        if page.silent:
            yield f"{name}: {page.silent} figures have no text"
        if "katex-error" in path.read_text("utf-8"):
            yield f"{name}: a formula that KaTeX does not understand"
    for path in sorted(site.rglob("*.css")):
        for match in IN_STYLES.finditer(path.read_text("utf-8")):
            link = match[1] or match[2]
            if ADDRESS.match(link) or (not link.startswith("data:") and not (path.parent / link).is_file()):
                yield f"{path.relative_to(site).as_posix()}: {link} is on another host or missing"


def broken(link: str, path: pathlib.Path, pages: dict[pathlib.Path, Page]) -> str | None:
    """What is wrong with a link from the page `path`, None where it leads somewhere."""
    parts = urllib.parse.urlsplit(link)
    if parts.scheme:
        return None
    target = path if not parts.path else (path.parent / urllib.parse.unquote(parts.path)).resolve()
    if not target.exists():
        return f"{link} is missing"
    anchor = urllib.parse.unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return f"{link} has no such anchor"
    return None


def main(words: list[str]) -> int:
    if len(words) != 1:
        print("usage: python tools/check_book.py FOLDER", file=sys.stderr)
        return 2
    found = list(complaints(pathlib.Path(words[0]).resolve()))
    print("\n".join(found) if found else "the book is whole: no other host, no missing file, a text for each figure")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
