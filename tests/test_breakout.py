"""Hostile text in every record, log and name that reaches the book, built and opened in a browser: it is shown as text."""

import dataclasses
import json
import shutil
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from IPython.display import Markdown
from test_report import synthetic

from peftlib import grids, markup, report, study
from peftlib.batch import site
from peftlib.papers.survey import taxonomy as survey
from peftlib.report import environment
from peftlib.report.tables import Html

ROOT = Path(__file__).resolve().parents[1]
BREAK = "document.documentElement.dataset.broken='yes'"
PAYLOADS = {
    "a script": f"<script>{BREAK}</script>",
    "an attribute": f'"><img class="ours" src="x" onerror="{BREAK}">',
    "the end of a script": f"</script><script>{BREAK}</script>",
    "a comment": f"--><script>{BREAK}</script>",
    "an SVG": f']]></text><svg onload="{BREAK}">',
    "a link": f"[here](javascript:{BREAK})",
    "an address": f"<javascript:{BREAK}>",
    "a picture": f'![x](x "a" onerror={BREAK})',
    "a formula": rf"$\href{{javascript:{BREAK}}}{{x}}$",
    "a bracketed formula": r"\(x^2\) and \[y\]",
    "a role": "{raw-html}`<b class='ours'>` and {eval}`1+1`",
    "a template": "{{ 7 * 7 }} {% raw %}",
    "code": "`` ` ```",
    "columns": "| a | b | & &lt; &amp;",
    "emphasis": "*a* _b_ **c** ~~d~~ # e",
}
BLOCKS = {  # lines of a log
    "a fence": f"````\n<script>{BREAK}</script>\n````",
    "more backticks": f"{'`' * 40}\n\n<script>{BREAK}</script>",
    "a directive": f"````\n```{{raw}} html\n<script>{BREAK}</script>\n```",
    "colons": f":::\n:::{{raw}} html\n<script>{BREAK}</script>\n:::",
    "a notebook's cell": "+++\n% comment\n(target)=\n# A heading\n",
}
EVERY = [*PAYLOADS.values(), *BLOCKS.values()]
LOGS = {
    "log": "\n".join(PAYLOADS.values()),
    **{f"log `{i}` <img class='ours' src=x onerror={BREAK}>": log for i, log in enumerate(BLOCKS.values())},
}


def hostile(payload: str) -> study.Results:
    """Records of an experiment whose every free text is the payload."""
    preset = dataclasses.replace(grids.get_preset("published"), backbone=payload)
    runs = grids.runs("methods/compared", preset)
    rows = list(dict.fromkeys(run.label for run in runs))[:5]
    wanted = [dataclasses.replace(run, label=f"{payload} {rows.index(run.label)}") for run in runs if run.label in rows]
    made = [
        synthetic(run, 0.5)
        | {"commit": payload, "machine": {"device": payload, "threads": 1}, "versions": {payload: payload}}
        for run in wanted
    ]
    return study.Results(made, wanted)


@cache
def shown(payload: str) -> list[Html | Markdown]:
    """What pages make of such records."""
    found = hostile(payload)
    preset = dataclasses.replace(grids.get_preset("published"), about=payload, backbone=payload)
    cells = pd.DataFrame({payload: [payload, None], "method": list(report.by_label(found))[:2]})
    panels = {payload: pd.DataFrame({"method": ["LoRA()"] * 2, "name": payload, "x": [1.0, 2.0], "y": [1.0, 2.0]})}
    return [
        report._overview(preset, False, []),
        report.rerun("notebooks/page.ipynb", report.Page(preset, False), found),
        report.table(cells, caption=payload, note=payload, source=found),
        environment.machines(found),
        report.say("**{x}**, in {x:code}.", x=payload),
        survey.advice(found),
        survey.choices(found),
        survey.picture(found),
        report.figure(None, caption=payload, source=found),
        report.figure(report.figures.over(panels, payload, payload), caption=payload, source=found),
        report.figure(report.figures.epochs(found, "sst"), caption=payload),
    ]


def plain(text: str) -> str:
    """Text without what Sphinx and browsers make of white space, quotes, dashes and dots."""
    made = {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "--", "—": "---", "…": "..."}
    return markup.line("".join(made.get(c, c) for c in text))


def cell(thing: Html | Markdown) -> dict:
    kind, text = ("text/markdown", thing.data) if isinstance(thing, Markdown) else ("text/html", thing._repr_html_())
    output = nbformat.v4.new_output("execute_result", {kind: text, "text/plain": repr(thing)}, execution_count=1)
    return nbformat.v4.new_code_cell("shown", outputs=[output], execution_count=1, metadata={"tags": ["remove-input"]})


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """A book of hostile pages with the real one's configuration; those of failed notebooks have hostile names."""
    folder = tmp_path_factory.mktemp("book")
    for name in ("_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("*.md"))
    cells = [nbformat.v4.new_markdown_cell("# Records\n"), *(cell(x) for text in EVERY for x in shown(text))]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "records.ipynb")
    for name, log in LOGS.items():
        (folder / f"{name}.ipynb").write_text(json.dumps(site.stand_in(name, log)))
    chapters = "".join(f"- file: {json.dumps(name)}\n" for name in LOGS)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: records\nchapters:\n{chapters}")
    assert site.build_book(folder, folder / "log"), (folder / "log").read_text()[-3000:]
    return site.index(folder).parent


HARM = """({broken: document.documentElement.dataset.broken ?? null,
            elements: [...document.querySelectorAll(".ours, [onerror], [onload], a[href^='javascript' i]")]
                      .map(element => element.outerHTML),
            formulas: document.querySelectorAll("mjx-container").length})"""
HARMLESS = {"broken": None, "elements": [], "formulas": 0}


def test_nothing_breaks_out_of_records(book, browser):
    browser.open((book / "records.html").as_uri())
    assert browser.ask(HARM) == HARMLESS
    seen = browser.ask("[...document.querySelectorAll('.cell_output')].map(e => e.textContent)")
    outputs = [(text, thing) for text in EVERY for thing in shown(text)]
    hidden = [
        (text, repr(thing)) for (text, thing), there in zip(outputs, seen, strict=True) if plain(text) not in plain(there)
    ]
    assert hidden == []


def test_nothing_breaks_out_of_the_log_of_a_failed_page(book, browser):
    for name, log in LOGS.items():
        browser.open((book / f"{name}.html").as_uri())
        assert browser.ask(HARM) == HARMLESS
        assert browser.ask("document.querySelector('.cell_output pre').textContent").strip() == log.strip()
        assert browser.ask("document.querySelectorAll('article h1').length") == 1


def test_nothing_breaks_out_of_the_search(book, browser):
    for query in ("failed", "script", "records"):
        browser.open(f"{(book / 'search.html').as_uri()}?q={query}")
        browser.ask("new Promise(then => setTimeout(then, 500))")  # until the index is there
        assert browser.ask(HARM) == HARMLESS


@pytest.mark.parametrize(
    "given",
    [
        f"<script>{BREAK}</script>",
        f'<img src="x" onerror="{BREAK}">',
        "<b class='ours'>",
        f'<a href="javascript:{BREAK}">x</a>',
        f'<svg onload="{BREAK}">',
    ],
)
def test_what_breaks_out_would_be_noticed(browser, tmp_path, given):
    page = tmp_path / "page.html"
    page.write_text(given)
    browser.open(page.as_uri())
    assert browser.ask(HARM) != HARMLESS
