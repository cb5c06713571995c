"""What HyperFormer's relations (errata.toml) call, and what its errata page says of them."""

from __future__ import annotations

import pandas as pd

from peftlib.report import averages

TASKS = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")


def margin() -> float:
    """What two GLUE averages may differ by and still be alike: two standard errors, in points, on the test splits of
    section 3 (the official validation splits, those of small tasks halved)."""
    return averages.margin({task: averages.TEST_ROWS[task] for task in TASKS})


FUNCTIONS = {"margin": margin}


def headline(errata: pd.DataFrame) -> dict[str, str]:
    """For the page's summary, of the rows of `peftlib.report.arithmetic.errata`: leads as printed and without RTE, what the
    frozen output layer saves, which reduction factors validation chooses, how many few-shot leads are significant."""
    rows = errata.set_index("item")
    found: dict[str, str] = {}
    for key, item in {
        "lead": "HyperFormer-Base above Adapters†-Base, RTE left out",
        "single": "HyperFormer++-Small above T5-Small (single-task), RTE left out",
        "output": "times fewer parameters by a frozen output layer, T5-Base",
        "small": "reduction factor with the highest validation average, HyperFormer++-Small",
        "base": "reduction factor with the highest validation average, HyperFormer++-Base",
        "few": "settings of 47 in which HyperFormer++ is above Adapters†-Base by two standard errors of the difference",
        "best": "settings of 47 in which HyperFormer++ is best",
    }.items():
        found |= {key: rows.loc[item, "recomputed"], f"{key}_printed": rows.loc[item, "printed"]}
    return found
