"""Parameters of recorded runs as AdaptBert's tables give them: percent of the backbone, heads apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pandas as pd

from peftlib.accounting.counted import count
from peftlib.expressions import names, per_task
from peftlib.report.tables import by_label, frame


@cache
def _for_one_task(method: str, backbone: str) -> int:
    return count(method, backbone, 1).trainable


def updated(record: dict) -> float:
    """Percent updated per task: what all tasks share and one task's copy; of a hypernetwork, as the paper counts it,
    the whole divided by the tasks."""
    method, tasks, counts = record["run"]["method"], len(record["run"]["tasks"]), record["counts"]
    if names(method) == ["AdaptBertHypernet"] or all(per_task(method)):
        number = counts["trainable"] / tasks
    elif any(per_task(method)) and tasks > 1:
        number = _for_one_task(method, record["run"]["backbone"])
    else:
        number = counts["trainable"]
    return 100 * number / counts["total"]


def stored(records: Sequence[dict]) -> float:
    """Percent stored beside one backbone for all tasks, from the records of one row and one seed (several if each task
    has a model of its own). A fully fine-tuned model takes the backbone's place: one of them adds nothing."""
    kept = sum(100 * r["counts"]["stored"] / r["counts"]["total"] for r in records)
    return kept - 100 if all(names(r["run"]["method"]) == ["Full"] for r in records) else kept


def recorded(source: Sequence[dict]) -> pd.DataFrame:
    """Parameters that the runs of an experiment themselves had: ``method``, ``trainable``, ``stored`` and ``changed``
    (all tasks, heads apart), ``total`` of the backbone, ``updated %`` and ``stored %`` as the paper counts them. None
    where nothing has been run."""
    rows = []
    for label, records in by_label(source).items():
        first = [r for r in records if r["run"]["seed"] == records[0]["run"]["seed"]]
        row = dict.fromkeys(("trainable", "stored", "changed", "total", "updated %", "stored %"))
        if first:
            row |= {name: sum(r["counts"][name] for r in first) for name in ("trainable", "stored", "changed")}
            row |= {"total": first[0]["counts"]["total"], "updated %": updated(first[0]), "stored %": stored(first)}
        rows.append({"method": label, **row})
    return frame(rows)
