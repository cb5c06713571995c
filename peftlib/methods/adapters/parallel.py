"""The parallel adapter (He et al., 2022): a bottleneck beside the feed-forward network instead of behind it.

    FFN(x) -> FFN(x) + s (U relu(D x + b_D) + b_U)        x: (..., d)   D: (a, d)   U: (d, a)   s: a number

x is what the network reads, and the sum comes before dropout, residual and norm, where all adapters of this library
stand; the paper adds after the dropout, which is the same but while training. s = 1 is the paper's parallel adapter; the
*scaled* one has s = 4 for summaries and translation, s = 2 on GLUE, or an s of each layer that is trained, from 1.

Where the norm comes before the sublayer (T5), x can be the residual stream or what the norm makes of it. The paper's
figure draws one arrow; its code for such a model, and the `adapters` library, read the stream: so does this file, and
``normed=True`` reads the other. In BERT they are the same.

D starts as torch draws it (Kaiming uniform with a = sqrt 5), U and the biases are zero: the model starts where it was, as
the authors' "lora" start has it. A block has 2da + a + d parameters, and one more with a trained s.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.edits import Edit
from peftlib.methods.adapters.bottleneck import ACTIVATIONS, size
from peftlib.methods.base import Attachment, Method, Ref, require


class Beside(Edit):
    """y + s (U f(D x + b_D) + b_U) for what a sublayer returns, y, and what it was given, x."""

    def __init__(self, x: Ref, width: int, bottleneck: int, activation: str, scale: float, learned: bool):
        super().__init__()
        self.x, self.activation = x, ACTIVATIONS[activation]
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)  # torch's draw is the one wanted
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)
        self.scale = nn.Parameter(torch.tensor(scale)) if learned else scale

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.scale * self.up(self.activation(self.down(self.x.module.take())))


@dataclass(frozen=True)
class ParallelAdapter(Method):
    """A bottleneck adapter beside the feed-forward network of every block.

    bottleneck: a > 0. scale: s > 0. learned: train an s for each block, from `scale`. activation: relu, gelu, gelu_new or
    swish. normed: where a norm comes first (T5), read what it returns rather than the residual stream.
    """

    bottleneck: int = 64
    scale: float = 1.0
    learned: bool = False
    activation: str = "relu"
    normed: bool = False

    title = "Parallel adapter"
    family = "adapters"
    paper = "unified"
    about = {
        "name": "parallel adapter",
        "color": "orange",
        "marker": "D",
        "row": "bottleneck=64, scale=4.0",
        "small": "bottleneck=8, scale=2.0, learned=True",
        "adapters": "ParBnConfig",
    }

    def check(self) -> None:
        require(self, bottleneck=self.bottleneck > 0, scale=self.scale > 0, activation=self.activation in ACTIVATIONS)

    def attach(self, at: Attachment) -> None:
        given, returned = at.anatomy.inputs("ffn", self.normed), at.anatomy.at("ffn.down")
        for first, last in zip(given, returned, strict=True):
            options = (self.bottleneck, self.activation, self.scale, self.learned)
            at.edit(last, Beside(at.read(first), at.shape.width, *options))

    def formula(self, shape: Shape) -> int:
        return shape.layers * (size(shape.width, self.bottleneck) + self.learned)
