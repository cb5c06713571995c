"""FISH mask (Sung, Nair & Raffel, 2021): train the parameters with the largest Fisher information, and only those.

    F = 1/N  sum_i (d log p(y_i | x_i) / d theta)^2        N examples one at a time, true labels (the empirical Fisher)
    theta = theta0 + scatter(v, indices)                   v: (k,) from zero; k = round(fraction * parameters)

The k largest entries of F over all tensors of the backbone together are chosen once, before training, with a head that
is still random. They are trained as sparse vectors: a tensor with chosen entries gets a parametrization that adds its
part of v. The released code masks gradients instead; there momentum and weight decay can move a masked weight, here
nothing else exists to be moved, and the optimizer keeps k states instead of one for every parameter. The gradient of a
whole tensor is still computed to read the chosen entries from it. As v is the difference from the pretrained weights,
weight decay, were it applied, would pull towards those.

A delta is as `SparseDelta` keeps it: 2 k numbers. Merging adds v to the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib import parametrized
from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, require
from peftlib.methods.selective.sparse import SparseDelta, largest


@dataclass(frozen=True)
class FishMask(SparseDelta, Method):
    """The Fisher-induced sparse unchanging mask.

    fraction: of the backbone's parameters that is trained, in (0, 1) (the survey's table: 0.0001 to 0.005).
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
        require(self, fraction=0 < self.fraction < 1, examples=self.examples > 0)

    def attach(self, at: Attachment) -> None:
        at.train(())  # marks nothing yet, but is refused under PerTask
        if sum(isinstance(leaf, FishMask) for leaf, _ in at.model.attachments) > 1:
            raise UsageError(f"{at.model.method}: a second FISH mask would choose the same entries; write it once")

    def prepare(self, at: Attachment, batches: Iterable[tuple[str, dict[str, Tensor]]]) -> None:
        """Estimate the Fisher information on the first examples of the batches and choose the entries to train."""
        places = parametrized.own_tensors(at.model.backbone)
        fisher = _fisher(at, [tensor for tensor, _ in places], batches, self.examples)
        chosen = largest(fisher, self.kept(at.shape))
        self.register(at, [(places[i][1], indices) for i, indices in chosen.items()])

    def formula(self, shape: Shape) -> int:
        return self.kept(shape)

    def trainable(self, at: Attachment) -> int:
        """k, also on models that have not looked at data yet."""
        return self.kept(at.shape)


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
