"""Compacter's score tables (1, 2, 6, 7, 8, 9): the paper's rows beside ours, and what each table adds to that."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from peftlib.papers.compacter.experiments import expression, size_of
from peftlib.report import declared, figures, suites
from peftlib.report.tables import by_label, frame, less, union
from peftlib.study import Results


def full_of(name: str) -> str:
    """Label of full fine-tuning's row of a table."""
    return declared.read("compacter", name).full


def rows(name: str) -> pd.DataFrame:
    """A table of the paper by the labels of our runs, with full fine-tuning's row of Table 1 or 2 where it has none."""
    return declared.read("compacter", name).rows


def with_full(source: Sequence[dict], full: Results) -> Results:
    """The runs of a table after those of full fine-tuning on the same tasks."""
    return union(suites.only(full, suites.tasks(source)), source)


# --- Tables 6 and 8: by size ------------------------------------------------------------------------------------------
def by_size(both: pd.DataFrame, symbol: str) -> Figure | None:
    """Averages of the paper and of ours by ``n`` or ``d'``, one line a method, from a table of
    `peftlib.report.declared.averages`. None if nothing of ours is there."""
    sized = both[both["method"].str.contains(f"({symbol}=", regex=False)]
    if sized["average, ours"].isna().all():
        return None
    points = pd.DataFrame(
        {"method": [expression(label) for label in sized["method"]], "x": [size_of(label) for label in sized["method"]]}
    )
    panels = {
        who: points.assign(y=list(sized[column]))
        for who, column in (("paper, same tasks", "same tasks, paper"), ("ours", "average, ours"))
    }
    fig = figures.over(panels, symbol, "average (points)")
    ticks = sorted(set(points["x"]))
    for ax in fig.axes:  # type: ignore[union-attr]  # there are points
        ax.set_xticks(ticks, [f"{x:g}" if x < 100 else f"{x / 1000:g}K" for x in ticks])
        ax.minorticks_off()
    return fig


# --- Table 7: with and without the output layer -----------------------------------------------------------------------
def output_layer(trained: Sequence[dict], frozen: Sequence[dict]) -> pd.DataFrame:
    """What training the output layer gains, one row a method of Table 7.

    Returns:
        ``method``; the averages with ``layer trained`` and ``layer frozen`` and the ``gain``, of the paper (the frozen
        ones from Tables 1 and 6) and of ours; ``unreadable``, the percentage of written answers that are no label of
        their task, for both; ``n`` seeds. None where something that ours needs has not been run.
    """
    tables = {"trained": rows("table7"), "frozen": _frozen()}
    out_of_both = suites.uninformative(trained, frozen)
    paper = {name: suites.paper_averages(found, trained, out_of_both) for name, found in tables.items()}
    sources = {"trained": trained, "frozen": frozen}
    ours = {name: suites.numbers(source, left_out=out_of_both) for name, source in sources.items()}
    groups = {name: by_label(source) for name, source in sources.items()}
    out = []
    for label in tables["trained"].index:
        own = {name: found.get(label, {}).get("average") for name, found in ours.items()}
        records = {name: found.get(label, []) for name, found in groups.items()}
        row = {"method": label} | {f"layer {name}, paper": float(found[label]) for name, found in paper.items()}
        row |= {"gain, paper": row["layer trained, paper"] - row["layer frozen, paper"]}
        row |= {f"layer {name}, ours": found for name, found in own.items()}
        row |= {"gain, ours": less(own["trained"], own["frozen"])}
        row |= {f"unreadable %, {name}": unreadable(found) for name, found in records.items()}
        out.append(row | {"n": min(map(suites.seeds, records.values()))})
    return frame(out)


def gaining(both: pd.DataFrame) -> dict[str, int | None]:
    """Of a table of `output_layer`: how many methods gain by it; see `peftlib.report.suites.tally`."""
    return suites.tally(both, "gain", lambda points: points > 0)


def unreadable(records: Sequence[dict]) -> float | None:
    """Percent of the answers written for the test split that are no label of their task, mean over runs; None without
    runs that write answers."""
    found = [100 * r["test"]["unreadable"] for r in records if "unreadable" in r["test"]]
    return statistics.fmean(found) if found else None


def _frozen() -> pd.DataFrame:
    """Rows with the output layer frozen, all sizes: Tables 1 and 6."""
    both = pd.concat([rows("table1"), rows("table6")])
    return both[~both.index.duplicated()]


# --- Table 9: a smaller backbone --------------------------------------------------------------------------------------
def smaller(small: Sequence[dict], *large: Results) -> pd.DataFrame:
    """What each method loses on the smaller backbone, one row for each that the paper has on both.

    large: records of Tables 1 and 6, of which only the tasks of `small` are taken.

    Returns:
        ``method``; averages on the ``large`` and on the ``small`` backbone and what is ``lost``, of the paper (on the
        tasks that we run) and of ours; ``more than full``: does it lose more than full fine-tuning does? yes, no, or
        None where something that it needs has not been run.
    """
    left_out = suites.uninformative(small, *(suites.only(source, suites.tasks(small)) for source in large))
    tables = {"large": _frozen(), "small": rows("table9")}
    paper = {name: suites.paper_averages(found, small, left_out) for name, found in tables.items()}
    found = {
        label: row["average"]
        for source in large
        for label, row in suites.numbers(suites.only(source, suites.tasks(small)), left_out=left_out).items()
    }
    own = {label: row["average"] for label, row in suites.numbers(small, left_out=left_out).items()}
    labels = {full_of("table9"): "T5-Base"} | {label: label for label in paper["small"].index if label in paper["large"]}
    out = []
    for label, before in labels.items():
        ours = {"large": found.get(before), "small": own.get(label)}
        out.append(
            {
                "method": label,
                "large, paper": float(paper["large"][before]),
                "small, paper": float(paper["small"][label]),
                "lost, paper": float(paper["large"][before] - paper["small"][label]),
                "large, ours": ours["large"],
                "small, ours": ours["small"],
                "lost, ours": less(ours["large"], ours["small"]),
            }
        )
    for who in ("paper", "ours"):
        for row in out:
            pair = (row[f"lost, {who}"], out[0][f"lost, {who}"])
            row[f"more than full, {who}"] = None if None in pair else "yes" if pair[0] > pair[1] else "no"
    return frame(out)


def losing(lost: pd.DataFrame) -> dict[str, int | None]:
    """Of a table of `smaller`: how many methods lose more than full fine-tuning; see `peftlib.report.suites.tally`."""
    return suites.tally(lost[1:], "more than full", lambda answer: answer == "yes")
