"""Tables over a suite of tasks: a method a row, each task trained by itself, in points out of 100 as the papers print them.

Scores are those of the test split at the epoch that was best on validation.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pandas as pd

from peftlib.data.tasks import STAND_INS, get_task
from peftlib.report import commonest, learned, shares, tables
from peftlib.report.averages import keys
from peftlib.report.tables import Spread, by_label, frame
from peftlib.study import Results

TITLES = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "qqp": "QQP",
    "stsb": "STS-B",
    "mnli": "MNLI",
    "qnli": "QNLI",
    "rte": "RTE",
    "boolq": "BoolQ",
    "cb": "CB",
    "copa": "COPA",
    "multirc": "MultiRC",
    "record": "ReCoRD",
    "wic": "WiC",
    "wnli": "WNLI",
    "axb": "AX-b",
    "axg": "AX-g",
    "scitail": "SciTail",
    "trec": "TREC",
    "imdb": "IMDB",
    "yelp_polarity": "Yelp polarity",
    "paws": "PAWS",
    "authors": "authors",
}
METRICS = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "F1",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "exact_match": "EM",
    "entity_f1": "F1",
    "entity_em": "EM",
    "matthews": "Matthews",
    "gender_parity": "parity",
}
CONSTANT = "always the commonest label"
SHARES: dict[str, str | Callable[[float], str]] = {  # formats of two columns
    "trained, %": ".3f",
    "trained, ours": lambda percent: f"{percent:.3f}%",
}
STANDS_FOR = {there: task for task, there in STAND_INS.items() if there}


# --- names of numbers -------------------------------------------------------------------------------------------------
def real(task: str) -> str:
    """The task that a stand-in stands for; any other task itself."""
    return STANDS_FOR.get(task, task)


def title(task: str) -> str:
    """What a task is called, whatever its suite."""
    return TITLES.get(task) or tables.TITLES.get(task, task.upper())


def heading(key: str) -> str:
    """The title of a number's column: "CoLA", "MRPC F1", "quora, for QQP"."""
    task, _, metric = key.partition(".")
    name = f"{task}, for {TITLES[real(task)]}" if task in STANDS_FOR else TITLES[task]
    return f"{name} {METRICS[metric]}" if metric else name


def headings(source: Sequence[dict], left_out: Collection[str] | None = None) -> dict[str, str]:
    """The titles of a table's columns by the names of their numbers; an uninformative one says so."""
    out = learned.uninformative(source) if left_out is None else left_out
    return {
        key: heading(key) + (f", {learned.UNINFORMATIVE}" if task in out else "")
        for task in tasks(source)
        for key in keys(task)
    }


def printed_column(key: str) -> str:
    """The number of a paper's table (`peftlib.report.declared`) that ours stands beside: that of the real task."""
    task, _, metric = key.partition(".")
    known = keys(real(task))
    return known[0] if len(known) == 1 else f"{real(task)}.{metric or get_task(task).metric}"


def stand_ins(source: Sequence[dict]) -> dict[str, str]:
    """By the number of a paper's table, that of the stand-in which these runs have in its place."""
    return {printed_column(key): key for task in tasks(source) if task in STANDS_FOR for key in keys(task)}


# --- numbers ----------------------------------------------------------------------------------------------------------
def numbers(
    source: Sequence[dict], split: str = "test", left_out: Collection[str] | None = None, scale: float = 100
) -> dict[str, dict[str, Spread | None]]:
    """By row label: every number of every task, ``rte``, ``mrpc.accuracy``, ``mrpc.f1``, and "average".

    The average is the mean over all numbers of informative tasks, by which a task of two metrics weighs double; that is
    how Compacter's "Avg" comes about (see `peftlib.training.metrics.average`). It is None, as a number is, where a run that
    it needs is missing. Means and spreads are over the seeds that count, and marked where others did not learn; see
    `peftlib.report.tables.counted`. The verdicts rest on the same numbers (`peftlib.report.evidence.measured`).

    left_out: tasks that are in no average, the uninformative ones unless said otherwise. scale: what a full score is.
    """
    columns = [key for task in tasks(source) for key in keys(task)]
    averaged, out = averaged_keys(source, left_out), {}
    for label, records in by_label(source).items():
        found = {key: tables.counted(records, key, split, scale) for key in columns}
        average = tables.mean_of([found[key] for key in averaged])
        out[label] = {key: one.spread for key, one in found.items()} | {"average": average}
    return out


def of_seeds(
    source: Sequence[dict], split: str = "test", left_out: Collection[str] | None = None, scale: float = 100
) -> dict[str, dict[int, dict[str, float]]]:
    """By row label and seed every number, and the "average" where all that it is over are there: of all seeds, of which the
    means of `numbers` leave out those that did not learn what others did."""
    averaged = averaged_keys(source, left_out)
    out: dict[str, dict[int, dict[str, float]]] = {}
    for label, records in by_label(source).items():
        by_seed = out.setdefault(label, {})
        for r in records:
            by_seed.setdefault(r["run"]["seed"], {}).update({key: scale * v for key, v in r[split].items()})
        for found in by_seed.values():
            if averaged and set(averaged) <= set(found):
                found["average"] = statistics.fmean(found[key] for key in averaged)
    return out


def averaged_keys(source: Sequence[dict], left_out: Collection[str] | None = None) -> list[str]:
    """The numbers that an average is over: all but those of the tasks left out, the uninformative ones unless said
    otherwise."""
    out = learned.uninformative(source) if left_out is None else left_out
    return [key for task in tasks(source) if task not in out for key in keys(task)]


def uninformative(*sources: Sequence[dict]) -> list[str]:
    """The tasks that are uninformative in one of several tables or more, for averages that are compared."""
    return list(dict.fromkeys(task for source in sources for task in learned.uninformative(source)))


def tasks(source: Sequence[dict]) -> list[str]:
    """The tasks that were asked for, in order."""
    runs = [run.tasks for run in getattr(source, "wanted", ())] or [r["run"]["tasks"] for r in source]
    return list(dict.fromkeys(task for names in runs for task in names))


def only(source: Results, names: Collection[str]) -> Results:
    """The runs on these tasks and no others."""
    return source.only(lambda run: set(run.tasks) <= set(names))


def paper_averages(paper: pd.DataFrame, source: Sequence[dict], left_out: Collection[str] | None = None) -> pd.Series:
    """The paper's average by row, over the numbers that the average of `source` is over, too: of stand-ins, those of the
    real task; over all its numbers if there is none.

    paper: rows of `peftlib.report.declared.read`, whose columns of scores are called as in records."""
    ours = [printed_column(key) for key in averaged_keys(source, left_out)]
    every = [name for name in paper.columns if name.partition(".")[0] in TITLES]
    return paper[ours or every].astype(float).mean(axis=1)


def trained(records: Sequence[dict]) -> float | None:
    """Parameters trained for a task in percent of the backbone, heads apart; None without records."""
    return shares.updated(records[0]) if records else None


def seeds(records: Sequence[dict]) -> int:
    """How many seeds there are."""
    return len({r["run"]["seed"] for r in records})


def order(both: pd.DataFrame) -> dict[str, float | int | None]:
    """Of a table of `peftlib.report.declared.averages`: Spearman's ``rho`` between the paper's averages on the same tasks
    and ours, and the ``n`` rows that have both; None for both below three rows, or if all averages of one are equal."""
    from scipy.stats import spearmanr

    there = both[both["average, ours"].notna()]
    pair = there["same tasks, paper"].map(float), there["average, ours"].map(float)
    if len(there) < 3 or any(values.nunique() == 1 for values in pair):
        return {"rho": None, "n": None}
    return {"rho": float(spearmanr(*pair).statistic), "n": len(there)}


def below(both: pd.DataFrame, full: str) -> dict[str, int | None]:
    """Of a table of `peftlib.report.declared.averages`: how many rows are below full fine-tuning; see `tally`."""
    return tally(both[both["method"] != full], "to full", lambda points: points < 0)


def tally(table: pd.DataFrame, what: str, holds: Callable[[Any], bool]) -> dict[str, int | None]:
    """For how many of the ``n`` rows that we have run something holds, in the ``paper`` and in ``ours``; None for each
    if there is no such row. what: begins the names of the two columns, "``what``, paper" and "``what``, ours"."""
    there = table[table[f"{what}, ours"].notna()]
    if there.empty:
        return {"n": None, "paper": None, "ours": None}
    return {"n": len(there), **{who: int(there[f"{what}, {who}"].map(holds).sum()) for who in ("paper", "ours")}}


# --- tables -----------------------------------------------------------------------------------------------------------
def by_task(source: Sequence[dict], scale: float = 100, left_out: Collection[str] | None = None) -> pd.DataFrame:
    """Our scores: ``method``, one column for each number of each task, ``average``, ``trained, %``, ``n`` seeds; first
    those of the commonest label, where they are known. scale: what a full score is. left_out: see `numbers`."""
    groups, rows, titles = by_label(source), constant(source, scale, left_out), headings(source, left_out)
    for label, row in numbers(source, scale=scale, left_out=left_out).items():
        shown = {titles[key]: value for key, value in row.items() if key != "average"}
        rows.append(
            {
                "method": label,
                **shown,
                "average": row["average"],
                "trained, %": trained(groups[label]),
                "n": seeds(groups[label]),
            }
        )
    return frame(rows)


def constant(source: Sequence[dict], scale: float = 100, left_out: Collection[str] | None = None) -> list[dict]:
    """The row of the commonest label as `by_task` has it, or none if a number of it is not known."""
    found: dict[str, dict[tuple, float]] = {}
    for run in getattr(source, "wanted", ()):
        for task in run.tasks:
            values = commonest.scores(run, task)
            if values is None:
                return []
            for key, metric in zip(keys(task), get_task(task).metrics, strict=True):
                found.setdefault(key, {})[run.limits] = scale * values[metric]
    if not found:
        return []
    shown, titles = {key: Spread.of(values.values()) for key, values in found.items()}, headings(source, left_out)
    averaged = averaged_keys(source, left_out)
    average = statistics.fmean(statistics.fmean(found[key].values()) for key in averaged) if averaged else None
    count = max(map(len, found.values()))
    return [
        {
            "method": CONSTANT,
            **{titles[key]: value for key, value in shown.items()},
            "average": average,
            "trained, %": 0.0,
            "n": count,
        }
    ]


def formats(table: pd.DataFrame) -> dict[str, str | Callable[[float], str]]:
    """How the numbers of such tables are written: scores with two digits, differences with a sign."""
    signed = [name for name in table.columns if name.startswith(("to full", "gain"))]
    found: dict[str, str | Callable[[float], str]] = dict.fromkeys(table.columns, ".2f")
    return found | dict.fromkeys(signed, "+.2f") | SHARES
