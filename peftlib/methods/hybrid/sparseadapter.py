"""SparseAdapter (He et al., 2022; survey, section 10.1): adapters of which most weights are pruned before training.

    y -> y + (U . M_U) f((D . M_D) y + b_D) + b_U        M: zeros and ones, fixed before the first step

What is kept is chosen once, over the weights of all adapters together, by a score:

    snip       |g w|    g: gradient of the mean loss of some examples     (Lee et al., 2019; the paper's choice)
    magnitude  |w|
    random

The adapters are Houlsby's, with N(0, 0.02) in both matrices: with U at zero, as other adapters start, no gradient reaches
D and all scores are zero. Biases are never pruned. The paper's "Large-Sparse" is a bottleneck n times as wide of which
1/n is kept: as many parameters, chosen among more. Its code's option ``sparsity`` is the share that is *kept*, too.

The code keeps whole matrices and multiplies them by masks; here only what is kept exists, as in `FishMask`, so that the
optimizer has no states of what is pruned. A delta holds the values and the masks as bits: an eighth of a byte a weight.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.adapters.bottleneck import INITS, AfterSublayer
from peftlib.methods.adapters.houlsby import Houlsby
from peftlib.methods.base import Attachment, require
from peftlib.methods.selective.sparse import gradients, largest, spread
from peftlib.tensorfiles import unpacked

SCORES = ("snip", "magnitude", "random")


class Pruned(nn.Module):
    """A linear layer, of whose weight only some entries are there once `keep` has said which."""

    indices: Tensor
    values: nn.Parameter

    def __init__(self, fan_in: int, fan_out: int, init: str):
        super().__init__()
        self.fan_in, self.fan_out = fan_in, fan_out
        self.weight: nn.Parameter | None = nn.Parameter(torch.empty(fan_out, fan_in))
        INITS[init](self.weight)
        self.bias = nn.Parameter(torch.zeros(fan_out))

    @property
    def numbers(self) -> int:
        """Entries of the whole weight."""
        return self.fan_in * self.fan_out

    @torch.no_grad()
    def keep(self, indices: Tensor) -> None:
        """Give up all entries but these, ascending indices into the flat weight. Values are those of the weight; zeros
        where it is gone already."""
        device, whole = self.bias.device, self.weight
        values = torch.zeros(len(indices), device=device)
        if whole is not None:
            values = whole.flatten().index_select(0, indices.to(device))
        self.weight, self.values = None, nn.Parameter(values)
        mask = torch.zeros(self.numbers, dtype=torch.bool, device=device)
        self.register_buffer("mask", mask.index_fill(0, indices.to(device).long(), True))
        self.register_buffer("indices", indices.to(device, torch.int32), persistent=False)

    def whole(self) -> Tensor:
        """The weight, zero where it is pruned: (out, in)."""
        if self.weight is not None:
            return self.weight
        nothing = torch.zeros(self.numbers, dtype=self.values.dtype, device=self.values.device)
        return nothing.index_add(0, self.indices, self.values).view(self.fan_out, self.fan_in)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.whole(), self.bias)


class PrunedAdapter(AfterSublayer):
    """A bottleneck adapter of pruned layers on what a site returns."""

    def __init__(self, width: int, bottleneck: int, activation: str, init: str):
        super().__init__(Pruned(width, bottleneck, init), Pruned(bottleneck, width, init), activation)


@dataclass(frozen=True)
class SparseAdapter(Houlsby):
    """Bottleneck adapters, pruned before training.

    bottleneck: a > 0. activation: relu, gelu, gelu_new or swish. init: houlsby N(0, 0.001) truncated, hyperformer
    N(0, 0.01) or bert N(0, 0.02). train_norms: train the backbone's layer norms too (not under PerTask). kept: the share
    of weights that is not pruned, above 0 and below 1. score: snip, magnitude or random. examples: whose gradients snip
    looks at, > 0, or as many as there are.
    """

    activation: str = "relu"
    init: str = "bert"
    kept: float = 0.6
    score: str = "snip"
    examples: int = 1024

    title = "SparseAdapter"
    family = "hybrid"
    paper = "sparseadapter"
    near_identity = 0.1
    about = {
        "name": "SparseAdapter",
        "color": "green",
        "marker": "p",
        "line": ":",
        "row": "bottleneck=64",
        "small": "bottleneck=8, examples=8",
    }

    def check(self) -> None:
        super().check()
        require(self, kept=0 < self.kept < 1, score=self.score in SCORES, examples=self.examples > 0)

    def attach(self, at: Attachment) -> None:
        self.put(at, lambda: PrunedAdapter(at.shape.width, self.bottleneck, self.activation, self.init))

    @staticmethod
    def _layers(at: Attachment) -> list[Pruned]:
        return [layer for _, edit in at.edits for layer in (edit.down, edit.up)]

    def prepare(self, at: Attachment, batches: Iterable[tuple[str, dict[str, Tensor]]]) -> None:
        """Score all weights and keep the best.

        Raises:
            UsageError: every score is zero.
        """
        layers = self._layers(at)
        weights: list[Tensor] = [layer.weight for layer in layers]  # type: ignore[misc]  # whole until now
        scores = [w.detach().abs() for w in weights]
        if self.score == "random":
            scores = [torch.rand_like(w, requires_grad=False) for w in weights]
        elif self.score == "snip":
            found = gradients(at.model, weights, _first(batches, self.examples, at.task))
            scores = [(g * w.detach()).abs() for g, w in zip(found, weights, strict=True)]
        if not any(score.any() for score in scores):
            raise UsageError(
                f"{self} finds no weight more important than another, for every score is zero: were there examples, and do "
                "the adapters start from numbers other than zero?"
            )
        chosen = largest(scores, self._kept(at.shape))
        for i, layer in enumerate(layers):
            layer.keep(chosen.get(i, torch.zeros(0, dtype=torch.int64, device=layer.bias.device)))

    def assume(self, at: Attachment) -> None:
        layers = self._layers(at)
        for layer, numbers in zip(layers, spread([p.numbers for p in layers], self._kept(at.shape)), strict=True):
            layer.keep(torch.zeros(numbers, dtype=torch.int64, device=layer.bias.device))

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        """Raises:
        UsageError: the delta's masks keep another number of weights, or are of another size.
        """
        names = {id(m): f"{path}.mask" for path, m in at.model.named_modules()}
        layers = self._layers(at)
        if not any(names[id(layer)] in tensors for layer in layers):
            return  # saved before the look at data
        likes = [torch.zeros(layer.numbers, dtype=torch.bool) for layer in layers]
        nothing = torch.zeros(0, device="cpu")
        masks = [
            unpacked(tensors.get(names[id(layer)], nothing).cpu(), like) for layer, like in zip(layers, likes, strict=True)
        ]
        fits = all(mask.dtype == torch.bool and mask.shape == like.shape for mask, like in zip(masks, likes, strict=True))
        have, expected = sum(int(mask.sum()) for mask in masks) if fits else 0, self._kept(at.shape)
        if have != expected:
            raise UsageError(f"{self} keeps {expected:,} weights of its adapters, and the masks found here {have:,}")
        for layer, mask in zip(layers, masks, strict=True):
            layer.keep(mask.nonzero().flatten())

    def _numbers(self, shape: Shape) -> int:
        """Weights before anything is pruned."""
        return self.blocks(shape) * len(self.sites) * 2 * shape.width * self.bottleneck

    def _kept(self, shape: Shape) -> int:
        return max(1, round(self.kept * self._numbers(shape)))

    def formula(self, shape: Shape) -> int:
        return super().formula(shape) - self._numbers(shape) + self._kept(shape)

    def trainable(self, at: Attachment) -> int:
        """What is kept, also on models that have not looked at data yet."""
        whole = any(layer.weight is not None for layer in self._layers(at))
        return self.formula(at.shape) if whole else super().trainable(at)

    def stored(self, at: Attachment) -> int:
        """With the masks, of which 32 entries take the place of a number."""
        return self.trainable(at) + sum(-(-layer.numbers // 32) for layer in self._layers(at))

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        norms: dict[Hashable, int] = {id(p): p.numel() for p in at.trained}
        return norms | {(at.slot, at.task): self.trainable(at) - sum(norms.values())}


def _first(
    batches: Iterable[tuple[str, dict[str, Tensor]]], limit: int, own: str | None
) -> Iterator[tuple[str, dict[str, Tensor], float]]:
    """The first examples of the batches, of one task alone if a copy has its own, each batch with how many there are."""
    for task, batch in batches:
        if limit == 0:
            return
        rows = min(len(batch["labels"]), limit)
        if rows and own in (None, task):
            yield task, {name: tensor[:rows] for name, tensor in batch.items()}, rows
            limit -= rows
