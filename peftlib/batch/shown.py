"""What a page of the book shows beside its records: the code behind it, numbers of papers, and values of the preset.

Its digest is a parameter of the page's job, so that Snakemake renders the page again when it changes.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from peftlib import catalogue, closure, papers
from peftlib.presets import Preset

TRAINING = {"study.py", "provenance.py"}  # what these import is for training, which the batch's pages do not
GENERAL = {"methods/__init__.py", "methods/base.py"}  # of no method


def digest(notebook: Path, experiments: Sequence[str], preset: Preset) -> str:
    """16 hexadecimal digits over what a page shows. experiments: those whose records it reads."""
    whose = {notebook.parent.name, *(name.split("/")[0] for name in experiments)}
    values = dataclasses.asdict(preset)
    values["changes"] = {part: given for part, given in preset.changes.items() if part.split("/")[0] in whose}
    as_text = {file: (closure.PACKAGE / file).read_text(encoding="utf-8") for file in sorted(quoted(notebook))}
    used = sources(notebook)
    # How a method looks is no part of its file's digest.
    looks = [dataclasses.asdict(entry) for entry in catalogue.methods().values() if "catalogue.py" in used]
    text = json.dumps([values, closure.digests(used), as_text, looks], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sources(notebook: Path) -> set[str]:
    """The files of the package that a page rests on: those that it imports, the folder of every paper whose it is or that
    it uses (of all papers, if it belongs to none), the tables of the calculator if it is that, the methods that it quotes,
    or else all; and what these import."""
    own = {notebook.parent.name} & set(papers.papers())
    found = _closure(closure.imports(_code(notebook)) | _folders(own or papers.papers()))
    found |= _folders({file.split("/")[1] for file in found if re.match("papers/.+/", file)})
    found |= _inside("accounting", ".json", ".toml") if "accounting/tabulated.py" in found else set()
    return _closure(found | (quoted(notebook) or _inside("methods", ".py")))


def quoted(notebook: Path) -> set[str]:
    """The files that a method's page shows word by word, comments and all: those of the methods that it names, and of those
    that they are made of. Pages of papers print no code."""
    if notebook.parent.name in papers.papers():
        return set()
    named = closure.homes(re.findall(r"\w+", ast.unparse(_code(notebook))), "methods")
    return closure.closure(named, follow=lambda file, used: used.startswith("methods/")) - GENERAL


def _closure(roots: set[str]) -> set[str]:
    return closure.closure(roots, follow=lambda file, used: file not in TRAINING and used != "methods/__init__.py")


def _folders(names: Iterable[str]) -> set[str]:
    return {file for name in names for file in _inside(f"papers/{name}", ".py", ".csv", ".toml")}


def _inside(folder: str, *endings: str) -> set[str]:
    """The files of a folder of the package, and of its folders."""
    files = (closure.PACKAGE / folder).rglob("*")
    return {file.relative_to(closure.PACKAGE).as_posix() for file in files if file.suffix in endings}


def _code(notebook: Path) -> ast.Module:
    """A notebook's code; a cell that is no Python is left out, for its page will say so."""
    lines = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        with contextlib.suppress(SyntaxError):
            lines += ast.parse("".join(cell["source"])).body if cell["cell_type"] == "code" else []
    return ast.Module(lines, [])
