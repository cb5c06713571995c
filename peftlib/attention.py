"""Attention as fast as a CPU has it: in fp32 also where the rest of a model computes in bf16.

torch's bf16 attention on a CPU takes 2 to 7 times as long backwards as fp32's: a third of a training step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def sdpa(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *args, **kwargs
):
    """The ``sdpa`` function of transformers; bf16 on a CPU is computed in fp32.

    query, key, value: (batch, heads, length, head size). Returns the output, in the query's precision, and None.
    """
    function = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if not (query.device.type == "cpu" and query.dtype == torch.bfloat16):
        return function(module, query, key, value, attention_mask, *args, **kwargs)
    if kwargs.get("position_bias") is not None:
        kwargs["position_bias"] = kwargs["position_bias"].float()
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast("cpu", enabled=False):
        output, weights = function(module, query.float(), key.float(), value.float(), attention_mask, *args, **kwargs)
    return output.to(query.dtype), weights
