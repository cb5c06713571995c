"""Did a run learn? The rules, and how often each method fails them.

A run did not learn a task if

- it never left the commonest label: every test row got the same answer, or its test score, in the task's first metric, is
  no more than a standard error above what the commonest label scores on the same rows;
- it ended below a head alone, trained on the same examples for as many epochs, by more than a standard error.

It *collapsed* if it lost more than half of what it had reached above the commonest label on the validation rows, and more
than two standard errors.

Such a run is marked wherever it appears and decides nothing: a row's score on a task is the mean over the seeds that
learned it, in tables as in verdicts; where none did, over all, and it is no result (`counting`). A task on which no row of
a table can be told from the commonest label is *uninformative* there, and in no average.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from peftlib import records
from peftlib.comparison import budget
from peftlib.data.tasks import get_task
from peftlib.expressions import names
from peftlib.packed import unpack
from peftlib.records import Run
from peftlib.report import commonest
from peftlib.report.averages import keys, test_rows, validation_rows
from peftlib.report.uncertainty import CORRELATIONS, above, standard_error

SIGN = "✕"
WORDS = ("did not learn", "collapsed")
UNINFORMATIVE = "uninformative"


class Mark(NamedTuple):
    """Of a run that did not learn a task. word: one of `WORDS`. why: by which rule."""

    word: str
    why: str

    def __str__(self) -> str:
        return f"{SIGN} {self.word}"


def of(record: Mapping, task: str, split: str = "test") -> Mark | None:
    """Whether a run failed to learn one of its tasks, None if it did learn, or if nothing tells. split: by which it is
    judged; the runs of a search for learning rates by that which chooses, as they have few test rows."""
    run, key, metric = records.run_of(record), keys(task)[0], get_task(task).metric
    score, answers = record[split][key], record.get("predictions", {}).get(task) if split == "test" else None
    if answers is not None and np.ptp(unpack(answers)) == 0:
        return Mark("did not learn", "gave every test row the same answer")
    base, rows = to_beat(run, task, split), on_rows(record, task, split)
    if base is not None and rows:
        error = standard_error(metric, base, rows)
        if score <= base + error:
            return Mark("did not learn", f"{score:.3f} where the commonest label has {base:.3f} ± {error:.3f}")
    head = None if names(run.method) == ["HeadOnly"] else _head(record.get("preset", ""), run, key, split)
    if head is not None and rows and score < head - standard_error(metric, head, rows):
        return Mark("did not learn", f"{score:.3f} where a head alone has {head:.3f}")
    if base is not None:
        return _fell([epoch["validation"][key] for epoch in record["history"]], base, metric, run, task)
    return None


def _fell(curve: Sequence[float], base: float, metric: str, run: Run, task: str) -> Mark | None:
    """A mark if the validation scores lost more than half of their best distance to the commonest label's."""
    best, last = max(curve), curve[-1]
    rows = validation_rows(task, run.source, run.limits[1])
    noise = 2 * standard_error(metric, best, rows) if rows else math.inf
    if best - last > max((best - base) / 2, noise):
        return Mark("collapsed", f"fell from {best:.3f} to {last:.3f} where the commonest label has {base:.3f}")
    return None


def marks(found: Iterable[Mapping], task: str) -> tuple[str, ...]:
    """The words of those of the records that did not learn a task."""
    return tuple(mark.word for record in found if task in record["run"].get("tasks", ()) and (mark := of(record, task)))


class Counting(NamedTuple):
    """A row's runs of a task. runs: those that its score is the mean of. marks: the words of all that did not learn it.
    all_lost: did none?"""

    runs: list[Mapping]
    marks: tuple[str, ...]
    all_lost: bool


def counting(found: Iterable[Mapping], task: str) -> Counting:
    """Which of a row's runs count for a task: those that learned it, all if none did."""
    there = [(record, of(record, task)) for record in found if task in record["run"].get("tasks", ())]
    good = [record for record, mark in there if mark is None]
    marks = tuple(mark.word for _, mark in there if mark)
    return Counting(good or [record for record, _ in there], marks, bool(there) and not good)


def tested(record: Mapping, task: str) -> int | None:
    """On how many rows a run was tested: as many as it has predictions for, else as many as there are; None if nothing
    tells."""
    answers = record.get("predictions", {}).get(task)
    if answers is not None:
        return len(unpack(answers))
    return test_rows(task, record["run"]["source"], record["run"]["limits"][2])


def on_rows(record: Mapping, task: str, split: str) -> int | None:
    """On how many rows of a split a run was scored; None if nothing tells."""
    limit = record["run"]["limits"][1]
    return tested(record, task) if split == "test" else validation_rows(task, record["run"]["source"], limit)


def uninformative(source: Sequence[Mapping]) -> list[str]:
    """The tasks on which no row of a table, be it the best of all, can be told from the commonest label: none of its runs
    is further above it than chance explains for as many runs. Tasks of which the commonest label's score is not known are
    taken to be informative."""
    found: dict[str, list[Mapping]] = {}
    for record in source:
        for task in record["run"]["tasks"]:
            found.setdefault(task, []).append(record)
    return [task for task, made in found.items() if not any(told_apart(r, task, "test", len(made)) for r in made)]


def told_apart(record: Mapping, task: str, split: str, tries: int) -> bool:
    """Is a run's score, as the best of so many tries, above that of the commonest label?"""
    run = records.run_of(record)
    base = to_beat(run, task, split)
    rows = on_rows(record, task, split)
    if base is None or not rows:
        return True
    return above(get_task(task).metric, record[split][keys(task)[0]], base, rows, tries)


def untaught(source: Sequence[Mapping]) -> list[str]:
    """The rows of a search that none of its learning rates told from the commonest label on validation, whatever the task:
    the rate that is best for them is so by chance."""
    taught: dict[str, bool] = {}
    for record in source:
        apart = any(told_apart(record, task, "validation", len(source)) for task in record["run"]["tasks"])
        taught[record["run"]["label"]] = taught.get(record["run"]["label"], False) or apart
    return [label for label, any_rate in taught.items() if not any_rate]


def to_beat(run: Run, task: str, split: str = "test") -> float | None:
    """What the commonest label scores in a task's first metric on a run's test or validation rows, None where that is not
    known."""
    metric = get_task(task).metric
    if metric in CORRELATIONS:
        return 0.0  # an answer that does not vary correlates with nothing
    found = commonest.scores(run, task, split)
    return None if found is None else found[metric]


# --- a head alone -----------------------------------------------------------------------------------------------------
def _head(preset: str, run: Run, key: str, split: str) -> float | None:
    """The score of a head alone at a run's budget, the mean over seeds, if such runs are recorded."""
    found = _heads(preset).get(budget(run), []) if preset else []
    return sum(record[split][key] for record in found) / len(found) if found else None


@records.cached_here
def _heads(preset: str) -> dict[tuple, list[dict]]:
    """The heads alone that a preset has records of, by budget: the runs of one learning rate, the best on validation."""
    rates: dict[tuple, dict[float, list[dict]]] = {}
    for path in sorted(records.path_of(preset, "-").parent.glob("*.json")):
        if "HeadOnly" not in path.read_text(encoding="utf-8"):
            continue
        record = records.read(path)
        run = records.run_of(record)
        if names(run.method) == ["HeadOnly"] and "diverged" not in record:
            rates.setdefault(budget(run), {}).setdefault(run.recipe.lr, []).append(record)

    def level(found: list[dict]) -> float:
        return sum(record["validation"]["mean"] for record in found) / len(found)

    return {each: max(by.values(), key=level) for each, by in rates.items()}


# --- how often --------------------------------------------------------------------------------------------------------
def by_method(source: Sequence[Mapping]) -> list[dict]:
    """How often each method failed, once for each task of each run: ``method``, ``runs``, how many ``learned``, ``did not
    learn``, ``collapsed`` or ``diverged``, and the ``share`` that did not train as they should; the worst first."""
    rows: dict[str, dict] = {}
    lost = getattr(source, "diverged", ())
    for record in [*source, *lost]:
        method = " + ".join(names(record["run"]["method"]))
        row = rows.setdefault(method, {"method": method, "runs": 0} | dict.fromkeys(("learned", *WORDS, "diverged"), 0))
        for task in record["run"]["tasks"]:
            mark = None if "diverged" in record else of(record, task)
            row["runs"] += 1
            row["diverged" if "diverged" in record else mark.word if mark else "learned"] += 1
    for row in rows.values():
        row["share"] = 1 - row["learned"] / row["runs"]
    return sorted(rows.values(), key=lambda row: (-row["share"], row["method"]))


def counted(source: Iterable[Mapping]) -> dict[str, int]:
    """How many of these runs did not learn one of their tasks or more, and how many collapsed, by word. Those of a search
    for learning rates are judged on validation, by whose mean over tasks it chooses: one task that was learned suffices."""
    source = list(source)
    found, several = dict.fromkeys(WORDS, 0), _rates_tried(source)
    for record in source:
        split = "validation" if len(several[_but_for_rate(record)]) > 1 else "test"
        tasks = record["run"].get("tasks", ())
        words = {mark.word for task in tasks if (mark := of(record, task, split))}
        if words and (split == "test" or all(of(record, task, split) for task in tasks)):
            found[next(word for word in WORDS if word in words)] += 1
    return found


def _rates_tried(source: Iterable[Mapping]) -> dict[tuple, set[float]]:
    """By what runs have in common but for seed and learning rate: the rates that they tried. More than one is a search."""
    tried: dict[tuple, set[float]] = {}
    for record in source:
        tried.setdefault(_but_for_rate(record), set()).add(record["run"].get("recipe", {}).get("lr"))
    return tried


def _but_for_rate(record: Mapping) -> tuple:
    run = record["run"]
    recipe = tuple((name, value) for name, value in run.get("recipe", {}).items() if name != "lr")
    named = (run.get(name) for name in ("label", "method", "backbone", "source"))
    return (*named, *(tuple(run.get(name, ())) for name in ("tasks", "limits")), recipe)
