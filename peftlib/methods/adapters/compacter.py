"""Compacter (Mahabadi et al., 2021): adapters of Kronecker products, with one rule for all layers.

    y -> y + PHM_U(gelu(PHM_D(y)))                                     y: (..., d), a = d / reduction
    PHM(x) = x H + b,   H = sum_i A_i (x) (s_i t_i), i = 1 ... n       x: (..., k)   H: (k, m)   b: (m,)
    A_i: (n, n), shared by every PHM of the model      s_i: (k/n, 1), t_i: (1, m/n), each PHM's own

(section 3 and the authors' code, hypercomplex/layers.py: x stands left of H, the rule left in the product). A block has
two adapters, after ``attention.output`` and after ``ffn.down``, before dropout and the outer residual; T5's
cross-attention has none. All layer norms are trained beside them: T5-Base's 62 norms make 47,616 of the 161,728.

A ~ N(0, 1e-4), s_i and t_i Xavier uniform with gain sqrt 2, b = 0: the small rule is what starts the model where
it was.

Rank-one factors make H cheap to apply without building it: x as n rows of k/n, each times every s_i, mixed by A_i,
times t_i, is n(k + m) + n^3 products for a token in place of km (d = 768, a = 24, n = 4: 3,232 in place of 18,432).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape
from peftlib.edits import Edit
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, Ref, require
from peftlib.methods.selective.layernorm import LayerNormTuning

SITES = ("attention.output", "ffn.down")


class Rule(nn.Module):
    """A: (n, n, n), the slices A_i."""

    def __init__(self, n: int):
        super().__init__()
        self.A = nn.Parameter(torch.empty(n, n, n))
        nn.init.normal_(self.A, std=1e-4)


class PHM(nn.Module):
    """x H + b, for x of shape (..., k); H is never built."""

    def __init__(self, rule: Rule, k: int, m: int):
        super().__init__()
        n = len(rule.A)
        self.rule = Ref(rule)
        self.s = nn.Parameter(torch.empty(n, k // n, 1))
        self.t = nn.Parameter(torch.empty(n, 1, m // n))
        self.b = nn.Parameter(torch.zeros(m))
        for slices in (self.s, self.t):
            for one in slices:
                nn.init.xavier_uniform_(one, gain=math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        A, s, t = self.rule.module.A, self.s.squeeze(2), self.t.squeeze(1)
        u = F.linear(x.unflatten(-1, (len(A), -1)), s)  # (..., p, i): row p of x times s_i
        v = torch.einsum("...pi,ipr->...ri", u, A)
        return (v @ t).flatten(-2) + self.b


class CompacterAdapter(Edit):
    """y + PHM_U(gelu(PHM_D(y))) for a sublayer's output y (..., d)."""

    def __init__(self, rule: Rule, d: int, a: int):
        super().__init__()
        self.down, self.up = PHM(rule, d, a), PHM(rule, a, d)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.up(F.gelu(self.down(y), approximate="tanh"))


@dataclass(frozen=True)
class Compacter(Method):
    """Adapters of sums of n Kronecker products with rank-one factors and a shared rule.

    n > 0 divides both d and a. reduction: a = d / reduction, rounded down. bottleneck: a itself, in place of reduction.
    train_norms: train the backbone's layer norms too, as the paper does; not under PerTask (nor in the survey's
    counts).
    """

    n: int = 4
    reduction: int = 32
    bottleneck: int | None = None
    train_norms: bool = True

    title = "Compacter"
    family = "adapters"
    paper = "compacter"
    near_identity = 1e-5

    def __post_init__(self):
        require(self, n=self.n > 0, reduction=self.reduction > 0,
                bottleneck=self.bottleneck is None or self.bottleneck > 0)

    def _a(self, shape: Shape) -> int:
        """The bottleneck's width on a backbone.

        Raises:
            UsageError: n does not divide it, or not the backbone's width.
        """
        a = self.bottleneck or shape.width // self.reduction
        if a < 1 or a % self.n or shape.width % self.n:
            raise UsageError(f"{self} on a backbone of width {shape.width} has a bottleneck of {a}: n={self.n} must "
                             "divide both; choose another n, reduction or bottleneck")
        return a

    def attach(self, at: Attachment) -> None:
        a = self._a(at.shape)
        rule = at.share("rule", Rule(self.n))
        for site in at.anatomy.at(*SITES):
            at.edit(site, CompacterAdapter(rule, at.shape.width, a))
        if self.train_norms:
            LayerNormTuning().attach(at)

    def formula(self, shape: Shape) -> int:
        d, a, n = shape.width, self._a(shape), self.n
        one = 2 * (d + a) + a + d  # s and t of both PHM layers have d + a entries, then the biases
        norms = LayerNormTuning().formula(shape) if self.train_norms else 0
        return shape.layers * len(SITES) * one + n**3 + norms
