"""GaLore (Zhao et al., 2024; survey, section 9.7): all weights are trained, the optimizer lives in a low-rank space.

For a gradient G (m, n) with m >= n, every `gap` steps V (n, r) becomes G's first r right singular vectors, and

    R = G V                              (m, r): what Adam sees; its two moments have this shape
    W <- W - lr * scale * Adam(R) V'     back in full size

With m < n the left vectors U (m, r) are used: R = U'G (r, n). The moments are kept when the space changes, as in the
authors' code. It is an optimizer, no module: nothing is added to the model, and what is stored is the whole backbone.

Memory: Adam keeps 2mn numbers a matrix; GaLore 2mr for the moments and nr for the space (m >= n), `state_size`. The
authors' scripts choose the attention and feed-forward matrices; here every matrix with both sides above the rank is
projected (embeddings, too); the others and all vectors get ordinary AdamW. Weight decay is AdamW's, on full weights.

Around the projection this is torch's AdamW: epsilon 1e-8, added to the bias-corrected root, and decay before the step. The
released optimizer is an older one of transformers: 1e-6, added before the correction (in the first steps as if it were up
to 30 times as large), and decay after the step, of the weights it has just changed.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass

import torch
from torch import Tensor

from peftlib.anatomy import Shape
from peftlib.methods.base import Attachment, Method, bounded, require
from peftlib.parametrized import own_parameters

if typing.TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def is_projected(size: tuple[int, ...], rank: int) -> bool:
    """Is a tensor of that size a matrix with both sides above the rank?"""
    return len(size) == 2 and min(size) > rank


def state_size(size: tuple[int, ...], rank: int) -> int:
    """Numbers that the optimizer keeps for a tensor of that size (AdamW: twice the tensor)."""
    if is_projected(size, rank):
        return 2 * max(size) * rank + min(size) * rank
    return 2 * torch.Size(size).numel()


def singular_space(gradient: Tensor, rank: int) -> Tensor:
    """The first `rank` singular vectors of the smaller side: (min(m, n), rank), orthonormal columns.

    They are the eigenvectors of that side's Gram matrix, far cheaper than a full SVD; double precision makes up for the
    squared singular values.
    """
    g = gradient.double()
    gram = g.T @ g if g.shape[0] >= g.shape[1] else g @ g.T
    return torch.linalg.eigh(gram).eigenvectors[:, -rank:].flip(1).to(gradient.dtype)


class GaLoreAdamW(torch.optim.Optimizer):
    """AdamW whose moments, for large matrices, live in the gradient's first singular vectors."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        rank: int,
        gap: int,
        scale: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        super().__init__(
            groups, {"lr": lr, "weight_decay": 0.0, "rank": rank, "gap": gap, "scale": scale, "betas": betas, "eps": eps}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # either in one
        """One step; `closure`, if given, computes the loss and its gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(self._direction(p, group).to(p.dtype), alpha=-group["lr"])
        return loss

    def _direction(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """What is subtracted, but for the learning rate; the size of p."""
        state = self.state[p]
        if not is_projected(p.shape, group["rank"]):
            return self._adam(p.grad, state, group)  # type: ignore[arg-type]  # `step` has looked
        if state.get("step", 0) % group["gap"] == 0:
            state["space"] = singular_space(p.grad, group["rank"])  # type: ignore[arg-type]  # as above
        space, tall = state["space"], p.shape[0] >= p.shape[1]
        low = self._adam(p.grad @ space if tall else space.T @ p.grad, state, group)
        return group["scale"] * (low @ space.T if tall else space @ low)

    @staticmethod
    def _adam(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        """Adam's direction with bias correction; moves the moments and the step count on."""
        if "step" not in state:
            state.update(step=0, exp_avg=torch.zeros_like(gradient), exp_avg_sq=torch.zeros_like(gradient))
        state["step"] += 1
        (b1, b2), t = group["betas"], state["step"]
        mean, square = state["exp_avg"].lerp_(gradient, 1 - b1), state["exp_avg_sq"]
        square.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        return (mean / (1 - b1**t)) / ((square / (1 - b2**t)).sqrt() + group["eps"])


@dataclass(frozen=True)
class GaLore(Method):
    """Full training with projected gradients.

    rank: of the space, below the smaller side of some matrix. gap: steps between two spaces. scale: of the projected
    update, relative to the learning rate.
    """

    rank: int = 128
    gap: int = 200
    scale: float = 0.25

    title = "GaLore"
    family = "reparametrized"
    paper = "galore"
    mergeable = True
    by_layer = False
    about = {
        "name": "GaLore",
        "color": "green",
        "marker": "X",
        "line": ":",
        "row": "rank=64",
        "small": "rank=8, gap=2, scale=1.0",
        "drawn": False,
        "rates": 0.1,
    }

    def check(self) -> None:
        require(self, rank=self.rank > 0, gap=self.gap > 0, scale=self.scale > 0)

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: no matrix is projected; or under `PerTask`.
        """
        own = own_parameters(at.model.backbone)
        widest = max(min(p.shape) for p in own if p.ndim == 2)
        bounded(self, widest - 1, f"no matrix has more than {widest} rows and columns")
        at.train(own)

    def optimizer(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        return GaLoreAdamW(groups, lr, self.rank, self.gap, self.scale)

    def formula(self, shape: Shape) -> int:
        """The whole backbone; `state_size` has what is saved, the optimizer's memory."""
        return shape.total
