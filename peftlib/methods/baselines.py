"""The two ends of the scale: train everything, or nothing but the heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.base import HEAD, Attachment, Method, require
from peftlib.parametrized import own_parameters
from peftlib.tensorfiles import read_tensors


@dataclass(frozen=True)
class Full(Method):
    """Full fine-tuning: every parameter of the backbone is trained (AdaptBert's "finetune")."""

    title = "Full fine-tuning"
    family = "baseline"
    paper = "bert"
    mergeable = True
    by_layer = False
    about = {"name": "full fine-tuning", "color": "grey", "marker": "*", "drawn": False, "rates": 0.1}

    def attach(self, at: Attachment) -> None:
        at.train(own_parameters(at.model.backbone))

    def formula(self, shape: Shape) -> int:
        return shape.total


@dataclass(frozen=True)
class HeadOnly(Method):
    """Linear heads on the frozen backbone (AdaptBert's "pretrain").

    The loop encodes each text once, in evaluation mode: the backbone's own dropout, which every other method trains with,
    does not act; that before the head does.

    shared: all tasks, which have the same labels, have one head. given: a delta with one head, which is then that of all
    tasks here, frozen, and in no delta but by its digest; "start": that of the runs that the run begins from.
    """

    shared: bool = False
    given: str = ""

    title = "Head only"
    family = "baseline"
    paper = "bert"
    mergeable = True
    by_layer = False
    about = {"name": "head only", "color": "grey", "marker": "x", "line": ":", "drawn": False, "rates": 10.0}

    def check(self) -> None:
        require(self, given=not self.given or not self.shared)

    def attach(self, at: Attachment) -> None:
        def make() -> nn.Linear:
            first = next(iter(at.model.task_table.values()))
            return nn.Linear(at.model.anatomy.shape.width, first.outputs) if self.whole_start else head_of(self.given)

        if self.shared or self.given:
            at.head(make if self.given else None)

    @property
    def whole_start(self) -> bool:
        return self.given == "start"

    def begin(self, at: Attachment, given: Sequence[dict[str, Tensor]]) -> None:
        """Take the one head of the given runs, whatever their tasks; or go on from a run of the same.

        Raises:
            UsageError: they have several heads or none, or one of another size.
        """
        if not self.whole_start:
            return super().begin(at, given)
        theirs = _one_head([item for delta in given for item in delta.items()], "the start")
        head: nn.Linear = at.part(HEAD)  # type: ignore[assignment]  # as `attach` has made it
        if theirs["weight"].shape != head.weight.shape:
            sizes = (tuple(tensor.shape) for tensor in (theirs["weight"], head.weight))
            raise UsageError("the head of the start is {}, and the tasks here need one of {}".format(*sizes))
        with torch.no_grad():
            for name, tensor in theirs.items():
                getattr(head, name).copy_(tensor)
        at.part_is_remade(HEAD)

    def formula(self, shape: Shape) -> int:
        return 0


def head_of(path: str) -> nn.Linear:
    """The one head of a delta.

    Raises:
        DeltaError: no delta.
        UsageError: it has several heads, or none.
    """
    parts = _one_head(list(read_tensors(path)[1].items()), path)
    outputs, width = parts["weight"].shape
    head = nn.Linear(width, outputs)
    if not head.weight.is_meta:
        head.load_state_dict(parts)
    return head


def _one_head(tensors: Sequence[tuple[str, Tensor]], source: str) -> dict[str, Tensor]:
    """Weight and bias of the only head among a delta's tensors."""
    heads = [(name.rpartition(".")[2], tensor) for name, tensor in tensors if name.startswith("heads.")]
    parts = dict(heads)
    if len(heads) != 2 or parts.keys() != {"weight", "bias"} or parts["weight"].ndim != 2:
        raise UsageError(
            f"{source} has {len(heads) // 2} heads: expected a delta with one, as HeadOnly(shared=True) trains it"
        )
    return parts
