"""Compacter's Figure 4: scores of two methods by the number of training examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import pandas as pd
from IPython.display import Markdown

from peftlib.papers.compacter.experiments import FULL
from peftlib.report import suites
from peftlib.report.evidence import AVERAGE, Rows, measured
from peftlib.report.learned import WORDS
from peftlib.report.sentences import say
from peftlib.report.tables import IN_PART, Spread, by_label, frame, many
from peftlib.report.uncertainty import interval
from peftlib.study import Results

NAME = "compacter/figure4"
LOST = WORDS[0]
SMALL = "Compacter++ (n=4)"


def by_size(source: Results) -> pd.DataFrame:
    """One row a size: ``examples``, the average of both methods over seeds (`Spread`), the ``gap`` (Compacter++ less full
    fine-tuning) with its 95 % interval, the number that the verdicts rest on, and the number of seeds ``n`` that have every
    run of both; marked where runs did not learn, None where nothing has been run."""
    found, groups, rows = suites.numbers(source), by_label(source), []
    measures = measured(NAME, source, unit=100) if source else Rows(NAME, {})
    for size in sizes(groups):
        labels = {name: f"{name}, {size}" for name in (FULL, SMALL)}
        own = {name: found.get(label, {}).get("average") for name, label in labels.items()}
        gap = None
        if all(own.values()):
            number = measures.whatever(labels[SMALL], AVERAGE) - measures.whatever(labels[FULL], AVERAGE)
            gone = any(measures.gone(label, AVERAGE) for label in labels.values())
            partly = any(score.marks for score in own.values() if score)
            gap = Spread(float(number[0]), None, 1, (LOST,) if gone else (IN_PART,) if partly else (), interval(number))
        rows.append(
            {"examples": size, **own, "gap": gap, "n": _seeds(groups[label] for label in labels.values()) if gap else 0}
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


def _seeds(groups: Iterable[Sequence[dict]]) -> int:
    """How many seeds have a run of every task of each of these rows."""
    runs = [{(r["run"]["seed"], task) for r in records for task in r["run"]["tasks"]} for records in groups]
    tasks = {task for found in runs for _, task in found}
    seeds = {seed for found in runs for seed, _ in found}
    return sum(all((seed, task) in found for found in runs for task in tasks) for seed in seeds)


def gaps(source: Results) -> dict[str, int]:
    """Of the ``sizes`` that have both methods: in how many the interval of the gap lies ``above`` zero, ``below`` it, or
    has it ``inside``; and how many are ``lost``, as runs of one method did not learn."""
    there = [row["gap"] for row in by_size(source).to_dict("records") if row["gap"] is not None]
    ends = [gap.ends for gap in there if LOST not in gap.marks]
    above, below = sum(low > 0 for low, _ in ends), sum(high < 0 for _, high in ends)
    return {
        "sizes": len(there),
        "above": above,
        "below": below,
        "inside": len(ends) - above - below,
        "lost": len(there) - len(ends),
    }


def _bare(score: Spread) -> Spread:
    return dataclasses.replace(score, marks=())


def sentence(source: Results) -> Markdown:
    """The gap at the smallest and the largest size, and what the intervals of all say."""
    rows = [row for row in by_size(source).to_dict("records") if row["gap"] is not None]
    if not rows:
        return say("{gap}", gap=None)
    shown = rows if len(rows) < 2 else [rows[0], rows[-1]]
    told = ", ".join(f"{_bare(row['gap']):+.2f} points with {row['examples']:,} examples" for row in shown)
    counted = gaps(source)
    words = {
        "above": "Compacter++ is ahead at {}",
        "below": "full fine-tuning is ahead at {}",
        "inside": "chance explains the difference at {}",
        "lost": "runs that did not learn leave {} open",
    }
    parts = [text.format(many(counted[name], "size")) for name, text in words.items() if counted[name]]
    return Markdown(f"Compacter++ less full fine-tuning: {told}. By the 95 % intervals {', '.join(parts)}.")
