"""FAR (Vucetic et al., 2022; survey, section 8.3): freeze and reconfigure the feed-forward networks, node by node.

    y = W x + b      W: (out, in), a row and its bias are a node
    y_l += V_l x + c_l      for the n learner nodes l;  n = round(retention * out), V: (n, in) and c: (n,) from zero

First everything is trained for a while ("priming"): a run of `Full` on the same task, which this one begins from. The nodes
of a linear layer that have moved farthest from the pretrained ones, by the L1 distance of row and bias together, are its
learners; they go on from the pretrained weights, and all else is frozen. FAR then cuts each layer in two, learners and
frozen, and permutes what they return back into place; adding the learners' difference in place is the same sum, no gradient
of a frozen row is computed either, and a delta holds the n nodes and their n numbers.

The memory that this saves on a small device is why the paper has it; on DistilBERT, a tenth of the nodes are 2,836,224
numbers, 4.27% of it.

Decided, where the survey's account leaves it open: all linear layers of the feed-forward networks (T5's have no biases,
gated ones are three), nodes are ranked within each, and learners are rewound. The survey's 6.6 to 26.4 percent fit no share
of these layers; perhaps they are millions, a tenth and two fifths of DistilBERT's 66.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape, Site
from peftlib.edits import Edit
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, require
from peftlib.methods.selective.ltsft import moves


class Learners(Edit):
    """Adds V x + c to the outputs of a linear layer at `nodes` (n,), ascending."""

    changes = ("weight", "bias")

    def __init__(self, n: int, linear: nn.Linear):
        super().__init__()
        self.V = nn.Parameter(torch.zeros(n, linear.in_features))
        self.c = nn.Parameter(torch.zeros(n)) if linear.bias is not None else None
        self.nodes: Tensor  # the first ones, until a run says which
        self.register_buffer("nodes", torch.arange(n, dtype=torch.int32))

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y.index_add(-1, self.nodes, F.linear(x, self.V.to(x.dtype), self._bias(x)).to(y.dtype))

    def _bias(self, x: Tensor) -> Tensor | None:
        return None if self.c is None else self.c.to(x.dtype)

    @torch.no_grad()
    def merge(self, base: nn.Linear) -> bool:  # type: ignore[override]  # on no other site
        base.weight.index_add_(0, self.nodes, self.V.to(base.weight.dtype))
        if self.c is not None:
            base.bias.index_add_(0, self.nodes, self.c.to(base.bias.dtype))
        return True


@dataclass(frozen=True)
class FAR(Method):
    """Freeze and reconfigure.

    retention: share of each layer's nodes that is trained, in (0, 1) (the paper: 0.1 to 0.4).
    """

    retention: float = 0.1

    title = "FAR"
    family = "selective"
    paper = "far"
    mergeable = True
    begins_from = "a run of Full() on its task"
    about = {
        "name": "FAR",
        "color": "purple",
        "marker": "d",
        "line": "--",
        "row": "retention=0.1",
        "small": "retention=0.1",
        "drawn": False,
        "start": "Full",
    }

    def check(self) -> None:
        require(self, retention=0 < self.retention < 1)

    def attach(self, at: Attachment) -> None:
        for site in _linears(at):
            at.edit(site, Learners(self.learners(_linear(site).out_features), _linear(site)))

    def begin(self, at: Attachment, given: Sequence[dict[str, Tensor]]) -> None:
        """Choose the nodes that the given training has moved farthest, and begin with the pretrained ones."""
        for site, edit in at.edits:
            moved = moves(self, at, list(_linear(site).parameters()), given)
            far = torch.stack([change.abs().flatten(1).sum(1) if change.ndim > 1 else change.abs() for change in moved])
            edit.nodes.copy_(far.sum(0).topk(len(edit.nodes)).indices.sort().values)

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        """Raises:
        UsageError: the delta's nodes are none of this layer.
        """
        names = {id(edit): name for name, edit in at.model.named_modules()}
        for site, edit in at.edits:
            nodes, most = tensors.get(f"{names[id(edit)]}.nodes"), _linear(site).out_features
            if nodes is not None and not (nodes.diff() > 0).all() & (nodes >= 0).all() & (nodes < most).all():
                raise UsageError(f"{self} expects numbers of nodes from 0 to {most - 1}, ascending, at {site.name!r}")

    def learners(self, nodes: int) -> int:
        """n."""
        return max(1, round(self.retention * nodes))

    def formula(self, shape: Shape) -> int:
        wide = (1 + shape.gated) * self.learners(shape.ffn) * (shape.width + shape.biases)
        return shape.layers * (wide + self.learners(shape.width) * (shape.ffn + shape.biases))

    def stored(self, at: Attachment) -> int:
        """The nodes and their numbers."""
        return self.trainable(at) + sum(len(edit.nodes) for _, edit in at.edits)

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        """Of the weights only these nodes."""
        numbers: dict[Hashable, int] = {}
        for site, edit in at.edits:
            for tensor, ours in ((_linear(site).weight, edit.V), (_linear(site).bias, edit.c)):
                if tensor is not None:
                    numbers[id(tensor)] = max(ours.numel(), numbers.get(id(tensor), 0))
        return numbers


def _linear(site: Site) -> nn.Linear:
    """The layer itself, whatever edits it."""
    found: Any = getattr(site.module, "base", site.module)
    return found


def _linears(at: Attachment) -> list[Site]:
    return [site for site in at.anatomy.sites if site.name in ("ffn.up", "ffn.gate", "ffn.down")]
