"""Parameters counted on shape-only backbones: no weights, no download, seconds even for 11 billion parameters."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from peftlib.accounting import BERT as BERT
from peftlib.backbones import shape_only
from peftlib.data.tasks import Task, get_task
from peftlib.errors import UsageError, short
from peftlib.grids import DEFAULT_TASKS
from peftlib.methods.base import Expression, parse
from peftlib.model import Counts, Tuned

if typing.TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST = 1000  # tasks, and copies of methods


@dataclass(frozen=True)
class Count(Counts):
    """`Counts`, and what was counted. tasks: their number."""

    method: str
    backbone: str
    tasks: int

    def as_dict(self) -> dict[str, str | int | float]:
        """Everything, with the percentages of the backbone's total."""
        shares = {f"{name}_percent": self.percent(name) for name in ("trainable", "stored", "changed")}
        return dataclasses.asdict(self) | shares


def make_tasks(tasks: int | Sequence[str]) -> list[Task]:
    """The tasks of those names; or that many of AdaptBert's three in turn: sst, quora, sts, sst_2, ...

    Raises:
        UsageError: no task or too many, an unknown name, or neither number nor names.
    """
    if isinstance(tasks, str) or not isinstance(tasks, int | Sequence):
        raise UsageError(f"tasks {short(tasks)}: expected how many, or a sequence of names")
    if isinstance(tasks, int):
        if not 1 <= tasks <= MOST:
            raise UsageError(f"{short(tasks)} tasks cannot be counted: expected at least 1 and at most {MOST:,}")
        bases = [get_task(DEFAULT_TASKS[i % len(DEFAULT_TASKS)]) for i in range(tasks)]
        turns = [i // len(DEFAULT_TASKS) + 1 for i in range(tasks)]
        return [
            t if turn == 1 else dataclasses.replace(t, name=f"{t.name}_{turn}")
            for t, turn in zip(bases, turns, strict=True)
        ]
    return [get_task(name) for name in tasks]


def shape_model(
    method: str | Expression,
    backbone: str | PreTrainedModel,
    tasks: int | Sequence[str] = 1,
    form: str = "heads",
    **options,
) -> Tuned:
    """The method on a backbone without weights, everything on the ``meta`` device. form, options: of `Tuned`.

    backbone: a name, as in `count`, or a model that is on that device.

    Raises:
        UsageError: an expression, backbone or task that cannot be read, or more than `MOST` methods with all
            copies of them.
    """
    method, tasks = parse(method), make_tasks(tasks)
    copies = sum(1 for _ in method.leaves(tuple(task.name for task in tasks)))
    if copies > MOST:
        raise UsageError(f"{short(str(method))} for {len(tasks):,} tasks is {copies:,} methods: expected at most {MOST:,}")
    with torch.device("meta"):
        body = shape_only(backbone, form) if isinstance(backbone, str) else backbone
        pooling = "cls" if getattr(body, "pooler", None) is not None else "mean"
        return Tuned(body, method, tasks, pooling=pooling, form=form, **options)


def count(method: str | Expression, backbone: str, tasks: int | Sequence[str] = 1, form: str = "heads") -> Count:
    """Trainable, stored and changed parameters of a method, and those of its heads, for all tasks together.

    Args:
        method: an expression; under `PerTask` every task's copy is counted.
        backbone: a known shape (`peftlib.backbones.SHAPES`), or a folder or hub name whose config.json can be read.
        tasks: how many, or their names.
        form: "heads", or "text": the backbone with its language-model head, and no others.

    Raises:
        UsageError: an expression, backbone or task that cannot be read.
    """
    model = shape_model(method, backbone, tasks, form)
    counts = dataclasses.asdict(model.counts())
    return Count(**counts, method=str(model.method), backbone=backbone, tasks=len(model.tasks))
