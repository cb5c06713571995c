"""Compacter's Figure 1: score, share of trained parameters and memory of every method in one picture."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from peftlib.papers import paper_table
from peftlib.papers.compacter.experiments import expression, table3_row
from peftlib.papers.compacter.pages.budget import a_sequence
from peftlib.report import style, suites
from peftlib.report.efficiency import benchmark
from peftlib.report.tables import by_label, frame

COLUMNS = ("method", "expression", "percent", "score", "memory")
LARGEST = 900  # area of the largest circle, in square points


def of_paper() -> pd.DataFrame:
    """The paper's own: percentages and averages of Table 1, megabytes of Table 3, as `COLUMNS`."""
    memory = paper_table("compacter", "table3").set_index("method")["memory_mb"]
    table1 = paper_table("compacter", "table1")
    return frame(
        {
            "method": row["method"],
            "expression": expression(row["method"]),
            "percent": float(row["trained_printed"].rstrip("%")),
            "score": row["average"],
            "memory": memory[table3_row(row["method"])],
        }
        for row in table1.to_dict("records")
    )


def recorded(source: Sequence[dict]) -> pd.DataFrame:
    """Ours, as `COLUMNS`: averages over the suite (`Spread`) and percentages of the backbone from records of Table 1's
    runs, heads apart; megabytes for a sequence as estimated on T5-Base, None without estimates. None where nothing ran."""
    averages, estimates = suites.numbers(source), benchmark("budget")
    rows = []
    for label, records in by_label(source).items():
        memory = estimates and a_sequence(estimates["methods"][table3_row(label)]["largest"])
        rows.append(
            {
                "method": label,
                "expression": records[0]["run"]["method"] if records else None,
                "percent": suites.trained(records),
                "score": averages[label]["average"],
                "memory": memory,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def circles(points: pd.DataFrame, backbone: str) -> Figure | None:
    """One circle a method: its area is the memory, its number stands in the list beside, ordered by score.

    Args:
        points: with `COLUMNS`; rows that lack a number are left out.
        backbone: whose parameters the percentages are of.

    Returns:
        None if no row is complete.
    """
    whole = points.dropna(subset=["percent", "score", "memory"])
    if whole.empty:
        return None
    whole = whole.assign(at=whole["score"].map(float)).sort_values("at", ascending=False)
    most = whole["memory"].max()
    fig, ax = plt.subplots(figsize=(8.4, 5.2))
    lines = []
    for number, row in enumerate(whole.itertuples(), 1):
        ax.scatter(
            row.percent,
            row.at,
            s=LARGEST * row.memory / most,
            color=style.of(row.expression).color,
            alpha=0.4,
            edgecolor=style.GREY,
        )
        ax.annotate(f"{number}", (row.percent, row.at), ha="center", va="center", fontsize=9, fontweight="bold")
        name = style.plain(row.method)
        lines.append(f"{number:>2}  {name}: {row.score:.2f}, {row.percent:.3g} %, {row.memory:.0f} MB")
    ax.set(
        xscale="log",
        xlabel=style.plain(f"trained parameters, % of {backbone} (log scale)"),
        ylabel="average over GLUE (points)",
    )
    ax.margins(x=0.1, y=0.12)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.annotate("\n".join(lines), (1.03, 0.98), xycoords="axes fraction", va="top", fontsize=9, linespacing=1.7)
    return fig
