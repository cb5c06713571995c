"""Compacter (Karimi Mahabadi et al., 2021a): adapters of Kronecker products, with one rule for all layers.

    y -> y + LPHM_U(gelu(LPHM_D(y)))                                   y: (..., d), a = d / reduction
    LPHM(x) = x H + b,   H = sum_i A_i (x) (s_i t_i), i = 1 ... n      x: (..., k)   H: (k, m)   b: (m,)
    A_i: (n, n), shared by every LPHM of the model      s_i: (k/n, r), t_i: (r, m/n), each LPHM's own; r = 1

(section 3, equation 5, and the authors' code, hypercomplex/layers.py: x stands left of H, the rule left in the product).
A block has two adapters, after ``attention.output`` and after ``ffn.down``, before dropout and the outer residual; T5's
cross-attention has none. `CompacterPlusPlus` keeps the second alone. All layer norms are trained beside them: T5-Base's
62 norms make 47,616 of the 161,728.

A ~ N(0, 1e-4), s_i and t_i Xavier uniform with gain sqrt 2, b = 0: the small rule is what starts the model where
it was. Their products with x are taken in the cheaper order, as a rule without building H (`kronecker`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.methods.adapters.bottleneck import AfterSublayer, OnSublayers, add_bias
from peftlib.methods.adapters.kronecker import divided, multiply
from peftlib.methods.base import Attachment, Method, Ref, bounded, require


class Rule(nn.Module):
    """A: (n, n, n), the slices A_i."""

    def __init__(self, n: int):
        super().__init__()
        self.A = nn.Parameter(torch.empty(n, n, n))
        nn.init.normal_(self.A, std=1e-4)


class LPHM(nn.Module):
    """x H + b, for x of shape (..., k)."""

    def __init__(self, rule: Rule, k: int, m: int, rank: int = 1):
        super().__init__()
        n = len(rule.A)
        self.rule = Ref(rule)
        self.s = nn.Parameter(torch.empty(n, k // n, rank))
        self.t = nn.Parameter(torch.empty(n, rank, m // n))
        self.b = nn.Parameter(torch.zeros(m))
        for slices in (self.s, self.t):
            for one in slices:
                nn.init.xavier_uniform_(one, gain=math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        return add_bias(multiply(x, self.rule.module.A, (self.s, self.t)), self.b)


class CompacterAdapter(AfterSublayer):
    """y + LPHM_U(gelu(LPHM_D(y))) for a sublayer's output y (..., d)."""

    def __init__(self, rule: Rule, d: int, a: int, rank: int):
        super().__init__(LPHM(rule, d, a, rank), LPHM(rule, a, d, rank), "gelu_new")


@dataclass(frozen=True)
class Compacter(OnSublayers, Method):
    """Adapters of sums of n Kronecker products with low-rank factors and a shared rule.

    n > 0 divides both d and a. reduction: a = d / reduction, rounded down. bottleneck: a itself, in place of reduction.
    train_norms: train the backbone's layer norms too, as the paper does; not under PerTask (nor in the survey's
    counts). rank: r of the factors, from 1 to a / n.
    """

    n: int = 4
    reduction: int = 32
    bottleneck: int | None = None
    train_norms: bool = True
    rank: int = 1

    title = "Compacter"
    family = "adapters"
    paper = "compacter"
    near_identity = 1e-5
    about = {
        "name": "Compacter",
        "color": "vermillion",
        "marker": "p",
        "line": (1, 1),
        "example": "Compacter(n=4, reduction=32)",
        "small": "bottleneck=8",
        "adapters": "CompacterConfig",
    }

    def check(self) -> None:
        require(
            self,
            n=self.n > 0,
            reduction=self.reduction > 0,
            bottleneck=self.bottleneck is None or self.bottleneck > 0,
            rank=self.rank > 0,
        )

    def _a(self, shape: Shape) -> int:
        """The bottleneck's width on a backbone, which n must divide."""
        a = self.bottleneck or shape.width // self.reduction
        divided(self, self.n, shape.width, a)
        return a

    def attach(self, at: Attachment) -> None:
        a, n = self._a(at.shape), self.n
        bounded(self, min(at.shape.width, a) // n, f"a product's factor is {at.shape.width // n} x {a // n}")
        rule = at.share("rule", Rule(n))
        self.put(at, lambda: CompacterAdapter(rule, at.shape.width, a, self.rank))

    def formula(self, shape: Shape) -> int:
        d, a = shape.width, self._a(shape)
        one = 2 * self.rank * (d + a) + a + d  # s and t of both LPHM layers, then the biases
        return self.sized(shape, one) + self.n**3


@dataclass(frozen=True)
class CompacterPlusPlus(Compacter):
    """Compacter after the feed-forward network only (section 5.2).

    n > 0 divides both d and a. reduction: a = d / reduction, rounded down. bottleneck: a itself, in place of reduction.
    train_norms: train the backbone's layer norms too, as the paper does; not under PerTask (nor in the survey's
    counts). rank: r of the factors, from 1 to a / n.
    """

    title = "Compacter++"
    sites = ("ffn.down",)
    about = {
        "name": "Compacter++",
        "color": "vermillion",
        "marker": "P",
        "line": (3, 1, 1, 1),
        "example": "CompacterPlusPlus(n=4, reduction=32)",
        "small": "bottleneck=8, rank=2",
        "adapters": "CompacterPlusPlusConfig",
    }
