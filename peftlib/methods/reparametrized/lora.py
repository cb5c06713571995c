"""LoRA (Hu et al., 2022): a low-rank change of frozen weights.

    W x  ->  W x + (alpha / r) B A x        A: (r, in)   B: (out, r)

A is drawn as ``torch.nn.Linear`` draws its weight (Kaiming uniform with a = sqrt 5), B is zero, so the model starts where
it was. AdaptBert (section 4.1) puts it on the query, key and value of every attention; the survey's comparison (its
``LoRA`` row) on query and value. Dropout acts on x in the low-rank branch alone.
"""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape, Site
from peftlib.edits import Edit
from peftlib.methods.base import Attachment, Method, bounded, require

if typing.TYPE_CHECKING:
    from peftlib.methods.base import Ranked

SITES = {"query": "*.query", "key": "*.key", "value": "*.value", "output": "*.output", "up": "ffn.up", "down": "ffn.down"}


def are_sites(names: tuple[str, ...]) -> bool:
    """One or more of the names above, each once?"""
    return 0 < len(names) == len(set(names)) and set(names) <= set(SITES)


def fits(method: Ranked, site: Site) -> tuple[int, int]:
    """Sizes (out, in) of a site's weight, of which a method's rank is a fraction.

    Raises:
        UsageError: the rank is above one of them.
    """
    fan_out, fan_in = site.module.weight.shape  # type: ignore[misc]  # of a linear layer
    bounded(method, min(fan_out, fan_in), f"the weight of {site.name!r} is {fan_out} x {fan_in}")
    return fan_out, fan_in


class LowRank(Edit):
    """Adds ``scale * B A x`` to a linear layer's output."""

    changes: tuple[str, ...] = ("weight",)

    def __init__(self, fan_in: int, fan_out: int, rank: int, scale: float, dropout: float):
        super().__init__()
        self.scale = scale
        self.A = nn.Parameter(torch.empty(rank, fan_in))
        self.B = nn.Parameter(torch.zeros(fan_out, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + F.linear(self.scale * F.linear(self.dropout(x), self.A), self.B)

    @torch.no_grad()
    def merge(self, base: nn.Module) -> bool:
        base.weight += (self.scale * self.B @ self.A).to(base.weight.dtype)  # type: ignore[operator, arg-type]  # of a linear layer
        return True


@dataclass(frozen=True)
class LoRA(Method):
    """Low-rank adaptation.

    rank: r > 0, at most the smaller side of every weight. alpha: the change is scaled by alpha / r (None: alpha = r, no
    scaling, as AdaptBert writes it).
    sites: which layers, of query, key, value, output, up, down; cross-attention is treated as self-attention is.
    stabilised: scale by alpha / sqrt(r) instead, after Kalajdzievski (2023), so that a larger rank learns as fast.
    """

    rank: int = 8
    alpha: float | None = None
    sites: tuple[str, ...] = ("query", "key", "value")
    dropout: float = 0.0
    stabilised: bool = False

    title = "LoRA"
    family = "reparametrized"
    paper = "lora"
    mergeable = True
    about = {
        "name": "LoRA",
        "color": "blue",
        "marker": "o",
        "row": "rank=8",
        "small": "rank=4",
        "peft": "LoraConfig",
        "adapters": "LoRAConfig",
    }

    def check(self) -> None:
        require(
            self,
            rank=self.rank > 0,
            alpha=self.alpha is None or self.alpha > 0,
            dropout=0 <= self.dropout < 1,
            sites=are_sites(self.sites),
        )

    @property
    def scale(self) -> float:
        """What the change is multiplied by."""
        return (self.alpha or self.rank) / (math.sqrt(self.rank) if self.stabilised else self.rank)

    def attach(self, at: Attachment) -> None:
        for site in at.anatomy.at(*(SITES[s] for s in self.sites)):
            fan_out, fan_in = fits(self, site)
            at.edit(site, LowRank(fan_in, fan_out, self.rank, self.scale, self.dropout))

    def formula(self, shape: Shape) -> int:
        attention = sum(s in ("query", "key", "value", "output") for s in self.sites) * shape.attentions
        ffn = sum(s in ("up", "down") for s in self.sites) * shape.layers
        return self.rank * (attention * (shape.width + shape.inner) + ffn * (shape.width + shape.ffn))
