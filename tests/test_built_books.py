"""Built books: two are compared in all that they say, and Sphinx alone builds what Jupyter Book does."""

from __future__ import annotations

import shutil
from pathlib import Path

import compare_books
import leave_jupyter_book
import nbformat
import pytest

from peftlib.batch import site

ROOT = Path(__file__).resolve().parents[1]
INDEX = """# A book

It rests on {cite}`compacter`; $n^2$ is a formula, and {doc}`page` has the numbers.

| left | right |
|---|---|
| 1 | 2 |
"""
TABLE = (
    "<table><caption>1 of 2 agree</caption><tr><th>claim</th><th>verdict</th></tr><tr><td>A</td><td>holds</td></tr></table>"
)
FIGURE = '<figure><img alt="A point" src="data:image/svg+xml;base64,PHN2Zy8+"><figcaption>A point</figcaption></figure>'
ARTICLE = (
    f'<nav class="bd-links"><li>Numbers</li></nav><article><h1>Numbers</h1><p>As <b>said</b>.</p>{TABLE}{FIGURE}</article>'
)


def book(html: Path, text: str = ARTICLE, name: str = "page.html") -> Path:
    html.mkdir(exist_ok=True)
    (html / name).write_text(text)
    return html


# --- comparing --------------------------------------------------------------------------------------------------------
def test_a_page_is_read_as_lines_in_their_order(tmp_path):
    assert compare_books.content(book(tmp_path) / "page.html") == [
        "# Numbers",
        "As said .",
        "table: 1 of 2 agree",
        "claim | verdict",
        "A | holds",
        "figure b601c0e0: A point",
        "A point",
    ]


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("<td>holds</td>", "<td>fails</td>", "+A | fails"),
        ("<td>holds</td>", "<td></td>", "+A |"),
        ("1 of 2 agree", "2 of 2 agree", "+table: 2 of 2 agree"),
        ('alt="A point"', 'alt="A line"', ": A line"),
        ("PHN2Zy8+", "PHN2Zy8g", "+figure "),
        (FIGURE, "", "-figure "),
        ("h1>", "h2>", "+## Numbers"),
        ("<b>said</b>", "<b>not said</b>", "+As not said ."),
        ("<li>Numbers", "<li>Counts", "order of the pages: 2 lines differ"),
        ("<b>said</b>", "<em>said</em>", None),
    ],
    ids=lambda value: None if value is None else value[:20],
)
def test_what_a_page_says_is_compared(tmp_path, capsys, old, new, said):
    assert old in ARTICLE
    before, after = book(tmp_path / "before"), book(tmp_path / "after", ARTICLE.replace(old, new))
    assert compare_books.main(before, after) == (said is not None)
    assert (said or "0 of them differ") in capsys.readouterr().out


def test_pages_that_only_one_book_has_differ(tmp_path, capsys):
    before, after = book(tmp_path / "before"), book(tmp_path / "after")
    book(after, name="new.html")
    assert compare_books.main(before, after) == 1 and "new.html: 7 lines differ" in capsys.readouterr().out


def test_differences_that_are_meant_are_counted_under_their_reason(tmp_path, capsys):
    before, after = book(tmp_path / "before"), book(tmp_path / "after", ARTICLE.replace("holds", "fails"))
    reasons = tmp_path / "reasons"
    reasons.write_text("^page.html: .A \\| \tthe claim was read anew\n")
    assert compare_books.main(before, after, reasons) == 0
    assert "2 lines differ because the claim was read anew" in capsys.readouterr().out
    reasons.write_text("^other.html: \tthe claim was read anew\n")
    assert compare_books.main(before, after, reasons) == 1


def test_a_folder_without_a_book_is_not_equal_to_another(tmp_path):
    assert compare_books.main(tmp_path, tmp_path) == 2


# --- the exit from Jupyter Book ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def staged(tmp_path_factory) -> Path:
    """A site of two pages as the batch stages it, with the book's own configuration, built by Jupyter Book."""
    staged = tmp_path_factory.mktemp("site")
    for name in site.BESIDE:
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, staged)
    for folder in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / folder, staged / "book" / folder)
    shutil.copy(ROOT / "book" / "references.bib", staged / "book")
    (staged / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/page\n- file: book/end\n")
    (staged / "book" / "index.md").write_text(INDEX)
    (staged / "book" / "end.md").write_text("# Bibliography\n\n```{bibliography}\n```\n")
    shown = [nbformat.v4.new_output("display_data", {"text/html": html}) for html in (TABLE, FIGURE)]
    cells = [nbformat.v4.new_markdown_cell("# Numbers"), nbformat.v4.new_code_cell("show()", outputs=shown)]
    written = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(written, staged / "book" / "page.ipynb")
    log = staged / "log"
    assert site.build_book(staged, log), log.read_text()
    return staged


def test_sphinx_alone_builds_what_jupyter_book_does(staged, capsys):
    assert leave_jupyter_book.main(staged) == 0, capsys.readouterr().out
    assert "4 pages, 0 of them differ" in capsys.readouterr().out
    assert not (staged / "conf.py").exists(), "the rehearsal leaves the site as it is"


def test_a_warning_of_sphinx_ends_the_rehearsal(staged, capsys, tmp_path):
    broken = shutil.copytree(staged, tmp_path / "broken")
    (broken / "book" / "index.md").write_text(INDEX + "\n{cite}`nobody`\n")
    with pytest.raises(SystemExit) as ended:
        leave_jupyter_book.main(broken)
    assert ended.value.code == 2 and "nobody" in capsys.readouterr().out
