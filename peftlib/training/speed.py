"""What makes the same training faster on a CPU: attention in fp32 also under bf16 (`peftlib.attention`), memory that
stays with the process (`peftlib.heap`), and dropout that draws its random numbers four at a time.

On a CPU, torch's dropout spends more on one Bernoulli draw an element than a small encoder does on its norms: a tenth of
a training step. Sixteen random bits an element decide as well (p is met to 1/65536), and four elements share one draw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peftlib import heap
from peftlib.edits import ATTENTION_FUNCTION

_LEVELS = 1 << 16


class BlockDropout(nn.Dropout):
    """``torch.nn.Dropout`` on a CPU: same mean and variance, other random numbers; torch's seed decides them."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        kept = draws.view(torch.int16)[: x.numel()] >= round(self.p * _LEVELS) - _LEVELS // 2
        return x * (kept.view(x.shape).to(x.dtype) * (1 / (1 - self.p)))


def speed_up(model: nn.Module) -> None:
    """Make every plain dropout of a model a `BlockDropout`, and let attention run our function, in place; what is freed
    stays with the process from now on."""
    heap.keep()
    use_own_attention(model)
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = BlockDropout


def use_own_attention(model: nn.Module) -> None:
    """Let every attention of a model that uses ``sdpa`` run `peftlib.attention.sdpa`, as edited ones do, in place."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) == "sdpa":
            config._attn_implementation = ATTENTION_FUNCTION  # type: ignore[union-attr]  # seen above
