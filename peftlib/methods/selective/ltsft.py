"""LT-SFT (Ansell et al., 2022; survey, Table 1): train what moves most when everything is trained, from the beginning.

    theta1   full fine-tuning from theta0
    theta  = theta0 + scatter(v, indices)        v: (k,) from zero; k = round(fraction * parameters)

`indices` are the k largest of |theta1 - theta0| over all tensors together: a lottery ticket. What the first training has
learnt is thrown away, the head's weights, too ("rewound"), and the second begins with an optimizer and a schedule of its
own. The first training is a run of `Full` on the same task, which this one begins from: the comparison has it anyway.

Layer norms are never chosen; the authors' scripts freeze them. Their code masks gradients, and needs a weight decay of zero
for that; here nothing but v exists to be moved, as in `FishMask`. Of ties at the edge theirs keeps all, ours k. Left out
are the L1 penalty on theta - theta0 of their language adapters, which is zero for tasks, and adding several deltas up.
Their tasks change 14,155,776 of mBERT's parameters, 8%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from peftlib import parametrized
from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, require
from peftlib.methods.selective.sparse import SparseDelta, largest


@dataclass(frozen=True)
class LTSFT(SparseDelta, Method):
    """Lottery-ticket sparse fine-tuning.

    fraction: of the backbone's parameters that is trained, in (0, 1).
    """

    fraction: float = 0.08

    title = "LT-SFT"
    family = "selective"
    paper = "ltsft"
    mergeable = True
    by_layer = False
    begins_from = "a run of Full() on its task"
    about = {
        "name": "LT-SFT",
        "color": "purple",
        "marker": "D",
        "row": "fraction=0.08",
        "small": "fraction=0.05",
        "drawn": False,
        "start": "Full",
    }

    def check(self) -> None:
        require(self, fraction=0 < self.fraction < 1)

    def attach(self, at: Attachment) -> None:
        at.train(())  # marks nothing yet, but is refused under PerTask

    def begin(self, at: Attachment, given: Sequence[dict[str, Tensor]]) -> None:
        """Choose the entries that the given training has moved most.

        Raises:
            UsageError: it is none of all weights.
        """
        norms = {id(p) for site in at.model.anatomy.norms for p in site.module.parameters()}
        found = [(t, places) for t, places in parametrized.own_tensors(at.model.backbone) if id(t) not in norms]
        moved = moves(self, at, [tensor for tensor, _ in found], given)
        chosen = largest([change.abs() for change in moved], self.kept(at.shape))
        self.register(at, [(found[i][1], indices) for i, indices in chosen.items()])

    def formula(self, shape: Shape) -> int:
        return self.kept(shape)

    def trainable(self, at: Attachment) -> int:
        """k, also on models that have not begun yet."""
        return self.kept(at.shape)


@torch.no_grad()
def moves(method: Method, at: Attachment, tensors: list[Tensor], given: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    """How far a training of all weights has moved tensors of the backbone, in their shapes.

    Raises:
        UsageError: several trainings are given, or one that has not trained these tensors. Names the first.
    """
    if len(given) != 1:
        raise UsageError(f"{method} begins from one run, and its start names {len(given)}")
    names = {id(t): name for name, t in reversed(at.model.state_dict(keep_vars=True).items())}
    found = []
    for tensor in tensors:
        name = names[id(tensor)].replace(".base.", ".")  # where the plain backbone has it
        if name not in given[0]:
            raise UsageError(f"{method} begins from {method.begins_from}: its start has not trained {name}")
        found.append(given[0][name].to(tensor) - tensor)
    return found
