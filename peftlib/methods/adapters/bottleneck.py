"""What the adapters of several methods share: the bottleneck, its activations and initialisations under their names, and
the places after the two sublayers of a block.

    A(x) = x + U f(D x + b_D) + b_U        D: (a, width)   U: (width, a)   b_D: (a,)   b_U: (width,)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Anatomy, Shape, Site
from peftlib.edits import Edit
from peftlib.methods.base import Attachment, normal
from peftlib.methods.selective.layernorm import LayerNormTuning

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "swish": F.silu,
}


def normal_02(weight: Tensor) -> None:
    """N(0, 0.02), as BERT draws its own layers; the default of the `adapters` library and of the survey's rows."""
    normal(weight, std=0.02)


def normal_01(weight: Tensor) -> None:
    """N(0, 0.01), as the adapters of the HyperFormer repository."""
    normal(weight, std=0.01)


def truncated_001(weight: Tensor) -> None:
    """N(0, 0.001) cut at two standard deviations, as Houlsby et al.'s own code; their section 3.6 finds every deviation
    up to 0.01 to work alike."""
    nn.init.trunc_normal_(weight, std=1e-3, a=-2e-3, b=2e-3)


INITS: dict[str, Callable[[Tensor], None]] = {"bert": normal_02, "hyperformer": normal_01, "houlsby": truncated_001}


def add_bias(y: Tensor, b: Tensor) -> Tensor:
    """y + b in the type of y, as `nn.Linear` adds one: under autocast products are bf16, and a sum with an fp32 bias would
    make the whole residual stream after it fp32. y: (..., m). b: (m,)."""
    return y + b.to(y.dtype)


class Adapter(Edit):
    """x + up(f(down(x))), for x of shape (..., d). down, up: maps from d to a and back."""

    def __init__(self, down: nn.Module, up: nn.Module, activation: str):
        super().__init__()
        self.down, self.up = down, up
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.activation(self.down(x)))


class AfterSublayer(Adapter):
    """An adapter on what a site returns: before the sublayer's dropout, residual and norm."""

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return self(y)


class Bottleneck(Adapter):
    """A(x), for x of shape (..., width). Biases start at zero, weights as `init` draws them."""

    def __init__(self, width: int, bottleneck: int, activation: str, init: str):
        super().__init__(nn.Linear(width, bottleneck), nn.Linear(bottleneck, width), activation)
        for linear in (self.down, self.up):
            INITS[init](linear.weight)  # type: ignore[arg-type]  # of an nn.Linear
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type]  # as above


class OnOutput(AfterSublayer, Bottleneck):
    """A bottleneck on what a site returns."""


class OnInput(Bottleneck):
    """A bottleneck on what a site is given."""

    def before(self, x: Tensor) -> Tensor:
        return self(x)


def size(width: int, bottleneck: int) -> int:
    """Parameters of one adapter."""
    return 2 * width * bottleneck + bottleneck + width


class OnSublayers:
    """Part of a method: adapters of one kind after the sublayers `sites` of every block, and the layer norms beside
    them if the method's field ``train_norms`` says so. T5's cross-attention gets none."""

    sites: ClassVar[tuple[str, ...]] = ("attention.output", "ffn.down")
    train_norms: bool

    def places(self, anatomy: Anatomy) -> list[Site]:
        """Where the adapters stand."""
        return anatomy.at(*self.sites)

    def blocks(self, shape: Shape) -> int:
        """How many blocks have adapters, as `places` finds them."""
        return shape.layers

    def put(self, at: Attachment, make: Callable[[], Edit]) -> None:
        """A new adapter at every place, and the norms."""
        for site in self.places(at.anatomy):
            at.edit(site, make())
        if self.train_norms:
            LayerNormTuning().attach(at)

    def sized(self, shape: Shape, one: int) -> int:
        """Parameters of all adapters, each of size `one`, and of the norms."""
        norms = LayerNormTuning().formula(shape) if self.train_norms else 0
        return self.blocks(shape) * len(self.sites) * one + norms
