"""The pages of methods: their code, and what else all of them have alike, comes from one template; the prose is by hand.

``python -m peftlib.method_page`` gives every notebook in ``notebooks/methods`` the template's cells as they are now;
``python -m peftlib.method_page LoRA`` writes the page of a method that has none, with comments where the prose is to stand.

A cell is known by its id. Cells that the template does not have stay where they are: prose, and code that is tagged
``own``. A page says whose it is in its cell ``begin``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peftlib import catalogue, commandline, records
from peftlib.commandline import Parser
from peftlib.comparison import METHOD_RUNS
from peftlib.errors import UsageError
from peftlib.expressions import names, per_task, unknown
from peftlib.schema import read_json

OWN = "own"  # the tag of code that one page alone has
# Kinds: "prose" is the author's, and only begins so; "text" and "code" are the same on all pages but for what is in <<>>.
TEMPLATE = """
%% title prose
# <<title>>

<!-- What it is, in two sentences. -->
%% equation prose
## The equation

<!-- The equation with its shapes, and no more: it is to be on the first screen. -->
%% parameters code parameters
preset = "smoke"
train = True  # train missing runs here; False: only read records
%% begin code hide-input
from peftlib import report, study
from peftlib.report import methods

page = report.begin(preset=preset, train=train)
label = "<<label>>"
method = methods.own_row(label)
%% verdict text
## What was found
%% found code hide-input
own = study.results("methods/compared", page.preset, train=page.train, labels=[label])
every = study.results("methods/compared", page.preset, train=False)
beside = report.union(every, own)  # a small preset leaves rows out of every
methods.found(beside, label, page.preset)
%% recipe code hide-input
methods.recipe(own, page.preset)
%% costs prose
## What it costs

<!-- What takes time, memory and storage, and what does not. -->
%% cost code hide-input
methods.cost(beside, label)
%% estimated code hide-input
methods.estimated(method)
%% place text
## Where it sits
%% picture code hide-input
methods.picture(method)
%% decided prose
## Read and decided

<!-- What the paper leaves open, what was read elsewhere, and what was decided; where the model starts. -->
%% code prose
## The code

<!-- What to look for in it. -->
%% source code hide-input
methods.source(method)
%% counts prose
## The counts

<!-- What the counts say, and what papers print that is not so. -->
%% counted code hide-input
methods.counts(method)
%% printed code hide-input
methods.printed(method)
%% run prose
## A training run

<!-- The configuration of this page's run, and why. -->
%% curve code hide-input
methods.curve(own)
%% standing prose
## Where it shines, where it fails

<!-- What it is good for, and what it is not. -->
%% compare code hide-input
methods.compare(beside, label)
%% use text
## How to use it

On a table of your own: texts, and a column that says of each what is to be learnt. `own.train` holds out a part of the
rows, keeps the best epoch, and takes the learning rate of this book's published runs unless it is told another.
%% model code show-input
<<use>>
%% keep text
From the command line, `peftlib count "<<row>>" --backbone bert-base-uncased` counts its parameters without any weights,
and `papermill notebooks/methods/<<stem>>.ipynb out.ipynb -p preset quick` trains this page's runs at another size.
%% references prose
## References

<!-- Who it is due to, {cite}`<<paper>>`, and what is near it in this book. -->
"""
GENERATED = set(re.findall("^%% (.*) text$", TEMPLATE, re.MULTILINE))
# What a reader would type; lines of what a method has not are left out.
USE = """
from tempfile import TemporaryDirectory

import pandas as pd

from peftlib import deltas, <<interop>>own
from peftlib.backbones import load

# Texts, and what is to be learnt of each; pd.read_csv("your.csv") gives another such table.
table = pd.DataFrame({"text": ["a joy to watch", "dull from start to end"] * 12, "label": ["good", "bad"] * 12})
folder, minilm = TemporaryDirectory(), load("minilm")
<<sources>>model = own.train(table, "<<example>>", backbone="minilm"<<start>>).model
size = deltas.save(model, f"{folder.name}/<<stem>>.safetensors")  # what changed, the head and the expression
again = deltas.load(f"{folder.name}/<<stem>>.safetensors", minilm.model)
print(own.answers(again, ["a joy from start to end", "dull to watch"], minilm.tokenizer), f"{size:,} bytes")
<<peft>><<merge>>
"""
PEFT = 'interop.to_peft(model, f"{folder.name}/peft")  # for peft.PeftModel.from_pretrained\n'
SOURCES = 'start = own.sources("<<example>>", folder.name, backbone="minilm")  # trained on other tasks; small ones here\n'
MERGE = "plain = model.merge().backbone  # same outputs from a plain backbone\n"


def use(label: str, stem: str) -> str:
    """The code of "How to use it" for a row of the comparison: it trains on a table, saves, loads, and where the method can
    be merged or has a format in `peft`, that too.

    Raises:
        UsageError: no such row.
    """
    return _filled(USE, _values(label) | {"stem": stem}).strip()


def _filled(text: str, values: dict[str, str]) -> str:
    return re.sub("<<(.*?)>>", lambda hole: values[hole[1]], text)


def page(label: str, stem: str) -> dict:
    """The notebook of a row of the comparison as the template has it. stem: its file's name, without the ending.

    Raises:
        UsageError: no such row.
    """
    from peftlib.report import concerning  # brings matplotlib

    values = _values(label) | {"stem": stem, "use": use(label, stem)}
    return {
        "cells": list(_cells(_filled(TEMPLATE, values))),
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "peftlib": {"experiments": ["methods/compared", *concerning.needed(values["row"])]},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def refreshed(notebook: dict, stem: str) -> dict:
    """A method's notebook with the template's cells as they are now, and its own prose and code.

    Raises:
        UsageError: it does not say whose page it is, or has code that is neither the template's nor tagged as its own.
    """
    new = page(label_of(notebook, stem), stem)
    known = {cell["id"] for cell in new["cells"]}
    others: dict[str | None, list[dict]]
    prose, others, before = {}, {}, None  # others: cells that the template does not have, by what they follow
    for cell in notebook["cells"]:
        if cell["id"] in known:
            before = cell["id"]
            prose[before] = cell
        elif cell["cell_type"] == "markdown" or OWN in cell["metadata"].get("tags", []):
            others.setdefault(before, []).append(cell)
        else:
            raise UsageError(
                f"{stem}.ipynb: the code of cell {cell['id']!r} is not the template's (peftlib/method_page.py): expected "
                f"the tag {OWN!r} on code that this page alone has"
            )
    cells = others.pop(None, [])
    for cell in new["cells"]:
        generated = cell["cell_type"] == "code" or cell["id"] in GENERATED
        cells += [cell if generated else prose.get(cell["id"], cell), *others.pop(cell["id"], [])]
    return new | {"cells": cells}


def label_of(notebook: dict, stem: str) -> str:
    """The row of the comparison whose page a notebook is.

    Raises:
        UsageError: it does not say.
    """
    begin: dict = next((cell for cell in notebook["cells"] if cell["id"] == "begin"), {"source": []})
    found = re.search('^label = "(.*)"$', "".join(begin["source"]), re.MULTILINE)
    if not found:
        raise UsageError(
            f'{stem}.ipynb does not say whose page it is: expected label = "..." in a cell with the id "begin"'
        )
    return found[1]


def text_of(notebook: dict) -> str:
    """A notebook as its file holds it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _values(label: str) -> dict[str, str]:
    from peftlib import interop
    from peftlib.methods import METHODS  # brings torch
    from peftlib.methods.base import parse

    if label not in METHOD_RUNS:
        raise UsageError(f"{unknown(label, METHOD_RUNS)}; a method without a row in the comparison has no page")
    row, entry = METHOD_RUNS[label], catalogue.methods().get(label)
    example = (entry.example if entry else None) or row
    classes = [METHODS[name] for name in names(example)]
    copies = any(per_task(example))
    to_peft = interop.writes(parse(example))
    elsewhere = entry is not None and entry.about.start_on == "others"
    return {
        "label": label,
        "title": classes[0].title if entry else label,
        "paper": classes[0].paper,
        "row": row,
        "example": example,
        "interop": "interop, " if to_peft else "",
        "sources": SOURCES.replace("<<example>>", example) if elsewhere else "",
        "start": ", start=start" if elsewhere else "",
        "peft": PEFT if to_peft else "",
        "merge": MERGE if all(cls.mergeable for cls in classes) and not copies else "",
    }


def _cells(text: str) -> Iterator[dict]:
    for part in text.strip().removeprefix("%% ").split("\n%% "):
        head, _, source = part.partition("\n")
        name, kind, *tags = head.split()
        cell = {
            "cell_type": "code" if kind == "code" else "markdown",
            "id": name,
            "metadata": {"tags": tags} if tags else {},
            "source": source.splitlines(keepends=True),
        }
        yield cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def main(argv: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = Parser(prog="python -m peftlib.method_page", description="Write the pages of methods, all but their prose.")
    parser.add_argument("label", nargs="?", metavar="METHOD", help="one that has no page yet; without: all that have one")
    label = parser.parse_args(argv).label
    return commandline.run(parser.prog, lambda: "\n".join(_refresh() if label is None else [_write(label)]))


def _pages() -> dict[Path, Any]:
    folder = records.root() / "notebooks" / "methods"
    return {path: read_json(path) for path in sorted(folder.glob("*.ipynb"))}


def _refresh() -> Iterator[str]:
    for path, notebook in _pages().items():
        new = text_of(refreshed(notebook, path.stem))
        changed = new != path.read_text(encoding="utf-8")
        if changed:
            path.write_text(new, encoding="utf-8")
        yield f"{path.name}: {'written' if changed else 'as it was'}"


def _write(label: str) -> str:
    for path, notebook in _pages().items():
        if label_of(notebook, path.stem) == label:
            raise UsageError(f"{label} has a page, {path}: call this without a name to refresh all pages")
    path = records.root() / "notebooks" / "methods" / f"{re.sub('[^a-z0-9]', '', label.lower())}.ipynb"
    content = text_of(page(label, path.stem))
    if path.exists():
        raise UsageError(f"{path} is the page of another method: rename it, for {label} would be written there")
    path.write_text(content, encoding="utf-8")
    return f"{path}: written; the prose is to stand where its comments are"


if __name__ == "__main__":
    sys.exit(main())
