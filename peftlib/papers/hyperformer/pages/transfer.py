"""HyperFormer's few examples: Table 2, on other tasks, and Figure 2, on GLUE."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from peftlib import papers
from peftlib.papers.hyperformer.experiments import task_of
from peftlib.papers.hyperformer.rows import NEAREST, TRANSFERRED, at_size, expression
from peftlib.report import suites
from peftlib.report.averages import keys
from peftlib.report.evidence import AVERAGE, Rows, Unknown, Untestable, measured
from peftlib.report.tables import Html, Spread, by_label, frame, less, table
from peftlib.report.uncertainty import smallest_seen
from peftlib.study import Results

# The paper's columns by what rows are called, without their size.
COLUMNS = {name.partition(" (")[0]: name for name in TRANSFERRED}
PRINTED = dict(zip(COLUMNS, ("t5_base", "adapters_base", "hyperformer_base"), strict=True))
OURS = "HyperFormer++-Base"
SEEN = "could be seen"
SEEN_IS = (
    f"{SEEN}: the smallest difference of HyperFormer++ from both of the others that would have been told from zero, half "
    "the width of its 95 % interval, over test rows and seeds."
)
# Data sets that are drawn together, by the tasks that they begin with.
ASKED = [task for task, nearest in NEAREST.items() if nearest in ("mnli", "qnli")]
LIKE = [task for task, nearest in NEAREST.items() if nearest in ("sst2", "qqp")]


def printed() -> Html:
    """Table 2 as printed: each mean with its deviation."""
    texts = papers.read_table(papers.FOLDER / "hyperformer" / "numbers" / "table2.csv")
    shown = texts[["dataset", "samples"]].set_axis(["data set", "examples"], axis=1)
    for name, column in PRINTED.items():
        shown[name] = texts[column] + " ± " + texts[f"{column}_deviation"]
    return table(shown, caption="HyperFormer, Table 2: accuracy after few-shot transfer, means and deviations of 5 seeds")


def _drawn(name: str, source: Results) -> Rows:
    """The numbers of an experiment, in points, with their draws; none where nothing tells how much a seed matters."""
    try:
        return measured(name, source, unit=100)
    except Untestable:
        return Rows(name, {})


def could_be_seen(rows: Rows, size: int, key: str) -> float | None:
    """The smallest difference of HyperFormer++ from full fine-tuning, and from Adapters†, that would both have been told
    from zero at a number of examples, as verdicts have it; None where a row has not been run. rows: in points."""
    try:
        *others, own = (rows.whatever(at_size(name, size), key) for name in TRANSFERRED)
    except Unknown:
        return None
    return max(smallest_seen(own - other) for other in others)


def settings(source: Results) -> pd.DataFrame:
    """One row for each of Table 2's data sets and numbers of examples that were asked for: ``data set`` (under the name
    that ours has), ``examples``, and for each of the three rows the paper's accuracy and ours (test); what ``could be
    seen``; ``n`` seeds."""
    paper, rows = papers.paper_table("hyperformer", "table2"), []
    drawn = _drawn("hyperformer/table2", source)
    for task in dict.fromkeys(run.tasks[0] for run in source.wanted):
        of_task = suites.only(source, [task])
        sizes, groups, ours = {run.limits[0] for run in of_task.wanted}, by_label(of_task), suites.numbers(of_task)
        for line in paper[paper["dataset"].map(task_of) == suites.real(task)].to_dict("records"):
            if (size := int(line["samples"])) in sizes:
                row: dict[str, object] = {"data set": suites.heading(task), "examples": size}
                labels = {name: at_size(name, size) for name in COLUMNS}
                for name, label in labels.items():
                    row[f"{name}, paper"] = float(line[PRINTED[name]])
                    row[f"{name}, ours"] = ours.get(label, {}).get(keys(task)[0])
                row[SEEN] = could_be_seen(drawn, size, keys(task)[0])
                rows.append(row | {"n": max(suites.seeds(groups.get(label, [])) for label in labels.values())})
    return frame(rows)


def best(found: pd.DataFrame) -> dict[str, int | None]:
    """Of a table of `settings`: in how many of the ``n`` that all three have learned HyperFormer++ is the best of them, in
    the ``paper`` and in ``ours``, and in how many of ours by more than could be ``seen``; None for each without any."""
    columns = [f"{name}, ours" for name in COLUMNS]
    there = [row for row in found.to_dict("records") if all(row[column] and not row[column].marks for column in columns)]
    if not there:
        return dict.fromkeys(("n", "paper", "ours", "seen"))
    leads = {who: [_lead(row, who) for row in there] for who in ("paper", "ours")}
    seen = sum(row[SEEN] is not None and lead > row[SEEN] for lead, row in zip(leads["ours"], there, strict=True))
    return {"n": len(there), **{who: sum(lead > 0 for lead in of) for who, of in leads.items()}, "seen": seen}


def _lead(row: dict, who: str) -> float:
    """What HyperFormer++ is above the better one of the two others."""
    return float(row[f"{OURS}, {who}"]) - max(float(row[f"{name}, {who}"]) for name in COLUMNS if name != OURS)


def panels(found: pd.DataFrame, tasks: Collection[str], source: Results) -> dict[str, pd.DataFrame]:
    """For `peftlib.report.figures.over`: our accuracies by the number of examples, with those of each seed, a panel a data
    set. tasks: which, by their real names. source: the runs of the table."""
    seeds, by_title = suites.of_seeds(source), {suites.heading(task): task for task in suites.tasks(source)}
    return {
        str(name): frame(
            _point(row_name, row["examples"], row[f"{row_name}, ours"], seeds, keys(by_title[str(name)])[0])
            for row_name in COLUMNS
            for row in rows.to_dict("records")
        )
        for name, rows in found.groupby("data set", sort=False)
        if suites.real(by_title[str(name)]) in tasks
    }


def _point(name: str, size: int, mean: Spread | None, seeds: dict[str, dict[int, dict[str, float]]], key: str) -> dict:
    """Of a row's line. seeds: of `peftlib.report.suites.of_seeds`."""
    scores = [of[key] for of in seeds.get(at_size(name, size), {}).values() if key in of]
    return {"method": expression(COLUMNS[name]), "name": name, "x": size, "y": mean, "seeds": scores}


# --- Figure 2 ---------------------------------------------------------------------------------------------------------
def by_size(source: Results) -> pd.DataFrame:
    """One row a number of examples: ``examples``; the average of each of the three rows over tasks, means and spreads over
    seeds; ``to T5`` and ``to adapters``, how far HyperFormer++ is above them, and what of that ``could be seen``; None
    where nothing has been run."""
    found, rows, drawn = suites.numbers(source), [], _drawn("hyperformer/figure2", source)
    first, second, _ = COLUMNS
    for size in dict.fromkeys(run.limits[0] for run in source.wanted):
        ours = {name: found.get(at_size(name, size), {}).get("average") for name in COLUMNS}  # type: ignore[arg-type]  # sizes
        gaps = {title: less(ours[OURS], ours[name]) for title, name in (("to T5", first), ("to adapters", second))}
        rows.append({"examples": size, **ours, **gaps, SEEN: could_be_seen(drawn, size, AVERAGE)})  # type: ignore[arg-type]  # sizes
    return frame(rows)


def points(found: pd.DataFrame, source: Results) -> pd.DataFrame:
    """For `peftlib.report.figures.over`: of a table of `by_size`, and the runs that it is of."""
    seeds = suites.of_seeds(source)
    return frame(
        _point(name, row["examples"], row[name], seeds, "average") for name in COLUMNS for row in found.to_dict("records")
    )


def ahead(found: pd.DataFrame) -> dict[str, int | float | None]:
    """Of a table of `by_size`: at how many of the ``n`` sizes that were run HyperFormer++ is above full fine-tuning, and at
    how many by more than could be ``seen``; by how much at the smallest (``low`` examples, ``low_gap``) and the largest;
    None without any."""
    there = [row for row in found.to_dict("records") if row["to T5"] is not None]
    if not there:
        return dict.fromkeys(("n", "ahead", "seen", "low", "low_gap", "high", "high_gap"))
    return {
        "n": len(there),
        "ahead": sum(row["to T5"] > 0 for row in there),
        "seen": sum(row[SEEN] is not None and row["to T5"] > row[SEEN] for row in there),
        "low": there[0]["examples"],
        "low_gap": there[0]["to T5"],
        "high": there[-1]["examples"],
        "high_gap": there[-1]["to T5"],
    }


def schedule(source: Results) -> pd.DataFrame:
    """By the number of ``examples`` of each task: of each run its ``steps``, and how many ``times`` it sees an example on
    average."""
    rows = {}
    for run in source.wanted:
        size, recipe = run.limits[0], run.recipe
        whole = len(run.tasks) * size  # type: ignore[operator]  # each has a size
        steps = recipe.epochs * (recipe.epoch_steps or len(run.tasks) * -(-size // recipe.batch_size))  # type: ignore[operator]  # as above
        rows[size] = {"examples": size, "steps": steps, "times": steps * recipe.batch_size / whole}
    return frame(rows.values())
