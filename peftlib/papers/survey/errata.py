"""What the survey's relations (errata.toml) call, and what its errata page says of them."""

from __future__ import annotations

import functools

import pandas as pd

from peftlib.anatomy import Shape
from peftlib.backbones import anatomy_of
from peftlib.methods.base import parse
from peftlib.papers import paper_table


@functools.cache
def _shape(backbone: str) -> Shape:
    return anatomy_of(backbone).shape


def counted(row: str) -> int:
    """Parameters that a row of numbers/counts.csv trains: the closed form of its method on the shape of its backbone."""
    found = paper_table("survey", "counts").set_index("row").loc[row]
    return parse(found["expression"]).formula(_shape(found["backbone"]))  # type: ignore[attr-defined]  # of one method


@functools.cache
def average(model: str, method: str) -> float:
    """A method's score over the datasets of appendix B, each the mean of its runs: what the survey's Table 4 averages."""
    scores = paper_table("survey", "appendixB")
    mine = scores[(scores["model"] == model) & (scores["method"] == method)]
    return float(mine.groupby("dataset")["score"].mean().mean())


FUNCTIONS = {"counted": counted, "average": average}


def headline(errata: pd.DataFrame) -> dict[str, object]:
    """For the page's summary, of the rows of `peftlib.report.arithmetic.errata`: wrong counts of Table 5, KronA's share of
    LoRA's speed, test rows of BoolQ, and how often a score is copied."""
    rows = errata.set_index("item")
    counts = errata[errata["item"].str.startswith("parameters trained by")]
    wrong = counts[~counts["agrees"].astype(bool)]
    return {
        "counts": len(counts),
        "wrong": len(wrong),
        "which": ", ".join(wrong["item"].str.removeprefix("parameters trained by ").str.removesuffix(", millions")),
        "krona": float(rows.loc["KronA against LoRA (q and v), training on T5-11B", "recomputed"]),
        "memory": rows.loc["memory of KronA on T5-11B, GB", "recomputed"],
        "memory_printed": rows.loc["memory of KronA on T5-11B, GB", "printed"],
        "boolq": rows.loc["scores of BoolQ that are no fraction of its 3,270 validation rows, T5-11B", "recomputed"],
        "copied": 1 + rows.loc["methods with the same score on CNN/Dailymail, T5-11B", "recomputed"].count(" as "),
        "methods": rows.loc["methods in Table 2", "recomputed"],
        "methods_printed": rows.loc["methods in Table 2", "printed"],
    }
