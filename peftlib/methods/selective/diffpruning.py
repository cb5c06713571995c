"""Diff pruning (Guo, Rush & Kim, 2021; survey, section 8.2): learn a difference to all weights, and what of it to keep.

    theta = theta0 + z z_g w        w, z: as large as theta, w from 0   z_g: one number a tensor

Three phases of one run:

    noisy       every pass draws its gates, z = clamp(3 s - 1.5, 0, 1), s = sigmoid(logit(u) + alpha), u ~ U(0, 1), and z_g
                likewise from alpha_g. The loss has l0 sum sigmoid(alpha) sigmoid(alpha_g), the expected number of gates
                that are not closed; alpha and alpha_g start at 5, where 97 of 100 gates are fully open
    projection  the k entries of all tensors together with the largest |z z_g w| are kept, k = round(fraction * parameters)
    fixed       w goes on being trained where it is kept: theta = theta0 + w there, theta0 elsewhere

Evaluation, and the projection, compute with u = 1/2 in place of a draw; the best epoch is one of the last phase. Trained
are two numbers a weight and one a tensor, stored k values and their indices: on BERT-base 218,964,679 and, at 0.5%,
1,094,822.

What differs from the released code: there the gates' rates never decay, which is this method's `gate_lr` under the run's
schedule; each phase has an optimizer and a schedule of its own; the projection takes the last draw, and the classifier's
entries with it, where ours is outside of all this. Its penalty adds a group's probability once; that of a product of two
gates is the product, as here. A weight decay in the recipe pulls w, the difference, to zero, and never the gates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from peftlib import parametrized
from peftlib.anatomy import Shape
from peftlib.edits import Current
from peftlib.methods.base import Attachment, Method, Step, require
from peftlib.methods.selective.sparse import SparseDelta, largest
from peftlib.parametrized import Place

START, STRETCH, NEAREST = 5.0, 3.0, 1e-4  # of alpha; the range of z before it is cut; of u to 0 and 1


class Gate(nn.Parameter):
    """alpha, by which the optimizer knows it."""


class Diff(nn.Module):
    """Adds z z_g w to a tensor; once ``kept``, a mask of its shape, is there, w where it is true."""

    def __init__(self, tensor: Tensor, current: Current):
        super().__init__()
        self.current, like = current, torch.zeros_like(tensor, dtype=torch.float32)
        self.w, self.alpha, self.group = nn.Parameter(like), Gate(like + START), Gate(like.new_tensor(START))
        self.kept: Tensor | None
        self.register_buffer("kept", None)

    def forward(self, original: Tensor) -> Tensor:
        return self.current.once(self, lambda: (original + self.change(self.training)).to(original.dtype))

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The original whose changed form is `weight`: what an assignment to the tensor means (a LoRA being merged)."""
        return (weight - self.change(noisy=False).detach()).to(weight.dtype)

    def change(self, noisy: bool) -> Tensor:
        """The difference, in the tensor's shape."""
        if self.kept is not None:
            return self.kept * self.w
        return self._gate(self.alpha, noisy) * self._gate(self.group, noisy) * self.w

    def _gate(self, alpha: Tensor, noisy: bool) -> Tensor:
        if noisy:
            u = self.current.draw((self, alpha), lambda: torch.rand_like(alpha, requires_grad=False))
            alpha = alpha + u.clamp(NEAREST, 1 - NEAREST).logit()
        return (STRETCH * (alpha.sigmoid() - 0.5)).clamp(0, 1)

    def open(self) -> Tensor:
        """Expected number of entries whose gates are not closed."""
        return self.alpha.sigmoid().sum() * self.group.sigmoid()


@dataclass(frozen=True)
class DiffPruning(SparseDelta, Method):
    """A sparse difference to the backbone's weights.

    fraction: of the backbone's parameters that is kept, in (0, 1). noisy: fraction of the run's steps before the
    projection, in (0, 1). l0: weight of the penalty, at least 0. gate_lr: the gates' learning rate > 0.
    """

    fraction: float = 0.005
    noisy: float = 0.5
    l0: float = 1.25e-7
    gate_lr: float = 0.1

    title = "Diff pruning"
    family = "selective"
    paper = "diffpruning"
    mergeable = True
    by_layer = False
    about = {
        "name": "diff pruning",
        "color": "purple",
        "marker": "X",
        "line": "-.",
        "small": "fraction=0.05",
        "drawn": False,
    }

    def check(self) -> None:
        require(self, fraction=0 < self.fraction < 1, noisy=0 < self.noisy < 1, l0=self.l0 >= 0, gate_lr=self.gate_lr > 0)

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: under `PerTask`, or beside a method that makes tensors functions of its own numbers.
        """
        at.train(())  # marks nothing, but is refused under PerTask
        for tensor, places in parametrized.own_tensors(at.model.backbone):
            diff = Diff(tensor, at.current)
            parametrized.register(places, diff)
            at.shared.append(diff)

    def assume(self, at: Attachment) -> None:
        """Nothing: it looks at no data, and what it needs most memory for is there."""

    def optimizer(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """AdamW, with a rate of their own for gates, which do not decay."""
        gates = [p for group in groups for p in group["params"] if isinstance(p, Gate)]
        others = [group | {"params": [p for p in group["params"] if not isinstance(p, Gate)]} for group in groups]
        own = [{"params": gates, "weight_decay": 0.0, "lr": self.gate_lr}] if gates else []
        return torch.optim.AdamW([*(group for group in others if group["params"]), *own], lr=lr, fused=True)

    # --- phases ---------------------------------------------------------------------------------------------------
    def projected_after(self, total: int) -> int:
        """The step (0-based, of `total`) after which entries are chosen; the last at latest."""
        return max(round(self.noisy * total), 1) - 1

    def penalty(self, at: Attachment, step: Step) -> Tensor | None:
        gated = _diffs(at)
        if not gated or gated[0].kept is not None:
            return None
        return self.l0 * torch.stack([diff.open() for diff in gated]).sum()

    def after_step(self, at: Attachment, step: int, total: int) -> None:
        if step == self.projected_after(total):
            self._project(at)

    def ready(self, step: int, total: int) -> bool:
        """Only with the chosen entries."""
        return step >= self.projected_after(total)

    @torch.no_grad()
    def _project(self, at: Attachment) -> None:
        """Choose the entries, if that has not been done."""
        diffs = [diff for diff in _diffs(at) if diff.kept is None]
        if not diffs:
            return
        chosen = largest([diff.change(noisy=False).abs() for diff in diffs], self.kept(at.shape))
        for i, diff in enumerate(diffs):
            kept = torch.zeros(diff.w.numel(), dtype=torch.bool, device=diff.w.device)
            if i in chosen:
                kept[chosen[i]] = True
            diff.kept = kept.view_as(diff.w)

    # --- afterwards -----------------------------------------------------------------------------------------------
    def finish(self, at: Attachment) -> None:
        """Drop the gates, and of the difference what is not kept."""
        self._project(at)
        found = [
            (_places(at, diff), kept, diff.w.detach().flatten()[kept])
            for diff in _diffs(at)
            if len(kept := diff.kept.flatten().nonzero()[:, 0])  # type: ignore[union-attr]  # just projected
        ]
        if found:
            self._unregister(at, fold=False)
            self.register(at, [(places, indices) for places, indices, _ in found])
            for change, (_, _, values) in zip(at.shared, found, strict=True):
                change.values.data.copy_(values)  # type: ignore[operator]  # a SparseChange

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        """Of unfinished training only which entries are kept, if they have been chosen."""
        names = {id(module): name for name, module in at.model.named_modules()}
        diffs = _diffs(at)
        if not any(f"{names[id(diff)]}.w" in tensors for diff in diffs):
            super().restore(at, tensors)
        for diff in diffs:
            if f"{names[id(diff)]}.kept" in tensors:
                diff.kept = torch.zeros_like(diff.w, dtype=torch.bool)

    def merge(self, at: Attachment) -> None:
        """What evaluation computes with: before entries are chosen, all of the difference."""
        for diff in _diffs(at):
            diff.eval()
        super().merge(at)

    def formula(self, shape: Shape) -> int:
        return 2 * shape.total + shape.tensors

    def trainable(self, at: Attachment) -> int:
        """What received gradients, also after `finish`."""
        return self.formula(at.shape)


def _diffs(at: Attachment) -> list[Diff]:
    return [module for module in at.shared if isinstance(module, Diff)]


def _places(at: Attachment, diff: Diff) -> list[Place]:
    """Where the tensor is that a difference belongs to."""
    return [
        (module, name)
        for module in at.model.backbone.modules()
        for name, chain in getattr(module, "parametrizations", {}).items()
        if chain[0] is diff
    ]
