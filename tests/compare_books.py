"""Compare two built books: every table cell, and every sentence outside of tables.

    python tests/compare_books.py BEFORE/_build/html AFTER/_build/html

For a change of the code that is to leave the pages as they are. Prints what differs, page by page; exit status 1 if
anything does.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from bs4 import BeautifulSoup

# What differs between any two builds: when, from which commit, and pictures (their captions and texts are compared).
PASSING = ("script", "style", "img", "svg", "nav", "footer", "header", ".bd-sidebar-secondary", ".provenance")


def content(page: Path) -> list[str]:
    """A page as lines: one a row of a table, cells separated, and one a block of text."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    main = soup.find("article") or soup
    for part in main.select(", ".join(PASSING)):
        part.decompose()
    lines = []
    for table in main.find_all("table"):
        lines += [" | ".join(_text(cell) for cell in row.find_all(["th", "td"])) for row in table.find_all("tr")]
        table.decompose()
    return [*(line for line in map(str.strip, main.get_text("\n").splitlines()) if line), *lines]


def _text(tag) -> str:
    return " ".join(tag.get_text(" ").split())


def main(before: Path, after: Path) -> int:
    pages = {
        path.relative_to(root).as_posix()
        for root in (before, after)
        for path in root.rglob("*.html")
        if not path.name.startswith(("genindex", "search"))
    }
    different = 0
    for page in sorted(pages):
        old, new = (content(root / page) if (root / page).exists() else [] for root in (before, after))
        found = [line for line in difflib.unified_diff(old, new, lineterm="", n=0) if line[:2] not in ("--", "++", "@@")]
        if found:
            different += 1
            print(f"\n{page}: {len(found)} lines differ", *found, sep="\n  ")
    print(f"\n{len(pages)} pages, {different} of them differ")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
