"""The page of each method, and which of them a table's words mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from peftlib import catalogue, expressions
from peftlib.closure import PACKAGE
from peftlib.comparison import METHOD_RUNS
from peftlib.errors import UsageError
from peftlib.grids import experiments, get_preset, runs
from peftlib.kept import kept, state_of
from peftlib.papers import about
from peftlib.records import cached_here, root

BESIDE = {"OutputLayer"}  # trained beside a method, not one that a page is about
WITH = {"HeadOnly", "LayerNormTuning"}  # methods of their own, but beside another one not what is looked for
COLUMNS = (  # what may name a method
    *("method", "methods", "row", "class", "configuration", "expression", "here", "model", "scheme", "variant"),
    *("furthest off", "served as"),
)
EVERY_ROW = "published"  # a preset that has all rows of all experiments
LONGEST = 200  # characters of a cell that names one


@cached_here
def pages() -> dict[str, str]:
    """Notebooks by the methods that each is about: those of ``notebooks/methods``, which name them by their row's label,
    and others that say so in their metadata."""
    found = {}
    for path in sorted((root() / "notebooks").glob("*/*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        text = "\n".join("".join(cell["source"]) for cell in notebook["cells"]) if path.parent.name == "methods" else ""
        label = re.search(r'^label = "([^"]+)"$', text, re.MULTILINE)
        about = METHOD_RUNS.get(label[1]) if label else notebook["metadata"].get("peftlib", {}).get("about")
        if about:
            found[" + ".join(dict.fromkeys(expressions.names(about)))] = f"{path.parent.name}/{path.stem}"
    return found


def page_of(method: str) -> str | None:
    """The address of a method's page as seen from any other page of ``notebooks/*/``; None if it has none.

    method: an expression; its hyperparameters do not matter.
    """
    named = [name for name in dict.fromkeys(expressions.names(method)) if name not in BESIDE]
    found = pages().get(" + ".join(named)) or pages().get(" + ".join(name for name in named if name not in WITH))
    return f"../{found}.html" if found else None


def links(words: Sequence[str], source: Sequence[dict] = (), rows: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of the words of a table's column, those that name a method, with the address of its page.

    A word is one of `rows`, which gives its expression, the label of a run of `source`, an expression, what a paper's
    experiments call a row, or what the method itself is called.
    """
    labels = {run.label: run.method for run in getattr(source, "wanted", ())}
    labels |= {record["run"]["label"]: record["run"]["method"] for record in source} | dict(rows or {})
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
        return page_of(rows()[word]) if word in rows() else _by_name().get(letters(word))


def terms(text: str) -> list[tuple[str, str]]:
    """A sum of methods that has no page of its own, as its terms with their pages; nothing if one of them has none."""
    found = [(term, page) for term in text.split(" + ") if (page := links([term]).get(term))]
    return found if len(found) == text.count(" + ") + 1 > 1 else []


def told(text: str, paper: str) -> Markup:
    """A sentence in which the first mention of each method leads to its page.

    paper: the one whose rows are meant: their whole names, or what these begin with where all that do are one method. Names
    that are a backbone's as well are left alone.
    """
    pattern, addresses = _mentions(paper)
    parts, end, seen = [], 0, set()
    for found in pattern.finditer(text):
        if (page := addresses[found[0]]) not in seen:
            seen.add(page)
            parts += [escape(text[end : found.start()]), Markup('<a href="{}">{}</a>').format(page, found[0])]
            end = found.end()
    return Markup().join([*parts, escape(text[end:])])


@cached_here
def _mentions(paper: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """What in a sentence names a method of a paper's experiments, the longest name first, and the pages."""
    names: dict[str, set[str]] = {}
    for experiment, there in labelled().items():
        for label, method in there.items() if experiment.partition("/")[0] == paper else ():
            if says_one(label) and (page := page_of(method)):
                for name in {label, re.split(r" ?\[| \(|,", label)[0]}:
                    names.setdefault(name, set()).add(page)
    backbones = {letters(name) for name in about(paper).backbones}
    found = {name: min(there) for name, there in names.items() if len(there) == 1 and letters(name) not in backbones}
    longest = sorted(found, key=len, reverse=True)
    return re.compile(rf"(?<![\w+-])(?:{'|'.join(map(re.escape, longest)) or '(?!)'})(?![\w+\[-])"), found


def letters(name: str) -> str:
    """A name without what spellings differ in."""
    return re.sub("[^a-z0-9+]", "", name.lower())


@cached_here
def _by_name() -> dict[str, str]:
    """The pages of methods by the letters of their names, of classes and as figures have them."""
    found: dict[str, str] = {}
    for name, entry in catalogue.methods().items():
        if page := page_of(f"{name}()"):
            found |= {letters(name): page, letters(entry.about.name): page}
    return found


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
