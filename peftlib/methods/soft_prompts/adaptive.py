"""Adaptive prefix tuning (Zhang et al., 2023; survey, section 6.3): what a layer reads says how much of its prefix is used.

    attention(Q, [P'_K ; K], [P'_V ; V])        P' = lambda * alpha . P        P_K, P_V: (length, inner)
    alpha = sigmoid(W^T h): (length,)           W: (d, length)                 lambda: a number

The prefixes are trained directly, without a network, as in P-tuning v2. Every attention has a gate of its own: alpha
weighs the positions, one number for a position's key and value, anew for every text; lambda weighs the layer.

h is the first token of what the attention reads: [CLS] in BERT, the first word in T5's encoder, the start token in a
decoder. The survey's "input of the layer" leaves open which token; this one is there whatever a batch is padded to, and
before an answer is written. The prefixes start from N(0, 1), as flat ones do elsewhere in this library, W at zero, so
that alpha is one half, and lambda at one. A gate of zero takes no position away: a key of zeros keeps its share of the
attention. So the model starts elsewhere, prefixes cannot be computed in advance, and nothing merges.

An attention has 2 l inner + d l + 1 parameters: 442,380 on BERT-base for l = 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, Ref, require
from peftlib.methods.soft_prompts.prefix import Prefix


class AdaptivePrefix(Prefix):
    """Keys and values weighed by the first token that the attention reads. x: (batch, tokens, d), recorded."""

    def __init__(self, x: Ref, width: int, heads: int, flat: Tensor):
        super().__init__(heads, flat, None, 0)
        self.x = x
        self.W = nn.Parameter(torch.zeros(width, flat.shape[1]))
        self.scale = nn.Parameter(torch.tensor(1.0))

    def inside(self, batch: int) -> tuple[Tensor, Tensor]:
        key, value = super().inside(batch)
        first = self.x.module.take()[:, 0]
        gate = self.scale * torch.sigmoid(first @ self.W.to(first.dtype))[:, None, :, None]
        return gate * key, gate * value


def reads_whole_texts(method: Method, at: Attachment) -> None:
    """Refuse a gate of whole texts in a decoder that writes: what it has not written yet cannot be read.

    Raises:
        UsageError: names the encoder, where it can act.
    """
    if at.model.form == "text" and at.shape.decoder_layers:
        raise UsageError(
            f"{method} weighs its parts by what a layer reads, and an answer that is being written is not there to be "
            f"read: use form 'heads', or Layers({method}, stack='encoder')"
        )


@dataclass(frozen=True)
class AdaptivePrefixTuning(Method):
    """Prefixes with a gate for every position and a scale for every layer.

    length: prefix positions > 0.
    """

    length: int = 16

    title = "Adaptive prefix tuning"
    family = "soft prompts"
    paper = "adaptiveprefix"
    near_identity = None
    about = {
        "name": "adaptive prefix tuning",
        "color": "purple",
        "marker": "<",
        "line": "-.",
        "row": "length=16",
        "small": "length=4",
    }

    def check(self) -> None:
        require(self, length=self.length > 0)

    def attach(self, at: Attachment) -> None:
        reads_whole_texts(self, at)
        for site, query in zip(at.anatomy.at("*"), at.anatomy.at("*.query"), strict=True):
            flat = torch.randn(2, self.length, at.shape.inner)
            at.edit(site, AdaptivePrefix(at.read(query), at.shape.width, at.shape.heads, flat))

    def formula(self, shape: Shape) -> int:
        return shape.attentions * (2 * self.length * shape.inner + self.length * shape.width + 1)
