"""DoRA (Liu et al., 2024; survey, section 9.4): a low-rank change of a weight's directions, and its lengths apart.

    W x -> (m / |V|) * V x,   V = W + (alpha / r) B A        m: (out,), |V|: (out,), lengths of the rows of V
    A: (r, in)   B: (out, r)

W is frozen; m starts as the lengths of its rows, B at zero and A as in LoRA, so the model starts where it was. |V| is
taken as a constant in the backward pass (section 4.3, the default of the authors' code). A bias is left alone.

V is not built in a step: |V|^2 = |W|^2 + 2 s sum_k B_ik (W A')_ik + s^2 sum_k B_ik (B A A')_ik, products with r columns.
The sum is taken in fp32, and the length of a zero row divides nothing. The number is LoRA's and one a row: 313,344 for
query and value of BERT-base at r = 8. Merging gives W the rows (m / |V|) V.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.methods.base import Attachment, Ref
from peftlib.methods.reparametrized.fastfood import full_precision
from peftlib.methods.reparametrized.lora import SITES, LoRA, LowRank, fits


class Directed(LowRank):
    """A linear layer's rows in the directions of W + s B A, of lengths m. base: the layer."""

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float):
        fan_out, fan_in = base.weight.shape  # type: ignore[misc]  # of a linear layer
        super().__init__(fan_in, fan_out, rank, scale, dropout)
        self.base = Ref(base)
        self.m = nn.Parameter(base.weight.detach().float().norm(dim=1))  # type: ignore[operator]  # as above

    @torch.no_grad()
    def lengths(self) -> Tensor:
        """|V|: (out,)."""
        with full_precision(self.A.device):
            W, A, B = self.base.module.weight.float(), self.scale * self.A.float(), self.B.float()
            square = W.square().sum(1) + (B * (2 * W @ A.T + B @ (A @ A.T))).sum(1)
        return square.clamp_min(1e-24).sqrt()

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        bias = self.base.module.bias
        product = super().after(x, y if bias is None else y - bias.to(y.dtype))
        product = product * (self.m / self.lengths()).to(y.dtype)
        return product if bias is None else product + bias.to(y.dtype)

    @torch.no_grad()
    def merge(self, base: nn.Module) -> bool:
        lengths = self.lengths()
        super().merge(base)
        base.weight *= (self.m / lengths)[:, None].to(base.weight.dtype)  # type: ignore[operator, arg-type]  # of a linear layer
        return True


@dataclass(frozen=True)
class DoRA(LoRA):
    """Weight-decomposed low-rank adaptation.

    rank: r > 0, at most the smaller side of every weight. alpha: the change is scaled by alpha / r (None: alpha = r).
    sites: which layers, of query, key, value, output, up, down; cross-attention is treated as self-attention is. dropout:
    of x in the low-rank branch. stabilised: scale by alpha / sqrt(r).
    """

    title = "DoRA"
    paper = "dora"
    near_identity = 1e-5
    about = {
        "name": "DoRA",
        "color": "blue",
        "marker": "s",
        "line": "--",
        "row": "rank=8",
        "small": "rank=4",
        "peft": "LoraConfig",
    }

    def attach(self, at: Attachment) -> None:
        for site in at.anatomy.at(*(SITES[s] for s in self.sites)):
            fits(self, site)
            base = getattr(site.module, "base", site.module)
            at.edit(site, Directed(base, self.rank, self.scale, self.dropout))

    def formula(self, shape: Shape) -> int:
        attention = (
            sum(s in ("query", "key", "value") for s in self.sites) * shape.inner + ("output" in self.sites) * shape.width
        )
        ffn = ("up" in self.sites) * shape.ffn + ("down" in self.sites) * shape.width
        return super().formula(shape) + shape.attentions * attention + shape.layers * ffn
