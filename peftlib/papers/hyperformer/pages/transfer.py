"""HyperFormer's few examples: Table 2, on other tasks, and Figure 2, on GLUE."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from peftlib import papers
from peftlib.papers.hyperformer.experiments import task_of
from peftlib.papers.hyperformer.rows import NEAREST, TRANSFERRED, at_size, expression
from peftlib.report import suites
from peftlib.report.averages import keys
from peftlib.report.tables import Html, by_label, frame, less, table
from peftlib.study import Results

# The paper's columns by what rows are called, without their size.
COLUMNS = {name.partition(" (")[0]: name for name in TRANSFERRED}
PRINTED = dict(zip(COLUMNS, ("t5_base", "adapters_base", "hyperformer_base"), strict=True))
OURS = "HyperFormer++-Base"
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


def settings(source: Results) -> pd.DataFrame:
    """One row for each of Table 2's data sets and numbers of examples that were asked for: ``data set`` (under the name
    that ours has), ``examples``, and for each of the three rows the paper's accuracy and ours (test); ``n`` seeds."""
    paper, rows = papers.paper_table("hyperformer", "table2"), []
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
                rows.append(row | {"n": max(suites.seeds(groups.get(label, [])) for label in labels.values())})
    return frame(rows)


def best(found: pd.DataFrame) -> dict[str, int | None]:
    """Of a table of `settings`: in how many of the ``n`` that all three have learned HyperFormer++ is the best of them, in
    the ``paper`` and in ``ours``; None for each if there is none."""
    columns = [f"{name}, ours" for name in COLUMNS]
    there = [row for row in found.to_dict("records") if all(row[column] and not row[column].marks for column in columns)]
    if not there:
        return {"n": None, "paper": None, "ours": None}
    won = {
        who: sum(
            all(float(row[f"{OURS}, {who}"]) > float(row[f"{name}, {who}"]) for name in COLUMNS if name != OURS)
            for row in there
        )
        for who in ("paper", "ours")
    }
    return {"n": len(there), **won}


def panels(found: pd.DataFrame, tasks: Collection[str]) -> dict[str, pd.DataFrame]:
    """For `peftlib.report.figures.over`: our accuracies by the number of examples, a panel a data set. tasks: which, by
    their real names."""
    titles = tuple(suites.TITLES[task] for task in tasks)
    return {
        str(name): frame(
            {"method": expression(label), "name": row_name, "x": row["examples"], "y": row[f"{row_name}, ours"]}
            for row_name, label in COLUMNS.items()
            for row in rows.to_dict("records")
        )
        for name, rows in found.groupby("data set", sort=False)
        if str(name).endswith(titles)  # of a stand-in: "..., for IMDB"
    }


# --- Figure 2 ---------------------------------------------------------------------------------------------------------
def by_size(source: Results) -> pd.DataFrame:
    """One row a number of examples: ``examples``; the average of each of the three rows over tasks, means and spreads over
    seeds; ``to T5`` and ``to adapters``, how far HyperFormer++ is above them; None where nothing has been run."""
    found, rows = suites.numbers(source), []
    first, second, _ = COLUMNS
    for size in dict.fromkeys(run.limits[0] for run in source.wanted):
        ours = {name: found.get(at_size(name, size), {}).get("average") for name in COLUMNS}  # type: ignore[arg-type]  # sizes
        gaps = {title: less(ours[OURS], ours[name]) for title, name in (("to T5", first), ("to adapters", second))}
        rows.append({"examples": size, **ours, **gaps})
    return frame(rows)


def points(found: pd.DataFrame) -> pd.DataFrame:
    """For `peftlib.report.figures.over`: of a table of `by_size`."""
    return frame(
        {"method": expression(label), "name": name, "x": row["examples"], "y": row[name]}
        for name, label in COLUMNS.items()
        for row in found.to_dict("records")
    )


def ahead(found: pd.DataFrame) -> dict[str, int | float | None]:
    """Of a table of `by_size`: at how many of the ``n`` sizes that were run HyperFormer++ is above full fine-tuning, and by
    how much at the smallest (``low`` examples, ``low_gap``) and the largest; None without any."""
    there = [row for row in found.to_dict("records") if row["to T5"] is not None]
    if not there:
        return dict.fromkeys(("n", "ahead", "low", "low_gap", "high", "high_gap"))
    return {
        "n": len(there),
        "ahead": sum(row["to T5"] > 0 for row in there),
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
