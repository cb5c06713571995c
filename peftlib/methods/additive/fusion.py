"""Attention fusion (Cao et al., 2022): heads read a mixture of all layers' states, and the backbone is only run.

    z_t = sum_l a_tl h_t^l,   a_tl = softmax_l(q . h_t^l / sqrt d)      h_t^l: (d,), token t after layer l = 0 ... L

q (d,) is all that is trained: 768 numbers, 0.0007% of BERT-base, where the abstract has 0.0009% (which leaves no room for
any d x d projection). z takes the place of the last states: heads read its mean over tokens, the pooler of [CLS], or in
an encoder-decoder the decoder's one token. No gradient enters the backbone, and none of its activations is kept.

Only the paper's abstract was at hand. Decisions of this library: scaled dot products as above, the embeddings as layer 0,
one query ``q`` for the method (``PerTask(AttentionFusion())`` has one a task), and q = 0 at the start, which is the plain
mean over layers. The start is not the pretrained model's last state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.methods.base import Attachment, Method


class Query(nn.Module):
    """The mixture of states, (layers + 1, batch, length, d) -> (batch, length, d)."""

    def __init__(self, width: int):
        super().__init__()
        self.q = nn.Parameter(torch.zeros(width))

    def forward(self, states: tuple[Tensor, ...]) -> Tensor:
        scores = torch.stack([h @ self.q.to(h.dtype) for h in states]).float() / len(self.q) ** 0.5
        return sum(a[..., None].to(h.dtype) * h for a, h in zip(scores.softmax(0), states, strict=True))


@dataclass(frozen=True)
class AttentionFusion(Method):
    """Attention over layers with a trained query. It has no hyperparameters."""

    title = "Attention fusion"
    family = "additive"
    paper = "attentionfusion"
    near_identity = None
    by_layer = False
    about = {"name": "attention fusion", "color": "grey", "marker": "P", "line": "--", "drawn": False}

    def attach(self, at: Attachment) -> None:
        at.share("query", Query(at.shape.width))

    def readout(self, at: Attachment, states: dict[str, tuple[Tensor, ...]], mask: Tensor) -> Tensor:
        (query,) = at.shared
        return query(states["decoder" if at.shape.decoder_layers else "encoder"])

    def formula(self, shape: Shape) -> int:
        return shape.width
