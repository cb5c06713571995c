"""FISH mask (Sung, Nair & Raffel, 2021): train the parameters with the largest Fisher information, and only those.

    F = 1/N  sum_i (d log p(y_i | x_i) / d theta)^2        N examples one at a time, true labels (the empirical Fisher)
    theta = theta0 + scatter(v, indices)                   v: (k,) from zero; k = round(fraction * parameters)

The k largest entries of F over all tensors of the backbone together are chosen once, before training, with a head that
is still random. They are trained as sparse vectors: a tensor with chosen entries gets a parametrization that adds its
part of v. The released code masks gradients instead; there momentum and weight decay can move a masked weight, here
nothing else exists to be moved, and the optimizer keeps k states instead of one for every parameter. The gradient of a
whole tensor is still computed to read the chosen entries from it. As v is the difference from the pretrained weights,
weight decay, were it applied, would pull towards those.

A delta holds v and its indices, int32 within each tensor: 2 k numbers. Merging adds v to the weights.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from peftlib import parametrized
from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, require
from peftlib.parametrized import Place


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


@dataclass(frozen=True)
class FishMask(Method):
    """The Fisher-induced sparse unchanging mask.

    fraction: of the backbone's parameters that is trained, in (0, 1] (the survey's table: 0.0001 to 0.005).
    examples: N > 0, or as many as there are; 1024 in the released code, 256 for images.
    """

    fraction: float = 0.005
    examples: int = 1024

    title = "FISH mask"
    family = "selective"
    paper = "fishmask"
    mergeable = True
    by_layer = False
    about = {
        "name": "FISH mask",
        "color": "purple",
        "marker": "h",
        "row": "fraction=0.005, examples=128",
        "small": "fraction=0.05, examples=8",
    }

    def check(self) -> None:
        require(self, fraction=0 < self.fraction <= 1, examples=self.examples > 0)

    def attach(self, at: Attachment) -> None:
        at.train(())  # marks nothing yet, but is refused under PerTask
        if sum(isinstance(leaf, FishMask) for leaf, _ in at.model.attachments) > 1:
            raise UsageError(f"{at.model.method}: a second FISH mask would choose the same entries; write it once")

    def prepare(self, at: Attachment, batches: Iterable[tuple[str, dict[str, Tensor]]]) -> None:
        """Estimate the Fisher information on the first examples of the batches and choose the entries to train."""
        places = parametrized.own_tensors(at.model.backbone)
        fisher = _fisher(at, [tensor for tensor, _ in places], batches, self.examples)
        chosen = _largest(fisher, self.formula(at.shape))
        self.register(at, [(places[i][1], indices) for i, indices in chosen.items()])

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
        at.shared = []

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
        k, have = self.formula(at.shape), sum(indices.numel() for _, indices, _ in found)
        if have != k or not all(_is_mask(indices, size) for _, indices, size in found):
            raise UsageError(f"{self} expects {k} entries, each once and inside its tensor, and found {have} here")
        self.register(at, [(places, indices.to(at.model.backbone.device)) for places, indices, _ in found])

    def merge(self, at: Attachment) -> None:
        self._unregister(at, fold=True)

    def formula(self, shape: Shape) -> int:
        return max(1, round(self.fraction * shape.total))

    def trainable(self, at: Attachment) -> int:
        """k, also on models that have not looked at data yet."""
        return super().trainable(at) if at.shared else self.formula(at.shape)

    def stored(self, at: Attachment) -> int:
        return 2 * self.trainable(at)

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        """The chosen entries; before they are chosen, as if they were all in the largest tensors."""
        if at.shared:
            chains = [m for m in at.model.backbone.modules() if isinstance(m, parametrize.ParametrizationList)]
            return {id(chain.original): len(chain[0].values) for chain in chains}  # type: ignore[arg-type]  # of a SparseChange
        found: dict[Hashable, int]
        left, found = self.formula(at.shape), {}
        for p in sorted(parametrized.own_parameters(at.model.backbone), key=torch.numel, reverse=True):
            found[id(p)] = min(left, p.numel())
            left -= found[id(p)]
        return found


def _is_mask(indices: Tensor, size: int) -> bool:
    """Flat indices as `_largest` gives them: ascending, inside a tensor of `size` entries."""
    if indices.dtype != torch.int32 or indices.ndim != 1:
        return False
    return bool((indices.diff() > 0).all() and (indices >= 0).all() and (indices < size).all())


def _examples(batches: Iterable[tuple[str, dict[str, Tensor]]], limit: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The first examples of the batches, one at a time, without their inputs' padding (on the right)."""
    for task, batch in batches:
        for i in range(len(batch["labels"])):
            if limit == 0:
                return
            length = int(batch["attention_mask"][i].sum())
            yield task, {n: t[i : i + 1] if n in ("labels", "answers") else t[i : i + 1, :length] for n, t in batch.items()}
            limit -= 1


def _fisher(
    at: Attachment, tensors: list[Tensor], batches: Iterable[tuple[str, dict[str, Tensor]]], limit: int
) -> list[Tensor]:
    """Sums of squared gradients of single examples' losses, in the shapes of `tensors`. Leaves the model as it was."""
    model, examples = at.model, list(_examples(batches, limit))
    if not examples:
        raise UsageError("a FISH mask is chosen by looking at examples, and there were none: pass batches to prepare")
    fisher = [torch.zeros_like(t, dtype=torch.float32, requires_grad=False) for t in tensors]
    wanted, training = [t.requires_grad for t in tensors], model.training
    model.eval()  # no dropout: its noise is not the data's
    for t in tensors:
        t.requires_grad_(True)
    # One sentence looks up a few rows of the vocabulary: a dense gradient of the table would take half the time.
    tables = [m for m in model.backbone.modules() if isinstance(m, nn.Embedding) and not m.sparse]
    for table in tables:
        table.sparse = True
    for task, example in examples:
        labels = example.pop("labels")
        loss = model.loss(task, model(task, example), labels)
        for total, g in zip(fisher, torch.autograd.grad(loss, tensors, allow_unused=True), strict=True):
            if g is not None:
                _add_square(total, g)
    for t, flag in zip(tensors, wanted, strict=True):
        t.requires_grad_(flag)
    for table in tables:
        table.sparse = False
    model.train(training)
    return fisher


def _add_square(total: Tensor, gradient: Tensor) -> None:
    """total += gradient ** 2, elementwise; of an embedding only the rows that were looked up."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        total.index_add_(0, gradient.indices()[0], gradient.values().float().square())
    else:
        total.addcmul_(gradient.float(), gradient.float())


def _largest(scores: list[Tensor], k: int) -> dict[int, Tensor]:
    """Flat indices, ascending, of the k largest entries over all tensors, by the tensor's number."""
    values, indices = zip(*(s.flatten().topk(min(k, s.numel())) for s in scores), strict=True)
    source = torch.cat([torch.full_like(v, i, dtype=torch.int32) for i, v in enumerate(indices)])
    top = torch.cat(values).topk(k).indices
    chosen, source = torch.cat(indices)[top], source[top]
    return {i: chosen[source == i].sort().values for i in source.unique().tolist()}
