"""Compare two built books: their pages and the order of these, every heading, sentence, table cell, caption and figure.

    python tests/compare_books.py BEFORE/_build/html AFTER/_build/html [REASONS]

For a change of the code that is to leave the pages as they are. Prints what differs, page by page; exit status 1 if
anything does. REASONS is a file of differences that are meant, one a line: a regular expression and, after a tab, the
reason. A difference like "notebooks/lora.html: +| 0.8 | 0.9 |" in which one is found is counted under its reason.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup, Tag

UNREAD = ("script", "style", "svg", "nav", "footer", "header", "a.headerlink")
HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"]
CONTENTS = "order of the pages"


def pages(html: Path) -> Iterator[str]:
    for path in html.rglob("*.html"):
        name = path.relative_to(html).as_posix()
        if not name.startswith(("genindex", "search", "_static")):
            yield name


def content(page: Path) -> list[str]:
    """A page as lines: a heading, a piece of text, a caption or row of a table, a figure with its alternative text and the
    digest of its picture."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    main = soup.find("article") or soup
    for part in main.select(", ".join(UNREAD)):
        part.decompose()
    for image in main.find_all("img"):
        image.replace_with(f"\nfigure {_picture(page, image)}: {image.get('alt', 'without alternative text')}\n")
    for table in main.find_all("table"):
        rows = [" | ".join(map(_text, row.find_all(["th", "td"]))) for row in table.find_all("tr")]
        table.replace_with("\n".join(["", *(f"table: {_text(found)}" for found in table.find_all("caption")), *rows, ""]))
    for heading in main.find_all(HEADINGS):
        heading.replace_with(f"\n{'#' * int(heading.name[1])} {_text(heading)}\n")
    for block in main.find_all(["p", "figcaption", "summary"]):
        block.replace_with(f"\n{_text(block)}\n")
    for code in main.find_all("pre"):
        code.replace_with(f"\n{code.get_text()}\n")
    return [line for line in map(str.strip, main.get_text("\n").splitlines()) if line]


def contents(html: Path) -> list[str]:
    """The titles of the pages, as the sidebar of every page lists them."""
    page = min(page for page in pages(html) if "bd-links" in (html / page).read_text(encoding="utf-8"))
    soup = BeautifulSoup((html / page).read_text(encoding="utf-8"), "html.parser")
    return [_text(link) for link in soup.select("nav.bd-links li, nav.bd-links .caption")]


def _text(tag: Tag) -> str:
    return " ".join(tag.get_text(" ").split())


def _picture(page: Path, image: Tag) -> str:
    """A digest of what an image shows, be it in the page or in a file beside it."""
    source = image.get("src", "")
    file = page.parent / source.partition("?")[0]
    shown = source.encode() if source.startswith("data:") or not file.is_file() else file.read_bytes()
    return hashlib.sha256(shown).hexdigest()[:8]


def differences(before: Path, after: Path) -> dict[str, list[str]]:
    """The lines that differ, of each page where some do; a page that one book lacks differs in all of its lines."""

    def lines(html: Path, page: str) -> list[str]:
        if page == CONTENTS:
            return contents(html)
        return content(html / page) if (html / page).exists() else []

    found = {}
    for page in [CONTENTS, *sorted({*pages(before), *pages(after)})]:
        diff = difflib.unified_diff(lines(before, page), lines(after, page), lineterm="", n=0)
        found[page] = [line for line in list(diff)[2:] if not line.startswith("@@")]
    return {page: lines for page, lines in found.items() if lines}


def main(before: Path, after: Path, reasons: Path | None = None) -> int:
    for html in (before, after):
        if not next(pages(html), None):
            print(f"{html}: holds no page of a book; name the html folder of a built one")
            return 2
    meant = [line.split("\t", 1) for line in reasons.read_text(encoding="utf-8").splitlines()] if reasons else []
    explained, unexplained = Counter(), 0
    for page, lines in differences(before, after).items():
        left = []
        for line in lines:
            why = next((reason for pattern, reason in meant if re.search(pattern, f"{page}: {line}")), None)
            explained.update([why] if why else [])
            left += [] if why else [line]
        if left:
            unexplained += 1
            print(f"\n{page}: {len(left)} lines differ", *left, sep="\n  ")
    for reason, times in explained.items():
        print(f"\n{times} lines differ because {reason}")
    print(f"\n{len({*pages(before), *pages(after)})} pages, {unexplained} of them differ without a reason")
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:4])))
