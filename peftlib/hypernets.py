"""What is done with a trained model of many tasks: one of them is served without the network that writes adapters, or
another one is added.

Both give a new model, on a backbone of the same weights that carries nothing yet; the model that is given stays as it is.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from peftlib.backbones import weights_digest
from peftlib.data.tasks import Task
from peftlib.deltas import parts_of
from peftlib.errors import UsageError, short
from peftlib.methods import METHODS
from peftlib.methods.base import Attachment, Expression, Leaf, Method
from peftlib.methods.baselines import HeadOnly
from peftlib.methods.multitask.hypernet import Generated, Writes
from peftlib.methods.multitask.task_adapters import TaskAdapter
from peftlib.model import Tuned


@torch.no_grad()
def bake(model: Tuned, task: str, backbone: nn.Module) -> Tuned:
    """One task's model with plain adapters (`TaskAdapters`) in the place of written ones: same outputs, and no hypernetwork
    in memory or in its delta.

    backbone: of the same weights; edited in place.

    Raises:
        UsageError: the model's adapters are not written, or something stands beside them; it has no such task; the backbone
            has other weights or carries a method.
    """
    _is_of(model, task)
    leaf, at = _writer(model, task)
    plain = leaf.method.plain()  # type: ignore[attr-defined]  # of one that writes
    expression = plain if leaf.layers is None else dataclasses.replace(leaf.layers, method=plain)
    baked = _on(backbone, model, expression, [model.task_table[task]])
    ((_, new),) = baked.attachments
    places = {(site.name, site.stack, site.layer): edit for site, edit in new.edits}
    before, model.current.task = model.current.task, task
    for site, edit in at.edits:
        if isinstance(edit, Generated):
            adapter: TaskAdapter = places[site.name, site.stack, site.layer]
            for ours, theirs in zip(adapter.weights(), edit.weights(), strict=True):
                ours.copy_(theirs)
    model.current.task = before
    for ours, theirs in zip(new.trained, at.trained, strict=True):
        ours.copy_(theirs)
    baked.heads.load_state_dict({n: t for n, t in model.heads.state_dict().items() if n.startswith(f"{task}.")})
    return baked.eval()


@torch.no_grad()
def add_task(model: Tuned, task: Task, backbone: nn.Module, *, like: str = "", alone: bool = True) -> Tuned:
    """The model with one more task: of a hypernetwork that is one more embedding, of `PerTask` and `TaskAdapters` one more
    copy, and a head where tasks have their own.

    backbone: of the same weights; edited in place. like: a task whose own numbers the new one begins with; by default it
    begins as a task of a new model does. alone: train what is the new task's own, which the model before has not, and
    nothing else, so that all other tasks say what they said, bit for bit; False: all that the method trains.

    Raises:
        UsageError: the model has the task, or does not have the one that it is to be like, or is merged; the backbone has
            other weights, or carries a method; a method takes its form in training, or nothing would be trained.
    """
    if task.name in model.tasks:
        raise UsageError(f"there is a task {task.name!r} among {', '.join(model.tasks)}: call the new one otherwise")
    if like:
        _is_of(model, like)
    for leaf, _ in model.attachments:
        if type(leaf).restore is not Method.restore:
            raise UsageError(f"{leaf} takes its form in training, which a new task has not had: train all tasks together")
    grown = _on(backbone, model, model.method, [*model.task_table.values(), task])
    theirs = model.kept()
    old = model.task_table[like] if like else task
    same_head = (old.kind, old.outputs) == (task.kind, task.outputs)
    for name, tensor in grown.kept().items():
        source = name
        if like and name not in theirs and (same_head or not name.startswith("heads.")):
            source = "".join(like if part == task.name else part for part in parts_of(name))
        if source in theirs:
            tensor.copy_(theirs[source])
    if alone:
        before = {name for name, _ in model.named_parameters()}
        for name, p in grown.named_parameters():
            p.requires_grad_(p.requires_grad and name not in before)
    grown.require_training()
    return grown.eval()


def _is_of(model: Tuned, task: str) -> None:
    if task not in model.tasks:
        raise UsageError(f"there is no task {short(task)} in this model: expected one of {', '.join(model.tasks)}")


def _writer(model: Tuned, task: str) -> tuple[Leaf, Attachment]:
    """The one method that acts on a task's texts, which writes adapters."""
    leaves = zip(model.method.leaves(model.tasks), model.attachments, strict=True)
    acting = [(leaf, at) for leaf, (_, at) in leaves if leaf.task in (None, task) and not isinstance(leaf.method, HeadOnly)]
    if len(acting) != 1 or not isinstance(acting[0][0].method, Writes):
        names = ", ".join(name for name, cls in METHODS.items() if issubclass(cls, Writes))
        raise UsageError(
            f"{short(str(model.method))} is not one method whose adapters are written: expected {names}, alone"
        )
    return acting[0]


def _on(backbone: nn.Module, model: Tuned, method: Expression, tasks: list[Task]) -> Tuned:
    """A model like another, on a backbone of its own."""
    if model.merged:
        raise UsageError(
            f"{short(str(model.method))} is merged into its backbone, and nothing is left beside it to carry over: call "
            "this before merge()"
        )
    if (found := weights_digest(backbone)) != model.weights_digest:
        raise UsageError(
            f"this backbone's weights have digest {found!r}, and the model was built on {model.weights_digest!r}: load the "
            "backbone that it was built on"
        )
    p = model.dropout.p
    return Tuned(backbone, method, tasks, pooling=model.pooling, dropout=p, form=model.form, parts=model.parts)
