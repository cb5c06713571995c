"""The page of each method, and which of them a table's words mean."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from peftlib import expressions
from peftlib.closure import PACKAGE
from peftlib.comparison import METHOD_RUNS
from peftlib.errors import UsageError
from peftlib.grids import experiments, get_preset, runs
from peftlib.kept import kept, state_of
from peftlib.records import cached_here, root

BESIDE = {"OutputLayer"}  # trained beside a method, not one that a page is about
COLUMNS = ("method", "row", "class", "configuration", "here", "model")  # what may name a method
EVERY_ROW = "published"  # a preset that has all rows of all experiments
LONGEST = 200  # characters of a cell that names one


@cached_here
def pages() -> dict[str, str]:
    """The notebooks of ``notebooks/methods`` by the methods that each is about, which it names by its row's label."""
    found = {}
    for notebook in sorted((root() / "notebooks" / "methods").glob("*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        label = re.search(r'^label = "([^"]+)"$', "\n".join("".join(cell["source"]) for cell in cells), re.MULTILINE)
        if label and label[1] in METHOD_RUNS:
            found[" + ".join(expressions.names(METHOD_RUNS[label[1]]))] = notebook.stem
    return found


def page_of(method: str) -> str | None:
    """The address of a method's page as seen from any other page of ``notebooks/*/``; None if it has none.

    method: an expression; its hyperparameters do not matter.
    """
    found = pages().get(" + ".join(name for name in expressions.names(method) if name not in BESIDE))
    return f"../methods/{found}.html" if found else None


def links(words: Sequence[str], source: Sequence[dict] = ()) -> dict[str, str]:
    """Of the words of a table's column, those that name a method, with the address of its page.

    A word is the label of a run of `source`, an expression, or what a paper's experiments call a row.
    """
    labels = {run.label: run.method for run in getattr(source, "wanted", ())}
    labels |= {record["run"]["label"]: record["run"]["method"] for record in source}
    found = {}
    for word in dict.fromkeys(words):
        if 0 < len(word) <= LONGEST and (page := _page(word, labels)):
            found[word] = page
    return found


def _page(word: str, labels: dict[str, str]) -> str | None:
    if word in labels:
        return page_of(labels[word])
    try:
        return page_of(word)
    except UsageError:
        return page_of(rows()[word]) if word in rows() else None


@cached_here
def labelled() -> dict[str, dict[str, str]]:
    """What each experiment calls its rows, with an expression. As nearly every page asks for it, it is kept until a file of
    the package changes."""

    def compute() -> dict[str, dict[str, str]]:
        preset = get_preset(EVERY_ROW)
        return {name: {run.label: run.method for run in runs(name, preset)} for name in experiments()}

    return kept("labels of rows", state_of([PACKAGE]), compute, dict[str, dict[str, str]])


@cached_here
def rows() -> dict[str, str]:
    """What the experiments of all papers call their rows, with an expression. One label means the same methods everywhere
    (tests/test_report.py); labels of trials, which say no method, are left out."""
    every = (row for there in labelled().values() for row in there.items())
    return {label: method for label, method in every if says_one(label)}


def says_one(label: str) -> bool:
    """Is a run's label that of a method's row?"""
    return not label.startswith(("lr x", "trial "))
