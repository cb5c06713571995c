"""(IA)3 (Liu et al., 2022; survey, section 7.2): keys, values and hidden activations are scaled by trained vectors.

    K -> l_k * K    V -> l_v * V    h -> l_ff * h        l_k, l_v: (inner,)   l_ff: (d_ff,)   h: (..., d_ff)

K and V are the outputs of ``attention.key`` and ``attention.value``, biases included, of every attention, cross-attention
among them; h is the input of ``ffn.down``: with a gated network (T5 v1.1) scaling the ungated branch, as the authors do,
and scaling the product are the same. Vectors start at one. A model has 2 inner a (attentions) + d_ff a block: 55,296 for
BERT-base.

All three fold into the weights: l_k and l_v into rows, and the bias, of their layers, l_ff into columns of ``ffn.down``.
The survey says that l_ff costs time at inference (section 7.2); folded in it costs none.

Left out: the authors' losses over several answers, which belong to a recipe. Their code makes no l_ff at all on a T5
without a gate, and the defaults of Hugging Face `peft` scale a BERT's ``attention.output`` as well: 64,512 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.edits import Edit
from peftlib.methods.base import Attachment, Method


class ScaledOutput(Edit):
    """l * y for a linear layer's output y (..., n)."""

    changes = ("weight", "bias")

    def __init__(self, n: int):
        super().__init__()
        self.l = nn.Parameter(torch.ones(n))

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y * self.l.to(y.dtype)

    @torch.no_grad()
    def merge(self, base: nn.Module) -> bool:
        base.weight *= self.l[:, None].to(base.weight.dtype)  # type: ignore[operator, arg-type]  # of a linear layer
        if base.bias is not None:
            base.bias *= self.l.to(base.bias.dtype)  # type: ignore[operator, arg-type]  # as above
        return True


class ScaledInput(Edit):
    """W (l * x) for a linear layer's input x (..., n)."""

    changes = ("weight",)

    def __init__(self, n: int):
        super().__init__()
        self.l = nn.Parameter(torch.ones(n))

    def before(self, x: Tensor) -> Tensor:
        return x * self.l.to(x.dtype)

    @torch.no_grad()
    def merge(self, base: nn.Module) -> bool:
        base.weight *= self.l.to(base.weight.dtype)  # type: ignore[operator, arg-type]  # of a linear layer
        return True


@dataclass(frozen=True)
class IA3(Method):
    """Infused adapter by inhibiting and amplifying inner activations. It has no hyperparameters."""

    title = "(IA)3"
    family = "additive"
    paper = "ia3"
    mergeable = True
    about = {
        "name": "(IA)3",
        "color": "sky",
        "marker": "^",
        "line": "-",
        "drawn": False,
        "peft": "IA3Config",
        "adapters": "IA3Config",
    }

    def attach(self, at: Attachment) -> None:
        for site in at.anatomy.at("*.key", "*.value"):
            at.edit(site, ScaledOutput(at.shape.inner))
        for site in at.anatomy.at("ffn.down"):
            at.edit(site, ScaledInput(at.shape.ffn))

    def formula(self, shape: Shape) -> int:
        return shape.attentions * 2 * shape.inner + shape.layers * shape.ffn
