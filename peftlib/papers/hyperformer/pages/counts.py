"""HyperFormer's parameter columns and formulae, recounted."""

from __future__ import annotations

import pandas as pd

from peftlib.papers.hyperformer import counts
from peftlib.papers.hyperformer.rows import METHODS, called
from peftlib.report import recounted
from peftlib.report.tables import Html, table

TITLES = {"table1": "Table 1, reduction 32", "table3": "Table 3, Adapters† with reduction 2"}


def parameters(name: str) -> Html:
    """The two parameter columns of ``table1`` or ``table3``: ours and the paper's."""
    return recounted.parameters(counts.table(name), TITLES[name])


def agreement() -> dict[str, int]:
    """Over both tables, see `peftlib.report.recounted.agreement`."""
    return recounted.agreement(counts.table(name) for name in TITLES)


def formulae() -> Html:
    """Section 4.1 beside what is built, for both sizes of T5."""
    sizes = [(f"T5-{size}", counts.shape(name)) for size, name in counts.BACKBONES.items()]
    rows = pd.concat([counts.section41(shape).assign(backbone=label) for label, shape in sizes])
    rows.insert(0, "backbone", rows.pop("backbone"))
    return table(rows, caption="Section 4.1, all eight tasks together, reduction 32", rows=called())


def worth() -> dict[str, int]:
    """How many tasks' adapters on T5-Base are as many numbers as ``one_each`` and ``one_a_stack`` of the hypernetworks."""
    sizes = counts.shape("t5-base")
    one = counts.formula(METHODS["Adapters†"], sizes, 2) - counts.formula(METHODS["Adapters†"], sizes, 1)
    whole = {key: METHODS[row] for key, row in (("one_each", "HyperFormer"), ("one_a_stack", "HyperFormer++"))}
    return {key: round(counts.formula(text, sizes, 0) / one) for key, text in whole.items()}


def growth(tasks: tuple[int, ...] = (1, 2, 4, 8, 16, 64, 256, 1000)) -> Html:
    """What T5-Base trains by the number of tasks, reduction 32, closed forms."""
    sizes, methods = counts.shape("t5-base"), {name: text for name, text in METHODS.items() if name != "T5"}
    rows = [{"tasks": n} | {name: counts.formula(text, sizes, n) for name, text in methods.items()} for n in tasks]
    return table(pd.DataFrame(rows), caption="Parameters trained on T5-Base for all tasks together")
