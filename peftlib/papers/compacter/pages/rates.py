"""Compacter's learning rates (Tables 4, 5, 10, 11): the rate that the paper chose for each method beside ours."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from peftlib.grids import get_preset
from peftlib.papers import paper_table
from peftlib.report import fill, say, style
from peftlib.report.learned import untaught
from peftlib.report.tables import frame, rate_grid

GRID = (3e-5, 3e-4, 3e-3, 3e-2, 3e-1)  # the paper's, appendix A
OTHERS = ("method", "best, paper", "best, ours", "used", "agree", "at the edge", "paper's rate costs")  # but the scores
SERVES = {"table4": "rates_near", "table5": "table7", "table10": "table9", "table11": "table2"}  # search -> what it is for
NONE = "no rate learned"
DARK = 10  # points below a method's best at which the figure is darkest


def grid(preset: str) -> Markdown:
    """Which rates a preset tries."""
    found = get_preset(preset).at("compacter").search_lr
    return Markdown(
        f"This preset tries {', '.join(f'{lr:g}' for lr in found)}."
        if found
        else "This preset names no grid of learning rates: nothing is searched, and the tables below show the "
        "paper's rates alone."
    )


def rates(name: str, source: Sequence[dict], preset: str) -> pd.DataFrame:
    """A search beside the paper's, one row a method of its table.

    Args:
        name: "table4", "table5", "table10" or "table11".
        source: records of the search.
        preset: whose rates are used in what the search is for.

    Returns:
        ``method``; one column a rate, the mean validation score there out of 100 or "diverged"; ``best, paper``; ``best,
        ours``, the lower of equals; ``used``; whether the two ``agree``; whether ours is ``at the edge`` of what was asked
        for, so that a better one may lie outside; ``paper's rate costs``: points by which the paper's rate is below our
        best one. `NONE` in place of these three where no rate taught the method anything: which is best is chance. None
        where nothing has been run.
    """
    tried = rate_grid(source, get_preset(preset).at(f"compacter/{SERVES[name]}").learning_rate)
    columns = [column for column in tried.columns if column not in ("method", "best", "used")]
    found, asked, lost = {row["method"]: row for row in tried.to_dict("records")}, _asked(source), untaught(source)
    out = []
    for line in paper_table("compacter", name).itertuples():
        own = found.get(line.method, {})
        scores = {rate: 100 * own[rate] if isinstance(own.get(rate), float) else own.get(rate) for rate in columns}
        there, best = scores.get(f"{line.lr:g}"), own.get("best")
        told = {
            "agree": None if best is None else "yes" if best == line.lr else "no",
            "at the edge": None if best is None else "yes" if best in (min(asked), max(asked)) else "no",
            "paper's rate costs": scores[f"{best:g}"] - there if isinstance(there, float) else None,
        }
        out.append(
            {
                "method": line.method,
                **scores,
                "best, paper": line.lr,
                "best, ours": best,
                "used": own.get("used"),
                **(dict.fromkeys(told, NONE) if line.method in lost else told),
            }
        )
    return frame(out)


def _asked(source: Sequence[dict]) -> set[float]:
    """The rates of the search, those without a record too."""
    wanted = {run.recipe.lr for run in getattr(source, "wanted", ())}
    return wanted or {r["run"]["recipe"]["lr"] for r in source}


def agreement(found: pd.DataFrame) -> dict[str, int | None]:
    """Of a table of `rates`: how many of the ``n`` methods that some rate taught something ``agree`` with the paper, how
    many are at the ``edge`` of our grid and how many at the edge of the paper's (``paper_edge``), and for how many of those
    that disagree the paper's rate costs less than a point (``close``). None for each without records."""
    there = found[found["best, ours"].notna()]
    if there.empty:
        return dict.fromkeys(("n", "agree", "edge", "paper_edge", "close"))
    there = there[there["agree"] != NONE]
    other = there[there["agree"] == "no"]["paper's rate costs"].dropna()
    return {
        "n": len(there),
        "agree": int((there["agree"] == "yes").sum()),
        "edge": int((there["at the edge"] == "yes").sum()),
        "paper_edge": int(there["best, paper"].isin([GRID[0], GRID[-1]]).sum()),
        "close": int((other < 1).sum()),
    }


def sentence(found: pd.DataFrame) -> Markdown:
    """`agreement` in words, and which methods no rate taught anything."""
    said = say(
        "The best rate is the paper's for **{agree} of {n} methods**. For {close} of the others the paper's rate costs "
        "less than one point. {edge} of our choices and {paper_edge} of the paper's lie at an edge of the grid.",
        **agreement(found),
    )
    lost = list(found["method"][found["agree"] == NONE]) if len(found) else []
    if not lost:
        return said
    return Markdown(
        f"{said.data} "
        + fill(
            "**No rate taught {names} anything**: none is further above the commonest answer on validation than chance "
            "explains for so many runs, and which rate is best for {it} is chance.",
            names=" and ".join(lost),
            it="it" if len(lost) == 1 else "them",
        )
    )


def formats(found: pd.DataFrame) -> dict[str, str]:
    """How the numbers of such a table are written."""
    scores = [column for column in found.columns if column not in OTHERS]
    return (
        dict.fromkeys(scores, ".1f")
        | dict.fromkeys(("best, paper", "best, ours", "used"), "g")
        | {"paper's rate costs": ".1f"}
    )


def figure(found: pd.DataFrame) -> Figure | None:
    """Scores by method and rate, the darker the further below the method's best; the paper's rate is framed, our best
    one bold. found: of `rates`. None without records."""
    columns = [column for column in found.columns if column not in OTHERS]
    there = found[found["best, ours"].notna()]
    if there.empty:
        return None
    scores = there[columns].apply(pd.to_numeric, errors="coerce")  # a run that diverged has none
    behind = scores.sub(scores.max(axis=1), axis=0)
    fig, ax = plt.subplots(figsize=(2.4 + 1.1 * len(columns), 1.2 + 0.36 * len(there)))
    image = ax.imshow(behind, cmap="cividis", aspect="auto", vmin=-DARK, vmax=0)
    chosen = zip(there["best, paper"], there["best, ours"], strict=True)
    for y, (paper, ours) in enumerate(chosen):
        for x, column in enumerate(columns):
            score, below = scores.iloc[y, x], behind.iloc[y, x]
            ax.annotate(
                "–" if pd.isna(score) else f"{score:.1f}",
                (x, y),
                ha="center",
                va="center",
                fontsize=9,
                color=style.GREY if pd.isna(score) else "black" if below > -DARK / 2 else "white",
                weight="bold" if column == f"{ours:g}" else "normal",
            )
            if column == f"{paper:g}":
                ax.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, ec=style.VERMILLION, lw=2))
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(there)), map(style.plain, there["method"]))
    ax.set_xlabel("learning rate")
    ax.grid(visible=False)
    fig.colorbar(image, label="points to the method's best", extend="min")
    return fig
