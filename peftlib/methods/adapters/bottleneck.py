"""The bottleneck adapter that several methods insert, with its activations and initialisations under their names.

    A(x) = x + U f(D x + b_D) + b_U        D: (a, width)   U: (width, a)   b_D: (a,)   b_U: (width,)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.edits import Edit

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "swish": F.silu,
}


def normal_02(weight: Tensor) -> None:
    """N(0, 0.02), as BERT draws its own layers; the default of the `adapters` library and of the survey's rows."""
    nn.init.normal_(weight, std=0.02)


def normal_01(weight: Tensor) -> None:
    """N(0, 0.01), as the adapters of the HyperFormer repository."""
    nn.init.normal_(weight, std=0.01)


def truncated_001(weight: Tensor) -> None:
    """N(0, 0.001) cut at two standard deviations, as Houlsby et al.'s own code; their section 3.6 finds every deviation
    up to 0.01 to work alike."""
    nn.init.trunc_normal_(weight, std=1e-3, a=-2e-3, b=2e-3)


INITS: dict[str, Callable[[Tensor], None]] = {"bert": normal_02, "hyperformer": normal_01, "houlsby": truncated_001}


class Bottleneck(Edit):
    """A(x), for x of shape (..., width). Biases start at zero, weights as `init` draws them."""

    def __init__(self, width: int, bottleneck: int, activation: str, init: str):
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        self.activation = ACTIVATIONS[activation]
        for linear in (self.down, self.up):
            INITS[init](linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.activation(self.down(x)))


class OnOutput(Bottleneck):
    """An adapter on what a site returns: before the sublayer's dropout, residual and norm."""

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return self(y)


class OnInput(Bottleneck):
    """An adapter on what a site is given."""

    def before(self, x: Tensor) -> Tensor:
        return self(x)


def size(width: int, bottleneck: int) -> int:
    """Parameters of one adapter."""
    return 2 * width * bottleneck + bottleneck + width
