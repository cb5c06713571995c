"""GLoRA (Chavan et al., 2023; survey, section 9.5): one form for changes of weight, input and bias.

    W x + b  ->  (W + W * A + B) x + b + b * D + E + W C        W, A, B: (out, in)   C: (in,)   b, D, E: (out,)

* is taken entry by entry, as in the authors' code. Each tensor has one of several forms: A and B are products of low
rank, (out, r)(r, in), or a factor for each row, or one number; C is of low rank or a vector; D and E are vectors or
numbers; or they are left out. All start at zero, but for the right factors of products, which are drawn as torch draws a
linear layer (Kaiming uniform with a = sqrt 5): the model starts where it was. All folds into W and b.

The paper trains the largest form of each, of which the smaller ones are slices, draws a combination for every layer at
every step, and then searches for the best one with an evolution of 432 combinations a layer. This file, as Hugging Face
`peft`, has one combination for all layers and no search. A layer without bias (T5) has no C, D and E, as in `peft`:
folded in, they would need a bias that its class has no place for.

W * A of low rank is built in every step, and the layer runs a second time with it. Query and value of BERT-base at r = 4
take 368,784 numbers with the defaults, and 92,160 with a vector in every place.
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
from peftlib.methods.reparametrized.lora import SITES, are_sites, fits


class Product(nn.Module):
    """(n, r)(r, k), from zero."""

    def __init__(self, n: int, k: int, rank: int):
        super().__init__()
        self.left = nn.Parameter(torch.zeros(n, rank))
        self.right = nn.Parameter(torch.empty(rank, k))
        nn.init.kaiming_uniform_(self.right, a=math.sqrt(5))

    def forward(self) -> Tensor:
        return self.left @ self.right


class Plain(nn.Module):
    """A tensor of the given shape, from zero."""

    def __init__(self, *shape: int):
        super().__init__()
        self.values = nn.Parameter(torch.zeros(shape))

    def forward(self) -> Tensor:
        return self.values


class Generalised(Edit):
    """The change of one linear layer, by the form of each tensor; base: the layer."""

    def __init__(self, base: nn.Module, rank: int, weight: str, input: str, bias: str):
        super().__init__()
        (out, into), self.base = base.weight.shape, Ref(base)  # type: ignore[misc]  # of a linear layer
        self.parts = nn.ModuleDict()
        for name in "AB" if weight != "none" else "":
            shapes = {"vector": (out, 1), "constant": (1, 1)}
            self.parts[name] = Product(out, into, rank) if weight == "lora" else Plain(*shapes[weight])
        biased = base.bias is not None
        if biased and input != "none":
            self.parts["C"] = Product(into, 1, rank) if input == "lora" else Plain(into, 1)
        for name in "DE" if biased and bias != "none" else "":
            self.parts[name] = Plain(out if bias == "vector" else 1)
        self.changes = ("weight", "bias") if self.parts.keys() & {"C", "D", "E"} else ("weight",)

    def weight(self, W: Tensor) -> Tensor | None:
        """W * A + B, or None where there is neither."""
        return W * self.parts["A"]() + self.parts["B"]() if "A" in self.parts else None

    def bias(self, W: Tensor, b: Tensor) -> Tensor:
        """b * D + E + W C: (out,)."""
        parts = self.parts
        change = b * parts["D"]() + parts["E"]() if "D" in parts else torch.zeros_like(b)
        return change + F.linear(parts["C"]().mT, W)[0] if "C" in parts else change

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        base: nn.Linear = self.base.module
        if (change := self.weight(base.weight)) is not None:
            y = y + F.linear(x, change)
        return y + self.bias(base.weight, base.bias).to(y.dtype) if "bias" in self.changes else y

    @torch.no_grad()
    def merge(self, base: nn.Module) -> bool:
        W, b = base.weight.clone(), base.bias  # type: ignore[operator]  # of a linear layer
        if "bias" in self.changes:
            b += self.bias(W, b).to(b.dtype)  # type: ignore[operator, arg-type]  # as above
        if (change := self.weight(W)) is not None:
            base.weight += change.to(W.dtype)  # type: ignore[operator]  # as above
        return True


@dataclass(frozen=True)
class GLoRA(Method):
    """Generalised low-rank adaptation, with one combination of forms for all layers.

    rank: r > 0 of products, at most the smaller side of every weight. weight: form of A and B, "lora", "vector", "constant"
    or "none". input: form of C, "lora", "vector" or "none". bias: form of D and E, "vector", "constant" or "none". sites:
    which layers, of query, key, value, output, up, down; cross-attention is treated as self-attention is.
    """

    rank: int = 4
    weight: str = "lora"
    input: str = "lora"
    bias: str = "constant"
    sites: tuple[str, ...] = ("query", "value")

    title = "GLoRA"
    family = "reparametrized"
    paper = "glora"
    mergeable = True
    about = {"name": "GLoRA", "color": "blue", "marker": "h", "line": "-.", "peft": "GloraConfig"}

    def check(self) -> None:
        require(
            self,
            rank=self.rank > 0,
            weight=self.weight in ("lora", "vector", "constant", "none"),
            input=self.input in ("lora", "vector", "none"),
            bias=self.bias in ("vector", "constant", "none") and {self.weight, self.input, self.bias} != {"none"},
            sites=are_sites(self.sites),
        )

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: a rank above a side of a weight, or changes of biases alone on a backbone that has none.
        """
        if not self.formula(at.shape):
            raise UsageError(f"{self} changes biases alone, and this backbone has none: expected a weight of another form")
        for site in at.anatomy.at(*(SITES[s] for s in self.sites)):
            fits(self, site)
            base = getattr(site.module, "base", site.module)
            at.edit(site, Generalised(base, self.rank, self.weight, self.input, self.bias))

    def formula(self, shape: Shape) -> int:
        attention = {name: (shape.inner, shape.width) for name in ("query", "key", "value")} | {
            "output": (shape.width, shape.inner)
        }
        ffn = {"up": (shape.ffn, shape.width), "down": (shape.width, shape.ffn)}
        into_heads = sum(self.numbers(*attention[s], shape.biases) for s in self.sites if s in attention)
        return shape.attentions * into_heads + shape.layers * sum(
            self.numbers(*ffn[s], shape.biases) for s in self.sites if s in ffn
        )

    def numbers(self, out: int, into: int, biased: bool) -> int:
        """Parameters of one layer's change."""
        r = self.rank
        weight = {"lora": r * (out + into), "vector": out, "constant": 1, "none": 0}[self.weight]
        input = {"lora": r * (into + 1), "vector": into, "none": 0}[self.input]
        bias = {"vector": out, "constant": 1, "none": 0}[self.bias]
        return 2 * weight + biased * (input + 2 * bias)
