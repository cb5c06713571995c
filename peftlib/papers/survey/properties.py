"""The survey's Tables 1 and 2, found out from the methods themselves instead of ticked by hand.

Each row is tried on one configuration (``configurations.toml``), on a backbone of shapes alone:

    storage            what a task stores is less than the backbone
    memory             a training step's peak is below full fine-tuning's, on the same backbone and batch
    backpropagation    the backward pass goes through none of the backbone's blocks
    no overhead        the method can be folded into the weights
    trained, changed   the counts, in percent of the backbone
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from peftlib import catalogue
from peftlib.accounting.counted import shape
from peftlib.accounting.estimated import effects
from peftlib.expressions import WRAPPERS
from peftlib.papers import number, paper_table, rounds_to
from peftlib.papers.survey.counts import built
from peftlib.schema import conform

FILE = Path(__file__).parent / "configurations.toml"
BATCH, LENGTH = 8, 128
YES, NO, FREE = "✓", "✗", "No overhead"
TICKS = ("disk", "ram", "backpropagation", "overhead_printed")  # of Table 1
SHARES = ("trainable_printed", "changed_printed")  # of Table 2


@dataclass(frozen=True)
class Configuration:
    """What a row is tried on, see the file. method: None if it is not built."""

    method: str | None = None
    backbone: str = "bert-base-uncased"
    of: str = ""
    why: dict[str, str] = field(default_factory=dict)


def letters(name: str) -> str:
    """A name without what spellings differ in."""
    return re.sub("[^a-z0-9+]", "", name.lower())


@functools.cache
def implemented(name: str) -> str:
    """The class of a method of the survey: that which methods.csv says, else the one whose name it has; "" if there is
    none. A wrapper of expressions is one, too: S4 is written with it."""
    rows = paper_table("survey", "methods").set_index("method")["ours"]
    said = {letters(method): ours for method, ours in rows.items()}.get(letters(name), "")
    if said:
        return said if said in catalogue.methods() or said in WRAPPERS else ""
    alike = (
        found
        for found, entry in catalogue.methods().items()
        if letters(name) in (letters(found), letters(entry.about.name))
    )
    return next(alike, "")


@functools.cache
def configuration(row: str) -> Configuration:
    """Of a row of Table 1, its method that of the class if the file names none."""
    given = tomllib.loads(FILE.read_text(encoding="utf-8"))[row]
    found = conform(given, Configuration, f"{FILE.name}: {row}: ")
    method = found.method
    name = implemented(row)
    if method is None and name in catalogue.methods():
        method = catalogue.methods()[name].row
    elif method is None and name in WRAPPERS:
        from peftlib.papers.survey import spindle as s4  # brings torch

        method = s4.expression(shape(found.backbone))
    return Configuration(method if method and built(method) else None, found.backbone, found.of, found.why)


def rows() -> dict[str, str]:
    """What Table 1 calls its methods, with the expression that each is tried as; those that are not built are left out."""
    tried = {name: configuration(name).method for name in paper_table("survey", "table1")["method"]}
    return {name: method for name, method in tried.items() if method}


def within(value: float, printed: str) -> bool:
    """Does a percentage round to a printed one, or lie in a printed range, ``0.05 - 0.1`` or ``>0.5``?"""
    if printed.startswith(">"):
        return value > float(printed[1:])
    ends = [part.strip() for part in printed.split("-")]
    if len(ends) == 1:
        return rounds_to(value, printed)
    (low, below), (high, above) = (number(end) or (0.0, 0.0) for end in ends)
    return low - below <= value <= high + above


@functools.cache
def table() -> pd.DataFrame:
    """Every row of Table 1, with what Table 2 has of it. Columns: method; expression and backbone, None if it is not built;
    of; ``disk`` to ``overhead_printed`` as printed, and as found under ``found_...``; stored, trainable, changed (percent),
    memory (of full fine-tuning's), passed and blocks, flops (percent more than the plain backbone's, unmerged), places."""
    shares = paper_table("survey", "table2").set_index("method")
    rows = []
    for printed in paper_table("survey", "table1").to_dict("records"):
        row = printed["method"]
        config = configuration(row)
        one = {"method": row, "expression": config.method, "backbone": config.backbone, "of": config.of}
        one |= {name: printed[name] for name in TICKS}
        one |= {name: shares[name].get(row) for name in SHARES}
        rows.append(one | (_found(config.method, config.backbone) if config.method else {}))
    return pd.DataFrame(rows).astype(object).where(lambda frame: frame.notna(), None)


def _found(method: str, backbone: str) -> dict[str, object]:
    ours, full, plain = (effects(one, backbone, BATCH, LENGTH) for one in (method, "Full()", "HeadOnly()"))
    percent = {name: 100 * getattr(ours, name) / ours.total for name in ("stored", "trainable", "changed")}
    memory, overhead = ours.peak / full.peak, 100 * (ours.flops / plain.flops - 1)
    return {
        "found_disk": _tick(ours.stored < ours.total),
        "found_ram": _tick(memory < 1),
        "found_backpropagation": _tick(ours.passed == 0),
        "found_overhead_printed": FREE if ours.merges else "some",
        **percent,
        "memory": memory,
        "passed": ours.passed,
        "blocks": ours.blocks,
        "flops": overhead,
        "places": ours.places,
    }


def _tick(holds: bool) -> str:
    return YES if holds else NO


@functools.cache
def disagreements() -> pd.DataFrame:
    """Where what is found is not what is printed. Columns: method, column, printed, found, why ("" where nothing explains
    it)."""
    rows = []
    for row in table().dropna(subset=["expression"]).to_dict("records"):
        for name in (*TICKS, *SHARES):
            printed = row[name]
            if printed is None:
                continue
            if name in SHARES:
                value = row[name.removesuffix("_printed")]
                same, found = within(value, printed), f"{value:.2g} %" if value < 0.1 else f"{value:.2f} %"
                printed = f"{printed} %"
            else:
                found = row[f"found_{name}"]
                same = (found == FREE) == (printed == FREE) if name == "overhead_printed" else found == printed
            if not same:
                why = configuration(row["method"]).why.get(name, "")
                rows.append({"method": row["method"], "column": name, "printed": printed, "found": found, "why": why})
    return pd.DataFrame(rows, columns=["method", "column", "printed", "found", "why"])
