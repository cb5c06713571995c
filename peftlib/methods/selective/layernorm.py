"""Layer-norm tuning: the norms of the backbone are trained, all else is frozen.

    y = gamma * norm(x) (+ beta)        gamma, beta: (d,), both trained

beta exists where the backbone has one (BERT, not T5). Every norm counts, those outside the blocks included: for
T5-Large 122 x 1024 = 124,928, the 0.12 million of the survey's "LN tuning" (section 11). AkbarTajari et al. (2022)
study it by itself; Compacter and HyperFormer train the norms beside their own modules.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftlib.anatomy import Shape
from peftlib.methods.base import Attachment, Method


@dataclass(frozen=True)
class LayerNormTuning(Method):
    """Trains every layer norm. Nothing is added, so the tuned model is a plain backbone: merging folds nothing."""

    title = "Layer norm"
    family = "selective"
    paper = "lntuning"
    mergeable = True
    about = {"name": "layer norm", "color": "sky", "marker": ">", "line": ":", "drawn": False, "peft": "LNTuningConfig"}

    def attach(self, at: Attachment) -> None:
        for site in at.anatomy.norms:
            at.train([site.module.weight, getattr(site.module, "bias", None)])  # type: ignore[list-item]  # of a norm

    def formula(self, shape: Shape) -> int:
        return shape.norms * shape.width * (2 if shape.biases else 1)
