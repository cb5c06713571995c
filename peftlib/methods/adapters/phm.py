"""PHM-Adapter (Karimi Mahabadi et al., 2021a, section 3.1): adapters whose matrices are sums of Kronecker products.

    y -> y + PHM_U(gelu(PHM_D(y)))                             y: (..., d)
    PHM(x) = x H + b,   H = sum_i A_i (x) B_i, i = 1 ... n     x: (..., k)   H: (k, m)   b: (m,)
    A_i: (n, n)   B_i: (k/n, m/n), all each PHM's own

(equation 4; Zhang et al., 2021.) PHM_D maps d to a, PHM_U back; they stand after ``attention.output`` and after
``ffn.down``, T5's cross-attention has none, and all layer norms are trained beside them. An adapter has
2(da / n + n^3) + a + d parameters: for T5-Base, a = 24, n = 12, 48 x 7,320 = 351,360. The factor 1/n is only had while
da > n^4 (section 4): there, n = 12 has more parameters than n = 8.

A_i ~ N(0, 0.01), B_i Xavier uniform with gain sqrt 2, b = 0, as in the authors' code for a rule that is not shared.

n must divide d and a. The default is 4 of the paper's 4, 8 and 12, because 12, best on GLUE, does not divide the width
1,024 of T5-Large and larger, although the paper's sections 4 and B name it for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.methods.adapters.bottleneck import AfterSublayer, OnSublayers, add_bias
from peftlib.methods.adapters.kronecker import divided, multiply
from peftlib.methods.base import Attachment, Method, normal, require


class PHM(nn.Module):
    """x H + b, for x of shape (..., k)."""

    def __init__(self, n: int, k: int, m: int):
        super().__init__()
        self.A = nn.Parameter(torch.empty(n, n, n))
        self.B = nn.Parameter(torch.empty(n, k // n, m // n))
        self.b = nn.Parameter(torch.zeros(m))
        normal(self.A, std=0.01)
        for one in self.B:
            nn.init.xavier_uniform_(one, gain=math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        return add_bias(multiply(x, self.A, self.B), self.b)


class HypercomplexAdapter(AfterSublayer):
    """y + PHM_U(gelu(PHM_D(y))) for a sublayer's output y (..., d)."""

    def __init__(self, n: int, d: int, a: int):
        super().__init__(PHM(n, d, a), PHM(n, a, d), "gelu_new")


@dataclass(frozen=True)
class PHMAdapter(OnSublayers, Method):
    """Adapters after self-attention and after the feed-forward network whose matrices are sums of n Kronecker products.

    n > 0 divides both d and a. bottleneck: a > 0. train_norms: train the backbone's layer norms too, as the paper
    does (not under PerTask).
    """

    n: int = 4
    bottleneck: int = 24
    train_norms: bool = True

    title = "PHM adapter"
    family = "adapters"
    paper = "compacter"
    near_identity = 0.01
    about = {
        "name": "PHM adapter",
        "color": "vermillion",
        "marker": "h",
        "row": "n=4, bottleneck=24",
        "small": "bottleneck=8",
    }

    def check(self) -> None:
        require(self, n=self.n > 0, bottleneck=self.bottleneck > 0)

    def attach(self, at: Attachment) -> None:
        divided(self, self.n, at.shape.width, self.bottleneck)
        self.put(at, lambda: HypercomplexAdapter(self.n, at.shape.width, self.bottleneck))

    def formula(self, shape: Shape) -> int:
        d, a, n = shape.width, self.bottleneck, self.n
        divided(self, n, d, a)
        return self.sized(shape, 2 * (d * a // n + n**3) + a + d)
