"""A paper's two columns of parameters beside our counts: those trained for a task, those of all tasks with the backbone."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from peftlib.report.tables import Html, table


def parameters(counted: pd.DataFrame, title: str) -> Html:
    """counted: columns method, trained, trained_percent, trained_printed, trained_agrees, total, total_printed,
    total_agrees and note."""
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
    return table(shown, caption=f"{title}: parameters, ours and the paper's", formats={"% of T5": ".4f"})


def agreement(tables: Iterable[pd.DataFrame]) -> dict[str, int]:
    """Over tables as `parameters` takes them: printed ``cells``, and how many are ``right``: what ours rounds to."""
    cells = pd.concat([counted[["trained_agrees", "total_agrees"]] for counted in tables])
    return {"cells": cells.size, "right": int(cells.to_numpy().sum())}
