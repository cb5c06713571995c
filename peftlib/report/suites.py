"""Tables over a suite of tasks: a method a row, each task trained by itself, in points out of 100 as the papers print them.

Scores are those of the test split at the epoch that was best on validation.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from peftlib.data.tasks import get_task
from peftlib.report.tables import Spread, by_label

TITLES = {"cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "qqp": "QQP", "stsb": "STS-B", "mnli": "MNLI", "qnli": "QNLI",
          "rte": "RTE", "boolq": "BoolQ", "cb": "CB", "copa": "COPA", "multirc": "MultiRC", "record": "ReCoRD",
          "wic": "WiC"}


def numbers(source: Sequence[dict], split: str = "test") -> dict[str, dict[str, Spread | None]]:
    """By row label: every number of every task, ``rte``, ``mrpc.accuracy``, ``mrpc.f1``, and "average".

    The average is the mean over all numbers, by which a task of two metrics weighs double; that is how Compacter's
    "Avg" comes about (see `peftlib.training.metrics.average`). It is None, as a number is, where a run that it needs is
    missing. Means and spreads are over seeds.
    """
    columns = list(dict.fromkeys(key for task in _tasks(source) for key in keys(task)))
    out = {}
    for label, records in by_label(source).items():
        by_seed: dict[int, dict[str, float]] = {}
        for r in records:
            by_seed.setdefault(r["run"]["seed"], {}).update({key: 100 * v for key, v in r[split].items()})
        row = {key: Spread.of(found.get(key) for found in by_seed.values()) for key in columns}
        whole = [found for found in by_seed.values() if set(columns) <= set(found)]
        out[label] = row | {"average": Spread.of(statistics.fmean(found[key] for key in columns) for found in whole)}
    return out


def keys(task: str) -> list[str]:
    """The names of a task's numbers in a record: its own, or "task.metric" where it has several metrics."""
    metrics = get_task(task).metrics
    return [task] if len(metrics) == 1 else [f"{task}.{metric}" for metric in metrics]


def _tasks(source: Sequence[dict]) -> list[str]:
    runs = [run.tasks for run in getattr(source, "wanted", ())] or [r["run"]["tasks"] for r in source]
    return list(dict.fromkeys(task for tasks in runs for task in tasks))
