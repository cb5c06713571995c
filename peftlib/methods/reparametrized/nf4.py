"""The four-bit storage of QLoRA (Dettmers et al., 2023): NormalFloat codes, and constants that are quantised, too.

    w ~ c q[i]        i: four bits    c: the largest |w| of a block of 64 along the flattened weight    q: 16 values
    c ~ m + s p[j]    j: eight bits   s: the largest |c - m| of 256 blocks   m: the mean of all c       p: 256 values

q are quantiles of a normal distribution over [-1, 1] with a zero among them (their equation 4 and appendix E), so that
normally distributed weights use all codes alike. p is the dynamic map of the `bitsandbytes` library, whose steps grow with
the number: seven decades of 1, 2, 4, ... 64 values each, of both signs, zero and one. Two codes share a byte, the first in
the high half. A weight takes 4 + 8 / 64 + 32 / (64 x 256) = 4.127 bits; without the second quantisation 4.5.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.edits import Replaced

GROUP = 256  # constants that share one of their own


@functools.cache
def normal_float() -> tuple[float, ...]:
    """q, ascending: eight quantiles above zero, seven below, each half scaled alike."""
    end = 0.9677083  # the probability of the outermost quantile: 1 - (1/32 + 1/30)/2, in the digits of the released code
    above, below = (
        torch.special.ndtri(torch.linspace(end, 0.5, n, dtype=torch.float64, device="cpu")[:-1]) for n in (9, 8)
    )
    values = torch.cat([-below, above, torch.zeros(1, dtype=torch.float64, device="cpu")]).sort().values
    return tuple((values / values.max()).tolist())


@functools.cache
def dynamic() -> tuple[float, ...]:
    """p, ascending."""
    found = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1, dtype=torch.float64, device="cpu")
        middles = (10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2).tolist()
        found += middles + [-m for m in middles]
    return tuple(sorted(found))


@functools.cache
def _tensor(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


@functools.cache
def _pairs(device: torch.device) -> Tensor:
    """What each byte of two codes stands for: (256, 2)."""
    q = _tensor(normal_float(), device)
    return torch.cartesian_prod(q, q)


def nearest(x: Tensor, values: Sequence[float]) -> Tensor:
    """The number of the nearest of the ascending values: uint8."""
    table = _tensor(tuple(values), x.device)
    return torch.bucketize(x, (table[1:] + table[:-1]) / 2).to(torch.uint8)


def _grouped(c: Tensor) -> Tensor:
    """Constants in rows of `GROUP`, the last filled with zeros."""
    return F.pad(c, (0, -len(c) % GROUP)).view(-1, GROUP)


class Quantised(Replaced):
    """A frozen linear layer in four bits. block: weights that share a constant, a divisor of their number. double: quantise
    the constants, too."""

    codes: Tensor
    constants: Tensor
    scales: Tensor | None
    mean: Tensor | None

    def __init__(self, layer: nn.Linear, block: int, double: bool):
        super().__init__(layer)
        self.block = block
        flat = layer.weight.detach().float().view(-1, block)
        largest = flat.abs().amax(1)
        codes = nearest(flat / largest.clamp_min(torch.finfo(torch.float32).tiny)[:, None], normal_float()).flatten()
        self.register_buffer("codes", codes[0::2] << 4 | codes[1::2])
        mean = scales = None
        if double:
            mean = largest.mean()
            rest = _grouped(largest - mean)
            scales = rest.abs().amax(1)
            rest = rest / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
            largest = nearest(rest, dynamic()).flatten()[: len(largest)]
        self.register_buffer("constants", largest)
        self.register_buffer("scales", scales)
        self.register_buffer("mean", mean)

    def largest(self) -> Tensor:
        """c of every block."""
        if self.scales is None or self.mean is None:
            return self.constants
        p = _tensor(dynamic(), self.constants.device).index_select(0, self.constants.int())
        return (_grouped(p) * self.scales[:, None]).flatten()[: len(p)] + self.mean

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # computed at each look
        """What the codes stand for: (out, in), fp32."""
        c = self.largest().float()
        if (library := bitsandbytes(self.codes.device)) is not None:
            state = library.QuantState(
                c,
                shape=torch.Size((self.out_features, self.in_features)),
                code=_tensor(normal_float(), c.device),
                blocksize=self.block,
                quant_type="nf4",
                dtype=torch.float32,
            )
            return library.dequantize_4bit(self.codes[:, None], state)
        q = _pairs(self.codes.device).index_select(0, self.codes.int())
        return (q.view(-1, self.block) * c[:, None]).view(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]  # torch's own
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """x W^T; the weight is made again in the backward pass, not kept for it, and has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Quantised) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return F.linear(x, layer.weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (g,) = gradients
        return (g @ ctx.layer.weight.to(g.dtype)).to(ctx.dtype), None


def bitsandbytes(device: torch.device) -> Any:
    """The functions of that library where its kernels are the faster ones, on CUDA, and it is installed; else None."""
    return _library() if device.type == "cuda" else None


@functools.cache
def _library() -> Any:
    try:
        return importlib.import_module("bitsandbytes.functional")
    except ImportError:
        return None
