"""Parameters of recorded runs as AdaptBert's tables give them: percent of the backbone, heads apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from peftlib.study import skeleton


@cache
def _for_one_task(method: str, backbone: str) -> int:
    from peftlib.accounting.counting import count  # brings torch: only where closed arithmetic does not do

    return count(method, backbone, 1).trainable


def updated(record: dict) -> float:
    """Percent updated per task: what all tasks share and one task's copy; of a hypernetwork, as the paper counts it,
    the whole divided by the tasks."""
    method, tasks, counts = record["run"]["method"], len(record["run"]["tasks"]), record["counts"]
    name = skeleton(method)
    if name == "AdaptBertHypernet" or (name.startswith("PerTask(") and " + " not in name):
        number = counts["trainable"] / tasks
    elif "PerTask(" in name and tasks > 1:
        number = _for_one_task(method, record["run"]["backbone"])
    else:
        number = counts["trainable"]
    return 100 * number / counts["total"]


def stored(records: Sequence[dict]) -> float:
    """Percent stored beside one backbone for all tasks, from the records of one row and one seed (several if each task
    has a model of its own). A fully fine-tuned model takes the backbone's place: one of them adds nothing."""
    kept = sum(100 * r["counts"]["stored"] / r["counts"]["total"] for r in records)
    return kept - 100 if all(skeleton(r["run"]["method"]) == "Full" for r in records) else kept
