"""Every page of the built book, in a browser without a network.

The book is the one that was built last, that of the environment variable PEFTLIB_BOOK (its html folder), or, if there
is none, one built here from the notebooks as they are committed, without outputs.
"""

import json
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
from test_report import synthetic

from peftlib import grids
from peftlib.comparison import METHOD_RUNS
from peftlib.papers.survey import taxonomy as survey
from peftlib.report import choice, home
from peftlib.report import pages as report_pages
from peftlib.study import Results

ROOT = Path(__file__).resolve().parents[1]
BUILD = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(ROOT), "--all"]
LOCAL = ("file:", "data:", "blob:", "about:")
HOME = ("home-found", "home-where")  # what has to be on the first screen
NO_PAGE = {  # what tables have in the place of a method
    *("always the commonest label", "this method", "the backbone alone"),
    *("S4-model", "Cross-Attn tuning", "Cross-attention tuning", "CrossAttentionTuning()"),  # no page of its own
    *("Output layer", "Intrinsic prompt tuning, the autoencoder", "PromptAutoencoder()"),
    *("T5-Large", "T5-3B", "T5-11B", "minilm", "bert-base-uncased"),  # models
    *("ours, fp32", "ours, bf16", "Trainer, usual script"),  # ways to train one method
    *("Trainer, grouped, fp32", "Trainer, grouped, bf16"),
    *("Trainer, grouped, fp32, no attention dropout", "Trainer, grouped, bf16, no attention dropout"),
}


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
    assert {"index.html", "notebooks/book/home.html", "book/rerun.html", "book/bibliography.html"} <= names
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


def test_links_that_code_prints_lead_to_built_pages():
    """Those in prose name notebooks, whose ends the build changes; what a cell gives out it takes as it is, and a book of
    notebooks without outputs shows no such link."""
    code = {
        page: "".join(
            "".join(cell["source"]) for cell in json.loads(page.read_text())["cells"] if cell["cell_type"] == "code"
        )
        for page in sorted((ROOT / "notebooks").rglob("*.ipynb"))
    }
    assert code and not [page.name for page, text in code.items() if re.search(r"\]\([^)]*\.ipynb", text)]


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


def test_every_text_can_be_read_in_light_and_dark(html, browser):
    browser.width(1280)
    faint = (ROOT / "tests/contrast.js").read_text()
    faults: dict[str, str] = {}
    for page in pages(html):
        browser.open(page.as_uri())
        for theme in ("light", "dark"):
            for fault in browser.ask(f"{faint}('{theme}')"):
                faults.setdefault(f"{theme} {fault.split(': ')[1]}", f"{page.relative_to(html)}: {theme}: {fault}")
    assert not faults, "\n".join(faults.values())


@pytest.mark.parametrize(
    "css, word",
    [("color: #777", None), ("color: #888", "3.54"), ("color: #888; font-size: 24px", None), ("opacity: 0.5", "3.9")],
)
def test_a_faint_text_would_be_noticed(browser, tmp_path, css, word):
    page = tmp_path / "page.html"
    page.write_text(f'<body style="background: #fff; color: #000"><p style="{css.replace("#777", "#767676")}">word</p>')
    browser.open(page.as_uri())
    found = browser.ask((ROOT / "tests/contrast.js").read_text() + "('light')")
    assert (word is None and not found) or (word and found[0].startswith(word))


def test_on_paper_no_table_is_clipped(html, browser):
    browser.paper(True)
    faults = []
    for page in pages(html):
        browser.open(page.as_uri())
        outside = browser.ask(
            "[...document.querySelectorAll('.bd-article table')].map(it => [it, it.getBoundingClientRect()])"
            ".filter(([it, box]) => box.left < -1 || box.right > innerWidth + 1)"
            ".map(([it, box]) => `${it.caption?.textContent}: ${box.left} to ${box.right} of ${innerWidth}`)"
        )
        faults += [f"{page.relative_to(html)}: {what}" for what in outside]
    browser.paper(False)
    assert not faults, "\n".join(faults)


def test_the_first_visit_loads_less_than_a_megabyte(html, browser):
    browser.width(1280)
    browser.open((html / "index.html").as_uri())
    files = {unquote(urlsplit(url).path) for url in browser.requests if url.startswith("file:")}
    sizes = {file: Path(file).stat().st_size for file in files}
    assert len(sizes) > 10
    assert sum(sizes.values()) < 1_000_000, sizes


def test_a_page_begins_with_its_content_and_ends_with_what_it_rests_on_and_how_to_cite_it(html, browser):
    faults = []
    for page in pages(html):
        if not (ROOT / page.relative_to(html)).with_suffix(".ipynb").exists():
            continue
        browser.open(page.as_uri())
        found = browser.ask("""({
            bars: document.querySelectorAll("details.hide").length,
            stray: document.querySelectorAll(".bd-article .cell:is(.tag_parameters, .tag_injected-parameters)").length,
            folds: document.querySelectorAll("details.rests-on").length,
            last: document.querySelector(".bd-article > section").lastElementChild.className,
            parameters: document.querySelector("details.rests-on").textContent.includes("preset ="),
            open: document.querySelectorAll("details.rests-on[open], details.code-fold[open]").length,
        })""")
        if found != {"bars": 0, "stray": 0, "folds": 1, "last": "cite", "parameters": True, "open": 0}:
            faults.append(f"{page.relative_to(html)}: {found}")
    assert not faults, "\n".join(faults)


def test_every_table_and_figure_can_be_downloaded(html, browser):
    faults = []
    for page in pages(html):
        browser.open(page.as_uri())
        lacking = browser.ask("""[...document.querySelectorAll(".bd-article table")].map((table) => {
              const box = table.closest(".table-scroll, .pst-scrollable-table-container") ?? table;
              let next = box.nextElementSibling;
              while (next?.matches("p.source")) next = next.nextElementSibling;
              return next?.querySelector("button")?.textContent === "CSV" ? null : table.caption?.textContent ?? "a table";
            }).filter(Boolean).concat([...document.querySelectorAll(".bd-article figure img[src^='data:image/svg']")]
              .filter((image) =>
                image.closest("figure").nextElementSibling?.querySelector("a[download]")?.href !== image.src)
              .map((image) => image.alt))""")
        faults += [f"{page.relative_to(html)}: {what}" for what in lacking]
    assert not faults, "\n".join(faults)


def test_the_picture_of_all_methods_is_chosen_from_and_entered_by_keyboard(html, browser):
    page = html / "notebooks/book/home.html"
    for width, shown in ((1280, "wide"), (390, "narrow")):
        browser.width(width)
        browser.open(page.as_uri())
        if not browser.ask("document.querySelector('figure.choice') !== null"):
            pytest.skip("no record of the comparison of all methods is in this book")
        where = (
            f"[...document.querySelectorAll('.choice-{shown} .point')]"
            ".map(it => it.querySelector('.marker').getBoundingClientRect().x)"
        )
        assert browser.ask("[...document.querySelectorAll('figure.choice > svg')].filter(it => it.clientWidth).length") == 1
        before = browser.ask(where)
        axes = f"[...document.querySelectorAll('.choice-{shown} .axis')].filter(it => it.getClientRects().length).length"
        assert browser.ask(axes) == 1
        browser.ask("document.querySelector('#cost-stored').focus()")
        browser.press("ArrowRight", 39)
        assert browser.ask("document.querySelector('#cost-memory').checked")
        after = browser.ask(f"new Promise(done => setTimeout(() => done({where}), 800))")
        assert sum(abs(one - other) > 1 for one, other in zip(before, after, strict=True)) > len(before) / 2
        assert browser.ask(axes) == 1
    addresses = browser.ask("[...document.querySelectorAll('.choice-narrow a.point')].map(it => it.href.baseVal)")
    assert len(addresses) > 10 and all(re.match(r"../methods/\w+\.html$", address) for address in addresses)
    browser.ask("document.querySelector('.choice-narrow a.point').focus()")
    browser.press("Enter", 13)
    for _ in range(50):
        if "/methods/" in browser.ask("location.href"):
            break
    assert browser.ask("location.href").endswith(addresses[0].rpartition("/")[2])


@cache
def compared() -> Results:
    """Records of the comparison of all methods, made up but for what they store."""
    runs = grids.runs("methods/compared", grids.get_preset("published"))
    stored = [choice.stored_a_task(run.method, run.backbone, 1) for run in runs]
    return Results([synthetic(run, 0.30 + 0.01 * i, stored[i]) for i, run in enumerate(runs)], runs)


@pytest.fixture
def chosen(browser, tmp_path):
    """The picture and the table of all methods on a page of their own, from made-up records: (what the page says of each
    point and row, what to choose)."""
    for name in ("tables.js", "book.css"):
        shutil.copy(ROOT / "book/_static" / name, tmp_path)
    records = compared()
    page = tmp_path / "choosing.html"
    page.write_text(
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="book.css"><script src="tables.js"></script>'
        f'<article class="bd-article">{survey.picture(records).content}{survey.choices(records).content}</article>'
    )
    browser.width(1280)
    browser.open(page.as_uri())
    return browser


ROWS = """[...document.querySelectorAll('fieldset.filters + * tbody tr')].filter(row => !row.hidden)
  .map(row => [...row.cells].map(cell => cell.textContent))"""
HEADS = "[...document.querySelectorAll('fieldset.filters + * th')].map(it => it.textContent.trim())"
CHOOSE = """(() => {{ const list = document.querySelector('[data-choose={}]'); list.value = list.options[{}].value;
  list.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"""
POINTS = "[...document.querySelectorAll('.choice-wide .point{}')].map(it => it.dataset.label)"


def rows_shown(browser) -> dict[str, dict[str, str]]:
    heads = browser.ask(HEADS)
    return {row[0]: dict(zip(heads, row, strict=True)) for row in browser.ask(ROWS)}


def test_wishes_hide_the_methods_that_do_not_meet_them_in_table_and_picture(chosen):
    every = rows_shown(chosen)
    wishes = "[...document.querySelectorAll('fieldset.filters label')]"
    for wish in ("in peft", "trains faster"):
        chosen.ask(f"{wishes}.find(it => it.textContent.includes('{wish}')).click()")
    kept = rows_shown(chosen)
    wanted = [
        name for name, row in every.items() if row["peft"] != "–" and row["time"][:1].isdigit() and float(row["time"]) < 1
    ]
    assert list(kept) == wanted and 0 < len(kept) < len(every)
    assert set(chosen.ask(POINTS.format(":not(.out)"))) == set(wanted)
    assert chosen.ask(POINTS.format('.out[tabindex="-1"]')), "the keyboard passes by what is out"
    best = {name for name, row in kept.items() if row["unbeaten"] == "yes"}
    assert best and set(chosen.ask(POINTS.format(".front:not(.out)"))) == best
    said = chosen.ask("document.querySelector('fieldset.filters output').textContent")
    assert said == f"{len(kept)} of {len(every)} methods, {len(best)} of them unbeaten"
    assert not chosen.errors


def test_the_front_is_that_of_the_library_for_all_and_of_what_is_left(chosen):
    there = choice.points(compared())
    assert set(chosen.ask(POINTS.format(".front"))) == {point.label for point in choice.front(there)}
    chosen.ask(
        "[...document.querySelectorAll('fieldset.filters input')].find(it => it.dataset.column === 'adapters').click()"
    )
    left = [point for point in there if choice.elsewhere(point.method, "adapters")]
    assert set(chosen.ask(POINTS.format(".front"))) == {point.label for point in choice.front(left)}


def test_storage_follows_the_number_of_tasks_and_the_backbone(chosen):
    def stored() -> dict[str, int]:
        return {name: int(row["stored"].replace(",", "")) for name, row in rows_shown(chosen).items()}

    one = stored()
    chosen.ask(CHOOSE.format("tasks", len(survey.TASKS) - 1))
    hundred = stored()
    fewer = {name for name in one if hundred[name] < one[name]}
    sharing = {"AdaptBertHypernet", "HyperFormer", "HyperFormerPlusPlus", "TaskAdapters", "LoRA+Adapter"}
    assert fewer == sharing & set(one), "what tasks share is divided among them"
    chosen.ask(CHOOSE.format("tasks", 0))
    chosen.ask(CHOOSE.format("backbone", 2))
    assert stored()["LoRA"] == choice.stored_a_task(METHOD_RUNS["LoRA"], "t5-base", 1)
    chosen.ask(CHOOSE.format("share", 1))
    most = survey.SHARES[0] * choice.stored_a_task("Full()", "t5-base", 1)
    assert 0 < len(stored()) < len(one) and max(stored().values()) <= most


def test_home_is_one_screen_of_what_was_found(html, browser):
    browser.open((html / "index.html").as_uri())
    if not browser.ask("document.querySelector('figure.choice') !== null"):
        pytest.skip("no record of the comparison of all methods is in this book")
    for width in (1280, 1440, 1600, 1920):
        browser.width(width)
        ends = [browser.ask(f"document.querySelector('.{part}').getBoundingClientRect().bottom") for part in HOME]
        assert max(ends) <= 900, (width, ends)
    counts = "[...document.querySelectorAll('.home .found')].map(it => it.querySelectorAll('{}').length)"
    told = browser.ask(counts.format(".outcome"))
    assert told and all(count == 3 for count in told)
    assert all(home.LEAST <= count <= home.MOST for count in browser.ask(counts.format(".findings > li")))
    clipped = browser.ask(
        "[...document.querySelectorAll('.findings small')].filter(it => /…|\\.\\.\\./.test(it.textContent)).length"
    )
    assert clipped == 0, "numbers are told in whole"


def test_a_wide_screen_shows_a_wide_table_in_whole(html, browser):
    page = html / "notebooks/compacter/table1.html"
    wide = "[...document.querySelectorAll('.table-scroll.full-width')]"
    browser.width(1920)
    browser.open(page.as_uri())
    if not browser.ask(f"{wide}.length"):
        pytest.skip("this book has no tables")
    assert browser.ask(f"{wide}.filter(it => it.scrollWidth > it.clientWidth).length") == 0
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    browser.width(1280)
    assert browser.ask(f"Math.min(...{wide}.map(it => it.getBoundingClientRect().right))") > 1180, "beside the words, too"
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")


class Rows(HTMLParser):
    """The rows of tables that name methods: the cell that does, and whether any cell of its row is a link."""

    def __init__(self, page: Path):
        super().__init__()
        self.heads, self.cells, self.place, self.rows = [], [], None, []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.heads = []
        elif tag == "tr":
            self.cells = []
        elif tag in ("th", "td"):
            self.place = tag
            self.cells.append(["", False])
        elif tag == "a" and self.place:
            self.cells[-1][1] = True

    def handle_data(self, data):
        if self.place:
            self.cells[-1][0] += data

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.heads += [self.cells[-1][0].strip()] if tag == "th" else []
            self.place = None
        elif tag == "tr" and len(self.cells) == len(self.heads):
            named = next((i for i, head in enumerate(self.heads) if head in report_pages.COLUMNS), None)
            if named is not None and self.cells[named][0].strip() not in ("", self.heads[named]):
                self.rows.append((self.cells[named][0].strip(), any(linked for _, linked in self.cells)))


def test_every_row_that_is_a_method_leads_to_its_page(html):
    """But what is no method of this library, or has no page: see `NO_PAGE`."""
    plain = {
        (page.relative_to(html).as_posix(), name)
        for page in pages(html)
        for name, linked in Rows(page).rows
        if not linked and name not in NO_PAGE
    }
    assert not plain, sorted(plain)


def test_a_row_without_a_link_would_be_noticed(tmp_path):
    page = tmp_path / "page.html"
    head = "<table><tr><th>method</th><th>score</th></tr>"
    page.write_text(f'{head}<tr><td>A</td><td>1</td></tr><tr><td><a href="a.html">B</a></td><td>1</td></tr></table>')
    assert Rows(page).rows == [("A", False), ("B", True)]


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


def test_a_wide_table_says_that_it_scrolls(browser, tmp_path):
    for name in ("tables.js", "book.css"):
        shutil.copy(ROOT / "book/_static" / name, tmp_path)
    head = "".join(f"<th>column {i}</th>" for i in range(30))
    page = tmp_path / "wide.html"
    page.write_text(
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="book.css"><script src="tables.js"></script>'
        '<article class="bd-article">'
        f'<div class="table-scroll"><table class="sortable"><thead><tr>{head}</tr></thead><tbody></tbody></table></div>'
        '<div class="table-scroll"><table class="sortable"><thead><tr><th>narrow</th></tr></thead></table></div>'
    )
    browser.width(390)
    browser.open(page.as_uri())
    said = "[...document.querySelectorAll('.tools span')].map(it => it.textContent)"
    settled = f"new Promise(done => setTimeout(() => done({said}), 200))"
    assert browser.ask(settled) == ["more columns →", ""]
    assert browser.ask("document.querySelector('.table-scroll').tabIndex") == 0
    browser.ask("document.querySelector('.table-scroll').scrollTo(100000, 0)")
    assert browser.ask(settled) == ["← more columns", ""]


def test_a_table_becomes_csv_with_plain_numbers(browser, tmp_path):
    shutil.copy(ROOT / "book/_static/tables.js", tmp_path)
    page = tmp_path / "csv.html"
    page.write_text(
        '<!doctype html><meta charset="utf-8"><script src="tables.js"></script><table class="sortable"><thead>'
        "<tr><th>method</th><th>score</th><th>parameters</th></tr></thead><tbody>"
        "<tr><td>LoRA, merged</td><td>0.676 ± 0.004</td><td>1,234</td></tr>"
        '<tr><td>a "b"</td><td class="missing">not run</td><td>−5</td></tr></tbody></table>'
        "<table><thead><tr><th>method</th><th>score</th></tr></thead><tbody>"
        "<tr><td>A</td><td>0.676 [0.651, 0.701]</td></tr><tr><td>B</td><td>0.1 [−0.2, 0.3] ✕ did not learn</td></tr>"
        "</tbody></table>"
    )
    browser.open(page.as_uri())
    assert browser.ask("csv(document.querySelectorAll('table')[1])").split("\r\n")[:3] == [
        'method,score,"score, low","score, high"',
        "A,0.676,0.651,0.701",
        "B,0.1 ✕ did not learn,-0.2,0.3",
    ]
    assert browser.ask("csv(document.querySelector('table'))").split("\r\n") == [
        'method,score,"score, sd",parameters',
        '"LoRA, merged",0.676,0.004,1234',
        '"a ""b""",,,-5',
        "",
    ]


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
