"""Every page of the built book, in a browser without a network.

The book is the one that was built last, that of the environment variable PEFTLIB_BOOK (its html folder), or, if there
is none, one built here from the notebooks as they are committed, without outputs.
"""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(ROOT), "--all"]
LOCAL = ("file:", "data:", "blob:", "about:")


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    if named := os.environ.get("PEFTLIB_BOOK"):
        return Path(named).resolve()
    built = sorted(ROOT.glob("_build/*/site/_build/html/index.html"), key=lambda file: file.stat().st_mtime)
    if built:
        return built[-1].parent
    output = tmp_path_factory.mktemp("book")
    done = subprocess.run([*BUILD, "--path-output", str(output)], capture_output=True, text=True)
    folder = output / "_build" / "html"
    assert (folder / "index.html").exists(), done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def pages(html: Path) -> list[Path]:
    return [page for page in sorted(html.rglob("*.html")) if "_static" not in page.relative_to(html).parts]


class Links(HTMLParser):
    """Every address a page refers to, and every name it can be referred to by."""

    def __init__(self, page: Path):
        super().__init__()
        self.addresses, self.names = [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.addresses.append(value)
            if name == "id" or (tag == "a" and name == "name"):
                self.names.add(value)


links = cache(Links)


def broken(page: Path, address: str) -> str | None:
    """Why a local address leads nowhere, if it does; other sites are not asked."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target = target / "index.html"
    if not target.exists():
        return f"{address}: no such file"
    named = unquote(parts.fragment)
    if named and target.suffix == ".html" and named not in links(target).names:
        return f"{address}: no such place in {target.name}"
    return None


def test_the_book_has_its_pages(html):
    names = {page.relative_to(html).as_posix() for page in pages(html)}
    assert {"index.html", "book/index.html", "book/rerun.html", "book/bibliography.html"} <= names
    committed = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in ROOT.glob("notebooks/*/*.ipynb")}
    assert committed <= names, f"notebooks without a page: {sorted(committed - names)}"


def test_no_link_is_broken(html):
    faults = [
        f"{page.relative_to(html)}: {why}"
        for page in pages(html)
        for address in sorted(set(links(page).addresses))
        if (why := broken(page, address))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text, why",
    [
        ('<a href="gone.html">', "no such file"),
        ('<a href="#gone">', "no such place"),
        ('<img src="a.png">', "no such file"),
        ('<a href="#here">', None),
        ('<a href="https://example.org/x">', None),
    ],
)
def test_a_broken_link_would_be_found(tmp_path, text, why):
    page = tmp_path / "page.html"
    page.write_text(f'<p id="here">{text}</p>')
    found = [fault for address in Links(page).addresses if (fault := broken(page, address))]
    assert (why is None and not found) or (why and why in found[0])


def test_every_page_opens_without_error_or_outside_request(html, browser):
    faults = []
    for page in pages(html):
        browser.width(1280)
        browser.open(page.as_uri())
        name = page.relative_to(html)
        faults += [f"{name}: console: {error}" for error in browser.errors]
        faults += [f"{name}: asks for {url}" for url in browser.requests if not url.startswith(LOCAL)]
        blank = browser.ask("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
        faults += [f"{name}: image not shown: {url}" for url in blank]
        if browser.ask("document.querySelectorAll('mjx-merror').length"):
            faults.append(f"{name}: a formula that MathJax cannot set")
        browser.width(390)
        if (wide := browser.ask("document.scrollingElement.scrollWidth")) > 400:
            faults.append(f"{name}: {wide} pixels wide on a phone of 390")
    assert not faults, "\n".join(faults)


def test_an_outside_request_and_an_error_would_be_noticed(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<script src="https://example.org/a.js"></script><script>throw new Error("on purpose")</script>')
    browser.open(page.as_uri())
    assert "https://example.org/a.js" in browser.requests
    assert any("on purpose" in error for error in browser.errors)


def test_a_page_that_sends_the_reader_on_is_followed(browser, tmp_path):
    there = tmp_path / "there.html"
    there.write_text("<title>there</title>")
    page = tmp_path / "page.html"
    page.write_text(f'<meta http-equiv="Refresh" content="1; url={there.as_uri()}">')
    browser.open(page.as_uri())
    assert browser.ask("document.title") == "there"


def test_every_table_of_the_book_sorts(html, browser):
    marked = [page for page in pages(html) if re.search(r"<table[^>]*class=\"[^\"]*\bsortable\b", page.read_text())]
    for page in marked:
        browser.open(page.as_uri())
        stuck = browser.ask("""[...document.querySelectorAll("table.sortable")].flatMap((table, i) =>
            [...table.querySelectorAll("th[aria-sort]")].filter((head) => {
              head.querySelector("button").click();
              return head.getAttribute("aria-sort") === "none";
            }).map((head) => `table ${i}: ${head.textContent}`).concat(
              table.querySelector("th[aria-sort]") ? [] : [`table ${i}: no column to sort by`]))""")
        assert not stuck, f"{page.relative_to(html)}: {stuck}"


TABLE = """<!doctype html><script src="tables.js"></script><table class="sortable">
<thead><tr><th>method</th><th>score</th><th>parameters</th></tr></thead><tbody>
<tr><td>LoRA</td><td>0.676 ± 0.004</td><td>1,234</td></tr><tr><td>BitFit</td><td>0.9 ± 0.1</td><td>99</td></tr>
<tr><td>full</td><td>–</td><td>109,482,240</td></tr><tr><td>Houlsby</td><td>0.12</td><td>20,000</td></tr></tbody></table>"""


def test_tables_sort_by_click_and_by_keyboard(browser, tmp_path):
    shutil.copy(ROOT / "book/_static/tables.js", tmp_path)
    page = tmp_path / "table.html"
    page.write_text(TABLE)
    browser.open(page.as_uri())

    def column(i: int) -> list[str]:
        return browser.ask(f"[...document.querySelectorAll('tbody tr')].map(row => row.cells[{i}].textContent)")

    def click(i: int) -> str:
        return browser.ask(
            f"(() => {{ const head = document.querySelectorAll('th')[{i}]; "
            "head.querySelector('button').click(); return head.getAttribute('aria-sort'); })()"
        )

    assert click(1) == "descending"
    assert column(1) == ["0.9 ± 0.1", "0.676 ± 0.004", "0.12", "–"], "numbers by value, the empty one last"
    assert click(1) == "ascending"
    assert column(1) == ["0.12", "0.676 ± 0.004", "0.9 ± 0.1", "–"]
    click(2)
    assert column(2) == ["109,482,240", "20,000", "1,234", "99"]
    browser.ask("document.querySelector('th button').focus()")
    browser.press("Enter", 13)
    assert column(0) == ["BitFit", "full", "Houlsby", "LoRA"]
    assert browser.ask("[...document.querySelectorAll('th')].map(head => head.getAttribute('aria-sort'))") == [
        "ascending",
        "none",
        "none",
    ]
    assert not browser.errors
