"""The two ends of the scale: train everything, or nothing but the heads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, require
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
    tasks here, frozen, and in no delta but by its digest.
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
        if self.shared or self.given:
            at.head((lambda: head_of(self.given)) if self.given else None)

    def formula(self, shape: Shape) -> int:
        return 0


def head_of(path: str) -> nn.Linear:
    """The one head of a delta.

    Raises:
        DeltaError: no delta.
        UsageError: it has several heads, or none.
    """
    heads = {name: t for name, t in read_tensors(path)[1].items() if name.startswith("heads.")}
    parts = {name.rpartition(".")[2]: tensor for name, tensor in heads.items()}
    if len(heads) != 2 or parts.keys() != {"weight", "bias"} or parts["weight"].ndim != 2:
        raise UsageError(
            f"{path} has {len(heads) // 2} heads: expected a delta with one, as HeadOnly(shared=True) trains it"
        )
    outputs, width = parts["weight"].shape
    head = nn.Linear(width, outputs)
    if not head.weight.is_meta:
        head.load_state_dict(parts)
    return head
