"""A delta of few entries of a backbone's own tensors: what FISH mask and others train, and what diff pruning ends with.

    theta = theta0 + scatter(v, indices)        v: (k,)   k = round(fraction * parameters)

It is kept as v and its indices, int32 within each tensor: 2 k numbers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from peftlib import parametrized
from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.parametrized import Place

if TYPE_CHECKING:
    from peftlib.methods.base import Attachment
    from peftlib.model import Tuned


class SparseChange(nn.Module):
    """Adds `values` (n,) to a tensor at `indices` (n,) of its flat view."""

    def __init__(self, indices: Tensor):
        super().__init__()
        self.values = nn.Parameter(torch.zeros(len(indices), device=indices.device))
        self.indices: Tensor
        self.register_buffer("indices", indices.to(torch.int32))

    def forward(self, original: Tensor) -> Tensor:
        return original.flatten().index_add(0, self.indices, self.values.to(original.dtype)).view_as(original)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The original whose changed form is `weight`: what an assignment to the tensor means (a LoRA being merged)."""
        change = -self.values.detach().to(weight.dtype)
        return weight.flatten().index_add(0, self.indices, change).view_as(weight)


class SparseDelta:
    """Part of a method with a field ``fraction``: a `SparseChange` of every tensor that has chosen entries, in
    ``at.shared``."""

    fraction: float

    def kept(self, shape: Shape) -> int:
        """k."""
        return max(1, round(self.fraction * shape.total))

    def candidates(self, at: Attachment) -> list[tuple[Tensor, list[Place]]]:
        """The tensors to choose from, with their places."""
        return parametrized.own_tensors(at.model.backbone)

    def assume(self, at: Attachment) -> None:
        """On a model of shapes: the same share of every tensor that there is to choose from."""
        found = self.candidates(at)
        numbers = spread([tensor.numel() for tensor, _ in found], self.kept(at.shape))
        empty = [
            torch.zeros(n, dtype=torch.int32, device=tensor.device) for (tensor, _), n in zip(found, numbers, strict=True)
        ]
        self.register(at, [(places, indices) for (_, places), indices in zip(found, empty, strict=True) if len(indices)])

    @staticmethod
    def register(at: Attachment, chosen: list[tuple[list[Place], Tensor]]) -> None:
        """Train these entries: for every tensor its places, and flat indices into it."""
        for places, indices in chosen:
            change = SparseChange(indices)
            parametrized.register(places, change)
            at.shared.append(change)

    @staticmethod
    def _unregister(at: Attachment, fold: bool) -> None:
        parametrized.unregister(at.model.backbone, at.shared, fold)
        own = {id(module) for module in at.model.shared.values()}
        at.shared = [module for module in at.shared if id(module) in own]

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        """Raises:
        UsageError: the delta's indices are no mask of this size on this backbone.
        """
        self._unregister(at, fold=False)
        names = {
            (id(m), n): f"{path}.parametrizations.{n}.0.indices"
            for path, m in at.model.backbone.named_modules(prefix="backbone")
            for n in m._parameters
        }
        found = [
            (places, tensors.get(names[id(places[0][0]), places[0][1]]), tensor.numel())
            for tensor, places in parametrized.own_tensors(at.model.backbone)
        ]
        found = [(places, indices, size) for places, indices, size in found if indices is not None]
        k, have = self.kept(at.shape), sum(indices.numel() for _, indices, _ in found)
        if have != k or not all(_is_mask(indices, size) for _, indices, size in found):
            raise UsageError(f"{self} expects {k} entries, each once and inside its tensor, and found {have} here")
        self.register(at, [(places, indices.to(at.model.backbone.device)) for places, indices, _ in found])

    def merge(self, at: Attachment) -> None:
        self._unregister(at, fold=True)

    def stored(self, at: Attachment) -> int:
        return 2 * self.kept(at.shape)

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        """The chosen entries; before they are chosen, as if they were all in the largest tensors."""
        if any(isinstance(m, SparseChange) for m in at.shared):
            chains = [m for m in at.model.backbone.modules() if isinstance(m, parametrize.ParametrizationList)]
            return {id(chain.original): len(chain[0].values) for chain in chains}  # type: ignore[arg-type]  # of a SparseChange
        found: dict[Hashable, int]
        left, found = self.kept(at.shape), {}
        for p in sorted(parametrized.own_parameters(at.model.backbone), key=torch.numel, reverse=True):
            found[id(p)] = min(left, p.numel())
            left -= found[id(p)]
        return found


def _is_mask(indices: Tensor, size: int) -> bool:
    """Flat indices as `largest` gives them: ascending, inside a tensor of `size` entries."""
    if indices.dtype != torch.int32 or indices.ndim != 1:
        return False
    return bool((indices.diff() > 0).all() and (indices >= 0).all() and (indices < size).all())


def gradients(
    model: Tuned, tensors: Sequence[Tensor], batches: Iterable[tuple[str, dict[str, Tensor], float]]
) -> list[Tensor]:
    """Sums over batches (task, inputs with labels, weight) of the gradients of their mean losses, each times its weight.
    Leaves the model as it was."""
    total, training = [torch.zeros_like(t, requires_grad=False) for t in tensors], model.training
    model.eval()  # no dropout: its noise is not the data's
    with torch.backends.cudnn.flags(enabled=False):  # whose LSTM gives no gradients outside training
        for task, batch, weight in batches:
            inputs = {name: t for name, t in batch.items() if name != "labels"}
            loss = weight * model.loss(task, model(task, inputs), batch["labels"])
            for sum_, gradient in zip(total, torch.autograd.grad(loss, tensors), strict=True):
                sum_ += gradient
    model.train(training)
    return total


def spread(sizes: list[int], k: int) -> list[int]:
    """k entries over tensors of these sizes: the same share of each, but one at least where there are enough."""
    numbers, most = [max(1, round(k * size / sum(sizes))) for size in sizes], sizes.index(max(sizes))
    numbers[most] += k - sum(numbers)
    return numbers if numbers[most] > 0 else [k // len(sizes) + (i < k % len(sizes)) for i in range(len(sizes))]


def largest(scores: list[Tensor], k: int) -> dict[int, Tensor]:
    """Flat indices, ascending, of the k largest entries over all tensors, by the tensor's number."""
    values, indices = zip(*(s.flatten().topk(min(k, s.numel())) for s in scores), strict=True)
    source = torch.cat([torch.full_like(v, i, dtype=torch.int32) for i, v in enumerate(indices)])
    top = torch.cat(values).topk(k).indices
    chosen, source = torch.cat(indices)[top], source[top]
    return {i: chosen[source == i].sort().values for i in source.unique().tolist()}
