"""Tables of the Compacter chapter."""

from __future__ import annotations

import pandas as pd

from peftlib.papers.compacter import counts
from peftlib.report.tables import Html, table

TITLES = {
    "table1": "Table 1, GLUE",
    "table2": "Table 2, SuperGLUE",
    "table6": "Table 6, other sizes",
    "table7": "Table 7, output layer trained",
    "table8": "Table 8, SuperGLUE by n",
    "table9": "Table 9, T5-Small",
}


def parameters(name: str) -> Html:
    """The two parameter columns of ``table1``, 2, 6, 7, 8 or 9: ours and the paper's."""
    counted = counts.table(name)
    agree = counted["trained_agrees"].astype(bool) & counted["total_agrees"].astype(bool)
    shown = pd.DataFrame(
        {
            "method": counted["method"],
            "trained for a task": counted["trained"],
            "% of T5": counted["trained_percent"],
            "% of T5, paper": counted["trained_printed"],
            "multiple for all tasks": counted["total"],
            "multiple, paper": counted["total_printed"],
            "agree": agree.map({True: "yes", False: "no"}),
            "note": counted["note"],
        }
    )
    return table(shown, caption=f"{TITLES[name]}: parameters, ours and the paper's", formats={"% of T5": ".4f"})


def agreement() -> dict[str, int]:
    """Over all tables: printed ``cells``, and how many are ``right``, that is what ours rounds to."""
    cells = pd.concat([counts.table(name)[["trained_agrees", "total_agrees"]] for name in TITLES])
    return {"cells": cells.size, "right": int(cells.to_numpy().sum())}
