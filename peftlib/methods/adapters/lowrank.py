"""Adapter-LowRank, a baseline of Compacter (Karimi Mahabadi et al., 2021a, section 5.1): adapters of low-rank matrices.

    y -> y + L_U(gelu(L_D(y)))            y: (..., d)
    L(x) = (x l) r + b                    x: (..., k)   l: (k, R)   r: (R, m)   b: (m,)

L_D maps d to a, L_U back; both have the matrix W = l r of rank R = 1 in the paper ("a product of two rank-one
weights"). They stand after ``attention.output`` and after ``ffn.down``, all layer norms are trained beside them. An
adapter has 2R(d + a) + a + d parameters: for T5-Base, a = 24, 48 x 2,376 = 114,048, nearly Compacter's 114,112. With
R = 1 everything before the non-linearity of an adapter is one number a token.

W is never built: R(k + m) products a token in place of km. The authors' code builds it by broadcasting l * r, which is
l r only for R = 1; here it is a matrix product for every R. The start is theirs, for the paper gives none: l and r
Xavier uniform with gain sqrt 2, b = 0. This is no start near the identity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.methods.adapters.bottleneck import AfterSublayer, OnSublayers, add_bias
from peftlib.methods.base import Attachment, Method, bounded, require


class LowRankLinear(nn.Module):
    """(x l) r + b, for x of shape (..., k)."""

    def __init__(self, k: int, m: int, rank: int):
        super().__init__()
        self.l = nn.Parameter(torch.empty(k, rank))
        self.r = nn.Parameter(torch.empty(rank, m))
        self.b = nn.Parameter(torch.zeros(m))
        for factor in (self.l, self.r):
            nn.init.xavier_uniform_(factor, gain=math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        return add_bias(x @ self.l @ self.r, self.b)


class LowRankAdapter(AfterSublayer):
    """y + L_U(gelu(L_D(y))) for a sublayer's output y (..., d)."""

    def __init__(self, d: int, a: int, rank: int):
        super().__init__(LowRankLinear(d, a, rank), LowRankLinear(a, d, rank), "gelu_new")


@dataclass(frozen=True)
class AdapterLowRank(OnSublayers, Method):
    """Adapters after self-attention and after the feed-forward network whose two matrices are of low rank.

    bottleneck: a > 0. rank: R, from 1 to a and to d. train_norms: train the backbone's layer norms too, as the paper does
    (not under PerTask).
    """

    bottleneck: int = 24
    rank: int = 1
    train_norms: bool = True

    title = "Low-rank adapter"
    family = "adapters"
    paper = "compacter"
    near_identity = None
    about = {
        "name": "low-rank adapter",
        "color": "vermillion",
        "marker": "o",
        "line": "--",
        "row": "bottleneck=24",
        "small": "bottleneck=8, rank=2",
    }

    def check(self) -> None:
        require(self, bottleneck=self.bottleneck > 0, rank=1 <= self.rank <= self.bottleneck)

    def attach(self, at: Attachment) -> None:
        bounded(self, at.shape.width, f"an adapter's matrices are {at.shape.width} x {self.bottleneck}")
        self.put(at, lambda: LowRankAdapter(at.shape.width, self.bottleneck, self.rank))

    def formula(self, shape: Shape) -> int:
        d, a = shape.width, self.bottleneck
        return self.sized(shape, 2 * self.rank * (d + a) + a + d)
