"""KronA (Edalati et al., 2022; survey, section 9.3): a change of weights that is one Kronecker product.

    KronA          W x -> W x + s (A (x) B) x                             query and value of every attention
    KronA-B        FFN(x) -> FFN(x) + s (A (x) B) x                       beside the feed-forward network
    KronA-B-res    FFN(x) -> FFN(x) + s (A (x) B) x + s_res x             the same, s_res a trained number a block
    A: (a1, a2)   B: (b1, b2)   a1 b1 = out, a2 b2 = in

The matrix is never built: with x as a2 rows of b2 numbers, X, the product is A X B' read row by row, a1 a2 b1 + a2 b1 b2
products a token where the matrix takes out x in. Only KronA can be folded into weights.

The sizes of A are fields; by default each of its sides is the largest divisor up to the square root, as in Hugging Face
`peft`'s LoKr: 24 x 24 and 32 x 32 for 768 x 768. ``rank`` makes B a product of two matrices, LoKr's other form, which the
survey's counts are of. A starts at zero and B as torch draws a linear layer (Kaiming uniform with a = sqrt 5), as there.

No code of the authors was at hand, and these are decisions: x beside the feed-forward network is what its norm returns
where that comes first (T5), s_res starts at one (`residual`), which is no start near the pretrained model, and there are
no biases. The 0.07% of T5-base that the paper prints is 110,592 numbers in 72 products and the 47,616 of the norms, which
are not trained here: add ``LayerNormTuning()``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape
from peftlib.edits import Edit
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, Ref, require


def near_root(n: int) -> int:
    """The largest divisor of n up to its square root."""
    return next(m for m in range(math.isqrt(n), 0, -1) if n % m == 0)


def multiply(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """(A (x) B) x: (..., a1 b1). x: (..., a2 b2), A: (a1, a2), B: (b1, b2)."""
    rows = F.linear(x.unflatten(-1, (A.shape[1], B.shape[1])), B)  # (..., a2, b1)
    return F.linear(rows.transpose(-1, -2), A).transpose(-1, -2).flatten(-2)


class Kronecker(nn.Module):
    """s (A (x) B) x; with a rank, B is the product of b1 x rank and rank x b2."""

    def __init__(self, sizes: tuple[int, int, int, int], scale: float, rank: int | None):
        super().__init__()
        (a1, a2, b1, b2), self.scale = sizes, scale
        self.A = nn.Parameter(torch.zeros(a1, a2))
        shapes = [(b1, b2)] if rank is None else [(b1, rank), (rank, b2)]
        self.factors = nn.ParameterList([nn.Parameter(torch.empty(shape)) for shape in shapes])
        for factor in self.factors:
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))

    @property
    def B(self) -> Tensor:
        """(b1, b2)."""
        return self.factors[0] if len(self.factors) == 1 else self.factors[0] @ self.factors[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * multiply(x, self.A, self.B)


class OnWeight(Edit):
    """W x + s (A (x) B) x."""

    changes = ("weight",)

    def __init__(self, product: Kronecker):
        super().__init__()
        self.product = product

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.product(x)

    @torch.no_grad()
    def merge(self, base: nn.Module) -> bool:
        change = self.product.scale * torch.kron(self.product.A, self.product.B.contiguous())
        base.weight += change.to(base.weight.dtype)  # type: ignore[operator, arg-type]  # of a linear layer
        return True


class BesideSublayer(Edit):
    """y + s (A (x) B) x (+ s_res x) for what a sublayer returns, y, and what it was given, x."""

    def __init__(self, x: Ref, product: Kronecker, residual: float | None):
        super().__init__()
        self.x, self.product = x, product
        self.s_res = None if residual is None else nn.Parameter(torch.tensor(residual))

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        x = self.x.module.take()
        y = y + self.product(x)
        return y if self.s_res is None else y + (self.s_res * x).to(y.dtype)


@dataclass(frozen=True)
class KronA(Method):
    """A Kronecker product added to the weights of attention.

    rows, columns: a1 and a2, sizes of A, which divide those of the weight; None: the largest divisor up to the root.
    rank: of B, or None for a full one. scale: s > 0. sites: of query, key, value, output.
    """

    rows: int | None = None
    columns: int | None = None
    rank: int | None = None
    scale: float = 1.0
    sites: tuple[str, ...] = ("query", "value")

    title = "KronA"
    family = "reparametrized"
    paper = "krona"
    mergeable = True
    about = {"name": "KronA", "color": "blue", "marker": "D", "small": "rows=8, columns=4", "peft": "LoKrConfig"}

    def check(self) -> None:
        check_product(self)
        chosen = set(self.sites)
        require(self, sites=0 < len(chosen) == len(self.sites) and chosen <= {"query", "key", "value", "output"})

    def attach(self, at: Attachment) -> None:
        for site in at.anatomy.at(*(f"*.{s}" for s in self.sites)):
            fan_out, fan_in = site.fan_out, site.fan_in
            at.edit(site, OnWeight(Kronecker(sizes(self, fan_out, fan_in), self.scale, self.rank)))

    def formula(self, shape: Shape) -> int:
        into = sum(s != "output" for s in self.sites) * numbers(self, shape.inner, shape.width)
        out = ("output" in self.sites) * numbers(self, shape.width, shape.inner)
        return shape.attentions * (into + out)


@dataclass(frozen=True)
class KronAB(Method):
    """A Kronecker product beside the feed-forward network.

    rows, columns: a1 and a2, sizes of A, which divide the width; None: the largest divisor up to the root. rank: of B, or
    None for a full one. scale: s > 0.
    """

    rows: int | None = None
    columns: int | None = None
    rank: int | None = None
    scale: float = 1.0

    title = "KronA-B"
    family = "reparametrized"
    paper = "krona"
    about = {"name": "KronA-B", "color": "blue", "marker": "d", "line": "--", "small": "rows=8, columns=4"}
    residual: ClassVar[float | None] = None

    def check(self) -> None:
        check_product(self)

    def attach(self, at: Attachment) -> None:
        given, returned, d = at.anatomy.inputs("ffn", normed=True), at.anatomy.at("ffn.down"), at.shape.width
        for first, last in zip(given, returned, strict=True):
            product = Kronecker(sizes(self, d, d), self.scale, self.rank)
            at.edit(last, BesideSublayer(at.read(first), product, self.residual))

    def formula(self, shape: Shape) -> int:
        return shape.layers * (numbers(self, shape.width, shape.width) + (self.residual is not None))


@dataclass(frozen=True)
class KronABRes(KronAB):
    """A Kronecker product and a trained multiple of the input beside the feed-forward network.

    rows, columns: a1 and a2, sizes of A, which divide the width; None: the largest divisor up to the root. rank: of B, or
    None for a full one. scale: s > 0. residual: s_res at the start; 0 starts at the pretrained model.
    """

    residual: float = 1.0  # type: ignore[misc]  # a field here

    title = "KronA-B-res"
    near_identity = None
    about = {"name": "KronA-B-res", "color": "blue", "marker": "X", "line": ":", "small": "rows=8, columns=4"}


def check_product(method: KronA | KronAB) -> None:
    sides = {name: getattr(method, name) is None or getattr(method, name) > 0 for name in ("rows", "columns", "rank")}
    require(method, **sides, scale=method.scale > 0)


def sizes(method: KronA | KronAB, fan_out: int, fan_in: int) -> tuple[int, int, int, int]:
    """a1, a2, b1, b2 for a matrix of these sides.

    Raises:
        UsageError: a size of A that divides no side, or a rank above the sides of B.
    """
    a1, a2 = method.rows or near_root(fan_out), method.columns or near_root(fan_in)
    if fan_out % a1 or fan_in % a2:
        raise UsageError(
            f"{method}: the matrix is {fan_out} x {fan_in}, which A of {a1} x {a2} does not divide: choose rows that "
            f"divide {fan_out} and columns that divide {fan_in}"
        )
    b1, b2 = fan_out // a1, fan_in // a2
    if method.rank is not None and method.rank > min(b1, b2):
        raise UsageError(f"{method}: B is {b1} x {b2}, which leaves room for ranks from 1 to {min(b1, b2)}")
    return a1, a2, b1, b2


def numbers(method: KronA | KronAB, fan_out: int, fan_in: int) -> int:
    """Parameters of one product."""
    a1, a2, b1, b2 = sizes(method, fan_out, fan_in)
    return a1 * a2 + (b1 * b2 if method.rank is None else method.rank * (b1 + b2))
