"""The two ends of the scale: train everything, or nothing but the heads."""

from __future__ import annotations

from dataclasses import dataclass

from peftlib.anatomy import Shape
from peftlib.methods.base import Attachment, Method
from peftlib.parametrized import own_parameters


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
    """

    title = "Head only"
    family = "baseline"
    paper = "bert"
    mergeable = True
    by_layer = False
    about = {"name": "head only", "color": "grey", "marker": "x", "line": ":", "drawn": False, "rates": 10.0}

    def formula(self, shape: Shape) -> int:
        return 0
