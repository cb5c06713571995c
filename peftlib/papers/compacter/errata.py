"""What Compacter's relations (errata.toml) call, and what its errata page says of them."""

from __future__ import annotations

import functools

from peftlib.papers import paper_table
from peftlib.papers.compacter.counts import measured_share, weights
from peftlib.papers.compacter.experiments import BOTTLENECK
from peftlib.report import arithmetic
from peftlib.report.averages import TEST_ROWS, by_task
from peftlib.report.averages import margin as margin_of
from peftlib.report.suites import score_columns

WIDTH, BLOCKS, RULE = 768, 24, 4**3  # T5-Base's width and blocks, and n^3 at n = 4
NORMS = {"norms": 62, "60 norms": 60}  # all, and those of the blocks
METHODS, PARTS = ("compacter", "plusplus", "phm"), ("norms", "biases")  # of appendix B


def share(method: str, part: str) -> float:
    """Percent of what a method of appendix B trains that are its norms or its biases. part: of `PARTS`, or "60 norms"."""
    adapters = BLOCKS if method == "plusplus" else 2 * BLOCKS
    biases = adapters * (WIDTH + BOTTLENECK)
    factors = 2 * (WIDTH + BOTTLENECK) * adapters + RULE
    if method == "phm":
        factors = 2 * (WIDTH * BOTTLENECK // 4 + RULE) * adapters
    total = factors + biases + NORMS["norms"] * WIDTH
    return 100 * (biases if part == "biases" else NORMS[part] * WIDTH) / total


@functools.cache
def margin(table: str) -> float:
    """What two averages of a table may differ by and still be alike."""
    tasks = by_task(dict.fromkeys(score_columns(paper_table("compacter", table)), 0.0))
    return margin_of({task: TEST_ROWS[task] for task in tasks})


def test_rows(column: str) -> int:
    """Rows that the numbers of a column, ``cb`` or ``cb_accuracy``, were tested on."""
    return TEST_ROWS[column.partition("_")[0]]


FUNCTIONS = {function.__name__: function for function in (share, margin, measured_share, weights, test_rows)}


def headline() -> dict[str, float]:
    """For the page's summary: changes of memory in percent, as printed and right; the leads on SuperGLUE's other tasks."""
    found: dict[str, float]
    found, rows = {"cb": TEST_ROWS["cb"], "copa": TEST_ROWS["copa"]}, arithmetic.errata("compacter").set_index("item")
    for key, label in (("plusplus", "Compacter++"), ("bitfit", "BitFit"), ("said", "Intrinsic-SAID")):
        row = rows.loc[f"change of memory by {label}, relative to full fine-tuning"]
        found |= {f"{key}_printed": abs(float(row["printed"].strip("%"))), key: abs(float(row["recomputed"].strip("%")))}
    for key, label in (("lead", "Compacter (n=12)"), ("lead_plusplus", "Compacter++ (n=12)")):
        found[key] = float(rows.loc[f"{label} above full fine-tuning, CB and COPA left out", "recomputed"])
    return found
