"""DiffFit (Xie et al., 2023; survey, section 8.5): biases and norms are trained, and a scale for each sublayer's output.

    sublayer(x) -> gamma * sublayer(x)        gamma: (d,), from one

The backbone's own biases in linear layers of the blocks, and all its norms, are trained, those outside the blocks
included; a pooler stays as it is, and so do T5's relative position biases. gamma acts on what ``attention.output``,
``cross_attention.output`` and ``ffn.down`` return, before dropout and residual. Where the survey writes a scale, the code
that was at hand (an independent one) has a vector of the width, and this file with it. The method is made for diffusion
transformers: the embedding of class labels that it also trains has no counterpart in text.

BERT-base: 139,776 numbers. A backbone without biases (T5) gets none: T5-base has 47,616 in norms and 60 x 768 in scales,
93,696. Merging folds gamma into rows and bias of these layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftlib.anatomy import Shape
from peftlib.methods.additive.ia3 import ScaledOutput
from peftlib.methods.base import Attachment, Method
from peftlib.methods.selective.layernorm import LayerNormTuning


@dataclass(frozen=True)
class DiffFit(Method):
    """Trains biases, norms and scales of sublayers. It has no hyperparameters."""

    title = "DiffFit"
    family = "selective"
    paper = "difffit"
    mergeable = True
    about = {"name": "DiffFit", "color": "sky", "marker": "P", "line": "--", "drawn": False}

    def attach(self, at: Attachment) -> None:
        at.train(getattr(site.module, "bias", None) for site in at.anatomy.linears)
        LayerNormTuning().attach(at)
        for site in at.anatomy.at("*.output", "ffn.down"):
            at.edit(site, ScaledOutput(at.shape.width))

    def formula(self, shape: Shape) -> int:
        attention, ffn = 3 * shape.inner + shape.width, (2 if shape.gated else 1) * shape.ffn + shape.width
        biases = shape.biases * (shape.attentions * attention + shape.layers * ffn)
        scales = (shape.attentions + shape.layers) * shape.width
        return biases + LayerNormTuning().formula(shape) + scales
