"""Compacter's Figure 4: scores of two methods by the number of training examples."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from peftlib.papers.compacter.experiments import FULL
from peftlib.report import suites
from peftlib.report.tables import Spread, by_label, frame
from peftlib.study import Results

SMALL = "Compacter++ (n=4)"


def averages(source: Results) -> dict[str, dict[int, float]]:
    """By row label, "T5-Base, 100": the average over the suite's tasks by seed, of seeds that have every task."""
    found: dict[str, dict[int, float]] = {}
    left_out = suites.uninformative(source)
    for seed in {run.seed for run in source.wanted}:
        of_seed = source.only(lambda run, seed=seed: run.seed == seed)  # type: ignore[misc]  # a default is no second argument
        for label, numbers in suites.numbers(of_seed, left_out=left_out).items():
            if numbers["average"]:
                found.setdefault(label, {})[seed] = numbers["average"].mean
    return found


def by_size(source: Results) -> pd.DataFrame:
    """One row a size: ``examples``, the average of both methods over seeds (`Spread`), the ``gap`` (Compacter++ less full
    fine-tuning, seed by seed) and the number of seeds ``n`` in it; None where nothing has been run."""
    found, rows = averages(source), []
    for size in sizes(by_label(source)):
        full, small = (found.get(f"{label}, {size}", {}) for label in (FULL, SMALL))
        both = [small[seed] - full[seed] for seed in full.keys() & small.keys()]
        rows.append(
            {
                "examples": size,
                FULL: Spread.of(full.values()),
                SMALL: Spread.of(small.values()),
                "gap": Spread.of(both),
                "n": len(both),
            }
        )
    return frame(rows)


def sizes(labels: Iterable[str]) -> list[int]:
    """The sizes of training sets that labels of rows name, "T5-Base, 100"."""
    return sorted({int(label.rpartition(", ")[2]) for label in labels})


def points(source: Results) -> pd.DataFrame:
    """For `peftlib.report.figures.over`: both methods' averages by size."""
    expressions = {run.label.rpartition(", ")[0]: run.method for run in source.wanted}
    return frame(
        {"method": method, "x": row["examples"], "y": row[label]}
        for row in by_size(source).to_dict("records")
        for label, method in expressions.items()
    )


def schedule(source: Results) -> pd.DataFrame:
    """By size: ``examples``, and of each run its ``epochs``, its ``examples seen`` and its ``steps``."""
    rows = {}
    for run in source.wanted:
        size, recipe = run.limits[0], run.recipe
        rows[size] = {
            "examples": size,
            "epochs": recipe.epochs,
            "examples seen": recipe.epochs * size,  # type: ignore[operator]  # each has a size
            "steps": recipe.epochs * -(-size // recipe.batch_size),  # type: ignore[operator]  # as above
        }
    return frame(rows[size] for size in sorted(rows))  # type: ignore[type-var]  # as above


def gaps(source: Results) -> dict[str, float | int | None]:
    """At the smallest and the largest size that have both methods: ``low``, ``low_gap``, ``high``, ``high_gap``, and how
    many of them there are with the gap above zero (``ahead`` of ``sizes``); None without any."""
    there = [row for row in by_size(source).to_dict("records") if row["gap"] is not None]
    if not there:
        return dict.fromkeys(("low", "low_gap", "high", "high_gap", "ahead", "sizes"))
    first, last = there[0], there[-1]
    return {
        "low": first["examples"],
        "low_gap": first["gap"].mean,
        "high": last["examples"],
        "high_gap": last["gap"].mean,
        "ahead": sum(row["gap"].mean > 0 for row in there),
        "sizes": len(there),
    }
