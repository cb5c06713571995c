"""AdaLoRA (Zhang et al., 2023; survey, section 9.6): a low-rank change whose rank is shared out where it matters.

    W x  ->  W x + (alpha / r) P diag(E) Q x          P: (out, r)   E: (r,)   Q: (r, in)

P and Q start N(0, 0.02), the singular values E zero, so the model starts where it was. Three things happen in training:

    penalty      gamma * sum over sites of |P'P - I|^2 + |QQ' - I|^2       keeps P diag(E) Q close to a real SVD
    importance   s(w) = I(w) U(w), moving averages of |w dL/dw| and of its deviation from I; a triplet (a singular value
                 with its two vectors) scores s(E_i) + mean_j s(P_ji) + mean_j s(Q_ij)
    budget       b(t) falls from rank to target (times the number of sites) along a cubic; after a step the triplets
                 beyond the b(t) best of the whole model have their E set to zero

A zeroed singular value still gets a gradient and may come back, until the last phase fixes which ones stay. Then
`finish` drops the others, so sites end with different ranks; the best epoch is chosen among those of the last phase,
for an earlier one would be over the budget. Differences: the authors' code and Hugging Face `peft` divide by r + 1e-5;
both take the mean of unsquared norms as penalty (``regularizer="code"``); the phases are fractions of the run here,
numbers of steps there. As in `peft`, the last phase keeps its choice; the authors' goes on choosing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape
from peftlib.edits import Edit
from peftlib.methods.base import Attachment, Method, Step, normal, require
from peftlib.methods.reparametrized.lora import SITES, are_sites, fits

FACTORS = ("P", "E", "Q")


class Triplets(Edit):
    """Adds ``scale * P diag(E) Q x`` to a linear layer's output.

    While training, non-persistent buffers hold the importance (``mean_P``, ``spread_P`` ...) and which triplets are
    ``kept``; they go into checkpoints, not into deltas.
    """

    changes = ("weight",)

    def __init__(self, fan_in: int, fan_out: int, rank: int, scale: float, dropout: float):
        super().__init__()
        self.scale, self.finished = scale, False
        self.P = nn.Parameter(normal(torch.empty(fan_out, rank), std=0.02))
        self.E = nn.Parameter(torch.zeros(rank))
        self.Q = nn.Parameter(normal(torch.empty(rank, fan_in), std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.kept: Tensor
        for name in FACTORS:
            for kind in ("mean", "spread"):
                self.register_buffer(f"{kind}_{name}", torch.zeros(getattr(self, name).shape), persistent=False)
        self.register_buffer("kept", torch.ones(rank, dtype=torch.bool), persistent=False)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.scale * F.linear(F.linear(self.dropout(x), self.Q) * self.E, self.P)

    @torch.no_grad()
    def merge(self, base: nn.Module) -> bool:
        base.weight += (self.scale * (self.P * self.E) @ self.Q).to(base.weight.dtype)  # type: ignore[operator, arg-type]  # of a linear layer
        return True

    def defects(self) -> tuple[Tensor, Tensor]:
        """Frobenius norms of P'P - I and QQ' - I, squared."""
        eye = torch.eye(len(self.E), device=self.E.device)
        return (self.P.T @ self.P - eye).square().sum(), (self.Q @ self.Q.T - eye).square().sum()

    @torch.no_grad()
    def observe(self, beta1: float, beta2: float) -> None:
        """Move the averages on by this step's gradients, if it had any."""
        for name in FACTORS:
            w, mean, spread = getattr(self, name), getattr(self, f"mean_{name}"), getattr(self, f"spread_{name}")
            if w.grad is not None:
                now = (w * w.grad).abs()
                mean.lerp_(now, 1 - beta1)
                spread.lerp_((now - mean).abs(), 1 - beta2)

    def scores(self) -> Tensor:
        """Importance of each triplet: (r,)."""
        p, e, q = (getattr(self, f"mean_{n}") * getattr(self, f"spread_{n}") for n in FACTORS)
        return e + p.mean(0) + q.mean(1)

    @torch.no_grad()
    def shrink(self, index: Tensor) -> None:
        """Keep the triplets of that index (or rank, for tensors to be loaded), and drop what only training needed."""
        self.P, self.E, self.Q = (nn.Parameter(t.clone()) for t in (self.P[:, index], self.E[index], self.Q[index]))
        for name in [n for n, _ in self.named_buffers()]:
            delattr(self, name)
        self.finished = True


@dataclass(frozen=True)
class AdaLoRA(Method):
    """Low-rank adaptation with an adaptive budget.

    rank: of every site at the start, at most the smaller side of its weight. target: mean rank at the end, at most
    `rank`. alpha: the change is scaled by alpha / rank (None: no scaling). sites: as `LoRA`'s. gamma: weight of the
    orthogonality penalty. regularizer: "paper" (sum of squared norms) or "code" (mean of norms). initial, final:
    fractions of the run before the budget starts to fall, and after it has reached its target. gap: steps between two
    choices. beta1, beta2: of the averages.
    """

    rank: int = 12
    target: int = 8
    alpha: float | None = None
    sites: tuple[str, ...] = ("query", "key", "value", "output", "up", "down")
    dropout: float = 0.0
    gamma: float = 0.1
    regularizer: str = "paper"
    initial: float = 0.1
    final: float = 0.5
    gap: int = 1
    beta1: float = 0.85
    beta2: float = 0.85

    title = "AdaLoRA"
    family = "reparametrized"
    paper = "adalora"
    mergeable = True
    about = {
        "name": "AdaLoRA",
        "color": "blue",
        "marker": "8",
        "line": "--",
        "example": "AdaLoRA(rank=12, target=8)",
        "small": "rank=4, target=2",
        "peft": "AdaLoraConfig",
    }

    def check(self) -> None:
        require(
            self,
            rank=self.rank > 0,
            target=0 < self.target <= self.rank,
            alpha=self.alpha is None or self.alpha > 0,
            sites=are_sites(self.sites),
            dropout=0 <= self.dropout < 1,
            gamma=self.gamma >= 0,
            regularizer=self.regularizer in ("paper", "code"),
            initial=0 <= self.initial < 1,
            final=0 <= self.final and self.initial + self.final < 1,
            gap=self.gap > 0,
            beta1=0 < self.beta1 < 1,
            beta2=0 < self.beta2 < 1,
        )

    def attach(self, at: Attachment) -> None:
        scale = (self.alpha or self.rank) / self.rank
        for site in at.anatomy.at(*(SITES[s] for s in self.sites)):
            fan_out, fan_in = fits(self, site)
            at.edit(site, Triplets(fan_in, fan_out, self.rank, scale, self.dropout))

    def penalty(self, at: Attachment, step: Step) -> Tensor | None:
        if at.task not in (None, step.task):
            return None  # another task's turn: its step must not move this copy
        defects = torch.stack([d for _, edit in at.edits for d in edit.defects()])
        # The norm has no gradient at zero: the tiny term keeps it finite.
        return self.gamma * (defects.sum() if self.regularizer == "paper" else (defects + 1e-12).sqrt().mean())

    # --- the budget -----------------------------------------------------------------------------------------------
    def budget(self, step: int, total: int, sites: int) -> int:
        """Singular values that may differ from zero after step `step` (0-based) of `total`, over all sites."""
        start, fixed = self.phases(total)
        if step >= fixed:
            return self.target * sites
        if step < start:
            return self.rank * sites
        left = 1 - (step - start) / (fixed - start)
        return round((self.target + (self.rank - self.target) * left**3) * sites)

    def phases(self, total: int) -> tuple[int, int]:
        """First step at which the budget falls, and the step at which the choice becomes final (the last at latest)."""
        return round(self.initial * total), min(total - round(self.final * total), total - 1)

    def ready(self, step: int, total: int) -> bool:
        """Only with the final choice: before it, more than the target's singular values differ from zero."""
        return step >= self.phases(total)[1]

    def after_step(self, at: Attachment, step: int, total: int) -> None:
        edits: list[Triplets] = [edit for _, edit in at.edits if not edit.finished]
        if not edits:
            return
        start, fixed = self.phases(total)
        if all(edit.E.grad is None for edit in edits) and step != fixed:
            return  # another task's turn; only the final choice cannot wait
        for edit in edits:
            edit.observe(self.beta1, self.beta2)
        choosing = step == fixed or (start <= step < fixed and (step - start) % self.gap == 0)
        if choosing:
            self._choose(edits, self.budget(step, total, len(edits)))
        if choosing or step > fixed:
            for edit in edits:
                edit.E.data.mul_(edit.kept)

    @staticmethod
    def _choose(edits: list[Triplets], budget: int) -> None:
        """Mark the `budget` best triplets of all sites as kept."""
        scores = torch.cat([edit.scores() for edit in edits])
        best = torch.zeros_like(scores, dtype=torch.bool)
        best[scores.argsort(descending=True, stable=True)[:budget]] = True
        for edit, kept in zip(edits, best.split([len(e.kept) for e in edits]), strict=True):
            edit.kept.copy_(kept)

    # --- afterwards -----------------------------------------------------------------------------------------------
    def finish(self, at: Attachment) -> None:
        for _, edit in at.edits:
            if not edit.finished:
                edit.shrink(edit.E.detach().nonzero()[:, 0])

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        prefixes = {id(module): name for name, module in at.model.named_modules()}
        for _, edit in at.edits:
            name = prefixes[id(edit)]
            if f"{name}.kept" in tensors or f"{name}.E" not in tensors:
                continue  # a checkpoint of unfinished training; or no delta of ours, which the loader reports
            edit.shrink(torch.arange(min(tensors[f"{name}.E"].numel(), self.rank), device=edit.E.device))

    def formula(self, shape: Shape) -> int:
        attention = sum(s in ("query", "key", "value", "output") for s in self.sites) * shape.attentions
        ffn = sum(s in ("up", "down") for s in self.sites) * shape.layers
        return self.rank * (attention * (shape.width + shape.inner + 1) + ffn * (shape.width + shape.ffn + 1))

    def trainable(self, at: Attachment) -> int:
        """At full rank: what received gradients, also after `finish`."""
        return sum(self.rank * (p.shape[0] + q.shape[1] + 1) for p, q in ((e.P, e.Q) for _, e in at.edits))

    def stored(self, at: Attachment) -> int:
        """What `finish` left; before it, what an even spread of the target would leave."""
        done = all(edit.finished for _, edit in at.edits)
        return super().trainable(at) if done else self.trainable(at) * self.target // self.rank
