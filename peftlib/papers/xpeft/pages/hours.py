"""Tables 8 and 9: hours of training by the number of adapters, and what a training step takes here."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from peftlib.papers import paper_table
from peftlib.papers.xpeft.checks import step_ratios
from peftlib.papers.xpeft.rows import NAME, SINGLE
from peftlib.report import style
from peftlib.report.efficiency import benchmark, not_measured, where
from peftlib.report.suites import title
from peftlib.report.tables import Html, table


def ratios(name: str) -> pd.DataFrame:
    """By row of ``table8`` or ``table9``: its hours over those of a single adapter. Columns: all tasks together; and the
    longest task alone, whose hours have the most digits."""
    hours = paper_table("xpeft", name).set_index("method")
    longest = hours.loc[SINGLE].idxmax()
    found = pd.DataFrame({"all tasks": hours.sum(axis=1), longest: hours[longest]})
    return found / found.loc[SINGLE]


def beside(name: str) -> Html | Markdown:
    """The paper's ratios of hours, and the ratios of a training step here."""
    result = benchmark("xpeft")
    if result is None:
        return not_measured("xpeft")
    printed, ours = ratios(name), step_ratios(result)
    every, longest = printed.columns
    shown = pd.DataFrame(
        {
            "method": printed.index,
            "hours, paper": printed[every],
            f"hours on {title(longest)}, paper": printed[longest],
            "a step, ours": [ours.get(label) for label in printed.index],
        }
    )
    note = (
        f"Ours: {result['backbone']}, {result['batch']} sequences of {result['length']} tokens, {result['precision']}; "
        f"processor time, medians of {result['steps']} turns in which all variants run. {where(result)}"
    )
    return table(
        shown,
        caption="Training time over that of a single adapter",
        formats=dict.fromkeys(shown.columns[1:], ".2f"),
        note=note,
    )


def besides() -> Html | Markdown:
    """What else grows with the number of adapters, or does not: the memory of a step, and a batch of several profiles."""
    result = benchmark("xpeft")
    if result is None:
        return not_measured("xpeft")
    peak = result["peak_bytes_of_steps"]
    rows = [
        {
            "adapters": int(n),
            **{f"memory of a step, {mask}": peak[f"{mask} {n}"] / peak["adapter"] for mask in ("soft", "hard")},
            "a batch of as many profiles as rows": ratio,
        }
        for n, ratio in result["mixed_over_one_profile"].items()
    ]
    note = (
        "Memory: over that of a step with a single adapter, beside the weights that were there. A batch: served, each "
        f"row by a profile of its own, over the time of one whose rows have one profile. {where(result)}"
    )
    caption = "What else so many adapters cost"
    return table(pd.DataFrame(rows), caption=caption, formats=dict.fromkeys(list(rows[0])[1:], ".2f"), note=note)


def by_adapters(name: str) -> Figure | None:
    """Both ratios over the number of adapters; None without the benchmark."""
    result = benchmark("xpeft")
    if result is None:
        return None
    printed, ours = ratios(name)["all tasks"], step_ratios(result)
    fig, ax = plt.subplots(figsize=(6.4, 4.0))
    for mask, marker in (("soft", "o"), ("hard", "s")):
        rows = {int(found[1]): label for label in printed.index if (found := NAME.fullmatch(label)) and found[2] == mask}
        for who, values, color in (("paper", printed, style.GREY), ("ours", ours, style.BLUE)):
            there = {n: values[label] for n, label in rows.items() if label in values}
            fill = "none" if who == "paper" else color
            label = f"{who}, {mask}"
            ax.plot(list(there), list(there.values()), marker=marker, color=color, markerfacecolor=fill, label=label)
    ax.axhline(1, color=style.GREY, linewidth=0.8, linestyle=":")
    ax.set(xlabel="adapters", ylabel="time / that of a single adapter (log scale)", yscale="log")
    ax.set_xticks([100, 200, 400])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.legend()
    return fig


def highest(name: str) -> dict[str, float | None]:
    """For a sentence: the highest ratio of the paper's hours (``paper``) and of our steps (``ours``), with 400 adapters."""
    result = benchmark("xpeft")
    of_400 = [label for label in ratios(name).index if (found := NAME.fullmatch(label)) and found[1] == "400"]
    ours = [] if result is None else [ratio for label, ratio in step_ratios(result).items() if label in of_400]
    return {"paper": float(ratios(name).loc[of_400, "all tasks"].max()), "ours": max(ours, default=None)}
