"""How parameters grow with the tasks: AdaptBert's open question (section 7), counted on a BERT-base without weights."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import pandas as pd

from peftlib.accounting import BERT
from peftlib.accounting.counted import count
from peftlib.comparison import METHOD_RUNS
from peftlib.expressions import names, per_task
from peftlib.papers.adaptbert.experiments import ADAPTER, HYPERNET

TASKS = (3, 10, 50, 100)
BOTTLENECKS = (8, 16, 32, 64, 128)
SHARED = {"LoRA, shared by all tasks": "LoRA(rank=8)", "Full, shared by all tasks": "Full()"}


@cache
def _first_two(method: str) -> tuple[SimpleNamespace, SimpleNamespace]:
    return count(method, BERT, 1), count(method, BERT, 2)


def counted(method: str, tasks: int, name: str = "stored") -> int:
    """A count for so many tasks at once. What is shared is there once and the rest once a task, so that the models for
    one and for two tasks give the straight line (building one for a hundred takes half a minute, and says the same)."""
    one, two = (getattr(found, name) for found in _first_two(method))
    return one + (tasks - 1) * (two - one)


def _held_together(method: str) -> bool:
    """Does the expression itself say what tasks share?"""
    return any(per_task(method)) or names(method) == ["AdaptBertHypernet"]


def growth(tasks: tuple[int, ...] = TASKS) -> pd.DataFrame:
    """Parameters of every method for so many tasks, heads apart.

    A method whose expression shares nothing between tasks is trained once a task and every delta is kept; AdaptBert's
    hypernetwork and LoRA+Adapter share what they say; LoRA and full fine-tuning come a second time, one for all tasks.

    Returns:
        Columns: name, method, held, tasks, trainable, stored (for all tasks together), percent (stored, of BERT-base).
    """
    ways = [
        (name, method, "as the method says" if _held_together(method) else "one copy a task")
        for name, method in METHOD_RUNS.items()
    ]
    ways += [(name, method, "one for all tasks") for name, method in SHARED.items()]
    rows = []
    for name, method, held in ways:
        total = _first_two(method)[0].total
        for number in tasks:
            copies, together = (number, 1) if held == "one copy a task" else (1, number)
            trainable, stored = (copies * counted(method, together, what) for what in ("trainable", "stored"))
            rows.append(
                {
                    "name": name,
                    "method": method,
                    "held": held,
                    "tasks": number,
                    "trainable": trainable,
                    "stored": stored,
                    "percent": 100 * stored / total,
                }
            )
    return pd.DataFrame(rows)


def crossings(bottlenecks: tuple[int, ...] = BOTTLENECKS) -> pd.DataFrame:
    """From how many tasks on the shared hypernetwork stores less than one adapter a task of the same bottleneck.

    Returns:
        Columns: bottleneck, hypernet (parameters for one task), per_task_hypernet, per_task_adapter (each further
        task), tasks.
    """
    rows = []
    for a in bottlenecks:
        first, second = (counted(HYPERNET.format(a=a), n) for n in (1, 2))
        adapter, step = counted(ADAPTER.format(a=a), 1), second - first
        rows.append(
            {
                "bottleneck": a,
                "hypernet": first,
                "per_task_hypernet": step,
                "per_task_adapter": adapter,
                "tasks": (first - step) // (adapter - step) + 1,
            }
        )  # first - step + step T < adapter T
    return pd.DataFrame(rows)


def wide(counted: pd.DataFrame, column: str) -> pd.DataFrame:
    """`growth` with one column for each number of tasks."""
    table = counted.pivot(index=["name", "held"], columns="tasks", values=column)
    order = list(dict.fromkeys(zip(counted["name"], counted["held"], strict=True)))
    names = {"name": "method", **{n: f"{n} tasks" for n in table.columns}}
    return table.loc[order].reset_index().rename(columns=names).rename_axis(columns=None)


def cheaper(counted: pd.DataFrame, than: str = "AdaptBertHypernet") -> dict[str, int]:
    """How many (``smaller``) of the ``n`` methods held once a task that train something store less than `than` for the
    largest number of tasks."""
    last = counted[counted["tasks"] == counted["tasks"].max()]
    limit = last.loc[last["name"] == than, "stored"].iloc[0]
    others = last[(last["held"] == "one copy a task") & (last["stored"] > 0)]
    return {"smaller": int((others["stored"] < limit).sum()), "n": len(others)}
